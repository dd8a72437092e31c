"""Adjusted p-values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from ml_workbench.estimators.multiplicity import METHODS, adjusted, spoken
from ml_workbench.plan.errors import ExperimentError

TRIAL = [
    *(0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459),
    *(0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0),
]


@pytest.mark.parametrize(("method", "rejected"), [("benjamini-hochberg", 4), ("bonferroni", 3), ("holm", 3)])
def test_the_published_trial_has_as_many_effects_as_published(method, rejected):
    assert sum(value <= 0.05 for value in adjusted(TRIAL, method)) == rejected


P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=30)


@given(P_VALUES)
def test_benjamini_hochberg_is_that_of_scipy(p_values):
    assert adjusted(p_values, "benjamini-hochberg") == pytest.approx(
        false_discovery_control(p_values).tolist()
    )


@pytest.mark.parametrize(
    ("method", "theirs"), [("holm", "holm"), ("benjamini-hochberg", "fdr_bh"), ("bonferroni", "bonferroni")]
)
def test_every_method_gives_what_statsmodels_gives(method, theirs):
    from statsmodels.stats.multitest import multipletests

    rng = np.random.default_rng(6)
    for size in (1, 2, 9, 40):
        p_values = rng.random(size).round(2)  # with ties
        assert adjusted(p_values.tolist(), method) == pytest.approx(
            multipletests(p_values, method=theirs)[1].tolist()
        )


@given(P_VALUES)
def test_no_adjustment_makes_a_p_value_smaller_and_bonferroni_is_the_harshest(p_values):
    found = {method: np.array(adjusted(p_values, method)) for method in METHODS}
    tiny = 1e-12
    assert (np.array(p_values) <= found["benjamini-hochberg"] + tiny).all()
    assert (found["benjamini-hochberg"] <= found["holm"] + tiny).all()
    assert (found["holm"] <= found["bonferroni"] + tiny).all()


def test_what_could_not_be_tested_is_no_question_and_stays_none():
    assert adjusted([0.01, None, 0.04]) == [0.02, None, 0.04]
    assert adjusted([None, None]) == [None, None]
    assert adjusted([]) == []


def test_names_are_kept():
    assert adjusted({"b": 0.03, "a": 0.01}, "holm") == {"b": 0.03, "a": 0.02}


def test_one_question_needs_no_adjustment():
    assert adjusted([0.04]) == [0.04]


def test_holm_errs_in_at_most_one_experiment_in_twenty():
    rng = np.random.default_rng(4)
    wrong = np.mean([min(adjusted(each.tolist())) < 0.05 for each in rng.random((2000, 8))])
    assert wrong < 0.065


def test_a_p_value_is_written_so_that_it_can_be_read():
    assert [spoken(value) for value in (0.5, 0.0312, 0.001, 0.0009, 0.0)] == [
        "p = 0.5",
        "p = 0.031",
        "p = 0.001",
        "p < 0.001",
        "p < 0.001",
    ]


def test_impossible_p_values_and_unknown_methods_are_refused():
    with pytest.raises(ExperimentError, match=r"1\.2"):
        adjusted([0.1, 1.2])
    with pytest.raises(ExperimentError, match="between 0 and 1"):
        adjusted([float("nan")])
    with pytest.raises(ExperimentError, match="known: holm"):
        adjusted([0.1], "sidak")
