"""What the tests share. Services come from tests/services.py, which `make test` puts around pytest."""

import asyncio
import atexit
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit, urlunsplit

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Locally a missing service skips a test; in CI it fails it, so that green always means tested.
REQUIRED = os.environ.get("CI") == "true" or os.environ.get("MLW_TEST_REQUIRE_SERVICES") == "1"
# What stage notebooks and the command line must not find in a developer's environment.
FOREIGN = ("MLW_", "JUPYTER_", "PAPERMILL_", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH")


@atexit.register
def _say_no_more() -> None:
    "Keep pytest's closing line the last: while Python ends, DuckDB counts its own types as leaked."
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def missing(what: str) -> None:
    "Skip the test, or fail it where services are required."
    (pytest.fail if REQUIRED else pytest.skip)(f"{what}: run `make test`, which provides it")


@pytest.fixture(autouse=True)
def own_main() -> Iterator[None]:
    "Streamlit's AppTest puts its page in place of the main module; a process spawned later would run that page."
    kept = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = kept


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    "No MLW_* setting of the developer's shell reaches a test."
    for name in [name for name in os.environ if name.startswith("MLW_") and not name.startswith("MLW_TEST_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def root() -> Path:
    "The project's root."
    return ROOT


@pytest.fixture(scope="session")
def small() -> ModuleType:
    "A shop in miniature and real releases of it: `small.small_bundle('xgboost', seed=2)` takes under a second."
    spec = importlib.util.spec_from_file_location("small", ROOT / "tests" / "release" / "small.py")
    sys.modules["small"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def produced() -> Path:
    "The project's root, with everything that the pipeline produces in it."
    lacking = [
        path for path in ("reports/evaluation.json", "data/offers.parquet") if not (ROOT / path).is_file()
    ]
    if lacking:
        missing(f"the pipeline has not produced {', '.join(lacking)} here")
    return ROOT


@pytest.fixture(scope="session")
def copy_run(produced: Path) -> Callable[[Path], Path]:
    "Copies what a release is made of to a folder, without the project around it; files are shared until replaced."
    model = json.loads((produced / "reports" / "gate.json").read_text(encoding="utf-8"))["model"]
    names = ("params.yaml", "settings.ini", "dvc.lock", "requirements.lock", "data/predictions.parquet")
    folders = ("reports", "data/features", f"models/{model}", "ml_workbench/data")
    left_out = shutil.ignore_patterns("notebooks", "plots", "__pycache__")

    def copied(target: Path) -> Path:
        for name in folders:
            shutil.copytree(produced / name, target / name, copy_function=os.link, ignore=left_out)
        for name in names:
            shutil.copy(produced / name, target / name)
        return target

    return copied


@pytest.fixture(scope="session")
def tracked() -> list[Path]:
    "Every file that git holds, or would after `git add`, as a path from the root."
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return sorted(Path(name) for name in set(listed.split("\0")) if name and (ROOT / name).is_file())


@pytest.fixture
def awaited() -> Callable[[Coroutine], object]:
    "Runs a coroutine to its end in a thread of its own: in this one the browser's loop may be running."

    def run(coroutine: Coroutine) -> object:
        with ThreadPoolExecutor(1) as alone:
            return alone.submit(asyncio.run, coroutine).result()

    return run


@pytest.fixture
def run_python() -> Callable[..., subprocess.CompletedProcess]:
    "Run this Python in a new process: run_python('-c', code, cwd=…, NAME='value for the environment')."

    def run(*arguments: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}
        return subprocess.run(
            [sys.executable, *arguments], cwd=cwd, env=environment | variables, capture_output=True, text=True
        )

    return run


@contextmanager
def fresh_database(server: str) -> Iterator[str]:
    "A new, empty database on `server`; yields its URL, and drops it at the end."
    from adbc_driver_postgresql import dbapi

    name = f"mlw_{uuid.uuid4().hex[:12]}"
    with dbapi.connect(server, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
        try:
            yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
        finally:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def postgres_server() -> str:
    "The URL of a PostgreSQL server whose user may create databases."
    if not (url := os.environ.get("MLW_TEST_POSTGRES_URL")):
        missing("no PostgreSQL (MLW_TEST_POSTGRES_URL)")
    return url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    "The URL of an empty PostgreSQL database of this test's own."
    with fresh_database(postgres_server) as url:
        yield url


@pytest.fixture(scope="module")
def postgres_module_url(postgres_server: str) -> Iterator[str]:
    "The URL of a PostgreSQL database that the tests of one module share."
    with fresh_database(postgres_server) as url:
        yield url


@pytest.fixture(scope="session")
def chromium_path() -> str:
    "The Chromium to start: playwright's launch(executable_path=chromium_path, args=chromium_flags)."
    if not (path := os.environ.get("MLW_TEST_CHROMIUM")):
        missing("no Chromium (MLW_TEST_CHROMIUM)")
    return path


@pytest.fixture(scope="session")
def chromium_flags() -> list[str]:
    "Flags with which Chromium runs headless, as any user, asking nothing of the network by itself."
    return [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
    ]  # fmt: skip


@pytest.fixture(scope="session")
def browser(chromium_path: str, chromium_flags: list[str]) -> Iterator[object]:
    "The one browser of the test run: Playwright runs only once in a process. Open a new_context() on it."
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=chromium_path, args=chromium_flags)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def test_artefacts() -> Path:
    "Where screenshots and other evidence of a test run are kept (git-ignored)."
    folder = ROOT / "test-artefacts"
    folder.mkdir(exist_ok=True)
    return folder
