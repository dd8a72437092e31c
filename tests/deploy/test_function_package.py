"""The function's package: built for real, small enough, and called from its own folder with nothing else to import."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import sqlalchemy as sa

from ml_workbench.database.tables import table_of
from tests.serve.live import TOKEN, Place

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "deploy" / "function" / "build.sh"
LIMIT = 250e6  # bytes, unzipped
pytestmark = pytest.mark.slow
NOT_IN_IT = ("pandas", "pyarrow", "duckdb", "sklearn", "scipy", "xgboost", "fastapi", "uvicorn", "alembic", "IPython", "dvc", "streamlit")  # fmt: skip
# What a cloud does: import the handler, call it with one event after another.
CALL = """if 1:
    import importlib, json, sys
    sys.path[:] = [path for path in sys.path if "site-packages" not in path]
    sys.path.insert(0, ".")
    module, _, name = "ml_workbench.serve.function.handler".rpartition(".")
    handler = getattr(importlib.import_module(module), name)
    for line in sys.stdin:
        print("RESULT " + json.dumps(handler(json.loads(line), None)), flush=True)
    import ml_workbench
    print("FROM " + ml_workbench.__file__)
"""


def build(folder: Path, **variables: str) -> subprocess.CompletedProcess:
    "Build the package."
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    version = "{}.{}".format(*sys.version_info[:2])
    path = os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]])
    return subprocess.run(
        [BUILD, folder],
        env=kept | {"PYTHON_VERSION": version, "PATH": path} | variables,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    "The folder of the function."
    folder = tmp_path_factory.mktemp("package") / "function"
    done = build(folder)
    assert done.returncode == 0, done.stderr
    return folder


def call(package: Path, place: Place, *events: dict) -> list[dict]:
    "The results of a new instance, in a process that has the package and Python and nothing else."
    python = Path(sys.base_prefix) / "bin" / "python3"
    variables = {
        "DATABASE_URL": place.url,
        "STORE_URL": place.root / "state/store",
        "TOKENS": TOKEN,
        "CACHE_DIR": place.root / "cache",
    }
    env = {"PATH": os.environ["PATH"]} | {f"MLW_{key}": str(value) for key, value in variables.items()}
    done = subprocess.run(
        [python, "-s", "-E", "-c", CALL], cwd=package, env=env, input="".join(json.dumps(each) + "\n" for each in events),
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"FROM {package / 'ml_workbench'}" in done.stdout.replace("FROM ./", f"FROM {package}/")
    return [
        json.loads(line.removeprefix("RESULT "))
        for line in done.stdout.splitlines()
        if line.startswith("RESULT ")
    ]


def event(method: str, path: str, body: dict | None = None) -> dict:
    "An event of payload version 2.0."
    context = {
        "http": {
            "method": method,
            "path": path,
            "protocol": "HTTP/1.1",
            "sourceIp": "192.0.2.1",
            "userAgent": "test",
        },
        "stage": "$default",
    }
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    made = {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": "",
        "headers": headers,
        "requestContext": context,
        "isBase64Encoded": False,
    }
    return made if body is None else made | {"body": json.dumps(body)}


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_the_handler_answers_from_its_folder_alone(package, tmp_path, request, kind):
    url = (
        request.getfixturevalue("postgres_url") if kind == "postgres" else f"sqlite:///{tmp_path}/records.db"
    )
    place = Place(tmp_path / "place", url)
    place.fill_online()
    place.deploy()
    health, decided, model = call(
        package,
        place,
        event("GET", "/healthz"),
        event("POST", "/v1/decisions", {"unit": "12"}),
        event("GET", "/v1/model"),
    )
    assert (health["statusCode"], decided["statusCode"], model["statusCode"]) == (200, 200, 200), decided
    answer = json.loads(decided["body"])
    with place.ledger.engine.connect() as connection:
        found = connection.execute(
            sa.select(table_of("served").c.decision_id, table_of("served").c.score)
        ).all()
    assert found == [(answer["id"], answer["score"])]


def test_it_stays_below_what_a_function_may_have(package):
    files = [path for path in package.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 0.9 * LIMIT
    assert [name for name in NOT_IN_IT if (package / name).exists()] == []
    assert not [path for path in package.rglob("*") if path.name == "tests"]


def test_the_same_sources_give_the_same_zip_and_one_that_is_too_large_is_refused(package, tmp_path):
    done = build(tmp_path / "function", LIMIT_MB="100")
    assert done.returncode == 1 and "more than the 100 MB" in done.stderr
    first, second = (
        hashlib.sha256(Path(f"{each}.zip").read_bytes()).hexdigest()
        for each in (package, tmp_path / "function")
    )
    assert first == second
    with zipfile.ZipFile(f"{package}.zip") as packed:
        names = packed.namelist()
    assert sorted(names) == sorted(
        path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()
    )
