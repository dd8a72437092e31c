"""Scores, weights and propensities that are no proper numbers are found; those that are, are left alone."""

import numpy as np
import pytest

from ml_workbench.model.session import MODEL
from ml_workbench.monitor.asking import Asked
from ml_workbench.monitor.numeric import (
    CHECKS,
    propensity_reading,
    score_readings,
    weight_reading,
    weights_in,
)
from ml_workbench.release.bundle import FOLDER
from tests.monitor.shop import BUNDLE

ASKED = Asked({each.name: each for each in CHECKS}, minimum=10)
SCORES = np.random.default_rng(0).beta(1, 5, 200)


def statuses(scores: np.ndarray, **rest) -> list[str]:
    return [each.status for each in score_readings(ASKED, scores, **rest)]


def test_proper_scores_are_fine():
    assert statuses(SCORES) == ["fine", "fine", "fine"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1.2, -0.1])
def test_one_score_that_is_none_is_an_alarm(bad):
    assert statuses(np.append(SCORES, bad))[0] == "alarm"


def test_a_score_without_a_range_may_be_of_any_size():
    assert statuses(SCORES * 40 - 3, output="score")[0] == "fine"


def test_scores_at_the_edge_and_scores_that_are_all_alike_are_found():
    assert statuses(np.where(SCORES > 0.2, 1.0, SCORES))[1] == "alarm"
    assert statuses(np.full(200, 0.3)) == ["fine", "fine", "alarm"]


def test_nobody_scored_is_unknown_and_so_are_three():
    assert statuses(np.array([])) == ["unknown"] * 3 and statuses(SCORES[:3])[2] == "unknown"


def test_the_weights_of_a_real_release_are_finite_and_a_broken_one_is_found():
    import onnx

    model = BUNDLE.files[FOLDER + MODEL]
    count, bad = weights_in(model)
    assert count > 3 and bad == 0 and weight_reading(ASKED, BUNDLE.files).status == "fine"
    graph = onnx.load_from_string(model)
    values = next(
        each
        for node in graph.graph.node
        for each in node.attribute
        if each.floats and each.name != "replaced_value_float"
    )
    values.floats[0] = float("nan")
    assert weight_reading(ASKED, {FOLDER + MODEL: graph.SerializeToString()}).status == "alarm"
    assert weight_reading(ASKED, {}).status == "unknown"


@pytest.mark.parametrize(
    ("share", "status"), [(0.36, "fine"), (1.0, "fine"), (0.0, "alarm"), (1.01, "alarm"), (np.nan, "alarm")]
)
def test_a_propensity_is_a_probability_above_nought(share, status):
    assert propensity_reading(ASKED, np.array([0.5, share])).status == status
