"""Metrics under weights, and intervals from whole units."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from ml_workbench.model.metrics import (
    Interval,
    brier_draws,
    calibration_bins,
    interval_of,
    lift_draws,
    ranking_draws,
    unit_counts,
    weighted_ranking,
    wilson,
)
from ml_workbench.model.value import Panel
from ml_workbench.plan.params import load_params

ROOT = Path(__file__).resolve().parents[2]


def panel_with(label: np.ndarray, unit: np.ndarray, weeks: np.ndarray | None = None) -> Panel:
    weeks = np.zeros(len(label), dtype=int) if weeks is None else weeks
    dates = np.datetime64("2024-01-01") + 7 * np.unique(weeks)
    return Panel(np.unique(unit), unit, dates, weeks, label, np.ones(len(label)))


def repeated(units: int, weeks: int = 4) -> tuple[Panel, np.ndarray]:
    "Units that keep their propensity from week to week, and that propensity."
    random = np.random.default_rng(1)
    p = np.tile(random.beta(0.6, 1.4, units), weeks)
    label = (random.random(units * weeks) < p).astype(int)
    return panel_with(label, np.tile(np.arange(units), weeks), np.repeat(np.arange(weeks), units)), p


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_weighted_auc_and_average_precision_are_those_of_scikit_learn(data):
    rows = data.draw(st.integers(2, 60))
    label = np.array(data.draw(st.lists(st.integers(0, 1), min_size=rows, max_size=rows)))
    score = np.array(data.draw(st.lists(st.integers(-4, 4), min_size=rows, max_size=rows)), dtype=float)
    weight = np.array(data.draw(st.lists(st.floats(0, 9), min_size=rows, max_size=rows)))
    heavy = weight > 1e-6
    weight = np.where(heavy, weight, 0.0)
    assume(weight[label == 1].sum() > 0 and weight[label == 0].sum() > 0)
    auc, precision = weighted_ranking(label, score, np.column_stack([weight, np.ones(rows)]))
    assert auc[0] == pytest.approx(roc_auc_score(label, score, sample_weight=weight))
    assert precision[0] == pytest.approx(average_precision_score(label, score, sample_weight=weight))
    assert auc[1] == pytest.approx(roc_auc_score(label, score))
    assert precision[1] == pytest.approx(average_precision_score(label, score))


def test_ranking_is_undefined_without_both_classes():
    auc, precision = weighted_ranking(np.array([0, 0, 1]), np.arange(3.0), np.array([[1], [1], [0]]))
    assert np.isnan(auc[0]) and np.isnan(precision[0])


def test_a_resample_counts_the_same_as_repeating_the_rows_of_its_units():
    panel, probability = repeated(20)
    score, counts = probability.round(1), unit_counts(20, 5, seed=3)
    auc, precision = ranking_draws(panel, score, counts, chunk=2)
    brier = brier_draws(panel, probability, counts)
    for draw, weights in enumerate(counts):
        again = np.repeat(np.arange(len(score)), weights[panel.unit])
        assert auc[draw] == pytest.approx(roc_auc_score(panel.label[again], score[again]))
        assert precision[draw] == pytest.approx(average_precision_score(panel.label[again], score[again]))
        assert brier[draw] == pytest.approx(brier_score_loss(panel.label[again], probability[again]))


def test_the_first_draw_is_the_sample_itself_and_every_draw_has_its_size():
    counts = unit_counts(30, 50, seed=1)
    assert (counts[0] == 1).all() and (counts.sum(axis=1) == 30).all()
    assert (unit_counts(30, 50, seed=1) == counts).all() and (unit_counts(30, 50, seed=2) != counts).any()


def test_an_interval_leaves_out_resamples_where_the_figure_is_undefined():
    found = interval_of(np.array([1.0, np.nan, 0.0, 1.0, 2.0]), 0.9)
    assert found.value == 1.0 and 0.0 <= found.low < found.high <= 2.0
    assert found.times(2) == Interval(2.0, 2 * found.low, 2 * found.high)


def coverage(*, by_unit: bool, simulations: int = 200) -> float:
    "How often a 90% interval of the AUC holds the true AUC, when units repeat themselves four times."
    random = np.random.default_rng(11)
    truth, inside = 0.76025, 0  # P(N(1, 1) > N(0, 1))
    for _ in range(simulations):
        label = np.repeat(random.integers(0, 2, 80), 4)
        score = np.repeat(label[::4] + random.normal(size=80), 4) + random.normal(0, 1e-6, 320)
        unit = np.repeat(np.arange(80), 4) if by_unit else np.arange(320)
        panel = panel_with(label, unit)
        draws, _ = ranking_draws(
            panel, score, unit_counts(panel.units, 300, seed=int(random.integers(1 << 30)))
        )
        found = interval_of(draws, 0.9)
        inside += found.low <= truth <= found.high
    return inside / simulations


def test_intervals_from_whole_units_cover_and_those_from_rows_do_not():
    assert 0.84 <= coverage(by_unit=True) <= 0.96
    assert coverage(by_unit=False) < 0.75


def test_lift_is_the_share_among_the_first_of_each_week_over_everybodys():
    panel, probability = repeated(60)
    charter = load_params(ROOT).charter.model_copy(update={"capacity_per_week": 10})
    first = np.concatenate([week * 60 + np.argsort(-probability[:60])[:10] for week in range(4)])
    expected = panel.label[first].mean() / panel.label.mean()
    assert lift_draws(panel, probability, unit_counts(60, 2, seed=1), charter)[0] == pytest.approx(expected)


def test_wilson_intervals_stay_between_nought_and_one_and_cover():
    low, high = wilson(np.array([0.0, 0.5, 1.0]), np.array([10, 10, 10]))
    assert low[0] == pytest.approx(0, abs=1e-12) and high[2] == pytest.approx(1)
    assert (low[1], high[1]) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    hits = np.random.default_rng(1).binomial(30, 0.1, 4000)
    low, high = wilson(hits / 30, np.full(4000, 30))
    assert 0.93 < np.mean((low <= 0.1) & (high >= 0.1)) < 0.98


def test_calibration_bins_hold_all_rows_and_count_units_once():
    label, unit = np.tile([0, 1], 40), np.zeros(80, dtype=int)
    one = calibration_bins(panel_with(label, unit), np.linspace(0, 1, 80), bins=1)[0]
    assert one.count == 80 and one.observed == 0.5
    many = calibration_bins(panel_with(label, np.arange(80)), np.linspace(0, 1, 80), bins=1)[0]
    assert one.high - one.low > many.high - many.low
    few = calibration_bins(panel_with(label[:3], np.arange(3)), np.linspace(0, 1, 3), bins=10)
    assert sum(each.count for each in few) == 3


def test_labels_of_other_weight_count_as_scikit_learn_weighs_them():
    random = np.random.default_rng(7)
    plain, probability = repeated(40)
    weight = random.choice([0.0, 1.0, 5.0], len(plain.label))
    panel, once = replace(plain, weight=weight), unit_counts(40, 2, seed=0)
    auc, precision = ranking_draws(panel, probability, once)
    assert auc[0] == pytest.approx(roc_auc_score(plain.label, probability, sample_weight=weight))
    assert precision[0] == pytest.approx(
        average_precision_score(plain.label, probability, sample_weight=weight)
    )
    brier = brier_score_loss(plain.label, probability, sample_weight=weight)
    assert brier_draws(panel, probability, once)[0] == pytest.approx(brier)
    (one,) = calibration_bins(panel, probability, bins=1)
    assert one.observed == pytest.approx(np.average(plain.label, weights=weight))
    (even,) = calibration_bins(plain, probability, bins=1)
    assert one.high - one.low > even.high - even.low


def test_equal_weights_change_no_figure():
    plain, probability = repeated(40)
    panel, counts = replace(plain, weight=np.ones(len(plain.label))), unit_counts(40, 20, seed=0)
    assert calibration_bins(panel, probability) == calibration_bins(plain, probability)
    assert np.array_equal(brier_draws(panel, probability, counts), brier_draws(plain, probability, counts))
    for one, other in zip(
        ranking_draws(panel, probability, counts), ranking_draws(plain, probability, counts)
    ):
        assert np.allclose(one, other)
