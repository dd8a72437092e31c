"""The simplest candidate that is not worse, or an honest no."""

import numpy as np
import pandas as pd
import pytest

from ml_workbench.model.evaluation import (
    NOTHING,
    AtCapacity,
    Curve,
    Draws,
    Policy,
    Result,
    candidate_policy,
    rule_policy,
)
from ml_workbench.model.metrics import Interval, interval_of
from ml_workbench.model.proposal import assumptions, break_even, next_list, propose, sensitivity
from ml_workbench.model.snapshots import Feature, Schema
from ml_workbench.plan.charter import Charter

FEATURES = (
    Feature("weekly", "number", "money"),
    Feature("days", "number", "recency"),
    Feature("visits", "number", "frequency"),
    Feature("visits_long", "number", "frequency"),
    Feature("flat", "number", "other"),
)
SCHEMA = Schema("member", "as_of", "slice", "left", "spend", 28, "weekly", FEATURES)


def charter(**changes) -> Charter:
    rate = {"value": 0.2, "low": 0.1, "high": 0.3, "status": "assumption", "source": "A guess"}
    economics = {
        "gross_margin": 0.3,
        "offer_cost": 1.0,
        "value_weeks": 12,
        "cooldown_days": 14,
        "save_rate": rate,
    }
    words = dict.fromkeys(("title", "decision", "action", "kpi", "decision_rule", "owner"), "…")
    given = {
        **words,
        "unit": "member",
        "unit_plural": "members",
        "currency": "EUR",
        "capacity_per_week": 10,
        "economics": {**economics, "running_cost_per_week": 2.0},
        "baseline": {"feature": "days", "order": "descending", "meaning": "the members longest away"},
        "minimum_lift_per_week": 20.0,
        "guardrails": [],
        "review_date": "2024-07-01",
    }
    return Charter.model_validate({**given, **changes})


def result(
    name: str, complexity: int, profit: float, *, spread: float = 1.0, rule: float = 0.0, kind="candidate"
) -> Result:
    "A policy that earns `profit` a week, give or take `spread` of its own."
    shaken = profit + np.append(0.0, np.random.default_rng(complexity).normal(0, spread, 400))
    cost = np.full(401, 10.0)
    draws = Draws((shaken + cost) / 0.2, cost)
    money, gain = interval_of(shaken), interval_of(shaken - rule)
    flat = np.array([profit])
    curve = Curve(np.array([10]), flat, flat, flat, flat - rule, flat - rule, flat - rule)
    policy = Policy(name, name.capitalize(), kind, complexity, None, None, None)
    return Result(policy, None, curve, AtCapacity(10.0, 0.5, money, money.times(52 / 12)), gain, (), draws)


def ladder(simple: float, complex_: float, *, rule: float = 100.0, spread: float = 1.0) -> list[Result]:
    return [
        result("complex", 3, complex_, rule=rule, spread=spread),
        result("simple", 2, simple, rule=rule, spread=spread),
        result("rule", 1, rule, rule=rule, spread=0.0, kind="rule"),
        result("nothing", 0, 0.0, rule=rule, spread=0.0, kind="nothing"),
    ]


def test_the_simplest_candidate_that_is_not_worse_by_the_margin_is_proposed():
    chosen, proposal = propose(ladder(simple=190, complex_=200), SCHEMA, charter())
    assert chosen.policy.name == "simple" and proposal.enough_evidence and proposal.beats_rule
    assert "Simple is simpler than Complex and not clearly worse" in proposal.reason
    assert proposal.sentence.startswith("Send 10 offers a week to the members that ")
    assert "expected +€390 a month, between +€" in proposal.sentence and proposal.sentence.endswith(
        "against the rule."
    )


def test_a_candidate_that_is_worse_by_more_than_the_margin_is_not():
    assert propose(ladder(simple=150, complex_=200), SCHEMA, charter())[0].policy.name == "complex"


def test_a_lead_that_may_be_noise_does_not_pay_for_complexity():
    chosen, proposal = propose(ladder(180, 205, rule=0, spread=20.0), SCHEMA, charter())
    assert chosen.policy.name == "simple"
    assert (
        proposal.parsimony.startswith("Complex earns €2") and "not worth the complexity" in proposal.parsimony
    )


def test_a_simple_candidate_that_fails_the_rule_gives_way_to_one_that_beats_it():
    found = ladder(simple=115, complex_=125)  # the margin over the rule is 20
    assert propose(found, SCHEMA, charter())[0].policy.name == "complex"


def test_a_gain_within_its_noise_is_not_enough_evidence_and_keeps_the_rule():
    chosen, proposal = propose(ladder(110, 130, spread=40.0), SCHEMA, charter())
    assert chosen.policy.name == "rule" and proposal.beats_rule and not proposal.enough_evidence
    assert proposal.sentence.startswith("Keep the rule") and "not enough evidence yet" in proposal.sentence
    assert proposal.who == "the members longest away"


def test_a_certain_gain_that_is_too_small_keeps_the_rule_too():
    _, proposal = propose(ladder(105, 106), SCHEMA, charter())
    assert proposal.policy == "rule" and proposal.enough_evidence
    assert "less than the €87 a month that a model must add" in proposal.sentence


def test_where_everything_loses_nothing_is_sent():
    chosen, proposal = propose(ladder(-40, -30, rule=-100), SCHEMA, charter())
    assert chosen.policy.kind == "nothing" and proposal.sentence.startswith("Send no offers for now")
    assert "no profit in itself" in proposal.sentence


def test_the_save_rate_moves_the_profit_of_the_same_list_linearly():
    found = ladder(190, 200)
    low, middle, high = sensitivity(found[1], found[2], charter())
    assert (low.which, middle.which, high.which) == ("low", "value", "high")
    assert middle.profit_per_week.value == pytest.approx(190) and low.profit_per_week.value == pytest.approx(
        90
    )
    assert high.profit_per_week.value - middle.profit_per_week.value == pytest.approx(100)
    assert middle.against_rule.value == pytest.approx(90)


def test_at_the_break_even_rate_a_list_just_earns_its_cost():
    found = result("any", 2, 190.0)
    rate = break_even(found)
    assert found.draws.profit(rate)[0] == pytest.approx(0.0)
    assert break_even(Result(NOTHING, None, None, None, None, (), Draws(np.zeros(3), np.zeros(3)))) is None


def test_every_assumption_of_the_charter_is_told_in_words():
    terms = charter()
    told = {each["name"]: each for each in assumptions(terms)}
    # What building cost is gone whatever is decided; it is told with what a rollout earned.
    untold = {"run_in_weeks", "development_cost", "development_weeks"}
    assert set(told) == {*type(terms.economics).model_fields} - untold, "there is none"
    economics = terms.economics.model_copy(update={"run_in_weeks": 4})
    also = assumptions(terms.model_copy(update={"economics": economics}))
    assert "The first 4 weeks of a programme" in {each["name"]: each["text"] for each in also}["run_in_weeks"]
    assert (
        told["save_rate"]["text"].endswith("(between 10% and 30%). A guess.")
        and told["save_rate"]["low"] == 0.1
    )
    assert "€1.00" in told["offer_cost"]["text"]


def coming(rows: int = 50) -> pd.DataFrame:
    random = np.random.default_rng(1)
    frame = pd.DataFrame(
        {"member": np.arange(rows)[::-1], "as_of": pd.Timestamp("2024-05-06"), "p": random.random(rows)}
    )
    return frame.assign(
        weekly=random.gamma(2, 20, rows),
        days=random.random(rows),
        visits=-frame["p"],
        visits_long=-frame["p"],
        flat=1.0,
    )


def listed(rows: pd.DataFrame, policy: Policy, **changes):
    return next_list(
        policy,
        rows,
        SCHEMA,
        charter(**changes),
        probability=rows["p"].to_numpy(),
        profit=np.ones(len(rows)),
        meanings={"days": "Days away", "visits": "Visits"},
    )


def test_the_next_list_is_the_best_by_expected_profit_in_order():
    rows = coming()
    policy = candidate_policy("any", "Any", 2, rows["p"].to_numpy(), rows["weekly"].to_numpy(), charter())
    found = listed(rows, policy)
    assert found.size == 10 and found.table["rank"].tolist() == list(range(1, 11))
    best = (rows["p"] * rows["weekly"]).nlargest(10).index
    assert found.table["member"].tolist() == rows["member"][best].tolist()
    assert list(found.table)[:6] == ["member", "rank", "probability", "weekly", "expected_profit", "days"]
    assert found.as_of.startswith("2024-05-06")


def test_facts_name_features_that_set_the_list_apart_one_per_family():
    rows = coming()
    found = listed(rows, rule_policy(charter().baseline, rows["days"]))
    assert found.facts[0] == {"label": "Members on the list", "value": "10 of 50"}
    labels = [fact["label"] for fact in found.facts]
    assert "Days away, median" in labels and not {"Visits, median", "visits_long, median"} <= set(labels)


def test_nobody_is_listed_when_nothing_is_proposed_or_nobody_is_worth_it():
    rows = coming()
    assert listed(rows, NOTHING).size == 0
    hopeless = candidate_policy("any", "Any", 2, np.zeros(len(rows)), rows["weekly"].to_numpy(), charter())
    empty = listed(rows, hopeless)
    assert empty.size == 0 and empty.expected_profit == 0 and len(empty.facts) == 1 and len(empty.table) == 0


def test_everybody_on_the_list_leaves_nobody_to_compare_with():
    rows = coming(5)
    found = listed(rows, rule_policy(charter().baseline, rows["days"]))
    assert found.size == 5 and "others" not in found.facts[2]["value"]


def test_intervals_in_other_units_keep_their_shape():
    assert Interval(1.0, 0.0, 2.0).times(3) == Interval(3.0, 0.0, 6.0)
