"""What policies said, laid out as randomised decisions, and what any list is worth by them."""

from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest

from ml_workbench.experiment.listings import SAID, chances, listings, said, targeted, upkeep
from ml_workbench.experiment.pace import pace
from ml_workbench.plan.charter import MONTH
from ml_workbench.plan.experiment import Experiment
from ml_workbench.plan.params import load_params
from ml_workbench.serve.records import Records

DESIGN = {
    "name": "it's one", "namespace": "n", "holdout": 0.1, "control": "old", "primary": "spend", "horizon_days": 28,
    "arms": [{"name": "old", "policy": "rule", "weight": 0.6}, {"name": "new", "policy": "proposed", "weight": 0.4}],
    "metrics": [{"name": "spend", "label": "spend", "kind": "revenue", "outcome": "basket", "of": "sum"}],
}  # fmt: skip
EXPERIMENT = Experiment.model_validate(DESIGN)
START = datetime(2024, 1, 1)


@pytest.fixture(scope="module")
def charter(root):
    return load_params(root).charter


def lottery(*, seed, count=1500, gain=30.0):
    "Units of a lottery, and what the two policies say of them; the action brings `gain` to those it finds."
    random = np.random.default_rng(seed)
    name = [str(number) for number in range(count)]
    order = {"rule": random.permutation(count) + 1, "proposed": random.permutation(count) + 1}
    listed = {policy: place <= 400 for policy, place in order.items()}
    arm = random.choice(["old", "new", "holdout"], count, p=[0.54, 0.36, 0.1])
    acted = np.select([arm == "old", arm == "new"], [listed["rule"], listed["proposed"]], False)
    units = pa.table(
        {"unit": name, "arm": arm, "cost": acted * 1.0, "spend": random.normal(80, 20, count) + gain * acted}
    )
    parts = [
        pa.table([name, [each] * count, listed[each].astype(int), order[each]], schema=SAID) for each in order
    ]
    return units, pa.concat_tables(parts), listed


def test_the_chance_of_an_action_is_the_weight_of_the_arms_that_list_the_unit(charter):
    units, what, listed = lottery(seed=1)
    laid = listings(units, what, EXPERIMENT, charter, weeks=4)
    assert chances(EXPERIMENT) == pytest.approx({"old": 0.54, "new": 0.36})
    both = listed["rule"] & listed["proposed"]
    assert (
        laid.rows.chance[both] == pytest.approx(0.9)
        and laid.rows.chance[~(listed["rule"] | listed["proposed"])].max() == 0
    )
    assert not laid.rows.action[np.array(units["arm"]) == "holdout"].any()


def test_units_nobody_spoke_of_are_on_no_list_and_strangers_are_ignored(charter):
    units, what, _ = lottery(seed=1)
    stranger = pa.table([["stranger"], ["rule"], [1], [1]], schema=SAID)
    laid = listings(units, pa.concat_tables([what.slice(1), stranger]), EXPERIMENT, charter, weeks=4)
    assert len(laid.rows.unit) == 1500 and np.isnan(laid.place["rule"]).sum() == 1


def test_every_method_finds_what_was_put_in(charter):
    found = {"ips": [], "snips": [], "dr": []}
    for seed in range(60):
        units, what, _ = lottery(seed=seed)
        laid = listings(units, what, EXPERIMENT, charter, weeks=4)
        labels = {"rule": "The rule", "proposed": "The model"}
        about = targeted(
            laid, EXPERIMENT, charter, labels=labels, models=["proposed"], sizes=[50], resamples=2, seed=1
        )
        truth = 400 * (0.28 * 30.0 - 1.0) / 4 * MONTH - upkeep(charter)
        for each in about.values:
            if each.policy == "proposed":
                value = each.found.value
                found[each.found.method].append((value.value / truth, value.low <= truth <= value.high))
    for method, each in found.items():
        mean, covered = np.mean(each, axis=0)
        assert mean == pytest.approx(1.0, abs=0.15), method
        assert covered > 0.85, method


def test_one_word_of_a_database_and_of_tables_is_the_same(tmp_path):
    listed = [
        {"unit": str(unit), "as_of": START.replace(day=day), "policy": policy, "rank": None if unit == 3 else unit + day,
         "listed": unit == day % 3}
        for unit in range(4) for day in (1, 8) for policy in ("rule", "proposed")
    ]  # fmt: skip
    each = {"experiment": EXPERIMENT.name}
    assigned = {"arm": "old", "propensity": 0.54, "assigned_at": START, "design_hash": "0"}
    sent = [
        {
            "unit": "1",
            "as_of": START.replace(day=day),
            "arm": "old",
            "action": "offer",
            "cost": 1.0,
            "propensity": 0.54,
        }
        for day in (1, 8)
    ]
    rows = {
        "predictions": [each | row for row in listed],
        "assignments": [each | assigned | {"unit": str(unit)} for unit in range(4)],
        "exposures": [each | row for row in sent],
    }
    basket = {
        "outcome": "basket",
        "event_id": "1",
        "unit": "1",
        "occurred_at": START,
        "value": 1.0,
        "recorded_at": START,
    }
    tables = {name: pa.Table.from_pylist(part) for name, part in (rows | {"outcomes": [basket]}).items()}
    with Records(f"sqlite:///{tmp_path}/records.db") as records:
        records.migrate()
        for name, part in rows.items():
            records.write(name, part)
        assert said(records, EXPERIMENT.name).to_pylist() == said(tables, EXPERIMENT.name).to_pylist()
        rhythm = pace(records, EXPERIMENT, as_of=START.replace(month=2))
    assert rhythm == pace(tables, EXPERIMENT, as_of=START.replace(month=2))
    assert (rhythm.weeks, rhythm.per_week, rhythm.waiting, rhythm.first) == (2.0, 0.0, 0, START)
    first = said(tables, EXPERIMENT.name).to_pylist()[0]
    assert first == {"unit": "0", "policy": "proposed", "listed": 0, "place": 1}


def test_an_experiment_that_has_not_acted_yet_has_no_weeks():
    assigned = pa.table(
        {"experiment": [EXPERIMENT.name], "unit": ["1"], "arm": ["old"], "assigned_at": [START]}
    )
    empty = {"outcome": [], "event_id": [], "unit": [], "value": []}
    outcomes = pa.table({name: pa.array(values, pa.string()) for name, values in empty.items()})
    outcomes = outcomes.set_column(3, "value", pa.array([], pa.float64())).append_column(
        "occurred_at", pa.array([], pa.timestamp("us"))
    )
    found = pace({"assignments": assigned, "outcomes": outcomes}, EXPERIMENT, as_of=START.replace(day=20))
    assert found.weeks == 0.0 and found.waiting == 1
