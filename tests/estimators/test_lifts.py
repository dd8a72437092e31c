import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_workbench.estimators.lifts import Comparison, Lift, lift, units_for_normal
from ml_workbench.estimators.moments import Moments, merged, moments_from_sums, moments_of
from ml_workbench.estimators.ratios import (
    METHODS,
    Pair,
    delta,
    delta_error,
    fieller,
    log_delta,
    relative_lift,
)
from ml_workbench.plan.errors import ExperimentError


def published(total: float, squares: float, count: int) -> Moments:
    "An arm as published test suites give it."
    return moments_from_sums(["spend"], count, [total], np.array([[squares]]))


def spending(**options: object) -> Lift:
    arms = published(2422.7, 134698.29, 3461), published(1396.87, 52377.9767, 3407)
    return lift(*arms, metric="spend", column="spend", **options)


@pytest.fixture(scope="module")
def shop() -> dict[str, np.ndarray]:
    "Three thousand customers, a third of them treated."
    rng = np.random.default_rng(21)
    before = rng.gamma(1.5, 30.0, 3000)
    age = rng.normal(45, 12, 3000)
    treated = rng.permutation(3000) < 1000
    orders = rng.poisson(2.0 + before / 60) + 1.0
    spend = 0.7 * before + 0.2 * age + 0.1 * treated * before + rng.gamma(2.0, 10.0, 3000)
    return {
        "before": before,
        "age": age,
        "treated": treated,
        "orders": orders,
        "spend": spend,
        "large": (spend > 60) * 1.0,
        "shop": rng.integers(0, 120, 3000),
    }


def arms_of(data: dict[str, np.ndarray], *names: str) -> tuple[Moments, Moments]:
    rows = np.column_stack([data[name] for name in names])
    return moments_of(names, rows[data["treated"]]), moments_of(names, rows[~data["treated"]])


# Published figures


def test_the_published_relative_lift_of_a_fixed_horizon_comes_out_to_all_digits():
    relative = spending(method="delta").relative
    assert (round(relative.value, 5), round(relative.low, 5), round(relative.high, 5)) == (
        0.70732,
        -0.03526,
        1.44989,
    )


def test_the_published_p_value_is_that_of_the_relative_lift_with_the_degrees_of_the_difference():
    from scipy.stats import t

    each = spending(method="delta")
    assert round(2 * t.sf(each.relative.value / delta_error(each.pair), each.degrees), 5) == 0.06191


def test_on_the_published_figures_fieller_agrees_with_the_test_where_delta_does_not():
    delta, fieller = spending(method="delta"), spending()
    assert fieller.p_value == delta.p_value < 0.05 and fieller.verdict == delta.verdict == "higher"
    assert fieller.absolute.low > 0 and fieller.relative.low > 0 > delta.relative.low
    assert not fieller.warnings and any("delta" in warning for warning in delta.warnings)


# Parity with libraries


@pytest.mark.parametrize(("column", "denominator"), [("spend", None), ("large", None), ("spend", "orders")])
def test_means_proportions_and_ratios_agree_with_tea_tasting(shop, column, denominator):
    from tea_tasting.aggr import Aggregates
    from tea_tasting.metrics import RatioOfMeans

    arms = arms_of(shop, "spend", "large", "orders")
    theirs = [
        Aggregates(
            arm.count,
            dict(zip(arm.names, arm.mean, strict=True)),
            {name: arm.variance(name) for name in arm.names},
            {(one, other): arm.covariance(one, other) for one in arm.names for other in arm.names},
        )
        for arm in arms
    ]
    one = RatioOfMeans(column, denominator).analyze_aggregates(theirs[1], theirs[0])
    ours = lift(*arms, metric="m", column=column, denominator=denominator, method="log-delta")
    assert ours.absolute.value == pytest.approx(one.effect_size, rel=1e-10)
    assert ours.absolute.low == pytest.approx(one.effect_size_ci_lower, rel=1e-9)
    assert ours.absolute.high == pytest.approx(one.effect_size_ci_upper, rel=1e-9)
    assert ours.p_value == pytest.approx(one.pvalue, rel=1e-7)
    # They take the degrees of freedom of the logarithms, we those of the difference: the third digit of the width.
    width = one.rel_effect_size_ci_upper - one.rel_effect_size_ci_lower
    assert ours.relative.low == pytest.approx(one.rel_effect_size_ci_lower, abs=1e-3 * width)
    assert ours.relative.high == pytest.approx(one.rel_effect_size_ci_upper, abs=1e-3 * width)


def test_the_standard_error_of_a_ratio_is_that_of_a_weighted_regression(shop):
    "The mean of N/D weighted by D, with White's variance and its correction for one parameter (HC1)."
    arms = arms_of(shop, "spend", "orders")
    ours = lift(*arms, metric="m", column="spend", denominator="orders")
    variance = 0.0
    for side in (shop["treated"], ~shop["treated"]):
        orders = shop["orders"][side]
        fit = sm.WLS(shop["spend"][side] / orders, np.ones(side.sum()), weights=orders).fit(cov_type="HC1")
        variance += fit.bse[0] ** 2
    assert ours.standard_error == pytest.approx(variance**0.5, rel=1e-10)
    assert ours.base == pytest.approx(shop["orders"][shop["treated"]].sum())


def test_clustered_units_get_cluster_robust_errors(shop):
    "statsmodels' CR0 in each arm, times G / (G − 1) for its G clusters."
    rng = np.random.default_rng(5)
    of_cluster = rng.permutation(120) < 50
    spend = shop["spend"] + 20 * rng.normal(size=120)[shop["shop"]]
    sums = np.column_stack(
        [np.bincount(shop["shop"], weights, 120) for weights in (spend, np.ones(3000), shop["before"])]
    )
    names = ["spend", "units", "before"]
    arms = [moments_of(names, sums[side]) for side in (of_cluster, ~of_cluster)]
    ours = lift(*arms, metric="m", column="spend", cluster=True)
    variance = 0.0
    for side in (of_cluster, ~of_cluster):
        rows = side[shop["shop"]]
        fit = sm.OLS(spend[rows], np.ones(rows.sum())).fit(
            cov_type="cluster", cov_kwds={"groups": shop["shop"][rows], "use_correction": False}
        )
        variance += fit.bse[0] ** 2 * side.sum() / (side.sum() - 1)
    assert ours.standard_error == pytest.approx(variance**0.5, rel=1e-9)
    assert ours.n == of_cluster[shop["shop"]].sum() and ours.n + ours.n_control == 3000
    assert ours.degrees < 120
    assert ours.total.value == pytest.approx(ours.absolute.value * ours.n)
    adjusted = lift(*arms, metric="m", column="spend", cluster=True, covariates=["before"])
    assert adjusted.standard_error < ours.standard_error


def test_a_ratio_of_clustered_units_needs_no_count_of_units(shop):
    sums = np.column_stack(
        [
            np.bincount(shop["shop"], weights, 120)
            for weights in (shop["spend"], shop["orders"], np.ones(3000))
        ]
    )
    arms = [moments_of(["spend", "orders", "units"], sums[side]) for side in (slice(0, 60), slice(60, 120))]
    plain = lift(*arms, metric="m", column="spend", denominator="orders")
    clustered = lift(*arms, metric="m", column="spend", denominator="orders", cluster=True)
    assert clustered.absolute == plain.absolute and clustered.n > plain.n == 60


# One object, one story


def agree(each: Lift) -> None:
    "Everything that is said about a lift says the same."
    clear = each.verdict != "not clear"
    assert clear == (each.p_value < 1 - each.confidence)
    assert clear == (each.absolute.low > 0 or each.absolute.high < 0)
    assert each.absolute.low <= each.absolute.value <= each.absolute.high
    assert (each.total.low > 0, each.total.high < 0) == (each.absolute.low > 0, each.absolute.high < 0)
    if clear:
        assert (each.verdict == "higher") == (each.absolute.value > 0)
    if each.relative is not None:
        assert each.relative.low <= each.relative.value <= each.relative.high
        assert (each.relative.low > 0, each.relative.high < 0) == (
            each.absolute.low > 0,
            each.absolute.high < 0,
        )


@st.composite
def arms(draw: st.DrawFn) -> tuple[Moments, Moments]:
    "Two arms with a metric, a denominator and two covariates."
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = 10.0 ** draw(st.integers(-6, 9))
    centre = draw(st.floats(-3, 30))
    effect = draw(st.one_of(st.just(0.0), st.floats(-5, 5)))
    sides = []
    for count, shift in ((draw(st.integers(2, 200)), effect), (draw(st.integers(2, 2000)), 0.0)):
        known = rng.normal(0, 1, (count, 2))
        metric = scale * (centre + shift + known @ [1.0, -0.5] + rng.exponential(1.0, count))
        sides.append(
            moments_of(["m", "d", "x", "z"], np.column_stack([metric, rng.poisson(2, count) + 1, known]))
        )
    return sides[0], sides[1]


@given(
    sides=arms(),
    confidence=st.floats(0.5, 0.999),
    denominator=st.sampled_from([None, "d"]),
    covariates=st.sampled_from([(), ("x",), ("x", "z")]),
)
@settings(max_examples=300, deadline=None)
def test_interval_relative_interval_p_value_and_verdict_never_contradict_each_other(
    sides, confidence, denominator, covariates
):
    spec = Comparison("m", "mean", "m", denominator, covariates)
    each = spec.lift(*sides, confidence=confidence)
    agree(each)
    if 0.001 < each.p_value < 0.999:  # and where the interval ends at zero, as nearly as can be
        for edge in (1 - each.p_value, np.nextafter(1 - each.p_value, 0), np.nextafter(1 - each.p_value, 1)):
            agree(spec.lift(*sides, confidence=float(edge)))


@given(
    mean=st.floats(-50, 50),
    control=st.floats(0.1, 50) | st.floats(-50, -0.1),
    errors=st.tuples(st.floats(1e-4, 20), st.floats(1e-4, 20)),
    correlation=st.floats(-0.99, 0.99),
    critical=st.floats(0.5, 4),
)
@settings(max_examples=300, deadline=None)
def test_fieller_holds_the_ratios_that_a_test_does_not_reject(mean, control, errors, correlation, critical):
    pair = Pair(mean, control, errors[0] ** 2, errors[1] ** 2, correlation * errors[0] * errors[1])
    found = fieller(pair, critical)
    if found is None:
        assert abs(control) <= critical * errors[1] * (1 + 1e-12)
        return
    width = max(found.high - found.low, 1e-9 * (1 + abs(found.low) + abs(found.high)))
    for ratio, inside in (
        (found.low - 0.01 * width, False),
        (found.low + 0.01 * width, True),
        (found.high - 0.01 * width, True),
        (found.high + 0.01 * width, False),
    ):
        times = 1 + np.sign(control) * ratio
        error = pair.variance - 2 * times * pair.covariance + times**2 * pair.variance_control
        assert ((mean - times * control) ** 2 <= critical**2 * error) == inside


def test_the_two_other_relative_intervals_agree_with_fieller_where_the_control_mean_is_known_well():
    pair = Pair(10.5, 10.0, 0.0101, 0.01)
    intervals = [relative_lift(pair, 1.96, method) for method in METHODS]
    assert np.ptp([each.low for each in intervals]) < 2e-3
    assert np.ptp([each.high for each in intervals]) < 2e-3


# What is said of it


def test_the_total_is_over_the_units_of_the_arm(shop):
    each = lift(*arms_of(shop, "spend"), metric="m", column="spend")
    assert each.total.low == pytest.approx(each.absolute.low * 1000) and each.base == each.n == 1000


def test_the_smallest_effect_that_can_be_found_is_found_with_that_probability():
    rng = np.random.default_rng(2)
    smallest = lift(
        *[moments_of(["m"], rng.normal(0, 1, (300, 1))) for _ in "ab"], metric="m", column="m"
    ).mde(0.8)
    found = 0
    for _ in range(1000):
        sides = [moments_of(["m"], rng.normal(mean, 1, (300, 1))) for mean in (smallest, 0.0)]
        found += lift(*sides, metric="m", column="m").verdict == "higher"
    assert 0.75 < found / 1000 < 0.85


def test_moments_of_parts_give_the_lift_of_the_whole(shop):
    rows = np.column_stack([shop["spend"], shop["before"]])
    whole = [moments_of(["m", "x"], rows[side]) for side in (shop["treated"], ~shop["treated"])]
    parts = [
        merged([moments_of(["m", "x"], rows[side][:400]), moments_of(["m", "x"], rows[side][400:])])
        for side in (shop["treated"], ~shop["treated"])
    ]
    one, other = (lift(*each, metric="m", column="m", covariates=["x"]) for each in (whole, parts))
    assert one.absolute.low == pytest.approx(other.absolute.low, rel=1e-10)


def test_the_mean_of_a_loss_is_taken_by_its_size():
    rng = np.random.default_rng(6)
    sides = [moments_of(["profit"], rng.normal(mean, 1, (500, 1))) for mean in (-8.0, -10.0)]
    each = lift(*sides, metric="profit", column="profit")
    assert each.verdict == "higher" and each.relative.value == pytest.approx(0.2, abs=0.02)
    agree(each)


# Bad input


def few(values: list[float], name: str = "m") -> Moments:
    return moments_of([name], np.array(values, dtype=float)[:, None])


def test_an_arm_with_one_unit_is_refused_by_name():
    with pytest.raises(ExperimentError, match="offer has 1 unit; a lift needs two or more in each arm"):
        lift(few([1.0]), few([1.0, 2.0]), metric="m", column="m", arm="offer", control_name="none")


def test_an_empty_arm_is_refused_by_name():
    with pytest.raises(ExperimentError, match="none has 0 units"):
        lift(few([1.0, 2.0]), few([]), metric="m", column="m", arm="offer", control_name="none")


@pytest.mark.parametrize(
    "values", [([0.0] * 50, [0.0] * 60), ([0.1] * 50, [0.1] * 60), ([1.0] * 50, [0.0] * 60)]
)
def test_a_metric_without_any_variation_has_no_interval_and_says_so(values):
    each = lift(few(values[0]), few(values[1]), metric="m", column="m", arm="offer", control_name="none")
    assert np.isnan(each.absolute.low) and np.isnan(each.p_value) and each.relative is None
    assert each.verdict == "not clear" and np.isnan(each.mde())
    assert "every unit of offer and of none has the same value: nothing can be said" in each.warnings[0]
    assert each.absolute.value == pytest.approx(values[0][0] - values[1][0])


def test_a_constant_from_raw_sums_is_seen_in_spite_of_rounding():
    raw = moments_from_sums(["m"], 1000, [100.0], np.array([[1000 * 0.1 * 0.1 * (1 + 3e-16)]]))
    assert "nothing can be said" in lift(raw, raw, metric="m", column="m").warnings[0]


def test_one_constant_arm_is_compared_with_a_warning():
    each = lift(few([0, 1] * 50), few([0.0] * 100), metric="m", column="m", control_name="none")
    assert each.verdict == "higher" and each.relative is None
    assert any("none has the same value" in warning for warning in each.warnings)
    assert any("may as well be zero" in warning for warning in each.warnings)


def test_a_control_mean_near_zero_has_no_relative_lift_and_says_so():
    rng = np.random.default_rng(3)
    each = lift(
        few(rng.normal(1, 1, 100)), few(rng.normal(0, 1, 100)), metric="m", column="m", control_name="none"
    )
    assert each.relative is None and each.verdict == "higher"
    assert each.warnings == ("no relative lift: the mean of none may as well be zero",)


@pytest.mark.parametrize("base", [0.0, -2.0])
def test_a_denominator_that_is_not_positive_is_refused_by_name(base):
    rng = np.random.default_rng(3)
    good, bad = (np.column_stack([rng.normal(5, 1, 40), np.full(40, each)]) for each in (2.0, base))
    with pytest.raises(ExperimentError, match=f"none: the denominator orders has mean {base:g}"):
        lift(
            moments_of(["m", "orders"], good),
            moments_of(["m", "orders"], bad),
            metric="m",
            column="m",
            denominator="orders",
            control_name="none",
        )


def test_a_denominator_that_is_hardly_known_makes_the_interval_rough():
    rng = np.random.default_rng(3)
    rows = np.column_stack([rng.gamma(1, 5, 60), rng.random(60) < 0.05])
    each = lift(*[moments_of(["m", "d"], rows)] * 2, metric="m", column="m", denominator="d")
    assert any("d of the treated arm are known to" in warning for warning in each.warnings)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_infinite_and_missing_outcomes_are_refused(value):
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(ExperimentError, match="offer: infinite or missing values in m"),
    ):
        lift(few([1.0, value]), few([1.0, 2.0]), metric="m", column="m", arm="offer")


def test_an_infinite_column_that_is_not_asked_for_does_no_harm():
    with np.errstate(invalid="ignore"):
        side = moments_of(["m", "other"], np.array([[1.0, np.inf], [2.0, 1.0], [4.0, 2.0]]))
    assert lift(side, side, metric="m", column="m").absolute.value == 0


def test_an_unknown_column_and_an_unknown_method_are_met_with_a_suggestion():
    with pytest.raises(ExperimentError, match="no column 'spent' was summarised, did you mean 'spend'"):
        lift(*[few([1.0, 2.0], "spend")] * 2, metric="m", column="spent")
    with pytest.raises(ExperimentError, match="did you mean 'fieller'"):
        lift(*[few([1.0, 2.0])] * 2, metric="m", column="m", method="feller")


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_an_impossible_confidence_is_refused(confidence):
    with pytest.raises(ExperimentError, match="confidence must lie between 0 and 1"):
        lift(*[few([1.0, 2.0])] * 2, metric="m", column="m", confidence=confidence)


def test_small_arms_and_rare_events_are_warned_of():
    assert any(
        "has only 3 units" in each for each in lift(*[few([1, 2, 4])] * 2, metric="m", column="m").warnings
    )
    rare = few([1.0] * 3 + [0.0] * 97)
    assert "the rarer outcome occurs only 3 times in a: the interval is rough" in (
        lift(rare, few([1.0, 0.0] * 50), metric="m", column="m", arm="a").warnings
    )


def test_a_few_clusters_are_warned_of_as_such():
    rng = np.random.default_rng(3)
    sides = [moments_of(["m", "units"], np.column_stack([rng.normal(500, 20, 12), rng.poisson(100, 12)]))] * 2
    warnings = lift(*sides, metric="m", column="m", cluster=True, arm="north").warnings
    assert "north has only 12 clusters: the interval is rough" in warnings


def test_a_covariate_that_is_the_metric_of_one_arm_only_leaves_an_answer():
    rng = np.random.default_rng(3)
    known = rng.normal(5, 1, (200, 1))
    sides = (
        moments_of(["m", "x"], np.hstack([known, known])),
        moments_of(["m", "x"], np.hstack([0 * known, known])),
    )
    each = lift(*sides, metric="m", column="m", covariates=["x"])
    agree(each)
    assert each.verdict == "higher" and each.relative is None


@pytest.mark.parametrize("skewness", [0.5, 5.0, 70.0, -5.0])
def test_skewness_only_widens_and_never_reverses(skewness):
    rng = np.random.default_rng(3)
    sides = few(rng.gamma(0.1, 30, 60)), few(rng.gamma(0.1, 20, 80))
    plain, told = (lift(*sides, metric="m", column="m", skewness=each) for each in (None, skewness))
    assert told.absolute.low <= plain.absolute.low and told.absolute.high >= plain.absolute.high
    assert told.standard_error == plain.standard_error and 1 <= told.degrees <= plain.degrees
    agree(told)


def test_log_delta_has_no_answer_for_a_mean_below_zero():
    assert (
        log_delta(Pair(-1.0, 2.0, 0.1, 0.1), 1.96) is None and delta(Pair(1.0, 0.0, 0.1, 0.1), 1.96) is None
    )
    each = lift(few([-3, -1] * 30), few([1, 3] * 30), metric="m", column="m", method="log-delta")
    assert any("log-delta needs means above zero" in warning for warning in each.warnings)


def test_skewness_asks_for_units_by_its_square():
    assert units_for_normal(0) == 0 and units_for_normal(1) == 355 and units_for_normal(55) == 1_073_875
