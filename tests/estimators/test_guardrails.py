"""Non-inferiority: what must not get worse."""

import numpy as np
import pytest

from ml_workbench.estimators.guardrails import guardrail
from ml_workbench.estimators.lifts import lift
from ml_workbench.estimators.moments import moments_of
from ml_workbench.plan.errors import ExperimentError


def measured(effect: float, units: int = 2000, seed: int = 1, spread: float = 20.0):
    rng = np.random.default_rng(seed)
    sides = [moments_of(["y"], rng.normal(mean, spread, (units, 1))) for mean in (100 * (1 + effect), 100)]
    return lift(*sides, metric="spend", column="y", arm="champion", control_name="control")


@pytest.mark.parametrize(
    ("effect", "units", "passed"), [(0.03, 2000, True), (-0.10, 2000, False), (0.0, 50, None)]
)
def test_a_guardrail_passes_fails_or_is_not_known_yet(effect, units, passed):
    guard = guardrail(measured(effect, units), 0.02)
    assert guard.passed is passed
    assert {True: "passed", False: "failed", None: "not known yet"}[passed] in guard.sentence


def test_the_bad_end_of_the_interval_decides():
    found = measured(0.0)
    guard = guardrail(found, -found.relative.low + 1e-9)
    assert guard.passed and guard.low_rel == found.relative.low
    assert guardrail(found, -found.relative.low - 1e-9).passed is None


def test_a_figure_that_should_be_small_is_turned_round():
    worse = measured(0.10)
    assert guardrail(worse, 0.02).passed is True
    turned = guardrail(worse, 0.02, lower_is_better=True)
    assert turned.passed is False and turned.low_rel == -worse.relative.high


def test_harm_just_beyond_the_margin_passes_rarely():
    passed = [guardrail(measured(-0.02, 500, seed), 0.02).passed is True for seed in range(600)]
    assert np.mean(passed) < 0.045  # 2.5% one-sided


def test_without_a_relative_interval_nothing_is_known():
    rng = np.random.default_rng(2)
    sides = [moments_of(["y"], rng.normal(0, 1, (30, 1))) for _ in range(2)]
    guard = guardrail(lift(*sides, metric="margin", column="y"), 0.02)
    assert guard.passed is None and guard.low_rel is None and "not known" in guard.sentence


@pytest.mark.parametrize("margin", [-0.01, 1.0, float("nan")])
def test_a_margin_that_is_none_is_refused(margin):
    with pytest.raises(ExperimentError, match="margin"):
        guardrail(measured(0.0), margin)
