"""What an arm earned: revenue, margin, costs, return, month and year, against figures worked out by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

from ml_workbench.estimators.lifts import lift
from ml_workbench.estimators.moments import moments_of
from ml_workbench.experiment.money import Costs, Group, Period, assumptions, costs_of, earned
from ml_workbench.plan.charter import MONTH
from ml_workbench.plan.params import load_params

RULE = Group("control", "The rule", "rule", 500, 95, 100, 100.0)
MODEL = Group("champion", "The model", "proposed", 400, 68, 70, 70.0, runs_model=True)
NOBODY = Group("holdout", "No offers", "none", 100, 0, 0, 0.0)
PERIOD = Period(weeks=4, units=1000, horizon_days=28)
TERMS = {
    "gross_margin": 0.25,
    "running_cost_per_week": 10.0,
    "development_cost": 2600.0,
    "development_weeks": 52,
}


@pytest.fixture
def charter(root):
    charter = load_params(root).charter
    return charter.model_copy(update={"economics": charter.economics.model_copy(update=TERMS)})


def spend(mean, count, *, seed, spread=20.0):
    values = np.random.default_rng(seed).normal(0, spread, (count, 1))
    return moments_of(["spend"], values - values.mean() + mean)


def found(treated=110.0, control=100.0, **options):
    return lift(
        spend(treated, 400, seed=1, **options),
        spend(control, 500, seed=2, **options),
        metric="spend",
        column="spend",
    )


def test_an_arm_pays_for_its_offers_and_saves_those_of_the_arm_it_replaces(charter):
    costs = costs_of(MODEL, RULE, charter.economics, PERIOD)
    # 70 offers; the rule would have sent 100 · 400/500 = 80; 40% of four weeks of 10; 40% of 4/52 of 2,600
    assert costs == Costs(offers=-10.0, running=16.0, development=80.0) and costs.total == 86.0


def test_against_nobody_all_offers_count_and_a_rule_needs_no_model(charter):
    assert costs_of(MODEL, NOBODY, charter.economics, PERIOD) == Costs(70.0, 16.0, 80.0)
    assert costs_of(RULE, NOBODY, charter.economics, PERIOD) == Costs(100.0, 0.0, 0.0)


def test_two_models_cost_each_other_nothing_and_a_rule_saves_the_model(charter):
    assert costs_of(replace(MODEL, policy="mlp"), MODEL, charter.economics, PERIOD).total == 0.0
    saved = costs_of(RULE, MODEL, charter.economics, PERIOD)
    assert saved.running == -20.0 and saved.development == -100.0


def test_development_is_never_written_off_twice(charter):
    long = replace(PERIOD, weeks=104)
    assert costs_of(MODEL, NOBODY, charter.economics, long).development == 0.4 * 2600.0


def test_revenue_margin_net_month_and_return_follow_from_the_difference(charter):
    result = earned(found(), MODEL, RULE, charter, PERIOD, prior_lift=0.05)
    assert math.isclose(result.incremental_revenue.value, 4000.0)
    assert math.isclose(result.incremental_margin.value, 1000.0)
    assert math.isclose(result.net.value, 914.0)
    assert math.isclose(result.per_month.value, 914.0 * 1000 / 400 / 4 * MONTH)
    assert math.isclose(result.roi.value, 914.0 / 86.0)
    width = result.incremental_revenue.high - result.incremental_revenue.low
    assert math.isclose(result.net.high - result.net.low, 0.25 * width)
    assert math.isclose(result.roi.high - result.roi.low, 0.25 * width / 86.0)


@pytest.mark.parametrize("treated", [60.0, 99.0, 100.86, 101.0, 140.0])
def test_interval_return_and_chance_never_contradict_each_other(charter, treated):
    result = earned(found(treated), MODEL, RULE, charter, PERIOD, prior_lift=0.05)
    assert (result.net.low > 0) == (result.roi.low > 0) == (result.prob_positive > 0.975)
    assert (result.net.high < 0) == (result.roi.high < 0) == (result.prob_positive < 0.025)
    assert ("earned money" in result.sentence) == (result.net.low > 0)
    assert ("lost money" in result.sentence) == (result.net.high < 0)


def test_there_is_no_return_on_a_cost_of_nothing(charter):
    cheap = replace(MODEL, runs_model=False, cost=80.0)
    assert earned(found(), cheap, RULE, charter, PERIOD, prior_lift=0.05).roi is None
    assert earned(found(), replace(cheap, cost=10.0), RULE, charter, PERIOD, prior_lift=0.05).roi is None


def test_a_year_bears_the_whole_bill_and_only_the_effect_is_shrunk(charter):
    result = earned(found(), MODEL, RULE, charter, PERIOD, prior_lift=0.05)
    # a year of 1,000 units: 13 times four weeks, of 2.5 times the arm
    scale = 13 * 2.5
    bill = (-10.0 + 16.0) * scale + 2600.0
    assert math.isclose(result.annual.raw.value, 1000.0 * scale - bill)
    kept = 25.0 / (25.0 + found().standard_error ** 2)  # 5% of 100, squared
    assert math.isclose(result.annual.shrinkage, kept)
    assert math.isclose(result.annual.shrunk.value, kept * 1000.0 * scale - bill)
    assert "winner's curse" in result.annual.sentence


def test_a_vague_estimate_promises_nearly_nothing_for_the_year(charter):
    vague = earned(found(spread=4000.0), MODEL, RULE, charter, PERIOD, prior_lift=0.05)
    assert vague.annual.shrinkage < 0.001
    assert vague.annual.shrunk.high - vague.annual.shrunk.low < 0.1 * (
        vague.annual.raw.high - vague.annual.raw.low
    )


def test_the_interval_that_decides_is_scaled_like_the_other(charter):
    wide = found().absolute.times(1.0)
    wide = replace(wide, low=wide.value - 30, high=wide.value + 30)
    result = earned(found(), MODEL, RULE, charter, PERIOD, prior_lift=0.05, decisive=wide)
    assert math.isclose(result.decisive.value, result.per_month.value)
    assert math.isclose(result.decisive.high - result.decisive.low, 60 * 1000 * 0.25 / 4 * MONTH)


def test_an_arm_like_the_control_has_an_even_chance(charter):
    free = {"running_cost_per_week": 0.0, "development_cost": 0.0}
    charter = charter.model_copy(update={"economics": charter.economics.model_copy(update=free)})
    result = earned(found(100.0), replace(MODEL, cost=80.0), RULE, charter, PERIOD, prior_lift=0.05)
    assert math.isclose(result.net.value, 0.0, abs_tol=1e-6) and math.isclose(
        result.prob_positive, 0.5, abs_tol=1e-6
    )


def test_every_assumption_is_a_sentence_that_names_its_figure(charter):
    told = {each.name: each for each in assumptions(charter, PERIOD, 0.05)}
    assert "25%" in told["gross_margin"].text and "$10" in told["running_cost"].text
    assert "$2,600" in told["development_cost"].text and "52 weeks" in told["development_cost"].text
    assert all(each.text.endswith(".") for each in told.values())
