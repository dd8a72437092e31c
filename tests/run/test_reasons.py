"""Why a stage will run again, and how runs compare: on a small project under git and DVC."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ml_workbench.plan.errors import StageError, WorkbenchError
from ml_workbench.run.compare import rows, runs, table
from ml_workbench.run.reasons import changes, reasons

PIPELINE = """
stages:
  late:
    cmd: cp middle.txt late.txt
    deps: [middle.txt]
    outs: [late.txt]
  early:
    cmd: cp source.txt middle.txt
    deps: [source.txt]
    params: [early]
    outs: [middle.txt]
  judge:
    cmd: python judge.py
    params: [judge]
    metrics: [{reports/metrics.json: {cache: false}}]
"""
JUDGE = """
import json, pathlib, yaml
depth = yaml.safe_load(open('params.yaml'))['judge']['depth']
pathlib.Path('reports').mkdir(exist_ok=True)
figures = {'profit_per_week': 100.0 + depth, 'profit_per_week_low': 50, 'profit_per_week_high': 150, 'auc': 0.8, 'average_precision': 0.4}
json.dump({'proposal': figures}, open('reports/metrics.json', 'w'))
"""
PARAMS = "charter: {currency: EUR}\nearly: {seed: 1, names: [a]}\njudge: {depth: 4}\n"


def tool(root: Path, *command: str) -> None:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
    }
    subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True)


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    "The project, reproduced and committed, with one experiment."
    root = tmp_path_factory.mktemp("dvc")
    files = {"dvc.yaml": PIPELINE, "params.yaml": PARAMS, "judge.py": JUDGE, "source.txt": "1"}
    files |= {
        ".dvc/config": "[core]\n    analytics = false\n    check_update = false\n",
        ".dvc/.gitignore": "/tmp\n/cache\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    tool(root, "git", "init", "-q")
    for key, value in {"user.name": "A", "user.email": "a@example.org", "commit.gpgsign": "false"}.items():
        tool(root, "git", "config", key, value)
    dvc = (sys.executable, "-m", "dvc")
    tool(root, *dvc, "repro", "-q")
    tool(root, "git", "add", ".")
    tool(root, "git", "commit", "-qm", "one")
    tool(root, *dvc, "exp", "run", "-q", "--temp", "-n", "shallow", "-S", "judge.depth=3", "judge")
    return root


@pytest.fixture
def project(reproduced: Path, tmp_path: Path) -> Path:
    "A copy to be changed."
    shutil.copytree(reproduced, tmp_path / "copy", symlinks=True)
    return tmp_path / "copy"


def test_nothing_changed_means_up_to_date_in_the_order_of_the_work(reproduced: Path) -> None:
    assert reasons(reproduced) == ["early: up to date", "late: up to date", "judge: up to date"]


def test_each_stage_tells_its_own_reason(project: Path) -> None:
    (project / "params.yaml").write_text(
        PARAMS.replace("seed: 1", "seed: 2").replace("depth: 4", "depth: 4, width: 1")
    )
    (project / "source.txt").write_text("2")
    assert reasons(project) == [
        "early: source.txt changed; early.seed: 1 → 2",
        "late: reads what early will write, if that changes",
        "judge: judge.width: absent → 1",
    ]


def test_what_is_missing_and_what_never_ran_is_told(project: Path) -> None:
    (project / "late.txt").unlink()
    lock = project / "dvc.lock"
    lock.write_text(lock.read_text().replace("  judge:", "  other:"))
    assert reasons(project, "late") == ["late: late.txt is missing"]
    assert reasons(project, "judge") == ["judge: it never ran here"]


def test_another_command_is_a_reason(project: Path) -> None:
    (project / "dvc.yaml").write_text(
        PIPELINE.replace("cp source.txt middle.txt", "cp -f source.txt middle.txt")
    )
    assert reasons(project, "early") == ["early: the command in dvc.yaml changed"]


def test_an_unknown_stage_is_refused(reproduced: Path) -> None:
    with pytest.raises(StageError, match="no stage 'erly': did you mean 'early'"):
        reasons(reproduced, "erly")


def test_outside_a_dvc_project_the_reason_is_what_dvc_says(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text("stages: {a: {cmd: x}}")
    with pytest.raises(StageError, match=r"dvc status failed: .*not inside of a DVC repository"):
        reasons(tmp_path)


def test_lists_and_nested_values_are_compared() -> None:
    assert changes({"a": {"b": [1], "c": 2}}, {"a": {"b": [1, 2], "c": 2}}) == ["a.b: [1] → [1, 2]"]
    assert changes({"a": 1}, {}) == ["a: 1 → absent"]


def test_workspace_head_and_experiments_stand_side_by_side(reproduced: Path) -> None:
    assert rows(runs(reproduced)) == [
        ["run", "profit per week", "against the rule", "proposal", "AUC", "AP", "judge.depth"],
        ["workspace", "+€104 [€50, €150]", "–", "–", "0.800", "0.400", "4"],
        ["HEAD", "+€104 [€50, €150]", "–", "–", "0.800", "0.400", "4"],
        ["shallow", "+€103 [€50, €150]", "–", "–", "0.800", "0.400", "3"],
    ]


def test_runs_are_compared_in_the_order_asked_for(reproduced: Path) -> None:
    lines = table(
        reproduced, ["shallow", "master" if (reproduced / ".git/refs/heads/master").exists() else "HEAD"]
    ).splitlines()
    assert lines[0].split()[:3] == ["run", "profit", "per"] and lines[1].startswith("shallow")


def test_a_revision_that_does_not_exist_is_refused(reproduced: Path) -> None:
    with pytest.raises(WorkbenchError, match="no revision or experiment 'shalow': did you mean 'shallow'"):
        runs(reproduced, ["shalow"])


def test_a_project_without_metrics_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match="`dvc repro` writes it"):
        runs(tmp_path)
