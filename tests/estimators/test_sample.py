"""The sizes of the arms against the plan."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, chisquare

from ml_workbench.estimators.sample import ALARM, srm
from ml_workbench.plan.errors import ExperimentError

HALVES = {"control": 0.5, "treatment": 0.5}


def test_the_published_mismatch_comes_out_to_its_digits():
    found = srm({"control": 821_588, "treatment": 815_482}, HALVES)
    assert round(found.statistic, 3) == 22.774
    assert f"{found.p_value:.2e}" == "1.82e-06"
    assert found.stop and "control" in found.sentence and "no lift" in found.sentence


@given(
    st.lists(st.integers(50, 5000), min_size=2, max_size=5),
    st.lists(st.floats(0.2, 1), min_size=5, max_size=5),
)
def test_the_p_value_is_that_of_scipys_chi_square(counts, weights):
    weights = weights[: len(counts)]
    observed = dict(zip("abcde", counts, strict=False))
    expected = np.array(weights) / sum(weights) * sum(counts)
    found = srm(observed, dict(zip("abcde", weights, strict=False)))
    if expected.min() >= 5:
        assert found.p_value == pytest.approx(chisquare(counts, expected).pvalue, rel=1e-6, abs=1e-300)


def test_weights_need_not_sum_to_one():
    assert srm({"a": 40, "b": 44}, {"a": 2, "b": 2}) == srm({"a": 40, "b": 44}, {"a": 0.5, "b": 0.5})


def test_small_expected_counts_get_the_exact_test():
    found = srm({"treated": 997, "holdout": 3}, {"treated": 0.999, "holdout": 0.001})
    assert found.statistic is None
    assert found.p_value == pytest.approx(binomtest(3, 1000, 0.001).pvalue)
    assert not found.stop


def test_an_arm_without_units_is_a_mismatch_in_a_large_experiment():
    found = srm({"control": 500, "treatment": 510}, {"control": 1, "treatment": 1, "holdout": 0.1})
    assert found.stop and found.observed["holdout"] == 0 and "'holdout'" in found.sentence


def test_a_fair_coin_is_rarely_stopped():
    rng = np.random.default_rng(1)
    shares = [0.36, 0.36, 0.18, 0.1]
    stops = [
        srm(dict(zip("abcd", map(int, each), strict=True)), dict(zip("abcd", shares, strict=True))).stop
        for each in rng.multinomial(2_300, shares, 4000)
    ]
    assert np.mean(stops) <= 3 * ALARM


def test_a_very_large_mismatch_is_told_without_dividing_by_zero():
    found = srm({"control": 10_000_000, "treatment": 1}, HALVES)
    assert found.p_value == 0.0 and "practically never" in found.sentence


@pytest.mark.parametrize(
    ("observed", "expected", "message"),
    [
        ({"contrl": 5, "treatment": 5}, HALVES, "did you mean 'control'"),
        ({"control": 5}, {"control": 1.0}, "two arms"),
        ({"control": 5, "treatment": 5}, {"control": 1.0, "treatment": 0.0}, "above 0"),
        ({"control": 5, "treatment": 5}, {"control": 1.0, "treatment": float("nan")}, "above 0"),
        ({"control": 0, "treatment": 0}, HALVES, "some must hold one"),
        ({"control": -1, "treatment": 4}, HALVES, "fewer than 0"),
    ],
)
def test_what_cannot_be_tested_is_refused(observed, expected, message):
    with pytest.raises(ExperimentError, match=message):
        srm(observed, expected)
