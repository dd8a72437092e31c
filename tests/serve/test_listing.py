"""Production draws up the lists that training judged: the same places, the same units, on the real weeks and on invented ones."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_workbench.experiment.play import microseconds, weekly_lists
from ml_workbench.model.evaluation import Policy, policies_of, rule_policy, with_predictions
from ml_workbench.model.snapshots import read_schema, read_slices
from ml_workbench.plan.charter import Rule
from ml_workbench.plan.errors import ScoringError
from ml_workbench.plan.files import read_json
from ml_workbench.plan.params import load_params
from ml_workbench.serve.listing import (
    expected_value,
    list_units,
    one,
    ranking_by_rule,
    ranking_of,
    tie_order,
    within_capacity,
)

DAY = 86_400_000_000


@pytest.fixture(scope="module")
def weeks(produced):
    "The snapshots of the replay with what every candidate said of them, and the terms of the project."
    schema = read_schema(produced / "data/features/schema.json")
    rows, found = (
        read_slices(produced / path, schema, ["replay"])
        for path in ("data/features/snapshots.parquet", "data/predictions.parquet")
    )
    params = load_params(produced)
    terms = SimpleNamespace(
        charter=params.charter, rank_by="usual_spend", usual_weekly_spend=schema.usual_weekly_spend,
        mean_weekly_spend=50.0, cutoffs={},
    )  # fmt: skip
    ladder = read_json(produced / "reports/train.json")["candidates"]
    return SimpleNamespace(
        rows=with_predictions(rows, found, schema), schema=schema, terms=terms, ladder=ladder,
        proposed=read_json(produced / "reports/evaluation.json")["proposal"]["policy"],
    )  # fmt: skip


def lists_by_week(weeks, name: str):
    "Place and listed of every row, drawn up week by week as a batch does: rest is what was written down before."
    rows, terms, schema = weeks.rows, weeks.terms, weeks.schema
    place, listed = np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows), dtype=bool)
    value, last = np.full(len(rows), np.nan), {}
    for week in np.unique(rows[schema.time]):
        here = np.flatnonzero(rows[schema.time] == week)
        part = rows.iloc[here]
        units = [str(unit) for unit in part[schema.entity]]
        ranking = ranking_of(
            name, terms, count=len(part),
            score=None if name == "rule" else part[name].to_numpy(),
            usual=part[schema.usual_weekly_spend].to_numpy(),
            feature=part[terms.charter.baseline.feature].to_numpy(),
        )  # fmt: skip
        days = microseconds(np.array([week]))[0] / DAY
        cooldown = terms.charter.economics.cooldown_days
        resting = np.array([days - last.get(unit, -np.inf) < cooldown for unit in units])
        size = terms.charter.capacity_per_week
        found = list_units(ranking, tie_order(units), size=size, resting=resting)
        place[here], listed[here], value[here] = found.place, found.listed, ranking.value
        last |= {units[row]: days for row in np.flatnonzero(found.listed)}
    return place, listed, value


@pytest.mark.parametrize("which", ["rule", "proposed", "kernel_machine"])
def test_every_week_of_the_replay_has_the_list_that_training_would_have_drawn_up(weeks, which):
    name = weeks.proposed if which == "proposed" else which
    schema, charter, rows = weeks.schema, weeks.terms.charter, weeks.rows
    policy = next(each for each in policies_of(rows, weeks.ladder, schema, charter) if each.name == name)
    _, unit = np.unique(rows[schema.entity].to_numpy(), return_inverse=True)
    times, week = np.unique(microseconds(rows[schema.time].to_numpy()), return_inverse=True)
    limits = {"size": charter.capacity_per_week, "cooldown_days": charter.economics.cooldown_days}
    expected = weekly_lists(policy, unit, week, (times - times[0]) / DAY, **limits)
    place, listed, value = lists_by_week(weeks, name)
    assert (place == expected.place).all() and (listed == expected.listed).all()
    assert (place == 0).sum() > 100 and listed.sum() > 100, "some rest, some are listed"
    if name != "rule":
        assert np.array_equal(value, policy.rank)


rankings = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0, float("nan")]), min_size=1, max_size=12)


@given(
    orders=rankings, size=st.integers(1, 6), seed=st.integers(0, 99), kind=st.sampled_from(["rule", "model"])
)
def test_a_list_is_that_of_training_whatever_ties_gaps_and_rests_there_are(orders, size, seed, kind):
    feature, random = np.array(orders), np.random.default_rng(seed)
    names = random.permutation(len(orders)) * 7
    resting = random.random(len(orders)) < 0.3
    rule = Rule(feature="x", order="descending", meaning="m")
    if kind == "rule":
        ranking, policy = ranking_by_rule(feature, rule), rule_policy(rule, feature)
    else:
        known = np.nan_to_num(feature)
        ranking = SimpleNamespace(order=known, floor=0.0)
        policy = Policy("m", "M", "candidate", 2, known, known, known, 0.0)
    found = list_units(ranking, tie_order([str(name) for name in names]), size=size, resting=resting)
    free = np.flatnonzero(~resting)
    zeros = np.zeros(len(free), dtype=int)
    part = Policy(*(getattr(policy, each) for each in ("name", "label", "kind", "complexity", "score", "probability")),
                  policy.rank[free], policy.floor)  # fmt: skip
    expected = weekly_lists(part, names[free], zeros, np.zeros(1), size=size, cooldown_days=0)
    assert found.place[free].tolist() == expected.place.tolist()
    assert found.listed[free].tolist() == expected.listed.tolist()
    assert not found.listed[resting].any() and not found.place[resting].any()


@given(orders=rankings, size=st.integers(1, 6), kind=st.sampled_from(["rule", "proposed"]))
def test_one_unit_more_is_listed_exactly_when_the_list_has_room_for_it(weeks, orders, size, kind):
    terms, feature = weeks.terms, np.array(orders)
    usual = np.abs(np.nan_to_num(feature)) * 100
    score = np.linspace(0, 1, len(usual))
    ranking = ranking_of(kind, terms, count=len(usual), score=score, usual=usual, feature=feature)
    cutoff = list_units(ranking, np.arange(len(usual)), size=size).cutoff
    for row in range(len(usual)):
        rule = None if np.isnan(feature[row]) else float(feature[row])
        values = {terms.usual_weekly_spend: float(usual[row]), terms.charter.baseline.feature: rule}
        said = one(kind, terms, float(score[row]), values, cutoff=cutoff)
        if kind == "rule" and rule is None:
            continue  # behind everybody, however far: only a list says how far
        first = list_units(ranking, np.where(np.arange(len(usual)) == row, -1, 0), size=size)
        assert said.listed == bool(first.listed[row]), "among equals it is taken"
        assert said.order == ranking.order[row]


def test_who_has_no_value_for_the_rule_is_listed_last_and_only_where_there_is_room():
    rule = Rule(feature="x", order="ascending", meaning="m")
    ranking = ranking_by_rule(np.array([np.nan, 5.0, 1.0]), rule)
    assert list_units(ranking, np.arange(3), size=2).place.tolist() == [3, 2, 1]
    assert list_units(ranking, np.arange(3), size=3).listed.all()
    assert np.isnan(ranking.score[0]) and np.isnan(ranking.value).all()


def test_nothing_lists_nobody_and_gives_no_place(weeks):
    found = list_units(ranking_of("none", weeks.terms, count=3), np.arange(3), size=2)
    assert not found.place.any() and not found.listed.any() and found.cutoff == np.inf
    assert one("nothing", weeks.terms, None, {}) == (None, None, False)


def test_no_unit_is_listed_from_whom_nothing_is_to_be_gained(weeks):
    ranking = ranking_of("m", weeks.terms, count=2, score=np.zeros(2), usual=np.array([10.0, np.nan]))
    assert (
        ranking.value.tolist() == [-1.0, -1.0] and not list_units(ranking, np.arange(2), size=2).listed.any()
    )
    assert not one("m", weeks.terms, 0.0, {}, cutoff=-5.0).listed


def test_the_likeliest_come_first_where_only_the_probability_ranks(weeks):
    terms = SimpleNamespace(**vars(weeks.terms) | {"rank_by": "probability"})
    value = expected_value(np.array([0.1, 0.9]), None, terms)
    assert value[1] > value[0] and one("m", terms, 0.9, {}, cutoff=0.0).value == value[1]
    with pytest.raises(ScoringError, match="'expected_spend': a release ranks by"):
        expected_value(
            np.zeros(1), np.zeros(1), SimpleNamespace(**vars(terms) | {"rank_by": "expected_spend"})
        )


@given(st.lists(st.integers(-(10**25), 10**25), unique=True))
def test_numbered_units_are_ordered_by_number_however_they_are_written(numbers):
    order = tie_order([str(number) for number in numbers])
    assert [numbers[place] for place in np.argsort(order)] == sorted(numbers)


@given(st.lists(st.text(alphabet="ab7- ²", min_size=1), unique=True).filter(lambda units: "a" in units))
def test_named_units_are_ordered_by_text(units):
    assert [units[place] for place in np.argsort(tie_order(units))] == sorted(units)


def test_numbers_in_an_array_are_taken_as_they_are():
    assert tie_order(np.array([30, 4], dtype=np.int32)).tolist() == [30, 4]
    assert tie_order([]).shape == (0,)
    assert sorted(tie_order(["7", "007"]).tolist()) == [0, 1], "two names of one number stay two units"


@given(st.integers(0, 9), st.integers(1, 9), st.integers(0, 99))
def test_no_more_are_acted_on_than_the_business_can_and_those_with_the_first_places(count, size, seed):
    random = np.random.default_rng(seed)
    due, place = random.random(count) < 0.7, random.integers(1, 5, count)
    acted = within_capacity(due, place, np.arange(count), size=size)
    assert acted.sum() == min(size, due.sum()) and not (acted & ~due).any()
    left = due & ~acted
    assert not left.any() or place[acted].max() <= place[left].min()


def test_a_service_may_list_without_any_library_of_tables():
    heavy = "{'pandas', 'pyarrow', 'duckdb', 'sklearn', 'scipy', 'xgboost', 'sqlalchemy'}"
    code = f"import sys, ml_workbench.serve.listing; print({heavy} & {{*sys.modules}})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
