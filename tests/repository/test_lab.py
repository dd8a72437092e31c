"""JupyterLab as `make lab` starts it."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOKEN = "for-this-test-only"
PATIENCE = 60  # seconds for the server to answer


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    "A small project: the configuration, one library notebook, one stage."
    folder = tmp_path_factory.mktemp("project")
    for name in ("nbs/jupyter_server_config.py", "nbs/plan/errors.ipynb", "params.yaml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / "nbs" / "stages").mkdir()
    (folder / "home").mkdir()
    return folder


def from_makefile(folder: Path) -> dict[str, str]:
    "The variables that the Makefile sets to keep out of the home folder."
    lines = re.findall(r"^export (\w+) +:= \$\(CURDIR\)/(state\S+)$", (ROOT / "Makefile").read_text(), re.M)
    return {name: str(folder / path) for name, path in lines}


@pytest.fixture(scope="module")
def server(project) -> Iterator[str]:
    "JupyterLab on a free port of the loopback interface."
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("JUPYTER_", "PLOTLY_"))
    }
    log = (project / "log").open("w+")
    process = subprocess.Popen(
        [
            sys.executable, "-m", "jupyterlab", "--config=nbs/jupyter_server_config.py", "--no-browser",
            "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}",
            "--allow-root",
        ],
        cwd=project, env=environment | from_makefile(project) | {"HOME": str(project / "home")},
        stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}/api"
    try:
        wait(process, url, project / "log")
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)
        log.close()


def wait(process: subprocess.Popen, url: str, log: Path) -> None:
    "Return when the server answers."
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        try:
            ask(url, "GET", "")
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"JupyterLab did not answer: {log.read_text()[-2000:]}")


def ask(url: str, method: str, path: str, body: dict | None = None) -> dict:
    "One request to the server's API."
    request = urllib.request.Request(
        f"{url}{path}", method=method, data=json.dumps(body).encode() if body else None,
        headers={"Authorization": f"token {TOKEN}", "Content-Type": "application/json"},
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        content = answer.read()
    return json.loads(content) if content else {}


def as_run(notebook: dict) -> dict:
    "A notebook as the browser holds it after Run All: counts, timings, the kernel's details."
    notebook["metadata"]["kernelspec"]["display_name"] = "Python 3 (ipykernel)"
    notebook["metadata"]["language_info"] = {"name": "python", "version": "3.13.0"}
    for count, cell in enumerate((c for c in notebook["cells"] if c["cell_type"] == "code"), 1):
        cell["execution_count"] = count
        cell["metadata"]["execution"] = {"iopub.execute_input": "2026-01-01T00:00:00Z"}
        for output in cell["outputs"]:
            if output["output_type"] == "execute_result":
                output["execution_count"] = count
    return notebook


def test_saving_a_library_notebook_that_was_run_changes_nothing_in_its_file(server, project):
    path = project / "nbs" / "plan" / "errors.ipynb"
    before = path.read_bytes()
    run = as_run(json.loads(before))
    ask(
        server,
        "PUT",
        "/contents/nbs/plan/errors.ipynb",
        {"type": "notebook", "format": "json", "content": run},
    )
    assert path.read_bytes() == before


def test_saving_a_stage_that_was_run_drops_its_outputs_and_keeps_its_parameters_tag(server, project):
    cell = {"cell_type": "code", "id": "a", "source": "seed: int = 1", "outputs": [], "execution_count": None}
    stage = {
        "nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": {"name": "python3", "language": "python"}},
        "cells": [cell | {"metadata": {"tags": ["parameters"]}}, cell | {"id": "b", "metadata": {}}],
    }  # fmt: skip
    stage["cells"][1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "a result"}]
    content = {"type": "notebook", "format": "json", "content": as_run(stage)}
    ask(server, "PUT", "/contents/nbs/stages/data.ipynb", content)
    saved = json.loads((project / "nbs" / "stages" / "data.ipynb").read_text())
    assert [cell["metadata"] for cell in saved["cells"]] == [{"tags": ["parameters"]}, {}]
    assert [cell["outputs"] for cell in saved["cells"]] == [[], []]
    assert [cell["execution_count"] for cell in saved["cells"]] == [None, None]
    assert "language_info" not in saved["metadata"]


def test_other_files_are_saved_as_they_are(server, project):
    ask(server, "PUT", "/contents/note.txt", {"type": "file", "format": "text", "content": "In [1]: x"})
    assert (project / "note.txt").read_text() == "In [1]: x"


def test_a_kernel_draws_figures_as_data_and_nothing_is_written_to_the_home_folder(server, project):
    from jupyter_client import BlockingKernelClient

    kernel = ask(server, "POST", "/kernels", {"name": "python3", "path": "nbs/stages"})
    client = BlockingKernelClient()
    client.load_connection_file(next(project.glob(f"state/**/kernel-{kernel['id']}.json")).as_posix())
    client.start_channels()
    try:
        client.wait_for_ready(timeout=PATIENCE)
        said = []
        client.execute_interactive(
            "import os, plotly.io; print(plotly.io.renderers.default, os.getcwd())",
            timeout=PATIENCE, output_hook=lambda message: said.append(message["content"].get("text", "")),
        )  # fmt: skip
    finally:
        client.stop_channels()
        ask(server, "DELETE", f"/kernels/{kernel['id']}")
    assert "".join(said).split() == ["plotly_mimetype", str(project / "nbs" / "stages")]
    assert list((project / "home").iterdir()) == []


def test_the_server_asks_nothing_of_the_network_by_itself(server, project):
    page = urllib.request.Request(
        server.removesuffix("/api") + "/lab", headers={"Authorization": f"token {TOKEN}"}
    )
    with urllib.request.urlopen(page, timeout=PATIENCE) as answer:
        config = json.loads(
            re.search(r'id="jupyter-config-data"[^>]*>(.*?)</script>', answer.read().decode(), re.S)[1]
        )
    assert config.get("news", {}).get("disabled") is True
    assert config["extensionManager"]["can_install"] is False
