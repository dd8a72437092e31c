"""What may be said of a proposal's way through the gate."""

import hashlib
import json

import pytest

from ml_workbench.page.blessing import blessing_from, read_blessing
from ml_workbench.plan.errors import WorkbenchError


def check(name: str, *, passed: bool = True, severity: str = "veto") -> dict:
    "One check of a verdict."
    words = {"figure": "0.86", "limit": "at least 0.80", "sentence": f"What {name} found."}
    return {"name": name, "title": name.title(), "passed": passed, "severity": severity} | words


def gate(*checks: dict, model: str = "xgboost", artifact: str | None = "ab12") -> dict:
    "gate.json with these checks."
    reasons = [row["sentence"] for row in checks if not row["passed"] and row["severity"] == "veto"]
    verdict = "vetoed" if reasons else "blessed"
    about = {"model": model, "label": model.upper(), "artifact": artifact, "verdict": verdict}
    return about | {"checks": list(checks), "reasons": reasons, "sentence": f"{model} is {verdict}."}


SIGNED = {"artifact": "ab12", "by": "A. Person", "reason": "the shop closes", "failed": ["auc", "size"]}


def write(folder, name: str, content) -> None:
    (folder / "reports").mkdir(exist_ok=True)
    (folder / "reports" / name).write_text(json.dumps(content))


def test_a_blessed_proposal_says_how_many_checks_it_passed():
    said = blessing_from(gate(check("auc"), check("size")), model="xgboost")
    assert (said.state, said.badge, said.usable) == ("blessed", "Blessed: 2 of 2 checks", True)


def test_a_warning_is_counted_and_does_not_stop_the_proposal():
    raw = gate(check("auc"), check("weeks", passed=False, severity="warning"))
    said = blessing_from(raw, model="xgboost")
    assert said.usable and said.badge == "Blessed: 1 of 2 checks, 1 warning"
    assert [one.mark for one in said.checks] == ["!", "✓"]


def test_a_vetoed_proposal_is_not_usable_and_shows_its_failures_first():
    said = blessing_from(gate(check("auc"), check("size", passed=False)), model="xgboost")
    assert (said.state, said.usable, said.badge) == ("vetoed", False, "Vetoed: 1 of 2 checks failed")
    assert said.checks[0].name == "size" and said.reasons == ("What size found.",)


def test_a_signature_makes_a_vetoed_proposal_usable_and_names_who_signed():
    said = blessing_from(gate(check("size", passed=False)), model="xgboost", signed=[SIGNED])
    assert said.usable and said.state == "overridden"
    assert "A. Person" in said.badge and "the shop closes" in said.sentence


@pytest.mark.parametrize("other", [{"artifact": "cd34"}, {"failed": ["auc"]}])
def test_a_signature_under_another_file_or_fewer_failures_changes_nothing(other):
    raw = gate(check("size", passed=False))
    assert not blessing_from(raw, model="xgboost", signed=[SIGNED | other]).usable


def test_a_verdict_on_another_model_or_an_earlier_file_is_no_verdict():
    assert blessing_from(gate(check("auc")), model="mlp").badge == "Verdict is about XGBOOST"
    earlier = blessing_from(gate(check("auc")), model="xgboost", artifact="cd34")
    assert earlier.state == "outdated" and "an earlier XGBOOST" in earlier.badge


def test_where_the_rule_is_kept_there_is_nothing_to_bless_and_no_veto():
    raw = gate(check("proposal", passed=False), model="rule", artifact=None)
    said = blessing_from(raw, model="rule")
    assert said.usable and said.state == "none" and said.checks == ()


def test_before_the_gate_has_run_the_page_knows_what_to_say(tmp_path):
    said = read_blessing(tmp_path, "xgboost")
    assert said.state == "none" and "dvc repro" in said.sentence


def test_a_verdict_is_outdated_when_a_report_that_it_rests_on_has_changed(tmp_path):
    write(tmp_path, "evaluation.json", {"weeks": 6})
    held = hashlib.sha256((tmp_path / "reports/evaluation.json").read_bytes()).hexdigest()
    raw = gate(check("auc")) | {"rests_on": {"reports": {"evaluation.json": held}}}
    write(tmp_path, "gate.json", raw)
    assert read_blessing(tmp_path, "xgboost").state == "blessed"
    write(tmp_path, "evaluation.json", {"weeks": 7})
    said = read_blessing(tmp_path, "xgboost")
    assert said.state == "outdated" and "reports/evaluation.json changed" in said.sentence


def test_a_gate_file_of_another_shape_is_named_with_what_to_run(tmp_path):
    write(tmp_path, "gate.json", {"model": "xgboost"})
    with pytest.raises(WorkbenchError, match=r"gate\.json lacks .*dvc repro --force gate"):
        read_blessing(tmp_path, "xgboost")
