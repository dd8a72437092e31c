"""What a notebook must be before it is committed. Each gate is shown to catch what it is for."""

import ast
import copy
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted(path for path in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
STAGES = [path for path in NOTEBOOKS if path.parent.name == "stages"]
RESEARCH = [path for path in NOTEBOOKS if path.parent.name == "research"]
LIBRARY = [path for path in NOTEBOOKS if path not in STAGES + RESEARCH and path.name != "index.ipynb"]
EXPORT_LINES = 60  # the cap on one exported cell
EXPORT_CELLS = 80  # and on their number: beyond it the notebook holds two nouns
STAGE_CELLS = 24  # about a dozen of code, and the prose around them
OUTPUT_BYTES = 20_000

_spec = importlib.util.spec_from_file_location("lab", ROOT / "nbs" / "jupyter_server_config.py")
lab = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(lab)


def name(path: Path) -> str:
    return path.relative_to(ROOT / "nbs").as_posix()


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def source(cell: dict) -> str:
    return "".join(cell["source"])


def code(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def exported(notebook: dict) -> list[dict]:
    return [
        cell for cell in code(notebook) if source(cell).startswith(("#| export", "#|export", "#| exporti"))
    ]


def tags(cell: dict) -> list[str]:
    return cell["metadata"].get("tags", [])


# The gates: each returns what is wrong ---------------------------------------------------------------------


def opening(notebook: dict) -> list[str]:
    "A heading and, below it, one sentence that says what the notebook is for."
    prose = [source(cell) for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    lines = [line for line in prose[0].splitlines() if line] if prose else []
    if len(lines) < 2 or not lines[0].startswith("# ") or not lines[1].startswith("> "):
        return ["the first prose must be '# Heading' and, below, '> one sentence'"]
    return []


def explicit_imports(notebook: dict) -> list[str]:
    return [
        f"star import: {line.strip()}"
        for cell in code(notebook)
        for line in source(cell).splitlines()
        if line.strip().startswith("from ") and line.strip().endswith("import *")
    ]


def small_cells(notebook: dict) -> list[str]:
    sizes = [
        (
            len([line for line in source(cell).splitlines() if line.strip() and not line.startswith("#|")]),
            cell,
        )
        for cell in exported(notebook)
    ]
    too_long = [
        f"cell {cell['id']} exports {size} lines, at most {EXPORT_LINES}"
        for size, cell in sizes
        if size > EXPORT_LINES
    ]
    if len(sizes) > EXPORT_CELLS:
        too_long.append(f"{len(sizes)} exported cells, at most {EXPORT_CELLS}: two nouns?")
    return too_long


def small_outputs(notebook: dict) -> list[str]:
    return [
        f"cell {cell['id']} holds {size:,} bytes of outputs, at most {OUTPUT_BYTES:,}"
        for cell in code(notebook)
        if (size := len(json.dumps(cell["outputs"]))) > OUTPUT_BYTES
    ]


def no_errors(notebook: dict) -> list[str]:
    return [
        f"cell {cell['id']} was saved with an error: {output['ename']}"
        for cell in code(notebook)
        for output in cell["outputs"]
        if output["output_type"] == "error"
    ]


def stage_without_outputs(notebook: dict) -> list[str]:
    return [
        f"cell {cell['id']} was saved after running"
        for cell in code(notebook)
        if cell["outputs"] or cell["execution_count"] is not None
    ]


def stage_with_one_parameters_cell(notebook: dict) -> list[str]:
    count = sum("parameters" in tags(cell) for cell in notebook["cells"])
    return [] if count == 1 else [f"{count} cells are tagged 'parameters', there must be one"]


def stage_without_definitions(notebook: dict) -> list[str]:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda
    return [
        f"cell {cell['id']} defines {getattr(node, 'name', 'a lambda')}: logic belongs in the library"
        for cell in code(notebook)
        for node in ast.walk(ast.parse(source(cell)))
        if isinstance(node, kinds)
    ]


def stage_of_a_dozen_cells(notebook: dict) -> list[str]:
    count = len(code(notebook))
    return [f"{count} code cells, at most {STAGE_CELLS}"] if count > STAGE_CELLS else []


def findings(gate: Callable, paths: list[Path]) -> list[str]:
    return [f"{name(path)}: {finding}" for path in paths for finding in gate(read(path))]


# The notebooks pass ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "gate", [opening, explicit_imports, small_cells, small_outputs, no_errors], ids=lambda gate: gate.__name__
)
def test_library_notebooks_read_like_chapters(gate):
    assert findings(gate, LIBRARY) == []


@pytest.mark.parametrize(
    "gate",
    [
        opening,
        explicit_imports,
        stage_without_outputs,
        stage_with_one_parameters_cell,
        stage_without_definitions,
        stage_of_a_dozen_cells,
    ],
    ids=lambda gate: gate.__name__,
)
def test_stage_notebooks_are_reports(gate):
    assert findings(gate, STAGES) == []


@pytest.mark.parametrize(
    "gate", [opening, explicit_imports, small_outputs, no_errors], ids=lambda gate: gate.__name__
)
def test_research_notebooks_can_be_read(gate):
    assert findings(gate, RESEARCH) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_a_notebook_is_as_jupyterlab_would_save_it(path):
    before = path.read_text(encoding="utf-8")
    notebook = json.loads(before)
    lab.clean(notebook, path)
    after = json.dumps(notebook, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    assert after == before, f"run: python nbs/jupyter_server_config.py nbs/{name(path)}"


def test_cell_ids_are_unique_in_each_notebook():
    for path in NOTEBOOKS:
        ids = [cell["id"] for cell in read(path)["cells"]]
        assert len(ids) == len(set(ids)), name(path)


def test_every_stage_has_its_section_in_the_parameters_and_the_other_way_round():
    sections = set(yaml.safe_load((ROOT / "params.yaml").read_text())) - {
        "charter",
        "experiment",
        "retraining",
    }
    assert {path.stem for path in STAGES} == sections


def test_each_library_notebook_has_the_module_of_its_own_place():
    for path in LIBRARY:
        first = source(code(read(path))[0]).strip()
        assert first == f"#| default_exp {'.'.join(path.relative_to(ROOT / 'nbs').with_suffix('').parts)}"


@pytest.mark.parametrize("folder", ["stages", "research"])
def test_what_reads_or_writes_real_data_is_kept_out_of_the_lessons(folder):
    assert (ROOT / "nbs" / folder / ".notest").is_file()


# The gates can fail ----------------------------------------------------------------------------------------


def notebook(*cells: tuple[str, str]) -> dict:
    "A small notebook of (type, source) cells."
    return {
        "nbformat": 4, "nbformat_minor": 5, "metadata": {},
        "cells": [
            {"cell_type": kind, "id": f"c{i}", "metadata": {}, "source": text}
            | ({"outputs": [], "execution_count": None} if kind == "code" else {})
            for i, (kind, text) in enumerate(cells)
        ],
    }  # fmt: skip


GOOD = notebook(
    ("markdown", "# Data\n\n> Reads this, writes that."),
    ("code", "seed: int = 1  # of everything"),
    ("code", "from math import pi\npi * seed"),
)
GOOD["cells"][1]["metadata"]["tags"] = ["parameters"]
BAD = {
    opening: ("source", "Data, without a heading"),
    explicit_imports: ("source", "from math import *"),
    small_cells: ("source", "#| export\n" + "x = 1\n" * (EXPORT_LINES + 1)),
    small_outputs: ("outputs", [{"output_type": "stream", "name": "stdout", "text": "x" * OUTPUT_BYTES}]),
    no_errors: ("outputs", [{"output_type": "error", "ename": "E", "evalue": "", "traceback": []}]),
    stage_without_outputs: ("execution_count", 1),
    stage_with_one_parameters_cell: ("metadata", {"tags": ["parameters"]}),
    stage_without_definitions: ("source", "twice = lambda x: 2 * x"),
}


@pytest.mark.parametrize("gate", BAD, ids=lambda gate: gate.__name__)
def test_a_gate_lets_a_good_notebook_through_and_stops_a_bad_one(gate):
    assert gate(GOOD) == []
    bad = copy.deepcopy(GOOD)
    key, value = BAD[gate]
    bad["cells"][0 if gate is opening else 2][key] = value
    assert len(gate(bad)) == 1


def test_a_stage_of_too_many_cells_is_stopped():
    assert stage_of_a_dozen_cells(notebook(*[("code", "1")] * (STAGE_CELLS + 1)))


@pytest.mark.parametrize("definition", ["def f(): pass", "class A: pass", "async def f(): pass"])
def test_no_kind_of_definition_passes_in_a_stage(definition):
    assert stage_without_definitions(notebook(("code", definition)))


def test_cleaning_a_stage_drops_what_running_left_and_keeps_the_parameters_tag(tmp_path, monkeypatch):
    monkeypatch.setattr(lab, "STAGES", tmp_path)
    run = copy.deepcopy(GOOD)
    run["metadata"] = {
        "kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"},
        "language_info": {"name": "python", "version": "3.13.1"},
    }
    for count, cell in enumerate(code(run), 1):
        cell["execution_count"] = count
        cell["metadata"]["execution"] = {"iopub.status.busy": "2026-01-01"}
        cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "1"}]
    path = tmp_path / "stage.ipynb"
    path.write_text(json.dumps(run))
    assert lab.clean_file(path)
    clean = read(path)
    assert stage_without_outputs(clean) == [] and stage_with_one_parameters_cell(clean) == []
    assert clean["metadata"] == {
        "kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}
    }
    assert not lab.clean_file(path), "a clean file is not touched"


def test_the_same_cleaning_from_the_command_line_as_pre_commit_runs_it(tmp_path):
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps(GOOD))
    command = [sys.executable, ROOT / "nbs" / "jupyter_server_config.py", path]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"cleaned {path}\n"
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""
