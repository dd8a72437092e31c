"""The package as others install it."""

import ast
import json
import os
import resource
import shutil
import subprocess
import sys
import time
import tomllib
import zipfile
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.release.live import judged
from tests.release.small import small_bundle
from tests.serve.live import TOKEN, Place, free_port, until

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
# Whatever computes over tables, or fits, or brings a graphics card's libraries.
COMPUTING = (
    "pandas",
    "pyarrow",
    "duckdb",
    "sqlglot",
    "sklearn",
    "scipy",
    "xgboost",
    "onnx",
    "plotly",
    "nvidia",
)
# In these folders every module must import where `serve` alone is installed, but for those that score everybody.
SERVING = ("plan", "database", "release", "serve")
SCORING = {
    "ml_workbench.database.rows",
    *(
        f"ml_workbench.serve.{name}"
        for name in ("asking", "batch", "everybody", "extracts", "feeds", "keeping", "kept", "parity", "records", "refreshing", "scoring", "targets")
    ),
}  # fmt: skip
COMMANDS = {
    f"ml_workbench.run.{name}"
    for name in ("cli", "deploys", "guard", "migrating", "releases", "scoring", "serving")
}
# These fit, tune, explain, convert or run stages: `batch` goes without them, and with everything else.
FITTING = {
    *(f"ml_workbench.examine.{name}" for name in ("corrected", "explanation", "fairness", "leaks", "misses", "readings", "reasons", "refits", "slices", "what_if")),
    *(f"ml_workbench.model.{name}" for name in ("bench", "candidates", "compact", "conversion", "estimators", "graph", "research", "searches", "spaces", "spend", "studies", "trials", "tuning", "variants")),
    "ml_workbench.run.engines",
}  # fmt: skip


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


def installed(wheel: Path, extras: str, folder: Path, *options: str) -> Path:
    "The Python of a clean environment with the wheel and some extras, in the locked versions."
    python, uv = folder / "bin" / "python", [SCRIPTS / "uv", "--quiet"]
    subprocess.run([*uv, "venv", "--python", sys.executable, folder], check=True, env=environment())
    command = [
        *uv,
        "pip",
        "install",
        "--python",
        python,
        "--constraints",
        ROOT / "requirements.lock",
        *options,
    ]
    done = subprocess.run([*command, f"{wheel}[{extras}]"], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return python


@pytest.fixture(scope="module")
def serving(distributions, tmp_path_factory) -> Path:
    "What a machine has that serves."
    folder = tmp_path_factory.mktemp("serving") / "venv"
    return installed(distributions["wheel"], "serve,postgres", folder, "--compile-bytecode")


@pytest.fixture(scope="module")
def scoring(distributions, tmp_path_factory) -> Path:
    "What a machine has that scores everybody."
    return installed(distributions["wheel"], "batch,postgres", tmp_path_factory.mktemp("scoring") / "venv")


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


def refused(python: Path) -> tuple[dict[str, str], list[str]]:
    "The modules that cannot be imported in an environment, with the library that each lacks; and what was loaded."
    code = f"""if 1:
        import importlib, json, sys
        refused = {{}}
        for name in {modules()}:
            try:
                importlib.import_module(name)
            except ModuleNotFoundError as error:
                refused[name] = error.name
        import ml_workbench
        loaded = [name for name in {(*RESEARCH_ONLY, *COMPUTING)} if name in sys.modules]
        print(json.dumps([ml_workbench.__file__, refused, loaded]))"""
    file, found, loaded = asked(python, code)
    assert Path(file).is_relative_to(python.parent.parent)
    return found, loaded


@pytest.mark.slow
@pytest.mark.parametrize("name", ["serving", "scoring"])
def test_an_installation_for_production_has_no_research_tools_in_it(name, request):
    unwanted = (*RESEARCH_ONLY, *(COMPUTING if name == "serving" else ("sklearn", "nvidia", "onnx")))
    code = f"import importlib.util as u, json; print(json.dumps([n for n in {unwanted} if u.find_spec(n)]))"
    assert asked(request.getfixturevalue(name), code) == []


@pytest.mark.slow
def test_every_module_that_a_service_needs_imports_where_it_is_installed_alone(serving):
    missing, loaded = refused(serving)
    needed = {name for name in modules() if name.split(".")[1:2] and name.split(".")[1] in SERVING} | COMMANDS
    assert set(missing) & needed == SCORING
    assert loaded == []


@pytest.mark.slow
def test_whatever_scores_everybody_imports_where_batch_is_installed_and_only_fitting_does_not(scoring):
    missing, loaded = refused(scoring)
    assert set(missing) == FITTING
    assert not set(loaded) & set(RESEARCH_ONLY)


@pytest.mark.slow
def test_a_serving_installation_is_small(serving, distributions):
    files = [path for path in serving.parent.parent.rglob("*") if path.is_file() and not path.is_symlink()]
    code = [path for path in files if path.suffix != ".pyc"]
    assert sum(path.stat().st_size for path in code) < 240e6
    assert distributions["wheel"].stat().st_size < 1.2e6


def seconds_of_work(command: list) -> float:
    "Processor time of a program: what else the machine does at the moment makes no difference."
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command, cwd=Path(command[0]).parent, env=environment(), capture_output=True, text=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.slow
def test_the_service_is_imported_quickly(serving):
    assert min(seconds_of_work([serving, "-c", "import ml_workbench.serve.service"]) for _ in range(3)) < 1.3


@pytest.fixture
def site(tmp_path: Path) -> Place:
    "A machine in production: a database, a store that was handed over, and no project."
    place = Place(tmp_path / "site")
    place.fill_online()
    place.store.add(judged(small_bundle()))
    return place


@pytest.mark.slow
def test_commands_work_without_a_project(serving, site):
    (release,) = site.store.ids()

    def said(*arguments: str, code: int = 0) -> str:
        command = [serving.parent / "ml-workbench", *arguments]
        done = subprocess.run(
            command, cwd=site.root, env=environment(MLW_DATABASE_URL=site.url), capture_output=True, text=True
        )
        assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
        return done.stdout + done.stderr

    assert "✗" not in said("release", "verify", release[:8]) and release[:12] in said("release", "list")
    assert "Line 1: deploy by Ann" in said("deploy", release[:8], "--by", "Ann", "--reason", "the first")
    another = site.store.add(judged(small_bundle(), card="another card"))
    assert "Line 2: deploy by Ann" in said(
        "deploy", another[:8], "--as", "challenger", "--ramp", ".5", "--by", "Ann", "--reason", "half of them"
    )
    assert "Line 3: rollback by Ann" in said("rollback", "--by", "Ann", "--reason", "back again")
    assert said("history").count("\n") == 3 and "is at revision" in said("migrate", "--check")
    for command in (
        ("online", "--as-of", "2024-07-15", "--source", "x"),
        ("score", "--as-of", "2024-07-15", "--source", "x", "--target", "y"),
        ("outcomes", "import", "x.parquet", "--outcome", "visit"),
    ):
        assert "pip install 'ml-workbench[batch]'" in said(*command, code=1)


def taken(process: int) -> tuple[float, float]:
    "Processor seconds that a process and its children took, and the megabytes that it has."
    about = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    status = Path(f"/proc/{process}/status").read_text()
    return sum(map(int, about[11:15])) / os.sysconf("SC_CLK_TCK"), int(
        status.split("VmRSS:")[1].split()[0]
    ) / 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux")
def test_a_service_is_ready_in_two_seconds_and_takes_little_memory(serving, site):
    "In processor time: what else the machine does at the moment makes no difference."
    site.deploy(site.alone(site.store.ids()[0]))
    work, sizes = [], []
    for _ in range(3):
        port = free_port()
        variables = {"MLW_DATABASE_URL": site.url, "MLW_TOKENS": TOKEN, "MLW_API_PORT": str(port)}
        command = [serving.parent / "ml-workbench", "serve", "--no-shipper"]
        service = subprocess.Popen(
            command, cwd=site.root, env=environment(**variables), stdout=subprocess.DEVNULL
        )
        try:
            until(partial(asked_whether_ready, port), 60, "it was not ready")
            seconds, _ = taken(service.pid)
            bearer = {"authorization": f"Bearer {TOKEN}"}
            answer = httpx.post(
                f"http://127.0.0.1:{port}/v1/decisions", json={"unit": "12"}, headers=bearer, timeout=20
            )
            assert answer.status_code == 200
            work.append(seconds)
            sizes.append(taken(service.pid)[1])
        finally:
            service.terminate()
            service.wait(20)
    assert min(work) < 1.8 and min(sizes) < 150, (work, sizes)


def asked_whether_ready(port: int) -> bool:
    return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200


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
    beside = [layer.split(" | ") for layer in contracts[0]["layers"]]  # 'a | b': neither imports the other
    assert {name for layer in beside for name in layer} == folders


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
