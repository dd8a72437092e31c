"""The command line: a thin layer, readable errors, help with examples."""

import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ml_workbench import __version__
from ml_workbench.plan.errors import WorkbenchError
from ml_workbench.run.cli import cli


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, project):
    monkeypatch.chdir(project.root)
    return lambda *arguments: CliRunner().invoke(cli, list(arguments))


@pytest.mark.parametrize("name", list(cli.commands))
def test_every_command_has_help_with_an_example(name: str) -> None:
    shown = CliRunner().invoke(cli, [name, "--help"])
    assert shown.exit_code == 0 and f"ml-workbench {name}" in shown.output.split("Example:")[1]


@pytest.mark.parametrize(
    "name",
    ["stage", "tune", "check", "why", "gate", "compare", "export", "catalogue", "app", "version"],
)
def test_the_help_lists_every_command(name: str) -> None:
    assert name in CliRunner().invoke(cli, ["--help"]).output


def test_help_loads_nothing_heavy(run_python) -> None:
    code = (
        "import sys\nfrom ml_workbench.run.cli import cli\ncli(['--help'], standalone_mode=False)\n"
        "heavy = {'pandas', 'numpy', 'duckdb', 'papermill', 'sklearn', 'pydantic', 'dvc'} & set(sys.modules)\nassert not heavy, heavy"
    )
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr


def test_version_is_the_packages(call) -> None:
    assert call("version").output == f"ml-workbench {__version__}\n"


def test_an_error_is_one_line_without_traceback(call) -> None:
    shown = call("stage", "nope")
    assert shown.exit_code == 1
    assert (
        shown.stderr
        == "error: there is no stage 'nope': known: attribution, compact, data, diagnose, evaluate, features, gate, monitor, replay, train, tune\n"
    )


def test_debug_shows_the_traceback(call) -> None:
    shown = call("--debug", "stage", "nope")
    assert isinstance(shown.exception, WorkbenchError)


def test_outside_a_project_every_command_says_so(monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("check", "why", "compare", "catalogue", "app", "export"):
        shown = CliRunner().invoke(cli, [name])
        assert shown.exit_code == 1 and "no params.yaml" in shown.stderr, (name, shown.output)


def test_an_unknown_command_is_a_usage_error(call) -> None:
    assert call("stagge").exit_code == 2


def test_a_mistyped_setting_is_one_line(call, project) -> None:
    (project.root / "settings.ini").write_text("[workbench]\nport = many\n")
    shown = call("app")
    assert shown.exit_code == 1 and "port = 'many' is not a whole number" in shown.stderr


def test_check_ends_with_one_when_something_is_wrong(call) -> None:
    shown = call("check")
    assert shown.exit_code == 1 and "dvc.yaml cannot be read" in shown.stderr


def test_check_mends_what_it_can(call, root: Path, project) -> None:
    for name in ("nbs", "ml_workbench"):
        shutil.copytree(root / name, project.root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "dvc.yaml", project.root)
    project.set("resamples", 17)
    assert call("check").exit_code == 1
    shown = call("check", "--fix")
    assert shown.exit_code == 0, shown.stderr
    assert shown.output.startswith("mended nbs/stages/evaluate.ipynb\n") and "ready" in shown.output


def test_the_catalogue_is_written_as_a_page(call, project, root: Path) -> None:
    from ml_workbench.plan.files import write_json

    feature = {
        "name": "a",
        "kind": "number",
        "family": "f",
        "meaning": "m",
        "source": "s",
        "window_days": 7,
        "missing_share": 0.0,
    }
    write_json(project.root / "reports" / "features.json", {"features": [feature]})
    assert "7 d" in call("catalogue").output
    assert call("catalogue", "--html", "features.html").exit_code == 0
    assert "<table>" in (project.root / "features.html").read_text()


def test_a_stage_runs_from_a_folder_inside_the_project(project) -> None:
    project.write(
        "from pathlib import Path\nfrom ml_workbench.plan.settings import find_root\nPath.cwd() == find_root()"
    )
    done = subprocess.run(
        [sys.executable, "-m", "ml_workbench.run.cli", "stage", "evaluate", "--engine", "inprocess"],
        cwd=project.root / "nbs" / "stages", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert project.copy()["cells"][-1]["outputs"][0]["data"]["text/plain"] == ["True"]


def test_commands_are_click_commands_with_one_line_of_help() -> None:
    for command in cli.commands.values():
        assert isinstance(command, click.Command) and command.get_short_help_str().endswith(".")


def test_a_command_whose_libraries_are_not_installed_says_what_to_install(call, monkeypatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    for name, extra in (("pyarrow.compute", "batch"), ("fastapi", "serve"), ("papermill", "pipeline")):
        monkeypatch.setattr(cli.commands["version"], "callback", lambda name=name: missing(name))
        shown = call("version")
        assert (
            shown.exit_code == 1
            and shown.stderr.startswith("error: this needs ")
            and f"pip install 'ml-workbench[{extra}]'" in shown.stderr
        )
    monkeypatch.setattr(cli.commands["version"], "callback", lambda: missing("ml_workbench.nowhere"))
    assert isinstance(call("version").exception, ModuleNotFoundError)


def test_a_database_is_migrated_once_and_it_is_said(call, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MLW_DATABASE_URL", f"sqlite:///{tmp_path}/records.db")
    before = call("migrate", "--check")
    assert before.exit_code == 1 and "has no tables yet; this version wants" in before.output
    assert call("migrate").output.endswith(": done\n")
    again = call("migrate", "--check")
    assert (
        again.exit_code == 0 and "is at revision" in again.output and call("migrate").output == again.output
    )


def test_a_database_that_is_away_is_one_line(call, monkeypatch) -> None:
    monkeypatch.setenv("MLW_DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
    shown = call("migrate")
    assert shown.exit_code == 1 and shown.stderr.startswith(
        "error: postgresql://nobody@127.0.0.1:9/none: it cannot be reached"
    )
