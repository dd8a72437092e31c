"""The effect on those who could be affected, spread over everybody."""

import numpy as np
import pytest

from ml_workbench.estimators.lifts import Lift, lift
from ml_workbench.estimators.moments import moments_of
from ml_workbench.estimators.triggered import thinned, triggered
from ml_workbench.plan.errors import ExperimentError


def experiment(seed: int, units: int = 2000, share: float = 0.1) -> tuple[Lift, Lift, float]:
    "Lifts among all units and among triggered ones; the effect on the latter is 20."
    rng = np.random.default_rng(seed)
    listed, arm = rng.random(units) < share, rng.integers(0, 2, units)
    spend = rng.gamma(4.0, 25.0, units) * (1 + listed) + 20.0 * (listed & (arm == 1))

    def compared(which: np.ndarray) -> Lift:
        sides = [moments_of(["y"], spend[which & (arm == each), None]) for each in (1, 0)]
        return lift(*sides, metric="spend", column="y", arm="champion")

    return compared(np.full(units, True)), compared(listed), float(spend[arm == 0].mean())


def test_the_diluted_effect_is_the_share_times_the_effect():
    _, some, mean_control = experiment(1)
    found = triggered(some, 2000, mean_control=mean_control)
    assert found.diluted.value == pytest.approx(found.share * some.absolute.value)
    assert found.diluted_relative.value == pytest.approx(found.diluted.value / mean_control)
    assert found.units == some.n + some.n_control
    assert found.arm == "champion"


def test_the_diluted_interval_is_far_narrower_and_covers_the_truth_as_often_as_promised():
    covered, narrower = [], []
    for seed in range(500):
        whole, some, _ = experiment(seed)
        diluted = triggered(some, 2000).diluted
        covered.append(diluted.low <= 0.1 * 20.0 <= diluted.high)
        narrower.append((diluted.high - diluted.low) / (whole.absolute.high - whole.absolute.low))
    assert 0.93 <= np.mean(covered) <= 0.97
    assert np.mean(narrower) < 0.65


def test_relative_effects_must_not_be_diluted_by_the_share_alone():
    _, some, mean_control = experiment(2)
    found = triggered(some, 2000, mean_control=mean_control)
    naive = found.share * some.relative.value
    assert found.diluted_relative.value > 1.5 * naive  # triggered units spend twice as much


def test_all_units_triggered_changes_nothing():
    whole, _, _ = experiment(3)
    found = triggered(whole, 2000)
    assert found.share == 1
    assert (found.diluted.low, found.diluted.high) == pytest.approx((whole.absolute.low, whole.absolute.high))


def test_more_triggered_units_than_units_are_refused():
    _, some, _ = experiment(4)
    with pytest.raises(ExperimentError, match="cannot be part of 10"):
        triggered(some, 10)


def test_the_sharper_lift_holds_the_truth_as_often_as_it_says_and_is_narrower():
    held, widths = [], []
    for seed in range(600):
        whole, some, _ = experiment(seed)
        sharp = thinned(whole, triggered(some, 2000))
        held.append(sharp.absolute.low <= 0.1 * 20.0 <= sharp.absolute.high)
        widths.append(sharp.standard_error / whole.standard_error)
    assert 0.93 <= np.mean(held) <= 0.97
    assert np.mean(widths) < 0.6


def test_everything_about_the_sharper_lift_agrees():
    verdicts = set()
    for seed in range(60):
        whole, some, _ = experiment(seed)
        part = triggered(some, 2000)
        sharp = thinned(whole, part)
        verdicts.add(sharp.verdict)
        sure = sharp.verdict != "not clear"
        assert sure == (sharp.p_value < 0.05) == (sharp.relative.low > 0 or sharp.relative.high < 0)
        assert sharp.absolute.value == pytest.approx(part.diluted.value)
        assert sharp.absolute.low == pytest.approx(part.diluted.low)
        assert (sharp.n, sharp.mean, sharp.mean_control) == (whole.n, whole.mean, whole.mean_control)
    assert verdicts == {"higher", "not clear"}


def test_the_relative_interval_holds_its_own_value_where_arms_are_uneven_and_effects_large():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        listed, arm = rng.random(4000) < 0.05, (rng.random(4000) < 0.1).astype(int)
        spend = rng.gamma(4.0, 25.0, 4000) - 80.0 * (listed & (arm == 1))

        def compared(which, arm=arm, spend=spend):
            sides = [moments_of(["y"], spend[which & (arm == each), None]) for each in (1, 0)]
            return lift(*sides, metric="spend", column="y", arm="champion")

        sharp = thinned(compared(np.full(4000, True)), triggered(compared(listed), 4000))
        assert sharp.relative.low < sharp.relative.value < sharp.relative.high
        assert sharp.pair.standard_error == pytest.approx(sharp.standard_error)
        assert abs(sharp.pair.covariance) <= np.sqrt(sharp.pair.variance * sharp.pair.variance_control)
