"""Power, smallest effect, sample and weeks: the figures of others, and what simulations say."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_workbench.experiment.planner import (
    History,
    Terms,
    duration_weeks,
    false_alarms,
    mde,
    power,
    sample_size,
    schedule,
    terms_of,
)
from ml_workbench.plan.errors import ExperimentError
from ml_workbench.plan.experiment import Arm, Experiment, Metric

STANDARD = History(mean=0.0, sd=1.0)
SHOP = History(mean=0.1441, kind="proportion", units_per_week=2195)
RELATIVE = Terms(test="relative")


# Published figures -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "each"), [(0.2, 393.41), (0.5, 63.77), (0.8, 25.52)])
def test_standard_effects_need_the_textbook_s_units(size: float, each: float) -> None:
    needed = sample_size(size, STANDARD)
    assert (round(needed.control, 2), [round(units, 2) for units in needed.treated]) == (each, [each])
    assert power(size, needed.total, STANDARD) == pytest.approx(0.8, abs=1e-9)


def test_ten_per_cent_to_twelve_needs_3834_6_in_each_arm() -> None:
    h = 2 * (math.asin(math.sqrt(0.12)) - math.asin(math.sqrt(0.10)))
    assert round(h, 5) == 0.06398
    assert round(sample_size(0.02, History(mean=0.10, kind="proportion")).control, 1) == 3834.6


def test_power_by_week_is_what_growthbook_documents() -> None:
    rows = schedule(0.2 * SHOP.mean, SHOP, RELATIVE, weeks=4)
    assert (round(rows[0].power, 3), round(rows[0].mde_relative, 4)) == (0.413, 0.3455)
    assert [row.power >= 0.8 for row in rows] == [False, False, True, True]
    assert duration_weeks(0.2 * SHOP.mean, SHOP, RELATIVE) == 3


@pytest.mark.parametrize("ratio", [1.0, 0.5, 0.1, 3.0])
@pytest.mark.parametrize("size", [0.03, 0.2, 0.8])
def test_uneven_splits_agree_with_statsmodels(ratio: float, size: float) -> None:
    from statsmodels.stats.power import NormalIndPower, TTestIndPower

    terms = Terms(1 / (1 + ratio), (ratio / (1 + ratio),))
    expected = TTestIndPower().solve_power(size, alpha=0.05, power=0.8, ratio=ratio)
    assert sample_size(size, STANDARD, terms).control == pytest.approx(expected, rel=1e-6)
    assert mde(expected * (1 + ratio), STANDARD, terms) == pytest.approx(size, rel=1e-6)
    rate = History(mean=0.3, kind="proportion")
    h = 2 * (math.asin(math.sqrt(0.35)) - math.asin(math.sqrt(0.30)))
    expected = NormalIndPower().solve_power(h, alpha=0.05, power=0.8, ratio=ratio)
    assert sample_size(0.05, rate, terms).control == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("looks", "chance"), [(1, 0.05), (2, 0.083), (3, 0.107), (4, 0.126), (5, 0.142), (10, 0.193)]
)
def test_false_alarms_are_those_of_armitage_s_table(looks: int, chance: float) -> None:
    assert round(false_alarms(looks), 3) == chance


def test_false_alarms_of_a_daily_look_are_counted_as_exactly() -> None:
    "Beyond the table: 0.3736 and 0.4658 at 400 nodes, where the digits no longer change."
    assert (round(false_alarms(100), 4), round(false_alarms(365), 4)) == (0.3736, 0.4658)
    assert round(false_alarms(100, 0.999), 5) == 0.01474


# What simulations say --------------------------------------------------------------------------------------


def rejected(draw: np.ndarray, control: np.ndarray) -> float:
    "The share of rows in which Welch's test rejects at 5%."
    from scipy.stats import ttest_ind

    return float((ttest_ind(draw, control, axis=1, equal_var=False).pvalue < 0.05).mean())


def test_power_is_how_often_a_test_finds_the_effect() -> None:
    rng = np.random.default_rng(1)
    treated, control = rng.uniform(0, 48, (4000, 120)) + 5, rng.uniform(0, 48, (4000, 360))
    known = History(mean=24.0, sd=48 / math.sqrt(12))
    assert rejected(treated, control) == pytest.approx(power(5.0, 480, known, Terms(0.75, (0.25,))), abs=0.02)


def test_covariates_give_the_power_that_r2_promises() -> None:
    rng = np.random.default_rng(2)
    before, noise = rng.normal(0, 2, (4000, 200)), rng.normal(0, 1, (4000, 200))
    spend = 10 + before + noise + 0.4 * (np.arange(200) < 100)
    adjusted = spend - before  # the slope is one
    known = History(mean=10.0, sd=math.sqrt(5), r2=0.8)
    assert rejected(adjusted[:, :100], adjusted[:, 100:]) == pytest.approx(power(0.4, 200, known), abs=0.02)


def test_false_alarms_are_what_a_simulation_finds() -> None:
    steps = np.random.default_rng(3).normal(size=(20_000, 7)).cumsum(axis=1) / np.sqrt(np.arange(1, 8))
    assert (np.abs(steps) > 1.959964).any(axis=1).mean() == pytest.approx(false_alarms(7), abs=0.008)


# How the answers hang together -----------------------------------------------------------------------------

HISTORIES = st.builds(
    History,
    mean=st.floats(1, 500),
    sd=st.floats(1, 500),
    r2=st.floats(0, 0.95),
    units_per_week=st.just(100.0),
) | st.builds(History, mean=st.floats(0.02, 0.6), kind=st.just("proportion"), units_per_week=st.just(100.0))
TERMS = st.builds(
    lambda control, treated, looks, test: Terms(control, tuple(treated), looks=looks, test=test),
    st.floats(0.1, 0.4), st.lists(st.floats(0.05, 0.2), min_size=1, max_size=3), st.sampled_from([1, 7]),
    st.sampled_from(["difference", "relative"]),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(HISTORIES, TERMS, st.floats(0.01, 0.3))
def test_the_four_answers_are_one_equation(history: History, terms: Terms, lift: float) -> None:
    effect = lift * history.mean
    total = sample_size(effect, history, terms).total
    at_least = 2 / min(terms.control, *terms.treated)  # of which no arm can have fewer
    assert power(effect, total, history, terms) >= terms.power - 1e-6
    assert total <= at_least * 1.001 or power(effect, total * 0.999, history, terms) < terms.power
    if total > 100:
        assert mde(total, history, terms) == pytest.approx(effect, rel=1e-4)


@settings(max_examples=60, deadline=None)
@given(HISTORIES, TERMS, st.floats(0.01, 0.3), st.floats(100, 1e6), st.floats(1.1, 5))
def test_more_units_and_larger_effects_never_lower_the_power(
    history: History, terms: Terms, lift: float, units: float, more: float
) -> None:
    effect = lift * history.mean
    here = power(effect, units, history, terms)
    assert 0 <= here <= power(effect, units * more, history, terms) + 1e-9
    assert here <= power(
        min(effect * more, 0.35 if history.kind == "proportion" else math.inf), units, history, terms
    ) + 1e-9 or (effect * more > 0.35)


def test_covariates_are_worth_as_many_units_as_they_explain() -> None:
    plain, known = (sample_size(1.0, History(10.0, 20.0, r2=r2)).total for r2 in (0.0, 0.75))
    assert plain / known == pytest.approx(4, rel=1e-3)


def test_clusters_cost_their_design_effect() -> None:
    plain, clustered = (sample_size(1.0, History(10.0, 20.0, design_effect=e)).total for e in (1.0, 3.0))
    assert clustered / plain == pytest.approx(3, rel=1e-3)


def test_several_arms_share_the_error_and_the_smallest_decides() -> None:
    two = Terms(0.4, (0.4,))
    with_third = Terms(0.4, (0.4, 0.2))
    assert with_third.alpha == two.alpha / 2 == pytest.approx(0.025)
    assert sample_size(1.0, History(10, 20), with_third).total > sample_size(1.0, History(10, 20), two).total
    alone = sample_size(1.0, History(10, 20), Terms(0.4, (0.2,), confidence=0.975)).total
    assert sample_size(1.0, History(10, 20), with_third).total == pytest.approx(alone)


def test_looking_widens_the_interval_by_half_and_the_sample_to_match() -> None:
    fixed, looked = (sample_size(0.1, STANDARD, Terms(looks=looks)).total for looks in (1, 20))
    assert looked / fixed == pytest.approx(((3.0352 + 0.8416) / (1.9600 + 0.8416)) ** 2, rel=2e-3)


def test_a_fall_is_found_like_a_rise() -> None:
    assert power(-0.3, 500, STANDARD) == pytest.approx(power(0.3, 500, STANDARD))
    assert sample_size(-0.02, SHOP).total > 0


def test_the_effect_of_nought_is_found_as_often_as_the_error_allows() -> None:
    assert power(0.0, 1000, STANDARD) == pytest.approx(0.05)


def test_an_effect_that_nobody_could_miss_is_certain() -> None:
    assert power(1e6, 1e6, STANDARD) == 1.0


def test_units_that_are_there_need_no_weeks() -> None:
    known = History(mean=10.0, sd=20.0, at_start=1e6)
    assert duration_weeks(1.0, known) == 1
    assert known.arrived(1) == known.arrived(50)


def test_weeks_are_counted_whole_and_only_as_far_as_one_looks() -> None:
    needed = sample_size(1.0, History(10.0, 20.0)).total
    assert duration_weeks(1.0, History(10.0, 20.0, units_per_week=needed / 2.5)) == 3
    assert duration_weeks(1.0, History(10.0, 20.0, units_per_week=needed / 200)) is None
    assert duration_weeks(1.0, History(10.0, 20.0, units_per_week=needed / 200), longest=300) == 200
    assert duration_weeks(1.0, History(10.0, 20.0)) is None


def test_terms_come_from_the_experiment() -> None:
    experiment = Experiment(
        name="trial", namespace="offers", holdout=0.1, control="b", primary="came", horizon_days=28, looks=4, power=0.9,
        arms=[Arm(name=name, policy="none", weight=weight) for name, weight in (("a", 0.2), ("b", 0.5), ("c", 0.3))],
        metrics=[Metric(name="came", label="came", kind="proportion", outcome="visit", of="any")],
    )  # fmt: skip
    assert terms_of(experiment) == Terms(0.5, (0.2, 0.3), 0.95, 0.9, 4)


# What cannot be --------------------------------------------------------------------------------------------


def test_there_may_be_no_smallest_effect() -> None:
    assert mde(2, STANDARD) is None
    assert mde(10, History(mean=0.9, kind="proportion")) is None  # a rate cannot rise above one
    assert mde(20, History(mean=1.0, sd=50.0), RELATIVE) is None  # the denominator is too uncertain


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({"control": 0.6, "treated": (0.6,)}, "sum to at most 1, got control 0.6 and treated 0.6"),
        ({"treated": ()}, "treated none"),
        ({"treated": (-0.1,)}, "must be positive"),
        ({"power": 80}, r"power must lie between 0 and 1, got 80 \(80% is 0.8\)"),
        ({"power": 0.0}, "power must lie between"),
        ({"confidence": 1.0}, "confidence must lie between 0 and 1, got 1"),
        ({"looks": 0}, "looks must be 1 or more"),
        ({"test": "ratio"}, "one of difference, relative, got 1 and 'ratio'"),
        ({"power": math.nan}, "power must lie between"),
    ],
)
def test_impossible_terms_are_refused(terms: dict, said: str) -> None:
    with pytest.raises(ExperimentError, match=said):
        Terms(**terms)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: power(0.95, 100, SHOP), "takes a base rate of 0.1441 to 1.0941; effects are absolute"),
        (lambda: power(-0.2, 100, SHOP), "takes a base rate of 0.1441 to -0.0559"),
        (lambda: power(math.inf, 100, STANDARD), "finite number, got inf"),
        (lambda: power(0.1, -5, STANDARD), "units cannot be negative, got -5"),
        (lambda: mde(math.nan, STANDARD), "units must be a finite number, got nan"),
        (lambda: sample_size(0.0, STANDARD), "no number of units finds an effect of nought"),
        (lambda: sample_size(1e-12, STANDARD), "too small to be found by anybody"),
        (lambda: schedule(0.02, SHOP, weeks=0), "weeks must be a whole number from 1, got 0"),
        (lambda: schedule(0.02, SHOP, weeks=-3), "got -3"),
        (lambda: schedule(0.02, SHOP, weeks=2.5), "got 2.5"),
        (lambda: schedule(0.02, STANDARD), "no units: say how many come"),
        (lambda: duration_weeks(0.02, SHOP, longest=-1), "longest must be a whole number from 1, got -1"),
        (lambda: false_alarms(0), "looks must be 1 or more, got 0"),
        (lambda: false_alarms(3, 95), r"confidence must lie between 0 and 1, got 95 \(95% is 0.95\)"),
        (lambda: power(1.0, 100, STANDARD, RELATIVE), "a mean of 0 has no relative lift"),
    ],
)  # fmt: skip
def test_impossible_questions_are_refused(ask, said: str) -> None:
    with pytest.raises(ExperimentError, match=said):
        ask()


def test_a_sample_says_who_it_is_made_of() -> None:
    total, control, treated = sample_size(1.0, History(10.0, 20.0), Terms(0.5, (0.3, 0.1)))
    assert (control, treated) == (pytest.approx(0.5 * total), pytest.approx((0.3 * total, 0.1 * total)))
