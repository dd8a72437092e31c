"""The package as others install it."""

import ast
import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(sys.executable).parent
RESEARCH_ONLY = (
    "jupyter_core",
    "jupyterlab",
    "IPython",
    "ipykernel",
    "nbformat",
    "dvc",
    "papermill",
    "streamlit",
    "nbdev",
)
# These run stages, and need the extra `pipeline`; every other module must import without it.
PIPELINE = (
    "ml_workbench.run.",
    *(f"ml_workbench.model.{name}" for name in ("graph", "conversion", "variants", "compact")),  # write ONNX
    "ml_workbench.model.studies",
    "ml_workbench.model.searches",
    "ml_workbench.model.tuning",
)


def environment(**variables: str) -> dict[str, str]:
    "This process's environment without what points back to the project."
    dropped = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE")
    return {key: value for key, value in os.environ.items() if key not in dropped} | variables


@pytest.fixture(scope="module")
def sources(tmp_path_factory, tracked) -> Path:
    "A copy of what git holds, nothing else."
    folder = tmp_path_factory.mktemp("sources")
    for path in tracked:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, folder / path)
    return folder


@pytest.fixture(scope="module")
def distributions(sources, tmp_path_factory) -> dict[str, Path]:
    "The source distribution, and the wheel built from it."
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, sources]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return {"wheel": next(folder.glob("*.whl")), "sdist": next(folder.glob("*.tar.gz"))}


@pytest.fixture(scope="module")
def serving(distributions, tmp_path_factory) -> Path:
    "The Python of a clean environment with the wheel and its extra `serve`, in the locked versions."
    folder = tmp_path_factory.mktemp("serving")
    python = folder / "venv" / "bin" / "python"
    uv = [SCRIPTS / "uv", "--quiet"]
    subprocess.run([*uv, "venv", "--python", sys.executable, folder / "venv"], check=True, env=environment())
    install = [
        *uv,
        "pip",
        "install",
        "--python",
        python,
        "--constraints",
        ROOT / "requirements.lock",
        "--compile-bytecode",
    ]
    done = subprocess.run(
        [*install, f"{distributions['wheel']}[serve]"], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return python


def asked(python: Path, code: str) -> object:
    "What a program prints as JSON in an environment, away from the project."
    done = subprocess.run(
        [python, "-c", code], cwd=python.parent, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def modules() -> list[str]:
    "Every module of the package."
    paths = sorted((ROOT / "ml_workbench").rglob("*.py"))
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    return [name.removesuffix(".__init__") for name in names if not name.endswith("_modidx")]


def test_the_wheel_holds_the_package_and_nothing_else(distributions):
    with zipfile.ZipFile(distributions["wheel"]) as wheel:
        names = wheel.namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"ml_workbench"}
    packed = {name for name in names if name.startswith("ml_workbench/")}
    assert packed == {path.relative_to(ROOT).as_posix() for path in (ROOT / "ml_workbench").rglob("*.py")}


def test_the_metadata_says_what_a_package_index_needs(distributions):
    with zipfile.ZipFile(distributions["wheel"]) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith("/METADATA"))
        text = wheel.read(name).decode()
    for line in (
        "Name: ml-workbench",
        "License-Expression: Apache-2.0",
        "License-File: LICENSE",
        "Requires-Python: ",
    ):
        assert line in text
    assert "/METADATA" in name and len(text.split("\n\n", 1)[1]) > 500, "the README is the description"


@pytest.mark.slow
def test_a_serving_installation_has_no_research_tools_in_it(serving):
    code = (
        f"import importlib.util as u, json; print(json.dumps([n for n in {RESEARCH_ONLY} if u.find_spec(n)]))"
    )
    assert asked(serving, code) == []


@pytest.mark.slow
def test_a_serving_installation_imports_every_module_that_runs_no_stage(serving):
    wanted = [name for name in modules() if not name.startswith(PIPELINE)] + ["ml_workbench.run.cli"]
    code = f"""if 1:
        import importlib, json, sys
        for name in {wanted}: importlib.import_module(name)
        import ml_workbench
        print(json.dumps([ml_workbench.__file__, [n for n in {RESEARCH_ONLY} if n in sys.modules]]))"""
    file, loaded = asked(serving, code)
    assert Path(file).is_relative_to(serving.parent.parent)
    assert loaded == []


@pytest.mark.slow
def test_an_installed_command_line_answers_in_half_a_second(serving):
    seconds = []
    for _ in range(6):
        started = time.perf_counter()
        done = subprocess.run(
            [serving.parent / "ml-workbench", "--help"],
            cwd=serving.parent,
            env=environment(),
            capture_output=True,
            text=True,
        )
        seconds.append(time.perf_counter() - started)
        assert done.returncode == 0, done.stderr
    assert "Usage: ml-workbench" in done.stdout
    assert min(seconds) < 0.5


def test_importing_the_package_loads_no_library(run_python):
    code = """if 1:
        import sys
        before = set(sys.modules)
        import ml_workbench
        print({name.split(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)"""
    assert run_python("-c", code).stdout == "{'ml_workbench'}\n"


def test_asking_for_help_loads_nothing_that_computes(run_python):
    code = """if 1:
        import sys
        from ml_workbench.run import cli
        print([n for n in ("numpy", "pandas", "duckdb", "sklearn", "xgboost", "papermill", "dvc") if n in sys.modules])"""
    done = run_python("-c", code)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def imports(path: Path) -> set[str]:
    "The modules that a file of the package imports from the package."
    here = ["ml_workbench", *path.relative_to(ROOT / "ml_workbench").parent.parts]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            found.add(".".join([*here[: len(here) - node.level + 1], node.module or ""]))
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def layers(folder: Path) -> subprocess.CompletedProcess:
    "Check the import contracts of a tree."
    return subprocess.run(
        [SCRIPTS / "lint-imports", "--no-cache"], cwd=folder, env=environment(PYTHONPATH=str(folder)),
        capture_output=True, text=True,
    )  # fmt: skip


def test_layers_point_one_way(sources):
    done = layers(sources)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("plan/errors.py", "from ml_workbench.data import sources"),
        ("plan/charter.py", "import pandas"),
        ("model/value.py", "from ..run import cli"),
    ],
)
def test_an_import_upwards_is_caught(sources, tmp_path, module, line):
    shutil.copytree(sources / "ml_workbench", tmp_path / "ml_workbench")
    shutil.copy(sources / "pyproject.toml", tmp_path)
    with (tmp_path / "ml_workbench" / module).open("a") as file:
        file.write(f"\n{line}\n")
    assert layers(tmp_path).returncode == 1


def test_the_package_never_imports_the_app():
    for path in (ROOT / "ml_workbench").rglob("*.py"):
        assert not {name for name in imports(path) if name and name.split(".")[0] == "app"}, path


def test_the_contracts_cover_every_folder_of_the_package():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    folders = {path.parent.name for path in (ROOT / "ml_workbench").glob("*/__init__.py")}
    assert set(contracts[0]["layers"]) == folders


# Drift -----------------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(sources, tmp_path) -> Path:
    "A copy of the sources that a test may break."
    return Path(shutil.copytree(sources, tmp_path / "checkout"))


def drift(folder: Path) -> subprocess.CompletedProcess:
    "Compare the package of a tree with what its notebooks say."
    return subprocess.run(
        [sys.executable, "-m", "ml_workbench.run.cli", "export", "--check"], cwd=folder,
        env=environment(PYTHONPATH=str(folder)), capture_output=True, text=True,
    )  # fmt: skip


def test_the_package_is_what_the_notebooks_say(checkout):
    done = drift(checkout)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_edited_module_a_stale_module_and_an_edited_notebook_are_caught(checkout):
    edited = checkout / "ml_workbench" / "plan" / "errors.py"
    edited.write_text(edited.read_text().replace("cutoff=0.6", "cutoff=0.5"))
    (checkout / "ml_workbench" / "plan" / "left_behind.py").write_text("x = 1\n")
    notebook = checkout / "nbs" / "plan" / "files.ipynb"
    notebook.write_text(notebook.read_text().replace('TEMPORARY = \\".tmp\\"', 'TEMPORARY = \\".part\\"'))
    done = drift(checkout)
    assert done.returncode != 0
    for name in ("errors.py", "left_behind.py", "files.py"):
        assert name in done.stdout + done.stderr
    assert 'TEMPORARY = ".tmp"' in (checkout / "ml_workbench" / "plan" / "files.py").read_text(), (
        "it only looks"
    )
