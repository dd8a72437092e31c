"""Everything that is wrong, at once, before DVC is called."""

import shutil
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
import yaml

from ml_workbench.run.checks import code, fix, imported_files, problems, sections_read, untidiness, used_files
from ml_workbench.run.truth import Cell


@pytest.fixture
def workbench(root: Path, tmp_path: Path) -> Path:
    "A copy of this very project: notebooks, package, parameters, pipeline."
    for name in ("nbs", "ml_workbench"):
        shutil.copytree(
            root / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
        )
    for name in ("params.yaml", "settings.ini", "dvc.yaml"):
        shutil.copy(root / name, tmp_path)
    fix(tmp_path)
    return tmp_path


def edit_params(root: Path, change: Callable[[dict], None]) -> None:
    raw = yaml.safe_load((root / "params.yaml").read_text())
    change(raw)
    (root / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False, allow_unicode=True))


def edit_notebook(root: Path, name: str, change: Callable[[nbformat.NotebookNode], None]) -> None:
    path = root / "nbs" / "stages" / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    change(notebook)
    nbformat.write(notebook, path)


def test_this_project_is_ready(root: Path) -> None:
    assert problems(root) == []


def test_all_problems_are_told_at_once(workbench: Path) -> None:
    edit_params(workbench, lambda raw: raw["evaluate"].update(resamples=7))
    edit_params(workbench, lambda raw: raw["features"].update(test=["2017-08-21 05:00", "2017-10-16 05:00"]))
    edit_params(workbench, lambda raw: raw["data"].update(source="no/such/folder"))
    edit_notebook(
        workbench, "train", lambda notebook: notebook.cells.append(nbformat.v4.new_code_cell("def f(): pass"))
    )
    (workbench / "settings.ini").write_text("[workbench]\nengin = kernel\n")
    found = problems(workbench)
    for expected in (
        "unknown setting 'engin', did you mean 'engine'?",
        "nbs/stages/evaluate.ipynb, cell ",
        "evaluate.resamples in params.yaml is 7",
        "`def` in a stage notebook",
        "features.",
        "no/such/folder",
    ):
        assert any(expected in line for line in found), (expected, found)


def test_parameters_that_cannot_be_read_end_the_search(workbench: Path) -> None:
    edit_params(workbench, lambda raw: raw["train"].update(sed=1))
    assert any("train.sed: unknown key, did you mean 'seed'?" in line for line in problems(workbench))


def test_a_missing_module_and_a_superfluous_one_are_named_and_mended(workbench: Path) -> None:
    path = workbench / "dvc.yaml"
    used, other = "      - ml_workbench/data/splits.py\n", "      - ml_workbench/run/cli.py\n"
    assert used in path.read_text()
    path.write_text(path.read_text().replace(used, other, 1))
    assert problems(workbench) == [
        "dvc.yaml, stage features: add `- ml_workbench/data/splits.py` to deps, the notebook uses it",
        "dvc.yaml, stage features: remove `- ml_workbench/run/cli.py` from deps, the notebook does not use it",
    ]
    assert fix(workbench) == ["dvc.yaml"] and problems(workbench) == [] and fix(workbench) == []


def test_an_output_of_another_stage_must_be_a_dependency(workbench: Path) -> None:
    edit_notebook(
        workbench,
        "train",
        lambda notebook: notebook.cells.append(
            nbformat.v4.new_code_cell("root / 'data/tables/products.parquet'")
        ),
    )
    assert problems(workbench) == ["dvc.yaml, stage train: add `- data/tables` to deps, the notebook uses it"]


def test_the_sections_of_the_pipeline_follow_the_notebook(workbench: Path) -> None:
    path = workbench / "dvc.yaml"
    path.write_text(
        path.read_text().replace("    params:\n      - features\n", "    params:\n      - charter\n")
    )
    assert problems(workbench) == [
        "dvc.yaml, stage features: add `- features` to params, the notebook reads it",
        "dvc.yaml, stage features: remove `- charter` from params, the notebook does not read it",
    ]


@pytest.mark.parametrize("text", ["", "a: [", "stages: {train: {cmd: x}}"])
def test_a_broken_pipeline_is_a_problem(workbench: Path, text: str) -> None:
    (workbench / "dvc.yaml").write_text(text)
    found = problems(workbench)
    assert found and all("dvc.yaml" in line for line in found)


def test_a_missing_notebook_is_a_problem_and_hides_no_other(workbench: Path) -> None:
    (workbench / "nbs" / "stages" / "train.ipynb").unlink()
    edit_notebook(
        workbench, "evaluate", lambda notebook: notebook.cells.append(nbformat.v4.new_code_cell("lambda: 1"))
    )
    found = problems(workbench)
    assert len(found) == 2 and "nbs/stages/train.ipynb does not exist" in found[0] and "`lambda`" in found[1]


def test_defaults_are_mended_after_an_experiment_was_kept(workbench: Path) -> None:
    edit_params(workbench, lambda raw: raw["evaluate"].update(resamples=7))
    assert fix(workbench) == ["nbs/stages/evaluate.ipynb"]
    assert problems(workbench) == []


def test_imports_are_followed_through_the_package_and_into_functions(tmp_path: Path) -> None:
    package = tmp_path / "ml_workbench" / "model"
    package.mkdir(parents=True)
    (tmp_path / "ml_workbench" / "top.py").write_text("")
    (package / "__init__.py").write_text("from . import never")
    (package / "never.py").write_text("")
    (package / "a.py").write_text("def late():\n    from .b import x\n")
    (package / "b.py").write_text("from .. import top\nimport ml_workbench.model.a\nimport numpy\n")
    assert [path.name for path in used_files("from ml_workbench.model import a", tmp_path)] == [
        "a.py",
        "b.py",
        "top.py",
    ]
    assert imported_files("import os, ml_workbench.model", tmp_path) == set()


def test_sections_are_found_through_names_and_directly() -> None:
    assert sections_read("x = params.load_params(root)\ny = x.charter.title") == {"charter"}
    assert sections_read("x, y = load_params(root), 1\nz = x.charter.title + y.data") == {"charter"}
    assert sections_read("load_params(root).features.horizon_days") == {"features"}
    assert sections_read("schema.features\nx.charter") == set()


def test_stored_outputs_and_definitions_are_untidy_and_reports_are_not() -> None:
    assert (
        untidiness(
            [Cell(1, "code", "x = [y for y in range(3)]", (), 0), Cell(2, "markdown", "def", (), 0)], "p"
        )
        == []
    )
    assert len(untidiness([Cell(1, "code", "class A:\n    def b(self): ...", (), 2)], "p")) == 3
    assert code([Cell(1, "code", "x = (", (), 0)]) == ""
