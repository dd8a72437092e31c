"""How the candidates stand, from whatever artefacts there are."""

import json

import pytest

from ml_workbench.page.standings import against_rule, read_standings, standings_from
from ml_workbench.plan.errors import WorkbenchError


def figure(value: float, spread: float = 30.0) -> dict:
    return {"value": value, "low": value - spread, "high": value + spread}


def policy(name: str, complexity: int, profit: float, kind: str = "candidate") -> dict:
    return {
        "name": name, "label": name.upper(), "kind": kind, "complexity": complexity, "metrics": None,
        "at_capacity": {"profit_per_week": figure(profit)}, "against_rule": {"per_week": figure(profit - 47)},
    }  # fmt: skip


SIMPLE = {
    "policy": "boosted",
    "label": "BOOSTED",
    "difference": figure(12),
    "not_worse": True,
    "sentence": "It adds $12.",
}
CHOICE = {
    "best": "boosted",
    "chosen": "linear",
    "margin_per_week": 25.0,
    "sentence": "Keep it simple.",
    "comparisons": [SIMPLE],
}
POLICIES = [policy("boosted", 6, 122), policy("linear", 2, 110), policy("rule", 1, 47, "rule")]
TRAINED = {
    "candidates": [{"name": "boosted", "settings": {"depth": 4, "layers": [64, 32], "rate": 0.00001}, "size_bytes": 410_000}],
    "failed": [{"name": "mlp", "label": "MLP", "reason": "It did not converge."}],
}  # fmt: skip
TUNED = {
    "candidates": {
        "boosted": {
            "settings": {"rate": 0.00001},
            "trials": 40,
            "importance": {"rate": 0.7},
            "profit_per_week": 130.0,
            "default_profit_per_week": 121.0,
        }
    }
}


def evaluated(**parts) -> dict:
    told = {"currency": "USD", "unit": "member", "capacity": 150, "confidence": 0.95, "policies": POLICIES}
    return told | {"proposal": {"policy": "linear"}} | parts


def test_the_ladder_begins_with_the_simplest_and_marks_the_proposal():
    found = standings_from(evaluated(parsimony=CHOICE), TRAINED, TUNED)
    assert [(rung.name, rung.proposed) for rung in found.rungs] == [
        ("rule", False),
        ("linear", True),
        ("boosted", False),
    ]
    assert [rung.name for rung in found.trained] == ["linear", "boosted"]


def test_settings_tuning_and_size_come_from_where_they_are_known():
    boosted = standings_from(evaluated(), TRAINED, TUNED).rungs[-1]
    assert [tuple(one) for one in boosted.settings] == [
        ("rate", "0.00001", True, 0.7), ("depth", "4", False, None), ("layers", "64 × 32", False, None),
    ]  # fmt: skip
    assert (boosted.trials, boosted.tuned_gain, boosted.size_bytes) == (40, 9.0, 410_000)


def test_a_failed_candidate_is_named_with_its_reason():
    assert standings_from(evaluated(), TRAINED, {}).failures == (("MLP", "It did not converge."),)


def test_comparisons_are_told_beside_the_chosen_one():
    found = standings_from(evaluated(parsimony=CHOICE), {}, {})
    assert (found.beside, found.sentence, found.margin) == ("LINEAR", "Keep it simple.", 25.0)
    assert found.compared[0].label == "BOOSTED" and "+$12 a week" in found.compared[0].note
    assert found.said == ("It adds $12.",)


def test_an_older_evaluation_still_has_its_standings():
    found = standings_from(evaluated(), {}, {})
    assert (found.compared, found.sentence, found.failures) == ((), "", ())
    assert [dot.label for dot in against_rule(found)] == ["LINEAR", "BOOSTED"]
    assert [dot.stressed for dot in against_rule(found)] == [True, False]


def test_standings_need_the_evaluation_only(tmp_path):
    with pytest.raises(WorkbenchError, match=r"evaluation\.json is missing"):
        read_standings(tmp_path)
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/evaluation.json").write_text(json.dumps(evaluated()))
    assert len(read_standings(tmp_path).rungs) == 3


def test_the_time_of_one_row_is_shown_for_the_candidate_that_the_gate_tried(tmp_path):
    for folder in ("reports", "state"):
        (tmp_path / folder).mkdir()
    (tmp_path / "reports/evaluation.json").write_text(json.dumps(evaluated()))
    (tmp_path / "reports/train.json").write_text(json.dumps(TRAINED))
    assert read_standings(tmp_path).rungs[-1].one_row_ms is None
    measured = {"model": "boosted", "speed": {"one_row_ms": 0.011}}
    (tmp_path / "state/gate_measured.json").write_text(json.dumps(measured))
    assert [rung.one_row_ms for rung in read_standings(tmp_path).rungs] == [None, None, 0.011]
    (tmp_path / "state/gate_measured.json").write_text(json.dumps({"model": "rule", "speed": None}))
    assert read_standings(tmp_path).rungs[-1].one_row_ms is None
