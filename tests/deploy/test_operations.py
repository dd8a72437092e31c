"""The operations guide does what it says."""

import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from ml_workbench.plan.settings import Settings
from ml_workbench.release.store import Store
from ml_workbench.serve.function import ADDRESSES
from ml_workbench.serve.service import make_service
from tests.deploy.documents import options_of, settings_named, shown_commands
from tests.release.live import judged
from tests.release.small import small_bundle, tables
from tests.serve.live import TOKEN, Place, free_port

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "deploy" / "OPERATIONS.md"
TEXT = GUIDE.read_text(encoding="utf-8")


def test_every_command_and_option_exists():
    code = "\n".join(
        re.findall(r"```\w+\n(.*?)```", TEXT, re.S) + re.findall(r"`(ml-workbench [^`]+)`", TEXT)
    )
    commands = shown_commands(code)
    assert len(commands) > 25
    for words in commands:
        options_of(words)
    named = {words[0] for words in commands}
    assert {
        "deploy",
        "ramp",
        "pause",
        "promote",
        "rollback",
        "history",
        "guard",
        "online",
        "release",
        "serve",
        "migrate",
    } <= named


def test_every_setting_exists():
    named = settings_named(TEXT)
    assert named <= {field.name for field in fields(Settings)} and len(named) > 12


def test_every_link_leads_somewhere():
    links = re.findall(r"\]\((?!https?:)([^)#]+)", TEXT)
    assert len(links) > 8 and [link for link in links if not (GUIDE.parent / link).exists()] == []


def test_every_metric_and_address_exists(tmp_path):
    place = Place(tmp_path)
    place.deploy(place.alone(place.release()))
    with TestClient(make_service(place.settings()), headers={"authorization": f"Bearer {TOKEN}"}) as service:
        exposed = service.get("/metrics").text
        paths = set(service.get("/openapi.json").json()["paths"]) | {"/metrics"}
    names = set(re.findall(r"^# TYPE (mlw_\w+)", exposed, re.M)) | {
        f"{name}_total" for name in re.findall(r"^# TYPE (mlw_\w+) counter", exposed, re.M)
    }
    assert set(re.findall(r"`(mlw_\w+)`", TEXT)) <= names
    assert {
        path.split("`")[0]
        for path in re.findall(r"`(?:GET |POST )?(/(?:healthz|readyz|metrics|v1/[a-z]+)(?:/\{id\})?)", TEXT)
    } <= paths
    told = TEXT[TEXT.index("## As a function") :]
    assert {path for path in ADDRESSES if f" {path}`" in told} == set(ADDRESSES)


def blocks() -> tuple[str, str]:
    "What the reader sets, and what is done then."
    begun = TEXT[TEXT.index("## First deployment") : TEXT.index("## Canary")]
    settings, deployment = re.findall(r"```bash\n(.*?)```", begun, re.S)
    return settings, deployment


# The shop in miniature is not what this project's tables declare: `online` is told of it, everything else is as installed.
PROGRAM = """#!{python}
import sys
if sys.argv[1:2] == ["online"]:
    from ml_workbench.data import tables
    from ml_workbench.data.contracts import Column, Table
    receipts = (Column("member", "BIGINT"), Column("bought_at", "TIMESTAMP"), Column("spent", "DOUBLE"))
    people = (Column("member", "BIGINT"), Column("town", "VARCHAR", nullable=True))
    tables.TABLES = (Table("receipts", "Receipts", receipts, time="bought_at"), Table("people", "Members", people, key=("member",)))
from ml_workbench.run.cli import main
main()
"""


@pytest.mark.skipif(not shutil.which("curl") or not shutil.which("bash"), reason="needs curl and bash")
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_the_first_deployment_is_as_written(tmp_path, request, kind):
    url = (
        request.getfixturevalue("postgres_url") if kind == "postgres" else f"sqlite:///{tmp_path}/records.db"
    )
    release = Store("releases", tmp_path).add(judged(small_bundle()))
    for name, rows in tables().items():
        (tmp_path / "tables").mkdir(exist_ok=True)
        rows.to_parquet(tmp_path / "tables" / f"{name}.parquet", index=False)
    settings, deployment = blocks()
    ours = {
        "MLW_STORE_URL": tmp_path / "releases", "MLW_DATABASE_URL": url, "MLW_API_PORT": free_port(),
        "source": tmp_path / "tables", "as_of": "'2024-07-15 05:00'", "unit": 12,
    }  # fmt: skip
    for name, value in ours.items():
        settings, found = re.subn(rf"\b{name}=('[^']*'|\S+)", f"{name}={value}", settings)
        assert found == 1, name
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MLW_")}
    path = os.pathsep.join([str(tmp_path / "bin"), str(Path(sys.executable).parent), kept["PATH"]])
    site, program = tmp_path / "site", tmp_path / "bin" / "ml-workbench"
    for folder in (site, program.parent):
        folder.mkdir()
    program.write_text(PROGRAM.format(python=sys.executable))
    program.chmod(0o755)
    script = f"set -euo pipefail\ntrap 'kill $(jobs -p) && wait' EXIT\n{settings}\n{deployment}"
    bash = subprocess.Popen(
        ["bash", "-c", script], cwd=site, env=kept | {"PATH": path, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        said, wrong = bash.communicate(timeout=90)
    finally:
        if bash.poll() is None:
            os.killpg(bash.pid, signal.SIGKILL)
    assert bash.returncode == 0, said + wrong
    assert "✗" not in said and "Line 1: deploy by" in said and '"ready":true' in said
    assert re.search(r'"unit":"12".*"release":"' + release[:12], said)
    assert ". the first release\n" in said
