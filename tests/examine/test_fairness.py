"""Who gets the offers, told by level with the largest gap."""

import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from ml_workbench.examine.cuts import by_category
from ml_workbench.examine.fairness import fairness
from ml_workbench.examine.operating import play_policy
from ml_workbench.model.evaluation import NOTHING, candidate_policy
from ml_workbench.model.metrics import unit_counts
from ml_workbench.model.value import Panel
from ml_workbench.plan.charter import Charter

WORDS = ("title", "decision", "action", "unit", "kpi", "decision_rule", "owner")
CHARTER = Charter.model_validate(
    {
        **dict.fromkeys(WORDS, "…"),
        "unit_plural": "members",
        "currency": "EUR",
        "capacity_per_week": 20,
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


def scene(*, gap: float, seed: int = 1, units: int = 240):
    "A panel, a policy that knows the truth, and a cut; 'b' lapses more often than 'a' by `gap`."
    random = np.random.default_rng(seed)
    kind = random.choice(["a", "b"], units)
    truth = (0.2 + gap * (kind == "b") + random.uniform(-0.2, 0.3, units)).clip(0.01)
    label = (random.random(4 * units) < np.tile(truth, 4)).astype(int)
    days = np.datetime64("2024-01-01") + 7 * np.arange(4)
    week = np.repeat(np.arange(4), units)
    panel = Panel(np.arange(units), np.tile(np.arange(units), 4), days, week, label, np.full(4 * units, 90.0))
    policy = candidate_policy("model", "Model", 2, np.tile(truth, 4), np.full(4 * units, 30.0), CHARTER)
    return panel, policy, by_category(pd.Series(np.tile(kind, 4), name="house_kind"))


def found_in(panel, policy, cut, **options):
    return fairness(
        [cut], panel, policy, CHARTER, unit_counts(panel.units, 200, seed=1), **{"minimum": 30, **options}
    )


def test_rates_are_shares_of_the_rows_offers_and_lapses_of_the_level():
    panel, policy, cut = scene(gap=0.1)
    (found,) = found_in(panel, policy, cut)
    offered, lapsed = play_policy(policy, panel, CHARTER).offered, panel.label == 1
    for place, level in enumerate(cut.levels):
        here = cut.place == place
        assert np.isclose(found.offer_rate[level], offered[here].mean())
        assert np.isclose(found.precision[level], lapsed[here & offered].mean())
        assert np.isclose(found.recall[level], offered[here & lapsed].mean())
    assert np.isclose(found.largest_gap, found.offer_rate["b"] - found.offer_rate["a"])
    assert found.largest_gap_low < found.largest_gap < found.largest_gap_high


def test_a_real_gap_is_told_as_more_than_chance_and_the_model_is_said_not_to_see_it():
    (found,) = found_in(*scene(gap=0.3), withheld=True)
    assert (found.level_high, found.level_low) == ("b", "a")
    assert "The gap is more than chance." in found.sentence
    assert found.sentence.endswith("The model was not shown house kind.")
    assert "% of the members whose house kind is 'b' get an offer" in found.sentence


def test_groups_that_do_not_differ_are_hardly_ever_said_to():
    said = sum("more than chance" in found_in(*scene(gap=0.0, seed=seed))[0].sentence for seed in range(60))
    assert said <= 9


def test_levels_too_small_are_left_out_and_one_level_compares_with_nothing():
    panel, policy, cut = scene(gap=0.1)
    assert found_in(panel, policy, cut, minimum=1000) == ()


def test_a_level_in_which_nobody_lapses_is_still_compared_by_its_offers():
    panel, policy, cut = scene(gap=0.1)
    panel.label[cut.place == 0] = 0
    (found,) = found_in(panel, policy, cut)
    assert found.recall["a"] is None and found.offer_rate["a"] > 0


def test_without_offers_there_is_no_gap_and_no_precision():
    panel, _, cut = scene(gap=0.1)
    (found,) = found_in(panel, NOTHING, cut)
    assert found.largest_gap == 0.0 and found.precision == {"a": None, "b": None}
    assert "by chance" in found.sentence


def test_it_is_plain_enough_for_a_file():
    (found,) = found_in(*scene(gap=0.1))
    raw = json.loads(json.dumps(asdict(found)))
    promised = {
        "slice",
        "offer_rate",
        "precision",
        "recall",
        "largest_gap",
        "level_high",
        "level_low",
        "sentence",
    }
    assert promised <= set(raw)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_same_resamples_give_the_same_words(seed):
    assert found_in(*scene(gap=0.1, seed=seed)) == found_in(*scene(gap=0.1, seed=seed))
