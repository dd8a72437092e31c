"""Every group against the rest: exact, corrected for how many there are, and fair to groups that are merely alike."""

import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from ml_workbench.examine.cuts import by_band, by_category
from ml_workbench.examine.operating import operating_point, play_policy
from ml_workbench.examine.slices import expected_auc, holm, p_value, slice_report
from ml_workbench.model.evaluation import Policy, candidate_policy
from ml_workbench.model.metrics import unit_counts
from ml_workbench.model.value import Panel
from ml_workbench.plan.charter import Charter
from ml_workbench.plan.errors import TrainingError

WORDS = ("title", "decision", "action", "unit", "kpi", "decision_rule", "owner")
CHARTER = Charter.model_validate(
    {
        **dict.fromkeys(WORDS, "…"),
        "unit_plural": "members",
        "currency": "EUR",
        "capacity_per_week": 15,
        "economics": {
            "gross_margin": 0.3,
            "offer_cost": 1.0,
            "value_weeks": 12,
            "cooldown_days": 14,
            "running_cost_per_week": 2.0,
            "save_rate": {"value": 0.2, "low": 0.1, "high": 0.3, "status": "assumption", "source": "a guess"},
        },
        "baseline": {"feature": "days", "order": "descending", "meaning": "the longest away"},
        "minimum_lift_per_week": 5.0,
        "guardrails": [],
        "edge": {"maximum_size_kb": 64.0, "maximum_latency_ms": 0.1, "maximum_loss_per_week": 1.0},
        "review_date": "2024-07-01",
    }
)
WEEKS = 3


def members(truth: np.ndarray, *, seed: int = 1) -> Panel:
    "A panel of units that come every week and lapse with their own chance."
    random, units = np.random.default_rng(seed), len(truth)
    days = np.datetime64("2024-01-01") + 7 * np.arange(WEEKS)
    label = (random.random(units * WEEKS) < np.tile(truth, WEEKS)).astype(int)
    unit, week = np.tile(np.arange(units), WEEKS), np.repeat(np.arange(WEEKS), units)
    return Panel(np.arange(units), unit, days, week, label, random.gamma(2.0, 40.0, units * WEEKS))


def policy_of(forecast: np.ndarray) -> Policy:
    forecast = np.tile(forecast, WEEKS)
    return candidate_policy("model", "Model", 2, forecast, np.full(len(forecast), 30.0), CHARTER)


def cut_of(name: str, levels: np.ndarray):
    return by_category(pd.Series(np.tile(levels, WEEKS), name=name))


def judged(cuts, panel, forecast, *, resamples=200, **options):
    counts = unit_counts(panel.units, resamples, seed=4)
    return slice_report(cuts, panel, policy_of(forecast), CHARTER, counts, **{"minimum": 40, **options})


@pytest.fixture
def scene():
    random = np.random.default_rng(3)
    truth = random.beta(0.7, 1.4, 300).clip(0.02, 0.98)
    return (
        truth,
        members(truth),
        cut_of("sign", random.choice(["Aries", "Leo", "Virgo"], 300, p=[0.5, 0.3, 0.2])),
    )


def test_every_figure_is_what_the_rows_of_the_level_say(scene):
    truth, panel, cut = scene
    forecast = truth.round(1).clip(0.02, 0.98)
    score = np.tile(forecast, WEEKS)
    for level in judged([cut], panel, forecast).slices:
        here = cut.place == cut.levels.index(level.level)
        assert (level.rows, level.positives) == (here.sum(), panel.label[here].sum())
        assert level.units == len(np.unique(panel.unit[here]))
        assert np.isclose(level.auc.value, roc_auc_score(panel.label[here], score[here]))
        assert np.isclose(
            level.average_precision.value, average_precision_score(panel.label[here], score[here])
        )
        assert np.isclose(level.calibration_gap.value, score[here].mean() - panel.label[here].mean())
        rest = roc_auc_score(panel.label[~here], score[~here])
        assert np.isclose(level.difference.value, level.auc.value - rest)


def test_the_interval_of_a_difference_is_that_of_resampling_the_rows_themselves(scene):
    truth, panel, cut = scene
    score, differences = np.tile(truth, WEEKS), []
    for counts in unit_counts(panel.units, 60, seed=4)[1:]:
        rows = np.repeat(np.arange(len(score)), counts[panel.unit])
        here = cut.place[rows] == 0
        inside, outside = (roc_auc_score(panel.label[rows[at]], score[rows[at]]) for at in (here, ~here))
        differences.append(inside - outside)
    found = judged([cut], panel, truth, resamples=60).slices[0].difference
    assert np.allclose([found.low, found.high], np.quantile(differences, [0.025, 0.975]))


def test_the_offers_of_all_levels_earn_what_all_offers_earn(scene):
    truth, panel, cut = scene
    point = operating_point(policy_of(truth), panel, CHARTER)
    offered = play_policy(policy_of(truth), panel, CHARTER).offered
    levels = judged([cut], panel, truth, minimum=1).slices
    offers = [offered[cut.place == cut.levels.index(level.level)].sum() for level in levels]
    total = sum(count * level.profit_per_offer.value for count, level in zip(offers, levels))
    assert np.isclose(total, WEEKS * (point.money.kept - point.money.offers_cost))


def test_a_level_without_offers_has_no_profit_per_offer(scene):
    truth, panel, _ = scene
    cut = cut_of("hope", np.where(truth < np.median(truth), "low", "high"))
    low = judged([cut], panel, truth, minimum=20).slices[1]
    assert low.level == "low" and low.profit_per_offer is None


def test_a_group_that_the_model_cannot_see_is_flagged_named_and_no_other_is(scene):
    truth, panel, cut = scene
    random = np.random.default_rng(8)
    new = random.random(300) < 0.4
    forecast = np.where(new, random.permutation(truth), truth)
    report = judged([cut, cut_of("kind", np.where(new, "new", "old"))], panel, forecast)
    assert [(level.slice, level.level) for level in report.slices if level.flagged] == [("kind", "new")]
    worst = report.worst_slice
    assert (worst.slice, worst.level) == (
        "kind",
        "new",
    ) and "more than chance, corrected for 4" in worst.sentence
    assert worst.sentence.startswith("The model ranks members worst where kind is 'new': AUC 0.")


def test_groups_that_have_nothing_to_do_with_it_are_hardly_ever_flagged():
    alarms = 0
    for seed in range(25):
        random = np.random.default_rng(seed)
        truth = random.beta(0.7, 1.4, 240).clip(0.02, 0.98)
        cuts = [cut_of(f"sign {number}", random.choice(list("abcd"), 240)) for number in range(5)]
        report = judged(cuts, members(truth, seed=seed), truth, resamples=60)
        assert len(report.slices) == 20
        alarms += any(level.flagged for level in report.slices)
    assert alarms <= 4


def test_a_group_of_equals_is_hard_to_rank_and_not_held_against_the_model(scene):
    truth, panel, _ = scene
    cut = by_band(pd.Series(np.tile(truth, WEEKS), name="chance"), 3)
    report = judged([cut], panel, truth, minimum=20)
    assert all(level.auc.value < 0.75 and level.difference.value < -0.05 for level in report.slices)
    assert not any(level.flagged for level in report.slices)
    assert all(level.auc.low < level.expected_auc < level.auc.high for level in report.slices)
    assert "of that is to be expected" in report.worst_slice.sentence


def test_the_expected_auc_is_the_auc_that_true_probabilities_have():
    random = np.random.default_rng(2)
    for shape in ((1, 1), (2, 8), (30, 60)):
        truth = random.beta(*shape, 20_000)
        assert abs(expected_auc(truth) - roc_auc_score(random.random(20_000) < truth, truth)) < 0.02
    assert expected_auc(np.full(10, 0.3)) == 0.5


def test_small_levels_are_named_and_not_judged(scene):
    truth, panel, cut = scene
    report = judged([cut], panel, truth, minimum=70)
    assert [small.level for small in report.too_small] == ["Leo"]
    assert {level.level for level in report.slices} == {"Aries", "Virgo"}
    nothing = judged([cut], panel, truth, minimum=500)
    assert nothing.slices == () and nothing.worst_slice is None and len(nothing.too_small) == 3


def test_a_large_level_in_which_hardly_anybody_lapses_is_too_small_to_rank(scene):
    truth, _, _ = scene
    loyal = np.arange(300) < 150
    rare = np.where(loyal, 0.005, truth)
    report = judged([cut_of("kind", np.where(loyal, "loyal", "other"))], members(rare), rare)
    assert [(small.level, small.units) for small in report.too_small] == [("loyal", 150)]
    assert report.too_small[0].lapsed < 8


def test_two_cuts_into_the_same_groups_are_one_comparison(scene):
    truth, panel, cut = scene
    twice = judged([cut, cut_of("again", np.array(cut.levels)[cut.place[:300]])], panel, truth).slices
    once = judged([cut], panel, truth).slices
    assert [level.p_adjusted for level in twice[:3]] == [level.p_adjusted for level in once]
    assert [level.p_adjusted for level in twice[3:]] == [level.p_adjusted for level in once]


def test_holm_keeps_the_order_and_never_exceeds_one():
    p = np.array([0.2, 0.001, 0.9, 0.04, 0.011])
    assert np.allclose(holm(p), [0.4, 0.005, 0.9, 0.12, 0.044])
    assert holm([]).size == 0 and holm([0.7, 0.8]).max() <= 1.0


def test_a_difference_is_measured_from_what_needs_no_other_reason():
    draws = np.append(-0.3, np.random.default_rng(1).normal(-0.3, 0.1, 4000))
    assert abs(p_value(draws) - 0.0027) < 0.0006
    assert abs(p_value(draws, explained=-0.1) - 0.0455) < 0.004
    assert p_value(draws, explained=-0.4) == 1.0
    assert p_value(draws, explained=0.2) == p_value(draws)
    assert p_value(draws, freedom=4) > 5 * p_value(draws)


def test_a_difference_that_never_varies_is_certain_unless_it_is_none():
    assert p_value(np.full(10, -0.1)) == 0.0 and p_value(np.zeros(10)) == 1.0


def test_the_report_has_the_fields_that_were_promised_and_is_plain(scene):
    truth, panel, cut = scene
    raw = json.loads(json.dumps(asdict(judged([cut], panel, truth))))
    assert list(raw) == ["slices", "too_small", "worst_slice"]
    fields = {
        "slice", "level", "rows", "units", "positives", "auc", "average_precision", "calibration_gap",
        "profit_per_offer", "difference", "p_value", "p_adjusted", "flagged",
    }  # fmt: skip
    assert fields <= set(raw["slices"][0]) and fields | {"sentence"} <= set(raw["worst_slice"])
    assert set(raw["slices"][0]["auc"]) == {"value", "low", "high"}


def test_the_same_seed_gives_the_same_report(scene):
    truth, panel, cut = scene
    assert judged([cut], panel, truth) == judged([cut], panel, truth)


def test_a_policy_without_probability_is_refused(scene):
    _, panel, cut = scene
    rank = np.zeros(len(panel.unit))
    rule = Policy("rule", "Rule", "rule", 1, rank, None, rank)
    with pytest.raises(TrainingError, match="'rule' has no probability"):
        slice_report([cut], panel, rule, CHARTER, unit_counts(panel.units, 5, seed=1))
