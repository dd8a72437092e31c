import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from ml_workbench.estimators.lifts import Lift, lift
from ml_workbench.estimators.moments import Moments, moments_from_sums, moments_of
from ml_workbench.estimators.sequential import reach, rho, sequential_interval
from ml_workbench.plan.errors import ExperimentError


def test_the_tuning_constant_and_the_width_are_those_of_the_paper():
    assert f"{rho(0.05, 5000):.6g}" == "0.0398401"
    assert f"{reach(5000, n_star=5000) / 1.9599639845:.5g}" == "1.5486"


def test_the_tuning_constant_makes_the_sequence_about_as_tight_as_it_can_be_at_the_planned_sample():
    "The closed form is an approximation of the best constant."

    def width(log_scale: float) -> float:
        scale = np.exp(log_scale)
        return np.sqrt(2 * (scale + 1) / scale * np.log(np.sqrt(scale + 1) / 0.05))

    best = minimize_scalar(width, bounds=(-3, 6), method="bounded").fun
    assert best <= reach(5000, n_star=5000) < 1.001 * best


def test_the_published_sequence_of_a_mean_comes_out_to_all_digits():
    treated = moments_from_sums(["m"], 3461, [2422.7], np.array([[134698.29]]))
    control = moments_from_sums(["m"], 3000, [1396.87], np.array([[52377.9767]]))
    each = lift(treated, control, metric="m", column="m", method="delta")
    found = sequential_interval(each, n_star=1000, relative=True)
    assert (round(found.value, 5), round(found.low, 5), round(found.high, 5)) == (0.50336, -0.55844, 1.56516)


def share(events: int, units: int) -> Moments:
    "A proportion with the variance p(1 − p), as it was published: over n, where ours is over n − 1."
    mean = events / units
    return Moments(("m",), units, np.array([mean]), np.array([[(units - 1) * mean * (1 - mean)]]))


def test_the_published_sequence_of_a_proportion_comes_out_to_all_digits():
    each = lift(share(2422, 3461), share(1396, 3000), metric="m", column="m", method="delta")
    found = sequential_interval(each, n_star=5000, relative=True)
    assert (round(found.value, 5), round(found.low, 5), round(found.high, 5)) == (0.50386, 0.40098, 0.60675)


@pytest.fixture(scope="module")
def fixed() -> Lift:
    rng = np.random.default_rng(7)
    return lift(
        *[moments_of(["m"], rng.gamma(2.0, mean, (2000, 1))) for mean in (22.0, 20.0)], metric="m", column="m"
    )


@pytest.mark.parametrize("n_star", [100, 4000, 1_000_000])
@pytest.mark.parametrize("relative", [False, True])
def test_the_sequence_holds_the_fixed_interval_and_the_same_value(fixed, n_star, relative):
    inner = fixed.relative if relative else fixed.absolute
    outer = sequential_interval(fixed, n_star=n_star, relative=relative)
    assert outer.low < inner.low < inner.high < outer.high and outer.value == inner.value


def test_the_relative_sequence_is_clear_exactly_when_the_absolute_one_is(fixed):
    for n_star in np.geomspace(10, 1e9, 60):
        one, other = (sequential_interval(fixed, n_star=n_star, relative=each) for each in (False, True))
        assert other is None or (one.low > 0) == (other.low > 0)


def test_a_metric_without_variation_has_no_sequence_either():
    zeros = moments_of(["m"], np.zeros((20, 1)))
    nothing = lift(zeros, zeros, metric="m", column="m")
    assert np.isnan(sequential_interval(nothing, n_star=100).low)
    assert sequential_interval(nothing, n_star=100, relative=True) is None


@pytest.mark.parametrize(("alpha", "n_star"), [(0.0, 100), (1.0, 100), (0.05, 0), (0.05, -3)])
def test_impossible_arguments_are_refused(alpha, n_star):
    with pytest.raises(ExperimentError, match="alpha must lie between 0 and 1 and n_star above 0"):
        rho(alpha, n_star)
