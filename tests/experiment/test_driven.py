"""From records back to a replay: nothing is lost, nothing is taken back, and what does not belong there is named."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from ml_workbench.experiment.driven import (
    ANSWERED,
    Sheet,
    as_frame,
    deliveries,
    driven_report,
    laid_out,
    played_from,
    rows_of,
    sheets_in,
)
from ml_workbench.experiment.play import microseconds
from ml_workbench.experiment.traces import DELAY
from ml_workbench.plan.errors import ExperimentError
from ml_workbench.plan.experiment import Effect
from ml_workbench.serve.records import Records
from tests.experiment.shop import EFFECT, MONDAYS, PLAN, SEED, UNTIL, replayed, sheets, shop_place, visits
from tests.release.small import CHARTER, SCHEMA


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return replayed(shop_place(tmp_path_factory.mktemp("replayed")))


@pytest.fixture(scope="module")
def world():
    labels = {"rule": "Rule", "proposed": "Logistic regression", "xgboost": "XGBoost"}
    return laid_out(sheets(), {"visit": visits()}, PLAN, labels, charter=CHARTER, schema=SCHEMA, until=UNTIL)


@pytest.fixture(scope="module")
def answers(expected) -> pa.Table:
    "What a service would have answered in the same weeks."
    played, world = expected[0], expected[0].world
    offered = np.isin(np.arange(len(world.unit)), played.offered)
    names = np.array(played.arms)[played.place[world.unit]]
    times = pa.array(world.weeks[world.week], pa.int64()).cast(pa.timestamp("us"))
    columns = {
        "decision_id": [str(number) for number in range(len(world.unit))],
        "unit": world.names[world.unit],
        "as_of": times,
        "arm": names,
        "propensity": played.propensity[world.unit],
        "action": np.where(offered, "offer", "none"),
    }
    return pa.table(columns).cast(ANSWERED)


def plain(rows) -> list[tuple]:
    return [
        (*row.values(), load) for row, load in zip(rows.table.to_pylist(), rows.load.tolist(), strict=True)
    ]


def test_what_was_answered_is_the_replay_that_it_came_from(world, answers, expected):
    played, written = expected
    found = played_from(world, PLAN, EFFECT, answers, written["predictions"], seed=SEED)
    assert found.truth == played.truth and found.counts == played.counts and found.maturity == played.maturity
    assert found.due.tolist() == played.due.tolist() and found.offered.tolist() == played.offered.tolist()
    for name, listing in played.world.lists.items():
        assert (found.world.lists[name].place == listing.place).all()
    outcomes = sorted(written["outcomes"].to_pylist(), key=str)
    assert sorted(deliveries(found).table.to_pylist(), key=str) == outcomes


@settings(max_examples=25, deadline=None)
@given(
    kind=some.sampled_from(["none", "constant", "heterogeneous", "fading"]),
    size=some.floats(0, 1),
    weeks=some.integers(1, 4),
    seed=some.integers(0, 99),
)
def test_later_answers_change_nothing_of_what_was_reported(world, answers, kind, size, weeks, seed):
    effect, known_until = Effect(kind=kind, size=size), MONDAYS[weeks - 1]
    so_far = answers.filter(pc.less_equal(answers["as_of"], pa.scalar(known_until, pa.timestamp("us"))))
    at = int(microseconds(np.array([known_until + timedelta(days=7)]))[0])
    early, whole = (
        deliveries(played_from(world, PLAN, effect, each, seed=seed), late=0.1, again=0.1)
        for each in (so_far, answers)
    )
    assert [row for row in plain(early) if row[-1] <= at] == [row for row in plain(whole) if row[-1] <= at]


def test_before_anybody_is_asked_units_do_what_they_did(world, answers):
    nobody = played_from(world, PLAN, EFFECT, answers.slice(0, 0))
    found = deliveries(nobody)
    assert len(found.load) == len(visits()) and sum(nobody.counts.values()) == 0
    assert round(pc.sum(found.table["value"]).as_py(), 2) == round(pc.sum(visits()["value"]).as_py(), 2)


def test_who_takes_no_part_is_served_all_the_same_and_answers(world, answers):
    outside = pc.if_else(pc.equal(answers["arm"], "champion"), pa.scalar(None, pa.string()), answers["arm"])
    found = played_from(world, PLAN, EFFECT, answers.set_column(3, "arm", outside), seed=SEED)
    assert (
        found.counts["champion"] == 0
        and len(found.offered) == pc.sum(pc.equal(answers["action"], "offer")).as_py()
    )
    assert deliveries(found).table.equals(
        deliveries(played_from(world, PLAN, EFFECT, answers, seed=SEED)).table
    )


def test_deliveries_come_in_the_order_of_time_late_ones_later_and_repeated_ones_last(world, answers):
    played = played_from(world, PLAN, EFFECT, answers, seed=SEED)
    rows = deliveries(played, late=0.2, again=0.3)
    assert (np.diff(rows.load) >= 0).all()
    waited = rows.load - microseconds(rows.table["occurred_at"].to_numpy())
    assert 0.1 < (waited > DELAY).mean() < 0.3
    assert rows.table["recorded_at"].to_pylist() == [
        row for row in pa.array(rows.load).cast(pa.timestamp("us")).to_pylist()
    ]
    names = rows.table["event_id"].to_pylist()
    assert 1.2 < len(names) / len({*names}) < 1.4 and max(map(names.count, names[:50])) <= 2


def test_the_report_of_a_drive_has_everything_that_a_replays_has(world, answers, expected, tmp_path):
    played = played_from(world, PLAN, EFFECT, answers, expected[1]["predictions"], seed=SEED)
    with Records(f"sqlite:///{tmp_path}/records.db") as records:
        records.migrate()
        found = driven_report(played, records, CHARTER, again=0.5)
    assert (
        found["replayed"]
        and found["mode"] == "duplicates"
        and found["policies"]["champion"] == "Logistic regression"
    )
    assert found["delivered"]["outcomes"] > len(deliveries(played).load) and len(found["weeks"]) == 4


def test_what_is_no_part_of_the_drive_is_named(world, answers):
    at = microseconds(np.array([MONDAYS[0] + timedelta(days=1)]))
    with pytest.raises(
        ExperimentError, match=r"unit '2' as of 2024-07-16 05:00:00 is on record and no part of this drive"
    ):
        rows_of(world, ["2"], at)
    with pytest.raises(ExperimentError, match="unit 'nobody'"):
        played_from(
            world,
            PLAN,
            EFFECT,
            pa.concat_tables([answers, answers.slice(0, 1).set_column(1, "unit", [["nobody"]])]),
        )


def test_names_that_are_whole_numbers_are_sorted_as_such_and_others_as_texts():
    sheet = replace(sheets()[0], units=["10", "9"], rows=sheets()[0].rows[:2])
    assert as_frame([sheet], ["visits_4w"], SCHEMA)["member"].tolist() == [10, 9]
    for odd in (["10", "09"], ["10", "x"], ["10", "9" * 30]):
        assert as_frame([replace(sheet, units=odd)], ["visits_4w"], SCHEMA)["member"].tolist() == odd


def test_snapshots_without_the_weeks_asked_for_are_refused(tmp_path):
    from types import SimpleNamespace

    import pyarrow.parquet as pq

    terms = SimpleNamespace(entity="member", names=["weekly"])
    with pytest.raises(ExperimentError, match=r"snapshots\.parquet: .*dvc repro features"):
        sheets_in(tmp_path / "snapshots.parquet", MONDAYS, terms)
    rows = {"member": [1, 2], "as_of": pa.array([MONDAYS[0]] * 2, pa.timestamp("us")), "weekly": [1.0, None]}
    pq.write_table(pa.table(rows), tmp_path / "snapshots.parquet")
    assert sheets_in(tmp_path / "snapshots.parquet", MONDAYS[:1], terms) == [
        Sheet(MONDAYS[0], ["1", "2"], ["weekly"], [[1.0], [None]])
    ]
    with pytest.raises(ExperimentError, match="has no units as of 2024-07-22"):
        sheets_in(tmp_path / "snapshots.parquet", MONDAYS[:2], terms)
