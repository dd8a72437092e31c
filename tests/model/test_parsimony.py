"""Complexity has to earn its place, with confidence and by enough."""

import numpy as np
import pytest

from ml_workbench.model.evaluation import AtCapacity, Draws, Policy, Result
from ml_workbench.model.metrics import Interval, interval_of
from ml_workbench.model.parsimony import best_of, compared, is_worth_it, lead, not_worse, parsimony
from ml_workbench.plan.charter import Charter


def charter(margin: float = 25.0) -> Charter:
    rate = {"value": 0.15, "low": 0.1, "high": 0.3, "status": "assumption", "source": "A guess"}
    terms = {
        "gross_margin": 0.3,
        "offer_cost": 1.0,
        "value_weeks": 12,
        "cooldown_days": 14,
        "save_rate": rate,
    }
    words = dict.fromkeys(("title", "decision", "action", "kpi", "decision_rule", "owner"), "…")
    given = {
        **words,
        **{"unit": "member", "unit_plural": "members", "currency": "USD", "capacity_per_week": 10},
        "economics": {**terms, "running_cost_per_week": 2.0},
        "baseline": {"feature": "days", "order": "descending", "meaning": "the members longest away"},
        **{"minimum_lift_per_week": margin, "guardrails": [], "review_date": "2024-07-01"},
    }
    return Charter.model_validate(given)


def result(
    name: str, complexity: int, profit: float, spread: float = 18.0, kind: str = "candidate"
) -> Result:
    noise = np.append(0.0, np.random.default_rng(complexity).normal(0, spread, 2000))
    draws = Draws((profit + noise) / 0.15, np.zeros(2001))
    weekly = interval_of(draws.profit(0.15))
    policy = Policy(name, name.capitalize(), kind, complexity, None, None, None)
    return Result(policy, None, None, AtCapacity(150.0, 0.3, weekly, weekly), weekly, (), draws)


def names(results: list[Result]) -> list[str]:
    return [each.policy.name for each in results]


def test_a_lead_within_the_noise_is_not_worth_the_complexity():
    line, network = result("line", 2, 100), result("network", 7, 112)
    assert names(not_worse([network, line], charter())) == ["line", "network"]
    told = parsimony([network, line], line, charter())
    assert told.best == "network" and told.chosen == "line"
    gain = lead(network, line, charter())
    assert gain.value == pytest.approx(12) and gain.low < 0
    assert told.sentence.startswith("Network earns $12 a week more than Line, between −$")
    assert told.sentence.endswith(": not worth the complexity.")


def test_a_clear_lead_is_worth_it_and_the_sentence_compares_with_the_simplest():
    line, middle, oracle = result("line", 2, 100), result("middle", 4, 150), result("oracle", 9, 400)
    assert names(not_worse([line, middle, oracle], charter())) == ["oracle"]
    told = parsimony([line, middle, oracle], oracle, charter())
    assert (
        told.sentence.startswith("Oracle earns $300 a week more than Line")
        and "worth the complexity" in told.sentence
    )
    assert [each.policy for each in told.comparisons] == ["line", "middle"]
    assert not told.comparisons[0].not_worse and told.comparisons[0].sentence.endswith(
        "simpler, and clearly worse."
    )


def test_a_certain_lead_below_the_margin_is_told_as_such():
    line, network = result("line", 2, 100, 1.0), result("network", 7, 110, 1.0)
    assert names(not_worse([line, network], charter())) == ["line", "network"]
    assert (
        "certain, but less than the $25 a week that complexity has to earn"
        in parsimony([line, network], line, charter()).sentence
    )


@pytest.mark.parametrize(
    "gain, worth",
    [
        (Interval(25.0, 0.1, 50.0), True),
        (Interval(25.0, 0.0, 50.0), False),
        (Interval(24.9, 20.0, 30.0), False),
        (Interval(60.0, -1.0, 120.0), False),
    ],
)
def test_worth_needs_both_certainty_and_size(gain, worth):
    assert is_worth_it(gain, charter()) is worth


def test_of_equals_the_simplest_is_the_best_and_the_rule_is_no_candidate():
    twins = [result("late", 5, 100, 0.0), result("early", 3, 100, 0.0), result("rule", 1, 900, kind="rule")]
    assert best_of(twins).policy.name == "early" and names(not_worse(twins, charter())) == ["early", "late"]


def test_a_candidate_alone_says_so():
    alone = result("line", 2, 100)
    assert parsimony([alone], alone, charter()).sentence == "Line is the only candidate."
    best = parsimony([alone, result("network", 7, 50)], alone, charter())
    assert best.sentence == "Line is the simplest candidate and earns the most."


def test_a_loss_is_told_as_less():
    line, network = result("line", 2, 100), result("network", 7, 50, 1.0)
    words = compared(network, line, lead(network, line, charter()), charter())
    assert words.startswith("Network earns $50 a week less than Line, between −$") and words.endswith(
        "not worth the complexity"
    )


def test_plain_values_hold_every_comparison():
    plain = parsimony(
        [result("line", 2, 100), result("network", 7, 112)], result("line", 2, 100), charter()
    ).as_json()
    assert (
        plain["comparisons"][-1]["difference"].keys() == {"value", "low", "high"}
        and plain["margin_per_week"] == 25.0
    )
