"""What an experiment can see, and how long it would take to see more, against figures of the textbook."""

import math
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_workbench.estimators.lifts import lift
from ml_workbench.estimators.moments import moments_of
from ml_workbench.experiment.money import Costs, Group, Period, earned
from ml_workbench.experiment.outlook import measured_history, outlook, per_unit, round_up, sight
from ml_workbench.experiment.planner import History, Terms
from ml_workbench.model.metrics import Interval
from ml_workbench.plan.params import load_params

HISTORY = History(100.0, 20.0, units_per_week=200, at_start=1000)
START = datetime(2024, 1, 1)


def view_of(effect, *, history=HISTORY, terms=Terms(looks=1), **changes):
    return outlook(effect, replace(history, **changes), terms, horizon_days=28, as_of=START)


def test_the_units_are_those_of_the_textbook():
    # two-sided t-test, d = .1, power .8: 1,571 an arm (statsmodels)
    assert view_of(2.0).needed == pytest.approx(2 * 1570.7, abs=2)


def test_half_the_effect_takes_four_times_the_units():
    assert view_of(1.0).needed == pytest.approx(4 * view_of(2.0).needed, rel=0.01)


def test_the_last_to_join_have_their_whole_horizon():
    view = view_of(2.0)
    assert view.weeks == math.ceil((view.needed - 1000) / 200 + 4)
    assert view.date == "2024-04-15" and view.weeks == 15 and view.sensible


def test_looking_early_and_more_arms_take_more_units():
    looked = view_of(2.0, terms=Terms(looks=7))
    many = view_of(2.0, terms=Terms(control=0.5, treated=(0.25, 0.25), looks=1))
    assert looked.needed > view_of(2.0).needed and many.needed > view_of(2.0).needed


def test_a_test_that_sees_enough_already_needs_no_more_time():
    view = view_of(20.0, units_per_week=0.0)
    assert view.weeks == 0.0 and view.needed < 1000 and view.date == "2024-01-01"


def test_without_newcomers_the_day_never_comes():
    view = view_of(1.0, units_per_week=0.0)
    assert view.needed > 1000 and view.weeks is None and view.date is None and not view.sensible


def test_a_day_in_thousands_of_years_is_no_date():
    view = view_of(0.001, units_per_week=10.0)
    assert view.weeks > 1e6 and view.date is None and not view.sensible


@pytest.mark.parametrize("effect", [0.0, -1.0, 1e-12])
def test_an_effect_that_nobody_could_see_has_no_sample(effect):
    assert view_of(effect).needed is None


def test_planning_on_takes_the_spread_that_is_left_after_covariates():
    random = np.random.default_rng(1)
    known = random.normal(0, 10, (400, 1))
    rows = np.hstack([known + random.normal(0, 2, (400, 1)), known])
    sides = [moments_of(["spend", "before"], part) for part in (rows[:200], rows[200:])]
    plain = lift(*sides, metric="spend", column="spend")
    adjusted = lift(*sides, metric="spend", column="spend", covariates=["before"])
    spreads = [measured_history(each, units=400, per_week=0).spread for each in (plain, adjusted)]
    assert spreads[0] == pytest.approx(10.2, rel=0.1) and spreads[1] == pytest.approx(2.0, rel=0.1)


PERIOD = Period(weeks=4, units=1000, horizon_days=28)
COSTS = Costs(offers=-10.0, running=16.0, development=0.0)


@pytest.fixture(scope="module")
def charter(root):
    return load_params(root).charter


def found(effect=0.0, *, spread=20.0):
    values = np.random.default_rng(1).normal(0, spread, (2, 400, 1))
    sides = [
        moments_of(["spend"], part - part.mean() + mean) for part, mean in zip(values, (100 + effect, 100))
    ]
    return lift(*sides, metric="spend", column="spend")


def test_a_promise_per_unit_earns_exactly_what_was_promised(charter):
    free = charter.economics.model_copy(update={"development_cost": 0.0})
    charter = charter.model_copy(update={"economics": free})
    arm, rule = (
        Group("a", "A", "proposed", 400, 9, 10, 10.0, runs_model=True),
        Group("c", "C", "rule", 400, 9, 20, 20.0),
    )
    spent = earned(found(), arm, rule, charter, PERIOD, prior_lift=0.05).costs
    effect = per_unit(223.0, charter=charter, costs=spent, units=400, period=PERIOD)
    assert earned(
        found(effect), arm, rule, charter, PERIOD, prior_lift=0.05
    ).per_month.value == pytest.approx(223.0)


def sight_of(charter, promised=None, *, per_week=0.0, spread=20.0):
    return sight(
        found(spread=spread), charter=charter, terms=Terms(), period=PERIOD, costs=COSTS, promised=promised,
        per_week=per_week, taking_part=800, as_of=START,
    )  # fmt: skip


def test_the_smallest_effect_is_told_per_unit_and_per_month(charter):
    seen = sight_of(charter)
    assert seen.mde == pytest.approx(2.8 * 20 * math.sqrt(2 / 400), rel=0.03)
    assert seen.mde_total_per_month == pytest.approx(seen.mde * 0.28 * 1000 / 4 * 52 / 12)
    assert seen.mde_relative == pytest.approx(seen.mde / 100) and seen.promised_per_month is None


def test_an_effect_as_large_as_the_smallest_that_can_be_seen_has_the_planned_power(charter):
    seen = sight_of(charter)
    net = seen.mde_total_per_month - 6.0 * 1000 / 400 / 4 * 52 / 12
    assert sight_of(charter, Interval(net, 0.0, 2 * net)).power_for_promise == pytest.approx(0.8, abs=0.01)


def test_a_promise_that_is_too_small_to_be_seen_says_so(charter):
    seen = sight_of(charter, Interval(223.0, 56.0, 396.0), spread=200.0, per_week=1.0)
    assert seen.power_for_promise < 0.1 and not seen.outlook.sensible
    assert "promised +$223 a month" in seen.sentence and "years: more weeks of this test" in seen.sentence


def test_where_nobody_joins_no_number_of_weeks_is_told(charter):
    assert seen_sentence(charter, per_week=0.0).endswith("and none join.")


def seen_sentence(charter, **options):
    return sight_of(charter, Interval(223.0, 56.0, 396.0), spread=200.0, **options).sentence


def test_enough_units_are_called_enough(charter):
    assert sight_of(charter, Interval(5e4, 0.0, 9e4)).sentence.endswith(
        "are enough to see what was promised."
    )


def test_without_a_promise_the_least_that_is_worth_it_is_looked_for(charter):
    assert (
        "promised" not in sight_of(charter).sentence
        and "the least that is worth it" in sight_of(charter).sentence
    )


@given(st.floats(1, 1e12))
def test_a_number_of_units_is_never_rounded_down(number):
    assert number <= round_up(number) <= max(1.11 * number, number + 1)
