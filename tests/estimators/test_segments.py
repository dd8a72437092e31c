"""Whether an effect differs between segments."""

import numpy as np
import pytest
from scipy.stats import norm

from ml_workbench.estimators.lifts import Lift, lift
from ml_workbench.estimators.moments import moments_of
from ml_workbench.estimators.segments import heterogeneity, interaction
from ml_workbench.plan.errors import ExperimentError


def level(rng: np.random.Generator, effect: float, units: int, spread: float) -> Lift:
    sides = [moments_of(["y"], rng.normal(mean, spread, (units, 1))) for mean in (50 + effect, 50)]
    return lift(*sides, metric="spend", column="y", arm="champion")


def test_two_levels_are_the_z_test_of_their_difference():
    statistic, p_value = heterogeneity({"a": (1.0, 0.6, 1e12), "b": (3.0, 0.8, 1e12)})
    assert statistic == pytest.approx(4.0)
    assert p_value == pytest.approx(2 * norm.sf(2.0), rel=1e-6)


def test_welchs_test_of_means_comes_out():
    from statsmodels.stats.oneway import anova_oneway

    rng = np.random.default_rng(5)
    groups = [rng.normal(0, spread, units) for spread, units in ((1, 8), (3, 20), (2, 5))]
    known = anova_oneway(groups, use_var="unequal", welch_correction=True)
    effects = {
        str(place): (each.mean(), each.std(ddof=1) / len(each) ** 0.5, len(each) - 1)
        for place, each in enumerate(groups)
    }
    assert heterogeneity(effects) == pytest.approx((known.statistic, known.pvalue))


def test_one_effect_everywhere_is_called_different_in_one_experiment_in_twenty():
    rng = np.random.default_rng(6)
    shapes = {"small": (12, 5.0), "middle": (60, 20.0), "large": (100, 60.0)}
    found = [
        interaction({name: level(rng, 4.0, *shape) for name, shape in shapes.items()}).p_value < 0.05
        for _ in range(800)
    ]
    assert 0.03 < np.mean(found) < 0.07


def test_an_effect_in_one_level_alone_is_found_and_named():
    rng = np.random.default_rng(7)
    found = interaction(
        {"few": level(rng, 0.0, 400, 20.0), "many": level(rng, 15.0, 400, 20.0)}, segment="size"
    )
    assert found.p_value < 0.001 and "many" in found.sentence
    assert (found.segment, found.metric, found.arm) == ("size", "spend", "champion")


def test_small_levels_are_named_and_not_judged():
    rng = np.random.default_rng(8)
    lifts = {name: level(rng, 0.0, units, 20.0) for name, units in (("a", 200), ("b", 200), ("tiny", 10))}
    found, without = interaction(lifts, minimum=50), interaction({name: lifts[name] for name in "ab"})
    assert [each.judged for each in found.levels] == [True, True, False]
    assert found.p_value == without.p_value and "tiny" in found.sentence


def test_a_level_in_which_nothing_varies_is_left_out():
    rng = np.random.default_rng(9)
    flat = moments_of(["y"], np.zeros((100, 1)))
    lifts = {"a": level(rng, 0.0, 100, 20.0), "flat": lift(flat, flat, metric="spend", column="y")}
    found = interaction(lifts)
    assert found.p_value is None and "flat" in found.sentence


def test_no_levels_are_refused():
    with pytest.raises(ExperimentError, match="no levels"):
        interaction({}, segment="size")
    with pytest.raises(ExperimentError, match="two levels"):
        heterogeneity({"a": (1.0, 1.0, 10.0)})
