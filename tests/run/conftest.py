"""A project in miniature: the real parameters, and one stage notebook made for the test."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).resolve().parents[2]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
SECTION = PARAMS["evaluate"] = PARAMS["evaluate"] | {"seed": 84, "resamples": 1000}


def parameters(**changed: object) -> str:
    "The parameters cell of stage evaluate, with some values changed."
    values = SECTION | changed
    return "\n".join(f"{name}: {type(value).__name__} = {value!r}" for name, value in values.items())


@dataclass
class Project:
    "A project in a folder of its own, with the stage evaluate."

    root: Path

    def write(
        self,
        *cells: str,
        first: str | None = None,
        tags: tuple[str, ...] = ("parameters",),
        **changed: object,
    ) -> Path:
        "Write the stage notebook: a heading, the parameters, and code."
        made = [new_markdown_cell("# Evaluate", id="head")]
        source = parameters(**changed) if first is None else first
        made.append(new_code_cell(source, id="parameters", metadata={"tags": list(tags)}))
        made += [new_code_cell(cell, id=f"code-{number}") for number, cell in enumerate(cells, start=1)]
        path = self.root / "nbs" / "stages" / "evaluate.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(new_notebook(cells=made), path)
        return path

    def set(self, name: str, value: object) -> None:
        "Change one parameter of stage evaluate in params.yaml."
        path = self.root / "params.yaml"
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        raw["evaluate"][name] = value
        path.write_text(yaml.safe_dump(raw, sort_keys=False, allow_unicode=True), encoding="utf-8")

    def start(self, *arguments: str, **options: object) -> subprocess.Popen:
        "Start the command line in the project."
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("MLW_", "PYTHON"))
        }
        return subprocess.Popen(
            [sys.executable, "-m", "ml_workbench.run.cli", *arguments],
            cwd=self.root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
        )  # fmt: skip

    def call(self, *arguments: str) -> subprocess.CompletedProcess:
        "Run the command line in the project."
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def copy(self) -> dict:
        "The executed copy."
        return json.loads(
            (self.root / "reports" / "notebooks" / "evaluate.ipynb").read_text(encoding="utf-8")
        )

    def files(self) -> list[str]:
        "Everything in the folders that stages write, whole or half."
        return sorted(
            path.relative_to(self.root).as_posix()
            for folder in ("data", "reports")
            for path in (self.root / folder).rglob("*")
            if path.is_file()
        )


@pytest.fixture
def project(tmp_path: Path) -> Project:
    "A project without stage notebooks."
    root = tmp_path / "project"
    root.mkdir()
    shutil.copy(ROOT / "settings.ini", root)
    (root / "params.yaml").write_text(yaml.safe_dump(PARAMS, sort_keys=False, allow_unicode=True))
    return Project(root)


def until(happened: Callable[[], object], seconds: float = 30) -> None:
    "Wait for something that another process does; fails when it does not."
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


@pytest.fixture(name="until")
def _until() -> Callable[..., None]:
    return until


@pytest.fixture
def busy_stage(project: Project) -> Iterator[tuple[subprocess.Popen, int]]:
    "A stage that has written half a file in its kernel and goes on for ever; its runner, and the kernel's number."
    project.write(
        "import os, time\nfrom pathlib import Path\nfrom ml_workbench.plan.files import replacing",
        "with replacing('data/table.csv') as half:\n"
        "    half.write_text('half')\n"
        "    Path('pid').write_text(str(os.getpid()))\n"
        "    while not Path('go').exists():\n"
        "        time.sleep(0.05)\n"
        "    half.write_text('whole')",
    )
    process = project.start("stage", "evaluate", "--engine", "kernel")
    pid = project.root / "pid"
    until(lambda: process.poll() is not None or (pid.exists() and pid.read_text()))
    assert process.poll() is None, process.communicate()
    yield process, int(pid.read_text())
    for number in (process.pid, int(pid.read_text())):
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.communicate(timeout=30)
