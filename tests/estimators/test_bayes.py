"""Chances and expected losses, in agreement with the interval."""

from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_workbench.estimators.bayes import Prior, bayesian, belief, relative_effect, shrunk
from ml_workbench.estimators.lifts import lift
from ml_workbench.estimators.moments import moments_of
from ml_workbench.plan.errors import ExperimentError


def test_the_published_chance_and_risks_come_out_to_their_digits():
    effect, error = relative_effect(0.51, 0.51 * 0.49 / 100, 0.49, 0.49 * 0.51 / 100)
    found = belief(effect, error)
    assert round(found.prob_better, 5) == 0.60918
    assert round(found.expected_loss_control, 4) == 0.0814
    assert round(found.expected_loss, 5) == 0.04058


@given(st.floats(-5, 5), st.floats(0.01, 10), st.sampled_from([2.0, 7.0, 60.0, inf]))
def test_the_two_losses_differ_by_the_effect_and_neither_is_negative(effect, error, degrees):
    found = belief(effect, error, degrees=degrees)
    assert found.expected_loss >= 0 and found.expected_loss_control >= 0
    assert found.expected_loss_control - found.expected_loss == pytest.approx(effect, abs=1e-9)
    assert (found.prob_better > 0.5) == (effect > 0) or effect == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("degrees", [6.0, inf])
def test_chance_and_losses_are_those_of_draws_from_the_posterior(degrees):
    rng = np.random.default_rng(2)
    noise = rng.normal(size=400_000) if degrees == inf else rng.standard_t(degrees, 400_000)
    draws = 0.4 + 1.3 * noise
    found = belief(0.4, 1.3, degrees=degrees)
    assert found.prob_better == pytest.approx((draws > 0).mean(), abs=0.005)
    assert found.expected_loss == pytest.approx(np.maximum(-draws, 0).mean(), abs=0.01)
    assert found.expected_loss_control == pytest.approx(np.maximum(draws, 0).mean(), abs=0.01)


@given(st.integers(0, 10_000), st.floats(-3, 3), st.integers(5, 60), st.sampled_from([0.8, 0.95, 0.99]))
def test_the_chance_never_contradicts_the_interval(seed, shift, units, confidence):
    rng = np.random.default_rng(seed)
    sides = [moments_of(["y"], rng.normal(mean, 2, (units, 1))) for mean in (10 + shift, 10)]
    found = lift(*sides, metric="y", column="y", confidence=confidence)
    chance, edge = bayesian(found).prob_better, (1 + confidence) / 2
    if abs(chance - edge) > 1e-9 and abs(1 - chance - edge) > 1e-9:
        assert (chance > edge) == (found.verdict == "higher")
        assert (1 - chance > edge) == (found.verdict == "lower")


def test_a_lift_without_a_standard_error_has_no_belief():
    flat = moments_of(["y"], np.ones((20, 1)))
    assert bayesian(lift(flat, flat, metric="y", column="y")) is None


def test_a_prior_shrinks_towards_its_mean_and_more_so_for_a_noisier_effect():
    prior = Prior(sd=0.05, mean=0.01)
    means = [shrunk(0.3, error, prior)[0] for error in (0.001, 0.05, 0.5)]
    assert 0.3 > means[0] > means[1] > means[2] > 0.01
    assert belief(0.3, 0.05, prior=prior).shrinkage == pytest.approx(0.5)
    assert belief(0.3, 0.05, prior=prior).effect == pytest.approx(means[1])


def test_shrinkage_removes_the_winners_curse():
    rng = np.random.default_rng(3)
    true = rng.normal(0, 0.05, (4000, 5))
    measured = true + rng.normal(0, 0.1, true.shape)
    best = measured.argmax(axis=1)[:, None]
    picked = np.take_along_axis(measured, best, 1).mean()
    real = np.take_along_axis(true, best, 1).mean()
    believed = np.mean([shrunk(each, 0.1, Prior(0.05))[0] for each in np.take_along_axis(measured, best, 1)])
    assert picked > 3 * real
    assert believed == pytest.approx(real, abs=0.003)


@pytest.mark.parametrize("arguments", [(1.0, 0.0), (1.0, -1.0), (float("nan"), 1.0), (1.0, inf)])
def test_what_has_no_posterior_is_refused(arguments):
    with pytest.raises(ExperimentError, match="standard error"):
        belief(*arguments)


def test_impossible_priors_and_controls_are_refused():
    with pytest.raises(ExperimentError, match="prior"):
        Prior(sd=0.0)
    with pytest.raises(ExperimentError, match="not 0"):
        relative_effect(1.0, 0.1, 0.0, 0.1)
