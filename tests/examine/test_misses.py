"""The most expensive mistakes, each once, with what the model went by."""

import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from ml_workbench.examine.misses import (
    MISSED,
    WASTED,
    lost_by_row,
    misses_sentence,
    worst_cases,
    worst_misses,
)
from ml_workbench.examine.operating import operating_point, play_policy
from ml_workbench.model.candidates import LADDER, Fitted
from ml_workbench.model.evaluation import NOTHING, candidate_policy
from ml_workbench.model.signature import signature_of
from ml_workbench.model.snapshots import Feature, Schema
from ml_workbench.model.value import panel_of
from ml_workbench.plan.charter import Charter
from ml_workbench.plan.errors import TrainingError

SCHEMA = Schema(
    *("member", "as_of", "slice", "left", "value", 28, "weekly"),
    (Feature("weekly", "number", "money"), Feature("away", "number", "recency")),
)
WORDS = ("title", "decision", "action", "unit", "kpi", "decision_rule", "owner")
CHARTER = Charter.model_validate(
    {
        **dict.fromkeys(WORDS, "…"),
        "unit_plural": "members",
        "currency": "EUR",
        "capacity_per_week": 8,
        "economics": {
            "gross_margin": 0.3,
            "offer_cost": 1.0,
            "value_weeks": 12,
            "cooldown_days": 14,
            "running_cost_per_week": 2.0,
            "save_rate": {"value": 0.2, "low": 0.1, "high": 0.3, "status": "assumption", "source": "a guess"},
        },
        "baseline": {"feature": "away", "order": "descending", "meaning": "the longest away"},
        "minimum_lift_per_week": 5.0,
        "guardrails": [],
        "edge": {"maximum_size_kb": 64.0, "maximum_latency_ms": 0.1, "maximum_loss_per_week": 1.0},
        "review_date": "2024-07-01",
    }
)


@pytest.fixture
def scene():
    random = np.random.default_rng(2)
    rows = pd.DataFrame({"member": np.tile([f"m{place:02d}" for place in range(60)], 4), "slice": "test"})
    rows["as_of"] = np.repeat(pd.date_range("2024-01-01 05:00", periods=4, freq="7D"), 60)
    rows = rows.assign(away=random.gamma(2.0, 10.0, 240), weekly=random.gamma(2.0, 20.0, 240))
    rows["left"] = (random.random(240) < 1 / (1 + np.exp(2.5 - 0.1 * rows["away"]))).astype(int)
    signature, candidate = signature_of(rows, SCHEMA), LADDER["logistic_regression"]
    matrix = signature.matrix(rows)
    model = candidate.build(signature, candidate.defaults, seed=1, threads=1).fit(matrix, rows["left"])
    fitted = Fitted(candidate, signature, model, None, {})
    panel, chance = panel_of(rows, SCHEMA, CHARTER.economics), fitted.probability_matrix(matrix)
    return (
        rows,
        panel,
        candidate_policy("m", "M", 2, chance, rows["weekly"].to_numpy(), CHARTER),
        fitted,
        matrix,
    )


def test_missed_lapses_come_by_money_and_wasted_offers_by_conviction(scene):
    _, panel, policy, _, _ = scene
    cases = worst_cases(policy, panel, CHARTER, count=10)
    missed, wasted = ([case for case in cases if case.kind == kind] for kind in (MISSED, WASTED))
    assert (len(missed), len(wasted)) == (5, 5) and cases[:5] == tuple(missed)
    lost = [case.money_lost for case in missed]
    chances = [policy.probability[case.row] for case in wasted]
    assert lost == sorted(lost, reverse=True) and chances == sorted(chances, reverse=True)


def test_a_missed_member_lapsed_and_was_never_reached_a_wasted_offer_was_made_to_one_who_stayed(scene):
    _, panel, policy, _, _ = scene
    played = play_policy(policy, panel, CHARTER)
    for case in worst_cases(policy, panel, CHARTER, count=1000):
        if case.kind == MISSED:
            assert panel.label[case.row] == 1
            assert not played.credited[panel.unit == panel.unit[case.row]].any()
            assert np.isclose(case.money_lost, 0.2 * panel.value[case.row] - 1.0)
        else:
            assert played.offered[case.row] and panel.label[case.row] == 0 and case.money_lost == 1.0
    missed = [case.row for case in worst_cases(policy, panel, CHARTER, count=1000) if case.kind == MISSED]
    assert len(set(panel.unit[missed])) == len(missed)


def test_all_losses_are_those_of_the_operating_point(scene):
    _, panel, policy, _, _ = scene
    missed, wasted = lost_by_row(panel, play_policy(policy, panel, CHARTER), CHARTER)
    money = operating_point(policy, panel, CHARTER).money
    assert np.isclose(wasted.sum() / 4, money.wasted)
    assert missed.sum() / 4 <= money.missed


@pytest.mark.parametrize(("count", "kinds"), [(0, []), (1, [MISSED]), (3, [MISSED, MISSED, WASTED])])
def test_any_number_can_be_asked_for(scene, count, kinds):
    _, panel, policy, _, _ = scene
    assert [case.kind for case in worst_cases(policy, panel, CHARTER, count=count)] == kinds


def test_every_miss_says_who_when_how_sure_and_why(scene):
    rows, panel, policy, fitted, matrix = scene
    cases = worst_cases(policy, panel, CHARTER, count=6)
    found = worst_misses(cases, fitted, rows, panel, policy, matrix, top=1)
    for case, miss in zip(cases, found):
        assert miss.entity == rows["member"][case.row]
        assert miss.as_of == rows["as_of"][case.row].strftime("%Y-%m-%d")
        assert miss.probability == policy.probability[case.row] and len(miss.told) == 1
        assert miss.told[0].value == pytest.approx(rows[miss.told[0].feature][case.row], rel=1e-5)
    raw = json.loads(json.dumps([asdict(miss) for miss in found]))
    assert set(raw[0]) == {"entity", "as_of", "kind", "probability", "money_lost", "told"}
    assert set(raw[0]["told"][0]) == {"feature", "value", "contribution"}


def test_the_sentence_sets_the_worst_beside_all(scene):
    _, panel, policy, _, _ = scene
    missed, wasted = (each.sum() for each in lost_by_row(panel, play_policy(policy, panel, CHARTER), CHARTER))
    said = misses_sentence(worst_cases(policy, panel, CHARTER, count=10), policy, panel, CHARTER)
    assert said.startswith("The dearest missed members (5) cost €")
    assert f"of €{missed:,.0f} that all of them cost in 4 weeks" in said and f"of €{wasted:,.0f} that" in said


def test_a_policy_that_was_never_wrong_has_nothing_to_tell(scene):
    rows, panel, policy, fitted, matrix = scene
    panel.label[:] = 1
    generous = CHARTER.model_copy(update={"capacity_per_week": 1000})
    everybody = candidate_policy("m", "M", 2, np.ones(240), np.full(240, 50.0), generous)
    cases = worst_cases(everybody, panel, generous)
    assert cases == () and worst_misses(cases, fitted, rows, panel, policy, matrix) == ()
    assert (
        misses_sentence(cases, everybody, panel, generous)
        == "No members were missed, and no offer was wasted."
    )


def test_doing_nothing_has_no_conviction_to_be_wrong_by(scene):
    _, panel, _, _, _ = scene
    with pytest.raises(TrainingError, match="'nothing' has no probability to be wrong by"):
        worst_cases(NOTHING, panel, CHARTER)
