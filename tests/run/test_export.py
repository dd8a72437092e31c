"""The package is what the notebooks say, and a module that is not is found."""

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from ml_workbench.plan.errors import WorkbenchError
from ml_workbench.run.export import drift, write_package

PROJECT = """
[project]
name = "p"
version = "1"
[tool.nbdev]
nbs_path = "nbs"
lib_path = "ml_workbench"
update_pyproject = false
[tool.ruff]
line-length = 60
"""


def write(root: Path, name: str, module: str, *code: str) -> Path:
    cells = [new_code_cell(f"#| default_exp {module}")] if module else []
    cells += [new_markdown_cell(f"# {name}\n\n> What it is for."), *map(new_code_cell, code)]
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
    path = root / "nbs" / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=cells), path)
    return path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "ml_workbench").mkdir()
    (tmp_path / "ml_workbench" / "__init__.py").write_text('__version__ = "0.0.1"\n')
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    write(
        tmp_path,
        "plan/one",
        "plan.one",
        "#| export\nimport sys, os\nimport json",
        "#| export\ndef one( ): return os.sep, json, 'one'",
    )
    write(tmp_path, "stages/data", "", "x = 1")
    return tmp_path


def test_export_sorts_imports_formats_and_is_done_after_once(project: Path) -> None:
    assert "wrote ml_workbench/plan/one.py" in write_package(project)
    text = (project / "ml_workbench" / "plan" / "one.py").read_text()
    assert (
        text.startswith('"""What it is for."""')
        and "import json\nimport os\n" in text
        and "import sys" not in text
    )
    assert 'return os.sep, json, "one"' in text
    assert write_package(project) == [] and drift(project) == []


def test_notebooks_that_name_no_module_write_none(project: Path) -> None:
    write_package(project)
    modules = {path.name for path in (project / "ml_workbench").rglob("*.py")}
    assert modules == {"__init__.py", "one.py", "_modidx.py"}


def test_an_edited_module_is_drift(project: Path) -> None:
    write_package(project)
    module = project / "ml_workbench" / "plan" / "one.py"
    module.write_text(module.read_text() + "\nEDITED = 1\n")
    assert drift(project) == ["ml_workbench/plan/one.py: differs from its notebook"]
    assert write_package(project) == ["wrote ml_workbench/plan/one.py"]


def test_a_notebook_that_was_not_exported_is_drift(project: Path) -> None:
    write_package(project)
    write(project, "plan/two", "plan.two", "#| export\ntwo = 2")
    assert "ml_workbench/plan/two.py: missing, a notebook writes it" in drift(project)
    (project / "ml_workbench" / "plan" / "__init__.py").unlink()
    assert "ml_workbench/plan/__init__.py: missing, a notebook writes it" in drift(project)


def test_a_renamed_module_leaves_none_behind(project: Path) -> None:
    write_package(project)
    write(project, "plan/one", "plan.first", "#| export\none = 1")
    assert "ml_workbench/plan/one.py: no notebook writes it" in drift(project)
    assert "removed ml_workbench/plan/one.py" in write_package(project)
    assert not (project / "ml_workbench" / "plan" / "one.py").exists() and drift(project) == []


def test_a_module_written_by_hand_is_found_and_never_removed(project: Path) -> None:
    write_package(project)
    (project / "ml_workbench" / "mine.py").write_text("x = 1\n")
    write_package(project)
    assert drift(project) == ["ml_workbench/mine.py: no notebook writes it"]


def test_comparing_changes_nothing(project: Path) -> None:
    write_package(project)
    (project / "ml_workbench" / "plan" / "one.py").write_text("broken")
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    drift(project)
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before


def test_a_folder_without_nbdev_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match=r"no readable \[tool.nbdev\]"):
        drift(tmp_path)


def test_the_front_page_is_written_from_the_index_and_its_drift_is_found(project: Path) -> None:
    cells = [new_markdown_cell("# Project"), new_code_cell("1 + 1"), new_markdown_cell("Two commands.\n")]
    nbformat.write(new_notebook(cells=cells), project / "nbs" / "index.ipynb")
    assert "wrote README.md" in write_package(project)
    readme = project / "README.md"
    assert readme.read_text() == "# Project\n\nTwo commands.\n"
    assert drift(project) == []
    readme.write_text("# Project, edited by hand\n")
    assert drift(project) == ["README.md: differs from nbs/index.ipynb"]
