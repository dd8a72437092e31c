"Labels that our own actions have changed, and the weights that make up for it."

import json
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_workbench.model.candidates import candidate_named, fit_candidate
from ml_workbench.model.snapshots import Feature, Schema, counted, weights_of
from ml_workbench.monitor.contamination import (
    CLIP,
    Logged,
    copy_logged,
    effective_rows,
    inverse_weights,
    left_alone,
    read_logged,
    treated,
    weigh,
)
from ml_workbench.plan.errors import MonitorError, TrainingError
from ml_workbench.plan.params import TrainParams
from ml_workbench.serve.records import Records

SCHEMA = Schema(
    "unit",
    "as_of",
    "slice",
    "left",
    "spend",
    28,
    "weekly",
    (Feature("weekly", "number", "money"), Feature("trait", "number", "who")),
)
MONDAY = datetime(2024, 1, 1, 5)
PARAMS = TrainParams(
    seed=1, candidates=["logistic_regression"], withheld_families=[], use_tuned=False, settings={}, calibration="sigmoid", spend=["naive"], threads=1
)  # fmt: skip
SHARES = {"champion": 0.45, "control": 0.45, "holdout": 0.1}


def snapshots(units, times=(MONDAY,)):
    pairs = [(unit, time) for time in times for unit in units]
    return pd.DataFrame(
        {"unit": [unit for unit, _ in pairs], "as_of": pd.to_datetime([time for _, time in pairs])}
    )


def logged(arms, lists, actions, *, experiment="e", shares=SHARES):
    "Records by hand: unit → arm, (policy, unit, time), (unit, time)."
    assigned = pd.DataFrame(
        {"experiment": experiment, "unit": [str(unit) for unit in arms], "arm": list(arms.values())}
    )
    return Logged(
        {(experiment, "champion"): "model", (experiment, "control"): "rule"},
        assigned.assign(propensity=assigned["arm"].map(shares)),
        pd.DataFrame([(experiment, policy, str(unit), time) for policy, unit, time in lists], columns=["experiment", "policy", "unit", "as_of"]),
        pd.DataFrame([(str(unit), time) for unit, time in actions], columns=["unit", "as_of"]),
    )  # fmt: skip


def campaign(*, units=12_000, save=0.5, holdout=0.1, seed=4):
    "Units with a true risk; those above a threshold are listed, all but the holdout treated, and some saved."
    random = np.random.default_rng(seed)
    trait = random.normal(size=units)
    risk = 1 / (1 + np.exp(1.0 - trait))
    leaves, held, listed = random.random(units) < risk, random.random(units) < holdout, trait > 0.3
    got = listed & ~held
    left = leaves & ~(got & (random.random(units) < save))
    rows = pd.DataFrame(
        {
            "unit": np.arange(units),
            "as_of": pd.Timestamp(MONDAY),
            "slice": "train",
            "weekly": 1.0,
            "trait": trait.astype("float32"),
        }
    )
    rows["left"] = left.astype(int)
    arms = {unit: "holdout" if out else "champion" for unit, out in enumerate(held)}
    record = logged(
        arms, [("model", unit, MONDAY) for unit in np.flatnonzero(listed)], [(unit, MONDAY) for unit in np.flatnonzero(got)],
        shares={"champion": 1 - holdout, "holdout": holdout},
    )  # fmt: skip
    return rows, record, risk, listed


def test_an_action_reaches_a_label_from_its_snapshot_on_and_no_further_than_its_horizon():
    rows = snapshots([1], [MONDAY])
    for days, reached in ((-1, False), (0, True), (27, True), (28, False)):
        at = MONDAY + timedelta(days=days)
        assert treated(rows, SCHEMA, logged({1: "champion"}, [], [(1, at)]))[0] == reached


def test_an_action_on_one_unit_is_no_action_on_another():
    rows = snapshots([1, 11, 2])
    assert treated(rows, SCHEMA, logged({1: "champion"}, [], [(1, MONDAY)])).tolist() == [True, False, False]


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(-90, 90)), max_size=12),
    st.lists(st.tuples(st.integers(0, 5), st.integers(-60, 60)), min_size=1, max_size=12),
)
def test_the_quick_answer_is_the_slow_one(actions, asked):
    rows = pd.DataFrame(
        {"unit": [unit for unit, _ in asked], "as_of": [MONDAY + timedelta(days=day) for _, day in asked]}
    )
    record = logged({0: "champion"}, [], [(unit, MONDAY + timedelta(days=day)) for unit, day in actions])
    slow = [any(unit == one and 0 <= at - day < 28 for one, at in actions) for unit, day in asked]
    assert treated(rows, SCHEMA, record).tolist() == slow


def test_who_stands_on_no_list_is_left_alone_for_sure_and_on_all_lists_only_in_the_holdout():
    lists = [("model", 1, MONDAY), ("model", 2, MONDAY), ("rule", 2, MONDAY), ("rule", 3, MONDAY)]
    record = logged({1: "champion", 2: "holdout", 3: "control", 4: "champion"}, lists, [])
    assert np.allclose(left_alone(snapshots([1, 2, 3, 4]), SCHEMA, record), [0.55, 0.1, 0.55, 1.0])


def test_a_list_counts_while_the_label_looks_ahead():
    record = logged(
        {1: "champion", 2: "control", 3: "holdout"}, [("model", 1, MONDAY + timedelta(days=14))], []
    )
    rows = snapshots([1], [MONDAY - timedelta(days=14), MONDAY, MONDAY + timedelta(days=15)])
    assert np.allclose(left_alone(rows, SCHEMA, record), [1.0, 0.55, 1.0])


def test_units_that_take_no_part_are_served_like_the_champion():
    shares = {"champion": 0.2, "control": 0.2, "holdout": 0.1}
    record = logged(
        {1: "champion", 2: "control", 3: "holdout"},
        [("model", 1, MONDAY), ("rule", 2, MONDAY)],
        [],
        shares=shares,
    )
    assert np.allclose(left_alone(snapshots([1, 2]), SCHEMA, record), [0.3, 0.8])


def test_of_two_experiments_the_chances_multiply_and_the_holdout_is_the_same():
    first = logged({1: "champion", 2: "control", 3: "holdout"}, [("model", 1, MONDAY)], [])
    second = logged(
        {1: "champion", 2: "control", 3: "holdout"},
        [("model", 1, MONDAY + timedelta(days=7))],
        [],
        experiment="f",
    )
    both = Logged(
        first.policies | second.policies,
        pd.concat([first.arms, second.arms]),
        pd.concat([first.lists, second.lists]),
        first.actions,
    )
    assert np.allclose(left_alone(snapshots([1]), SCHEMA, both), 0.1 + 0.9 * 0.5 * 0.5)


def test_learning_from_what_was_changed_underestimates_and_the_weights_recover_the_truth():
    rows, record, risk, listed = campaign()
    weighing = weigh(rows, SCHEMA, record)
    assert weighing.method == "weights" and weighing.clipped == 0.0 and weighing.cost > 1.5
    later = rows.assign(
        left=(np.random.default_rng(8).random(len(rows)) < risk).astype(int)
    )  # nothing was done to these

    def learnt(train, validation, schema):
        return fit_candidate(
            candidate_named("logistic_regression"), schema, PARAMS, train=train, validation=validation
        ).probability(later)

    naive = learnt(rows, rows, SCHEMA)
    weighed_rows = rows.assign(weight=weighing.weights)
    weighed = learnt(weighed_rows, weighed_rows, replace(SCHEMA, weight="weight"))
    truth = learnt(later, later, SCHEMA)
    assert naive[listed].mean() < 0.8 * risk[listed].mean()
    assert abs(weighed[listed].mean() - risk[listed].mean()) < 0.03
    assert abs(truth[listed].mean() - risk[listed].mean()) < 0.03


def test_without_an_action_no_label_is_touched_and_nothing_is_weighed():
    weighing = weigh(snapshots(range(5)), SCHEMA, logged({0: "champion"}, [], []))
    assert weighing.method == "clean" and weighing.weights is None and weighing.cost == 1.0


def test_weights_count_every_date_as_many_times_as_it_has_rows():
    alone, chance = np.array([True, True, False, True, True]), np.array([0.5, 1.0, 0.5, 0.1, 1.0])
    weights, cut = inverse_weights(alone, chance, np.array([1, 1, 1, 2, 2]))
    assert (
        np.allclose([weights[:3].sum(), weights[3:].sum()], [3.0, 2.0]) and weights[2] == 0.0 and cut == 0.0
    )


def test_a_weight_beyond_the_limit_is_cut_and_told():
    weights, cut = inverse_weights(np.ones(4, bool), np.array([0.01, 1.0, 1.0, 1.0]), np.zeros(4), clip=10.0)
    assert cut == 0.25 and np.isclose(weights[0] / weights[1], 10.0)


@given(st.lists(st.just(0.0) | st.floats(1e-6, 100), min_size=1, max_size=50))
def test_effective_rows_are_never_more_than_rows(weights):
    assert 0.0 <= effective_rows(np.array(weights)) <= len(weights) + 1e-9


def test_equal_weights_cost_nothing():
    assert effective_rows(np.full(7, 3.0)) == pytest.approx(7.0)


def test_lists_that_do_not_explain_who_was_treated_leave_only_the_holdout():
    rows, record, _, _ = campaign(units=4000)
    weighing = weigh(rows, SCHEMA, replace(record, lists=record.lists[:0]))
    held = rows["unit"].astype(str).isin(record.arms.loc[record.arms["arm"] == "holdout", "unit"])
    assert weighing.method == "holdout" and (weighing.weights[~held] == 0).all()
    assert weighing.cost > 5 and "stood on no list" in weighing.sentence


def test_a_lot_that_was_not_followed_is_not_believed():
    "Everybody who is listed is treated, whatever the lot said; a holdout that was treated as well stands for nobody."
    rows, record, _, listed = campaign(units=4000)
    actions = pd.DataFrame({"unit": rows.loc[listed, "unit"].astype(str), "as_of": MONDAY})
    weighing = weigh(rows, SCHEMA, replace(record, actions=actions))
    assert weighing.method != "weights" and "what the lot would make them" in weighing.sentence


def test_without_a_holdout_only_what_was_before_remains():
    times = [MONDAY - timedelta(days=70), MONDAY]
    rows = snapshots(range(200), times)
    record = logged(
        dict.fromkeys(range(200), "champion"),
        [("model", unit, MONDAY) for unit in range(50)],
        [(unit, MONDAY) for unit in range(50)],
        shares={"champion": 1.0},
    )
    weighing = weigh(rows, SCHEMA, record)
    early = (rows["as_of"] == times[0]).to_numpy()
    assert (
        weighing.method == "before"
        and (weighing.weights[early] == 1).all()
        and (weighing.weights[~early] == 0).all()
    )
    assert weighing.lost == 0.5 and "nobody can stand" in weighing.sentence.lower()


def test_a_holdout_too_small_to_stand_for_all_is_not_used():
    rows, record, _, _ = campaign(units=4000)
    without = replace(record, lists=record.lists[:0])
    assert weigh(rows, SCHEMA, without, minimum=10**6).method == "before"


def test_rows_stand_as_often_as_they_count_and_nothing_is_lost_in_the_sum():
    rows = pd.DataFrame({"x": range(6), "weight": [2.0, 0.0, 1.5, 1.5, 0.4, 0.6]})
    found = counted(rows, replace(SCHEMA, weight="weight"))
    assert len(found) == 6 and (found["x"] == 0).sum() == 2 and not (found["x"] == 1).any()


@given(st.lists(st.floats(0, 20), min_size=1, max_size=60).filter(lambda each: sum(each) >= 1))
def test_no_row_stands_more_than_one_copy_off_its_weight(weights):
    rows = pd.DataFrame({"x": range(len(weights)), "weight": weights})
    copies = (
        counted(rows, replace(SCHEMA, weight="weight"))["x"]
        .value_counts()
        .reindex(range(len(weights)), fill_value=0)
    )
    assert (np.abs(copies - np.array(weights)) <= 1 + 1e-9).all() and abs(
        copies.sum() - sum(weights)
    ) <= 0.5 + 1e-9


def test_without_weights_rows_are_the_very_same():
    rows = snapshots([1, 2])
    assert counted(rows, SCHEMA) is rows and weights_of(rows, replace(SCHEMA, weight="weight")) is None


def test_what_is_no_weight_and_weights_that_leave_nothing_are_refused():
    schema = replace(SCHEMA, weight="weight")
    with pytest.raises(TrainingError, match="no weight"):
        counted(pd.DataFrame({"weight": [1.0, float("nan")]}), schema)
    with pytest.raises(TrainingError, match="no row counts"):
        counted(pd.DataFrame({"weight": [0.0, 0.0]}), schema)


def _record_rows(actor):
    design = {"arms": [{"name": "champion", "policy": "model"}]}
    key = {"experiment": "e", "unit": "1"}
    return {
        "experiments": [{"experiment": "e", "design_hash": "d", "design": json.dumps(design), "started_at": MONDAY, "actor": actor}],
        "assignments": [key | {"arm": "champion", "propensity": 0.9, "assigned_at": MONDAY, "design_hash": "d"}],
        "predictions": [key | {"as_of": MONDAY, "policy": "model", "score": 0.5, "value": 1.0, "rank": 1, "listed": True, "model": "m"}],
        "exposures": [key | {"as_of": MONDAY, "arm": "champion", "action": "offer", "cost": 1.0, "propensity": 0.9}],
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["database", "folder", "copy"])
def test_a_database_a_folder_and_a_copy_say_the_same(kind, tmp_path):
    with Records("sqlite://" if kind != "database" else f"sqlite:///{tmp_path}/x.db") as records:
        records.migrate()
        for table, rows in _record_rows("Ann").items():
            records.write(table, rows)
        if kind == "database":
            found = read_logged(records)
        else:
            assert copy_logged(records, tmp_path / "copy")
            found = read_logged(tmp_path / "copy")
    if kind == "copy":
        copy_logged(tmp_path / "copy", tmp_path / "again")
        found = read_logged(tmp_path / "again")
    rows = snapshots([1, 2])
    assert treated(rows, SCHEMA, found).tolist() == [True, False]
    assert np.allclose(
        left_alone(rows, SCHEMA, found), [0.1 if "holdout" in set(found.arms["arm"]) else 0.0, 1.0]
    )
    assert found.policies == {("e", "champion"): "model"}


def test_a_replay_has_changed_nobody(tmp_path):
    with Records("sqlite://") as records:
        records.migrate()
        for table, rows in _record_rows("replay").items():
            records.write(table, rows)
        assert not copy_logged(records, tmp_path / "copy") and not (tmp_path / "copy").exists()
        assert weigh(snapshots([1]), SCHEMA, read_logged(records)).method == "clean"


def test_a_folder_without_records_is_refused(tmp_path):
    with pytest.raises(MonitorError, match=r"exposures\.parquet"):
        read_logged(tmp_path)


def test_the_records_of_the_default_replay_would_weigh_if_they_were_real(produced):
    import pyarrow.parquet as pq

    folder = produced / "data/replay"
    tables = {
        name: pq.read_table(folder / f"{name}.parquet").to_pandas()
        for name in ("assignments", "predictions", "exposures")
    }
    design = json.loads(pq.read_table(folder / "experiments.parquet")["design"].to_pylist()[0])
    policies = {("retention-2017-11", arm["name"]): arm["policy"] for arm in design["arms"]}
    lists = tables["predictions"].loc[
        tables["predictions"]["listed"], ["experiment", "policy", "unit", "as_of"]
    ]
    record = Logged(policies, tables["assignments"], lists, tables["exposures"][["unit", "as_of"]])
    rows = pq.read_table(
        produced / "data/features/snapshots.parquet",
        columns=["household_id", "as_of"],
        filters=[("slice", "=", "replay")],
    ).to_pandas()
    weighing = weigh(rows, replace(SCHEMA, entity="household_id"), record)
    assert weighing.method == "weights" and weighing.treated > 500 and weighing.weights.max() <= CLIP * 1.2
    assert np.isclose(weighing.weights.sum(), len(rows))
