"""The Makefile prepares what its targets need, and only when it must."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAMP = ".venv/.installed"


def make(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    "Run make as a person would, not as a part of another make."
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")} | variables
    return subprocess.run(["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    "A project whose environment is installed, as far as make can see."
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
        os.utime(tmp_path / name, (1e9, 1e9))
    (tmp_path / ".venv").mkdir()
    (tmp_path / STAMP).write_text(f"{tmp_path}\n")
    os.utime(tmp_path / STAMP, (1.1e9, 1.1e9))
    return tmp_path


def up_to_date(folder: Path) -> bool:
    "Whether make would install nothing."
    return make(folder, "--question", STAMP).returncode == 0


def test_what_is_installed_is_not_installed_again(folder):
    assert up_to_date(folder)
    taken = []
    for _ in range(3):
        started = time.perf_counter()
        make(folder, STAMP)
        taken.append(time.perf_counter() - started)
    assert min(taken) < 1, taken


@pytest.mark.parametrize("name", ["requirements.lock", "pyproject.toml"])
def test_a_change_of_the_dependencies_installs_again(folder, name):
    (folder / name).touch()
    assert not up_to_date(folder)


def test_an_interrupted_installation_is_not_taken_for_complete(folder):
    (folder / STAMP).unlink()
    (folder / ".venv" / ".installing").touch()
    assert not up_to_date(folder)


def test_an_environment_that_was_moved_is_made_again(folder):
    moved = folder.parent / "moved"
    shutil.move(folder, moved)
    assert not up_to_date(moved)


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("PYTHON=/bin/false", "/bin/false is not Python 3.11, 3.12 or 3.13"),
        ("PYTHON=", "Python 3.11, 3.12 or 3.13 is needed; found none of: python3.13"),
    ],
)
def test_without_a_fitting_python_it_says_which_is_needed_and_changes_nothing(folder, variable, message):
    (folder / STAMP).unlink()
    done = make(folder, variable, STAMP)
    assert done.returncode != 0 and message in done.stderr
    assert list((folder / ".venv").iterdir()) == []


def test_a_python_that_fits_is_found(folder):
    found = make(folder, "--eval", "shown: ; @echo $(PYTHON)", "shown").stdout.strip()
    code = "import sys; print((3, 11) <= sys.version_info[:2] <= (3, 13))"
    assert subprocess.run([found, "-c", code], capture_output=True, text=True).stdout == "True\n"


def test_commands_find_the_projects_tools_first_and_keep_bytecode(folder):
    rule = "shown: ; @echo $${PATH%%:*} $${PYTHONDONTWRITEBYTECODE-unset} $$IPYTHONDIR"
    shown = make(folder, "--eval", rule, "shown", PYTHONDONTWRITEBYTECODE="1").stdout
    assert shown.split() == [f"{folder}/.venv/bin", "unset", f"{folder}/state/jupyter/ipython"]


def test_cleaning_keeps_what_git_holds_what_is_secret_and_the_local_database(folder):
    shutil.copy(ROOT / ".gitignore", folder)
    for command in (["init", "-q"], ["add", "Makefile", ".gitignore", "pyproject.toml", "requirements.lock"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    kept = [".env", "state/workbench.db", "notes.txt"]
    gone = ["data/a.parquet", "models/x.skops", "nbs/__pycache__/x.pyc"]
    for name in kept + gone:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    assert make(folder, "clean").returncode == 0
    assert all((folder / name).exists() for name in [*kept, "Makefile", "pyproject.toml"])
    assert not any((folder / name).exists() for name in [*gone, ".venv"])


def test_the_python_that_runs_these_tests_is_one_the_project_allows():
    assert (3, 11) <= sys.version_info[:2] <= (3, 13)
