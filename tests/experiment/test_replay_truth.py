"""On the default data: does the interval hold the truth as often as it says, and is a broken coin always caught?"""

from datetime import datetime
from pathlib import Path

import pytest

from ml_workbench.data.engine import connect, view_tables
from ml_workbench.data.outcomes import BASKET, read_outcome
from ml_workbench.experiment.play import World, make_world, policies_by_name
from ml_workbench.experiment.tosses import tosses
from ml_workbench.model.evaluation import policies_of, with_predictions
from ml_workbench.model.snapshots import read_schema, read_slices, slice_of
from ml_workbench.plan.experiment import Effect
from ml_workbench.plan.files import read_json
from ml_workbench.plan.params import Params, load_params

pytestmark = pytest.mark.slow
SEEDS = 200
EFFECTS = {
    "constant": Effect(kind="constant", size=0.5),
    "heterogeneous": Effect(kind="heterogeneous", size=0.5),
    "fading": Effect(kind="fading", size=1.0, half_life_weeks=1.0),
}


@pytest.fixture(scope="module")
def params(root) -> Params:
    return load_params(root)


@pytest.fixture(scope="module")
def world(produced: Path, params: Params) -> World:
    "The weeks of the default replay."
    charter, experiment = params.charter, params.experiment
    schema = read_schema(produced / "data/features/schema.json")
    snapshots = read_slices(produced / "data/features/snapshots.parquet", schema, ["replay", "next"])
    predictions = read_slices(produced / "data/predictions.parquet", schema, ["replay"])
    rows = with_predictions(slice_of(snapshots, schema, "replay"), predictions, schema)
    until: datetime = slice_of(snapshots, schema, "next")[schema.time].iloc[0]
    ladder = read_json(produced / "reports/train.json")["candidates"]
    ranked = policies_of(rows, ladder, schema, charter, rank_by=params.evaluate.rank_by)
    policies = policies_by_name(experiment, ranked, proposed=params.train.candidates[0])
    with connect() as connection:
        view_tables(connection, produced / "data/tables")
        baskets = read_outcome(connection, BASKET, after=rows[schema.time].min(), until=until)
    return make_world(
        rows, {"basket": baskets}, policies, experiment, charter=charter, schema=schema, until=until
    )


def many(world: World, params: Params, effect: Effect, **options):
    capacity = params.charter.capacity_per_week
    return tosses(
        world,
        params.experiment,
        effect,
        **{"count": SEEDS, "capacity": capacity, "seed": params.replay.seed} | options,
    )


@pytest.mark.parametrize("kind", EFFECTS)
def test_the_interval_holds_a_declared_truth_as_often_as_it_says(world, params, kind) -> None:
    "Uncapped, adjusted by what was known before, champion against control."
    found = many(world, params, EFFECTS[kind])
    assert 0.93 <= found.coverage <= 0.97
    assert (
        found.each[0].truth != 0
        and abs(sum(each.estimate - each.truth for each in found.each) / SEEDS) < found.spread / 4
    )


def test_an_a_a_experiment_rejects_as_often_as_it_may(world, params) -> None:
    found = many(world, params, Effect(kind="none"))
    assert 0.03 <= found.rejected <= 0.07 and {each.truth for each in found.each} == {0.0}


def test_a_thousand_other_coins_say_the_same(world, params) -> None:
    "Two hundred leave three points of doubt, a thousand one and a half; so the first two hundred were not luck."
    found = many(world, params, Effect(kind="none"), count=1000, seed=1)
    assert 0.935 <= found.coverage <= 0.965 and found.stopped < 0.005


def test_a_broken_randomisation_is_stopped(world, params) -> None:
    assert many(world, params, EFFECTS["constant"], mode="broken").stopped >= 0.99


def test_what_was_known_before_explains_most_of_the_spend(world, params) -> None:
    "The last twelve weeks explain two thirds of the variance of the next seven, and more."
    assert many(world, params, Effect(kind="none"), count=20).variance_removed > 2 / 3
