"""What a policy does with its capacity: row by row, week by week, and how far its probabilities can be trusted."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from ml_workbench.examine.operating import (
    calibration_of,
    log_odds,
    missed_rows,
    operating_point,
    play,
    play_policy,
    score_histogram,
    week_by_week,
)
from ml_workbench.model.evaluation import NOTHING, candidate_policy, rule_policy
from ml_workbench.model.metrics import unit_counts
from ml_workbench.model.value import Panel, simulate
from ml_workbench.plan.charter import Charter
from ml_workbench.plan.errors import TrainingError


def charter(**economics) -> Charter:
    words = ("title", "decision", "action", "unit", "unit_plural", "kpi", "decision_rule", "owner")
    return Charter.model_validate(
        {
            **dict.fromkeys(words, "…"),
            "currency": "EUR",
            "capacity_per_week": 15,
            "economics": {
                "gross_margin": 0.3,
                "offer_cost": 1.0,
                "value_weeks": 2,
                "cooldown_days": 14,
                "running_cost_per_week": 2.0,
                "save_rate": {
                    "value": 0.2,
                    "low": 0.1,
                    "high": 0.3,
                    "status": "assumption",
                    "source": "a guess",
                },
                **economics,
            },
            "baseline": {"feature": "days", "order": "descending", "meaning": "the longest away"},
            "minimum_lift_per_week": 5.0,
            "guardrails": [],
            "edge": {"maximum_size_kb": 64.0, "maximum_latency_ms": 0.1, "maximum_loss_per_week": 1.0},
            "review_date": "2024-07-01",
        }
    )


def members(units: int = 100, weeks: int = 6, *, seed: int = 1) -> tuple[Panel, np.ndarray]:
    "A panel of units that come every week, and their true chance to lapse."
    random = np.random.default_rng(seed)
    truth = np.tile(random.beta(1, 2, units).clip(0.02, 0.98), weeks)
    days = np.datetime64("2024-01-01") + 7 * np.arange(weeks)
    unit, week = np.tile(np.arange(units), weeks), np.repeat(np.arange(weeks), units)
    label = (random.random(units * weeks) < truth).astype(int)
    return Panel(np.arange(units), unit, days, week, label, random.gamma(2.0, 40.0, units * weeks)), truth


def oracle(truth: np.ndarray, terms: Charter):
    return candidate_policy("oracle", "Oracle", 2, truth, np.full(len(truth), 30.0), terms)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rest", [0, 14, 70])
def test_row_by_row_is_what_the_simulation_adds_up(seed, rest):
    (panel, _), terms = members(seed=seed), charter(cooldown_days=rest)
    rank = np.random.default_rng(seed).normal(size=len(panel.unit)).round(1)
    played = play(panel, rank, size=15, economics=terms.economics, floor=-0.5)
    summed = simulate(panel, rank, sizes=[15], economics=terms.economics, floor=-0.5)
    for values, total in (
        (played.offered, summed.offers),
        (played.offered & (panel.label == 1), summed.hits),
    ):
        assert np.array_equal(np.bincount(panel.unit, values, minlength=panel.units), total[:, 0])
    credited = np.bincount(panel.unit, played.credited * panel.value, minlength=panel.units)
    assert np.allclose(credited, summed.value[:, 0])


def test_the_order_of_rows_does_not_matter():
    (panel, truth), terms = members(), charter()
    shuffled = np.random.default_rng(2).permutation(len(truth))
    other = Panel(
        panel.entities, panel.unit[shuffled], panel.rounds, panel.round[shuffled], panel.label[shuffled],
        panel.value[shuffled],
    )  # fmt: skip
    first = play_policy(oracle(truth, terms), panel, terms).offered
    assert np.array_equal(first[shuffled], play_policy(oracle(truth[shuffled], terms), other, terms).offered)


def test_no_week_has_more_offers_than_the_capacity_and_nobody_is_asked_while_resting():
    (panel, truth), terms = members(), charter(cooldown_days=21)
    offered = play_policy(oracle(truth, terms), panel, terms).offered
    assert np.bincount(panel.round[offered]).max() == 15
    for unit in range(panel.units):
        assert (np.diff(panel.round[offered & (panel.unit == unit)]) >= 3).all()


def test_the_four_cells_hold_every_row_and_the_money_is_the_profit():
    (panel, truth), terms = members(), charter()
    point = operating_point(oracle(truth, terms), panel, terms)
    cells = asdict(point.confusion)
    assert sum(cells.values()) == len(truth)
    assert cells["offered_lapsed"] + cells["left_lapsed"] == panel.label.sum()
    assert point.precision == cells["offered_lapsed"] / (cells["offered_lapsed"] + cells["offered_stayed"])
    policy, money = oracle(truth, terms), point.money
    summed = simulate(panel, policy.rank, sizes=[15], economics=terms.economics, floor=policy.floor)
    assert np.isclose(money.kept - money.offers_cost, summed.per_week(0.2).sum())
    assert money.wasted < money.offers_cost and money.running == 2.0


def test_what_is_missed_was_never_reached_and_counts_once():
    (panel, truth), terms = members(), charter(value_weeks=12)
    played = play_policy(oracle(truth, terms), panel, terms)
    missed = missed_rows(panel, played, terms.economics)
    reached = np.unique(panel.unit[played.credited])
    assert panel.label[missed].all() and not np.isin(panel.unit[missed], reached).any()
    assert np.bincount(panel.unit[missed]).max() == 1
    lapsed = np.unique(panel.unit[panel.label == 1])
    assert set(lapsed) == set(reached) | set(panel.unit[missed])


def test_doing_nothing_wastes_nothing_and_misses_everything():
    (panel, _), terms = members(), charter()
    point = operating_point(NOTHING, panel, terms)
    assert point.precision is None and point.recall == 0.0 and point.threshold is None
    assert (point.money.wasted, point.money.offers_cost, point.money.running) == (0.0, 0.0, 0.0)
    assert point.money.missed > 0


def test_with_everybody_served_nothing_is_missed():
    (panel, truth), terms = members(), charter(cooldown_days=0)
    generous = terms.model_copy(update={"capacity_per_week": 1000})
    point = operating_point(rule_policy(terms.baseline, truth), panel, generous)
    assert point.recall == 1.0 and point.money.missed == 0.0 and point.money.running == 0.0


def test_the_operating_point_has_the_fields_that_the_report_promises():
    (panel, truth), terms = members(), charter()
    raw = json.loads(json.dumps(asdict(operating_point(oracle(truth, terms), panel, terms))))
    assert list(raw) == ["threshold", "confusion", "precision", "recall", "money"]
    assert list(raw["confusion"]) == ["offered_lapsed", "offered_stayed", "left_lapsed", "left_stayed"]
    assert list(raw["money"]) == ["kept", "wasted", "missed", "offers_cost", "running"]


def test_the_histogram_holds_every_row_even_the_certain_ones():
    panel, truth = members()
    certain = truth.copy()
    certain[:2] = [0.0, 1.0]
    scores = score_histogram(panel, certain)
    assert sum(scores.lapsed) == panel.label.sum() and sum(scores.stayed) == (panel.label == 0).sum()
    assert len(scores.edges) == len(scores.lapsed) + 1 and np.allclose(np.diff(scores.edges), 0.25)
    assert scores.edges[0] < -13 and scores.edges[-1] > 13


def test_equal_scores_make_one_bar():
    panel, truth = members()
    assert len(score_histogram(panel, np.full(len(truth), 0.5)).lapsed) == 1


def test_the_weeks_add_up_to_the_profit_and_rank_as_scikit_learn_says():
    (panel, truth), terms = members(), charter()
    policy, rule = (
        oracle(truth, terms),
        rule_policy(terms.baseline, np.random.default_rng(0).random(len(truth))),
    )
    weeks = week_by_week(policy, rule, panel, terms, unit_counts(panel.units, 50, seed=1))
    money = operating_point(policy, panel, terms).money
    profit = money.kept - money.offers_cost - money.running
    assert np.isclose(np.mean([week.profit_per_week.value for week in weeks]), profit)
    against = operating_point(rule, panel, terms).money
    gain = np.mean([week.against_rule.value for week in weeks])
    assert np.isclose(gain, profit - (against.kept - against.offers_cost))
    for number, week in enumerate(weeks):
        here = panel.round == number
        assert np.isclose(week.auc.value, roc_auc_score(panel.label[here], truth[here]))
        assert week.auc.low < week.auc.value < week.auc.high and week.rows == 100
    assert [week.as_of for week in weeks[:2]] == ["2024-01-01", "2024-01-08"]


def test_a_week_in_which_nobody_lapses_is_refused_with_its_date():
    (panel, truth), terms = members(), charter()
    panel.label[panel.round == 2] = 0
    with pytest.raises(TrainingError, match="everywhere on 2024-01-15: widen the test slice"):
        policy = oracle(truth, terms)
        week_by_week(policy, policy, panel, terms, unit_counts(panel.units, 5, seed=1))


def test_honest_probabilities_have_slope_one_and_intercept_nought_as_often_as_promised():
    slope = intercept = 0
    for seed in range(80):
        panel, truth = members(units=120, weeks=3, seed=seed)
        found = calibration_of(panel, truth, unit_counts(120, 200, seed=seed), confidence=0.9)
        slope += found.slope.low <= 1 <= found.slope.high
        intercept += found.intercept.low <= 0 <= found.intercept.high
    assert 0.8 <= slope / 80 <= 0.98 and 0.8 <= intercept / 80 <= 0.98


@pytest.mark.parametrize(("stretch", "shift"), [(2.0, 0.0), (0.5, 0.0), (1.0, 0.7)])
def test_what_was_done_to_the_log_odds_is_found_again(stretch, shift):
    panel, truth = members(units=400)
    bent = 1 / (1 + np.exp(-(stretch * log_odds(truth) + shift)))
    found = calibration_of(panel, bent, unit_counts(400, 100, seed=1))
    assert abs(found.slope.value * stretch - 1) < 0.1
    if stretch == 1.0:
        assert abs(found.intercept.value + shift) < 0.1 and found.expected_error > 0.05


def test_one_step_from_the_whole_sample_is_as_good_as_a_full_fit_in_every_resample():
    panel, truth = members(units=200)
    counts, scores = unit_counts(200, 40, seed=3), log_odds(truth)
    found = calibration_of(panel, truth, counts)
    full = [
        LogisticRegression(C=np.inf, tol=1e-10)
        .fit(scores[:, None], panel.label, sample_weight=each[panel.unit])
        .coef_[0, 0]
        for each in counts
    ]
    assert np.isclose(found.slope.value, full[0], atol=1e-4)
    assert np.allclose([found.slope.low, found.slope.high], np.quantile(full[1:], [0.025, 0.975]), atol=0.02)


@pytest.mark.parametrize("probability", [0.3, None])
def test_calibration_of_one_constant_or_one_class_is_refused(probability):
    panel, truth = members()
    if probability is None:
        panel.label[:] = 1
    with pytest.raises(TrainingError, match="probabilities that differ and both classes"):
        calibration_of(
            panel,
            np.full(len(truth), probability or 0.3) if probability else truth,
            unit_counts(100, 5, seed=1),
        )


def test_probabilities_that_never_fail_are_taken_for_a_leak():
    panel, _ = members()
    with pytest.raises(TrainingError, match="look for a leak"):
        calibration_of(panel, np.where(panel.label == 1, 0.9, 0.1), unit_counts(100, 5, seed=1))
