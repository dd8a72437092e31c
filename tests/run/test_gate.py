"""What `ml-workbench gate` says, and the signatures under a veto: for this file, these reasons, and for good."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from ml_workbench.model.checks import Check
from ml_workbench.model.gate import Verdict, basis, fingerprint
from ml_workbench.plan.errors import GateError
from ml_workbench.plan.files import write_json
from ml_workbench.plan.params import load_params
from ml_workbench.run.cli import cli
from ml_workbench.run.gate import read_overrides, release_allowed, sign_override, standing

ROOT = Path(__file__).resolve().parents[2]
OFF = "Its probabilities are off by 4.1 percentage points on average, 2 are allowed."
RANKS = Check("auc", "AUC", True, "veto", "0.852", "at least 0.82", "Its AUC is 0.852.")
HONEST = Check("calibration", "Honest probabilities", False, "veto", "4.1 points", "at most 2 points", OFF)
LEAK = Check("leaks", "No leak", False, "veto", "1", "none", "It may have seen the answer.")
LADDER = Check("failed", "No candidate failed", False, "warning", "1", "none", "MLP failed.")


def judge(root, *checks, manifest="xgboost"):
    "Write the verdict that follows from some checks."
    reasons = tuple(each.sentence for each in checks if each.vetoes)
    verdict, told = ("vetoed", "XGBoost is vetoed.") if reasons else ("blessed", "XGBoost is blessed.")
    artifact = manifest and fingerprint(root / "models" / manifest / "manifest.json")
    held = Verdict("xgboost", "XGBoost", artifact, verdict, checks, reasons, told)
    write_json(root / "reports/gate.json", {**asdict(held), "rests_on": basis(root, load_params(root).gate)})


@pytest.fixture
def project(tmp_path, monkeypatch):
    "A project with a model, three reports and a veto."
    for name in ("params.yaml", "settings.ini"):
        shutil.copy(ROOT / name, tmp_path)
    write_json(tmp_path / "models/xgboost/manifest.json", {"format": 1})
    for name in ("evaluation", "diagnosis", "train"):
        write_json(tmp_path / f"reports/{name}.json", {"of": name})
    judge(tmp_path, RANKS, HONEST)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    "The command, as a user types it."
    return CliRunner().invoke(cli, ["gate", *arguments])


SIGNED = ("--override", "--by", "Ada", "--reason", "Pilot in one store")


def test_a_blessed_model_ends_well_with_a_tick_for_every_check(project):
    judge(project, RANKS, LADDER)
    done = run()
    assert done.exit_code == 0 and release_allowed(project)
    lines = done.output.splitlines()
    assert lines[0] == "XGBoost is blessed." and lines[2].startswith("✓  AUC ")
    assert lines[3].startswith("!  No candidate failed") and lines[-1] == "! MLP failed."


def test_a_veto_ends_with_code_one_and_its_reasons(project):
    done = run()
    assert done.exit_code == 1
    lines = done.output.splitlines()
    assert lines[0] == "XGBoost is vetoed." and lines[-1] == f"✗ {OFF}"
    assert lines[3].split("  ")[0] == "✗" and "at most 2 points" in lines[3]
    with pytest.raises(GateError, match=r"XGBoost is vetoed\.\n✗ Its probabilities are off"):
        release_allowed(project)


def test_an_override_is_recorded_and_lets_the_model_pass(project):
    done = run(*SIGNED)
    assert done.exit_code == 0 and release_allowed(project)
    assert "Overridden by Ada, " in done.output.splitlines()[-1]
    (row,) = json.loads((project / "reports/overrides.json").read_text())
    assert row["artifact"] == fingerprint(project / "models/xgboost/manifest.json")
    assert (row["by"], row["reason"], row["failed"]) == ("Ada", "Pilot in one store", ["calibration"])
    assert row["time"].endswith("Z") and len(row["time"]) == 20
    assert run().exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "lacking"),
    [
        (("--override",), "add --by NAME and --reason TEXT"),
        (("--override", "--by", "Ada"), "add --reason TEXT"),
        (("--override", "--reason", "why", "--by", "  "), "add --by NAME"),
        (("--by", "Ada"), "belong to --override"),
    ],
)
def test_an_override_needs_a_name_and_a_reason(project, arguments, lacking):
    done = run(*arguments)
    assert done.exit_code == 1 and lacking in done.stderr
    assert not (project / "reports/overrides.json").exists()


def test_there_is_nothing_to_override_in_a_blessing(project):
    judge(project, RANKS)
    done = run(*SIGNED)
    assert done.exit_code == 1 and "nothing to override. XGBoost is blessed" in done.stderr


def test_without_a_model_file_an_override_changes_nothing(project):
    judge(project, HONEST, manifest=None)
    assert "no model file to release" in run(*SIGNED).stderr
    assert run().exit_code == 1


def test_another_file_needs_another_signature(project):
    run(*SIGNED)
    write_json(project / "models/xgboost/manifest.json", {"format": 2})
    judge(project, RANKS, HONEST)
    assert run().exit_code == 1 and standing(project).override is None
    assert run(*SIGNED).exit_code == 0 and len(read_overrides(project)) == 2


def test_a_reason_that_came_later_needs_another_signature_one_that_went_does_not(project):
    judge(project, RANKS, HONEST, LEAK)
    run(*SIGNED)
    judge(project, RANKS, HONEST)
    assert run().exit_code == 0
    (project / "reports/overrides.json").unlink()
    run(*SIGNED)
    judge(project, RANKS, HONEST, LEAK)
    assert run().exit_code == 1


def change_params(root):
    text = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(text.replace("minimum_weeks_won: 0.", "minimum_weeks_won: 0.9"))


def use_a_model(root):
    text = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(text.replace("champion: ''", "champion: used"))
    write_json(root / "used/manifest.json", {"format": 1})
    judge(root, RANKS)
    write_json(root / "used/manifest.json", {"format": 2})


STALE = {
    "the verdict was never made": (lambda root: (root / "reports/gate.json").unlink(), "has not judged yet"),
    "a report is gone": (
        lambda root: (root / "reports/train.json").unlink(),
        "reports/train.json is missing",
    ),
    "a report is newer": (
        lambda root: write_json(root / "reports/evaluation.json", {}),
        "reports/evaluation.json has changed",
    ),
    "the model is gone": (lambda root: shutil.rmtree(root / "models"), "models/xgboost is missing"),
    "the model is another": (
        lambda root: write_json(root / "models/xgboost/manifest.json", {"format": 2}),
        "models/xgboost has changed",
    ),
    "the limits are others": (change_params, "section gate of params.yaml has changed"),
    "the model in use is another": (use_a_model, "the model in use (gate.champion) has changed"),
}


@pytest.mark.parametrize("what", STALE)
def test_a_verdict_about_other_files_is_void_and_cannot_be_overridden(project, what):
    change, told = STALE[what]
    change(project)
    for arguments in ((), SIGNED):
        done = run(*arguments)
        assert done.exit_code == 1 and told in done.stderr and "run `dvc repro`" in done.stderr
        assert done.stdout == ""
    with pytest.raises(GateError):
        release_allowed(project)
    assert not (project / "reports/overrides.json").exists()


def test_a_verdict_turned_by_hand_is_noticed(project):
    raw = json.loads((project / "reports/gate.json").read_text())
    write_json(project / "reports/gate.json", raw | {"verdict": "blessed", "reasons": []})
    done = run()
    assert done.exit_code == 1 and "does not follow from its checks" in done.stderr


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1]", '[{"by": "Ada"}]', "[{", '[{"artifact": 1, "failed": "x"}]', "\ufeff\0"],
)
def test_damaged_overrides_stop_everything_and_stay_as_they_are(project, text):
    path = project / "reports/overrides.json"
    path.write_text(text)
    for arguments in ((), SIGNED):
        done = run(*arguments)
        assert done.exit_code == 1 and "reports/overrides.json is damaged" in done.stderr
        assert "git checkout reports/overrides.json" in done.stderr
    assert path.read_text() == text


def test_an_unknown_key_in_an_override_is_damage_too(project):
    run(*SIGNED)
    path = project / "reports/overrides.json"
    path.write_text(path.read_text().replace('"by"', '"until": "ever", "by"'))
    assert "is damaged" in run().stderr


def test_earlier_lines_stay_as_they_are_to_the_byte(project):
    path = project / "reports/overrides.json"
    seen = []
    for number in range(3):
        sign_override(
            project, by="Ada", reason=f'"{number}"\nsecond line ]', now=lambda: "2018-01-02T09:00:00Z"
        )
        lines = path.read_text().splitlines()
        assert lines[: len(seen)] == seen and len(lines) == number + 3
        seen = lines[:-1]
    assert [each.reason[1] for each in read_overrides(project)] == ["0", "1", "2"]


def test_two_people_who_sign_at_the_same_moment_both_sign(project):
    code = (
        "import sys; from pathlib import Path; from ml_workbench.run.gate import sign_override\n"
        "[sign_override(Path('.'), by=sys.argv[1], reason=str(n)) for n in range(15)]"
    )
    people = [subprocess.Popen([sys.executable, "-c", code, name], cwd=project) for name in ("Ada", "Bob")]
    assert [each.wait(60) for each in people] == [0, 0]
    found = read_overrides(project)
    assert len(found) == 30
    for name in ("Ada", "Bob"):
        assert [each.reason for each in found if each.by == name] == [str(n) for n in range(15)]


def test_threads_of_one_process_do_not_lose_each_others_lines(project):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: sign_override(project, by="Ada", reason=str(n)), range(12)))
    assert sorted(int(each.reason) for each in read_overrides(project)) == list(range(12))


def test_where_nothing_can_be_written_nothing_is_signed(project):
    (project / "state").write_text("a file, not a folder")
    done = run(*SIGNED)
    assert done.exit_code == 1 and "the override was not recorded" in done.stderr
    assert not (project / "reports/overrides.json").exists()


def test_the_last_signature_that_covers_the_verdict_is_shown(project):
    for name in ("Ada", "Bob"):
        sign_override(project, by=name, reason="Pilot")
    found = standing(project)
    assert found.override.by == "Bob" and found.allowed
    assert not replace(found, override=None).allowed


def test_a_file_that_is_not_what_its_manifest_says_is_not_what_was_judged(project):
    folder = project / "models/xgboost"
    (folder / "model.onnx").write_bytes(b"as written")
    held = {"name": "model.onnx", "sha256": fingerprint(folder / "model.onnx"), "size": 10}
    write_json(folder / "manifest.json", {"format": 1, "files": [held]})
    judge(project, RANKS)
    assert run().exit_code == 0
    (folder / "model.onnx").write_bytes(b"exchanged!")
    done = run()
    assert done.exit_code == 1 and "models/xgboost/model.onnx is not the file that was judged" in done.stderr
    with pytest.raises(GateError, match="is not the file that was judged"):
        release_allowed(project)
