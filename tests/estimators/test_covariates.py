import numpy as np
import pytest
import statsmodels.api as sm

from ml_workbench.estimators.covariates import as_means, compared
from ml_workbench.estimators.lifts import lift
from ml_workbench.estimators.moments import Moments, moments_of
from ml_workbench.plan.errors import ExperimentError

NAMES = ("spend", "before", "age", "visits")


def experiment(
    units: int, *, seed: int = 21, effect: float = 2.0, uneven: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    "Units with three covariates, slopes that differ between arms, and noise that grows with the first covariate."
    rng = np.random.default_rng(seed)
    before, age, visits = rng.gamma(1.5, 30.0, units), rng.normal(45, 12, units), rng.poisson(3.0, units)
    treated = rng.permutation(units) < units // 3
    noise = rng.normal(0, 10, units) * (0.5 + before / 45 if uneven else 1.0)
    spend = 0.6 * before + 0.3 * age + visits + treated * (effect + 0.1 * (before - 45)) + noise
    return np.column_stack([spend, before, age, visits]), treated


def sides(rows: np.ndarray, treated: np.ndarray) -> tuple[Moments, Moments]:
    return moments_of(NAMES, rows[treated]), moments_of(NAMES, rows[~treated])


def interacted(rows: np.ndarray, treated: np.ndarray) -> sm.OLS:
    "Lin's regression: every covariate, centred, and its product with the arm."
    centred = rows[:, 1:] - rows[:, 1:].mean(axis=0)
    return sm.OLS(
        rows[:, 0], np.column_stack([np.ones(len(rows)), treated, centred, treated[:, None] * centred])
    )


def test_the_adjusted_difference_is_the_coefficient_of_one_regression_with_all_interactions():
    rows, treated = experiment(900)
    pair, *_ = compared(*sides(rows, treated))
    assert pair.difference == pytest.approx(interacted(rows, treated).fit().params[1], rel=1e-9)


def test_the_noise_of_each_arm_is_the_error_of_its_regression_at_the_common_mean():
    rows, treated = experiment(900)
    centre = rows[:, 1:].mean(axis=0)
    _, *fits = compared(*sides(rows, treated))
    for fit, side in zip(fits, (treated, ~treated), strict=True):
        theirs = sm.OLS(rows[side, 0], sm.add_constant(rows[side, 1:])).fit()
        told = theirs.get_prediction([[1.0, *centre]])
        assert fit.value == pytest.approx(told.predicted_mean[0], rel=1e-9)
        assert fit.noise**0.5 == pytest.approx(told.se_mean[0], rel=1e-9)
        assert fit.explained == pytest.approx(theirs.rsquared, rel=1e-9)


@pytest.mark.parametrize("kind", ["HC1", "HC2"])
@pytest.mark.parametrize("units", [600, 6000, 60000])
def test_the_standard_error_tends_to_the_robust_ones(kind, units):
    """Moments hold no fourth-order products, so a sandwich cannot be had from them. Residual variance in each arm is
    the sandwich's leading term; what is left is of relative order 1/√n under noise that depends on the covariates."""
    rows, treated = experiment(units)
    _, *fits = compared(*sides(rows, treated))
    ours = sum(fit.noise for fit in fits) ** 0.5
    assert ours == pytest.approx(interacted(rows, treated).fit(cov_type=kind).bse[1], rel=1.5 / units**0.5)


def test_what_the_common_mean_adds_is_what_unequal_slopes_make_of_its_spread():
    rows, treated = experiment(6000)
    pair, one, other = compared(*sides(rows, treated))
    gap = one.slopes - other.slopes
    # The covariates' spread within the arms, over all units.
    spread = (
        sum(each.scatter[1:, 1:] * each.count / (each.count - 1) for each in sides(rows, treated)) / 6000**2
    )
    added = pair.standard_error**2 - one.noise - other.noise
    assert added == pytest.approx(gap @ spread @ gap, rel=1e-6) and added > 0


def test_the_error_is_the_spread_of_the_estimate_over_samples():
    "Also of the relative lift, where the common mean does not cancel."
    found = [compared(*sides(*experiment(600, seed=seed)))[0] for seed in range(600)]
    differences = np.array([pair.difference for pair in found])
    ratios = np.log([pair.mean / pair.mean_control for pair in found])
    error = np.mean([pair.standard_error**2 for pair in found]) ** 0.5
    relative = [
        pair.variance / pair.mean**2
        + pair.variance_control / pair.mean_control**2
        - 2 * pair.covariance / (pair.mean * pair.mean_control)
        for pair in found
    ]
    assert differences.std() == pytest.approx(error, rel=0.08)
    assert ratios.std() == pytest.approx(np.mean(relative) ** 0.5, rel=0.08)


def test_one_covariate_agrees_with_cuped_of_tea_tasting_where_slopes_are_equal():
    "They use one slope for both arms: the same to first order, where the treatment does not change the slope."
    from tea_tasting.aggr import Aggregates
    from tea_tasting.metrics import Mean

    rng = np.random.default_rng(3)
    before = rng.gamma(2.0, 20.0, 8000)
    treated = rng.permutation(8000) < 3000
    arms = [
        moments_of(
            ["spend", "before"],
            np.column_stack([before + 2 * treated + rng.normal(0, 15, 8000), before])[side],
        )
        for side in (treated, ~treated)
    ]
    theirs = [
        Aggregates(
            arm.count,
            {name: arm.of(name) for name in arm.names},
            {name: arm.variance(name) for name in arm.names},
            {("spend", "before"): arm.covariance("spend", "before")},
        )
        for arm in arms
    ]
    cuped = Mean("spend", covariate="before").analyze_aggregates(theirs[1], theirs[0])
    ours = lift(*arms, metric="m", column="spend", covariates=["before"])
    width = cuped.effect_size_ci_upper - cuped.effect_size_ci_lower
    assert ours.absolute.value == pytest.approx(cuped.effect_size, abs=0.01 * width)
    assert ours.absolute.high - ours.absolute.low == pytest.approx(width, rel=0.01)


def test_a_ratio_is_adjusted_through_its_linearised_column():
    rng = np.random.default_rng(9)
    orders = rng.poisson(4.0, 5000) + 1.0
    price = rng.gamma(8.0, 2.0, 5000)  # each customer's own level, before and after
    revenue, before = orders * price * rng.gamma(20, 0.05, 5000), price * rng.gamma(20, 0.05, 5000)
    treated = np.arange(5000) < 2500
    rows = np.column_stack([revenue, orders, before])
    arms = [moments_of(["revenue", "orders", "before"], rows[side]) for side in (treated, ~treated)]
    plain = lift(*arms, metric="m", column="revenue", denominator="orders")
    adjusted = lift(*arms, metric="m", column="revenue", denominator="orders", covariates=["before"])
    assert 0.3 < adjusted.variance_removed < 0.5
    assert adjusted.standard_error**2 == pytest.approx(
        (1 - adjusted.variance_removed) * plain.standard_error**2
    )
    # By hand: the linearised column of each arm, regressed on the covariate.
    by_hand = []
    for side in (treated, ~treated):
        level = revenue[side].sum() / orders[side].sum()
        column = level + (revenue[side] - level * orders[side]) / orders[side].mean()
        fit = sm.OLS(column, sm.add_constant(before[side])).fit()
        by_hand.append(fit.get_prediction([[1.0, before.mean()]]).predicted_mean[0])
    assert adjusted.absolute.value == pytest.approx(by_hand[0] - by_hand[1], rel=1e-8)


def test_the_unit_that_a_covariate_is_counted_in_makes_no_difference():
    rows, treated = experiment(600)
    scaled = rows * [1.0, 1e9, 1e-9, 1.0]
    one, other = (compared(*sides(each, treated))[0] for each in (rows, scaled))
    assert one.difference == pytest.approx(other.difference, rel=1e-6)
    assert one.standard_error == pytest.approx(other.standard_error, rel=1e-6)


def test_a_covariate_given_twice_counts_once():
    rows, treated = experiment(600)
    arms = sides(rows, treated)
    once = lift(*arms, metric="m", column="spend", covariates=["before", "age"])
    twice = lift(*arms, metric="m", column="spend", covariates=["before", "age", "before"])
    assert twice.absolute.low == pytest.approx(once.absolute.low, rel=1e-9)


def test_a_constant_covariate_is_left_out_with_a_warning():
    rows, treated = experiment(600)
    rows[:, 3] = 7.0
    arms = sides(rows, treated)
    each = lift(*arms, metric="m", column="spend", covariates=["before", "visits"])
    assert each.absolute == lift(*arms, metric="m", column="spend", covariates=["before"]).absolute
    assert each.warnings == ("covariates that are the same for every unit explain nothing: visits",)


def test_only_constant_covariates_leave_the_plain_comparison():
    rows, treated = experiment(600)
    rows[:, 3] = 0.0
    each = lift(*sides(rows, treated), metric="m", column="spend", covariates=["visits"])
    assert each.variance_removed == 0 and "explain nothing" in each.warnings[0]


def test_a_covariate_that_is_the_metric_itself_is_left_out_with_a_warning():
    rows, treated = experiment(600)
    each = lift(*sides(rows, treated), metric="m", column="spend", covariates=["before", "spend"])
    assert each.absolute == lift(*sides(rows, treated), metric="m", column="spend").absolute
    assert "predict the metric perfectly" in each.warnings[0]


def test_too_few_units_for_the_covariates_are_compared_without_them():
    rows, treated = experiment(24)
    each = lift(*sides(rows, treated), metric="m", column="spend", covariates=["before", "age", "visits"])
    assert each.variance_removed == 0 and any(
        "too few units to adjust by 3 covariates" in said for said in each.warnings
    )


def test_an_unknown_covariate_is_met_with_a_suggestion():
    rows, treated = experiment(60)
    with pytest.raises(ExperimentError, match="no column 'befor' was summarised, did you mean 'before'"):
        lift(*sides(rows, treated), metric="m", column="spend", covariates=["befor"])


def test_linearised_columns_are_those_of_the_units():
    rng = np.random.default_rng(1)
    rows = rng.gamma(2.0, 3.0, (50, 3))
    arm = as_means(moments_of(["a", "b", "c"], rows), [("a", "b"), ("c", None)])
    level = rows[:, 0].sum() / rows[:, 1].sum()
    column = (rows[:, 0] - level * rows[:, 1]) / rows[:, 1].mean()
    assert arm.variance("a") == pytest.approx(column.var(ddof=1))
    assert arm.covariance("a", "c") == pytest.approx(np.cov(column, rows[:, 2])[0, 1])
