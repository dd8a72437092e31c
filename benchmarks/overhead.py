"""What the workbench itself costs: a stage, a pipeline with nothing to do, the command line's help.

    python benchmarks/overhead.py [--quick]

A stage's overhead is measured against executing the same cells in this process. The pipeline with nothing to do is
this project's own dvc.yaml, its files and sections, with commands that only write the outputs.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import chdir, redirect_stdout
from io import StringIO
from pathlib import Path

import nbformat
import yaml

from ml_workbench.run.stages import run_stage

ROOT = Path(__file__).resolve().parent.parent
CELLS = (
    "from ml_workbench.plan.settings import find_root\nroot = find_root()",
    "total = sum(range(resamples))",
    "print(total)",
)
QUIET = {"DVC_NO_ANALYTICS": "1", "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def median_seconds(action: Callable[[], object], times: int) -> float:
    "The median duration of an action."
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        action()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def command(*arguments: str, cwd: Path) -> Callable[[], object]:
    "An action that runs this Python with some arguments."
    environment = {
        key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"
    } | QUIET
    return lambda: subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, check=True, capture_output=True
    )


def make_stage(project: Path) -> str:
    "A project with one small stage; the code of its cells."
    parameters = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["evaluate"]
    lines = "\n".join(f"{name}: {type(value).__name__} = {value!r}" for name, value in parameters.items())
    for name in ("params.yaml", "settings.ini"):
        shutil.copy(ROOT / name, project)
    cells = [
        nbformat.v4.new_code_cell(lines, metadata={"tags": ["parameters"]}),
        *map(nbformat.v4.new_code_cell, CELLS),
    ]
    path = project / "nbs" / "stages" / "evaluate.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return "\n".join([lines, *CELLS])


def stage_overheads(project: Path, times: int) -> list[tuple[str, float, float | None]]:
    "What each engine adds to the code of a stage."
    code = compile(make_stage(project), "stage", "exec")
    with chdir(project), redirect_stdout(StringIO()):
        exec(code, {})  # imports are paid once
        plain = median_seconds(lambda: exec(code, {}), times)
    rows = []
    for engine, label, limit in (("kernel", "kernel", 1.3), ("inprocess", "in-process", 0.1)):
        run_stage("evaluate", root=project, engine=engine)  # so are these
        added = (
            median_seconds(lambda engine=engine: run_stage("evaluate", root=project, engine=engine), times)
            - plain
        )
        rows.append((f"stage, {label} engine, added per stage", added, limit))
    for engine, label in (("kernel", "kernel"), ("inprocess", "in-process")):
        whole = command("-m", "ml_workbench.run.cli", "stage", "evaluate", "--engine", engine, cwd=project)
        rows.append(
            (
                f"stage as a command, {label} engine, with Python's start and imports",
                median_seconds(whole, times),
                None,
            )
        )
    return rows


def make_pipeline(project: Path) -> None:
    "This project's pipeline, whose commands only write their outputs."
    for name in ("nbs", "ml_workbench"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("params.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, project)
    (project / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc" / "config", project / ".dvc")
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    for stage in pipeline["stages"].values():
        entries = [entry for key in ("outs", "metrics", "plots") for entry in stage.get(key, ())]
        paths = [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]
        folders = [path for path in paths if not Path(path).suffix]
        files = [f"{path}/one" if path in folders else path for path in paths]
        stage["cmd"] = [f"mkdir -p $(dirname {path}) && echo '{{}}' > {path}" for path in files]
    (project / "dvc.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False))
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    times = 3 if parser.parse_args().quick else 9
    with tempfile.TemporaryDirectory() as folder:
        one, two = Path(folder, "stage"), Path(folder, "pipeline")
        one.mkdir()
        two.mkdir()
        rows = stage_overheads(one, times)
        make_pipeline(two)
        repro = command("-m", "dvc", "repro", cwd=two)
        repro()
        rows.append(("`dvc repro` with nothing to do", median_seconds(repro, times), 1.5))
        rows.append(
            (
                "`ml-workbench --help`",
                median_seconds(command("-m", "ml_workbench.run.cli", "--help", cwd=one), times),
                0.5,
            )
        )
    print("| what | measured | target | holds |\n|---|---|---|---|")
    for what, seconds, limit in rows:
        target, holds = (
            ("–", "–") if limit is None else (f"≤ {limit:g} s", "yes" if seconds <= limit else "**no**")
        )
        print(f"| {what} | {seconds:.3f} s | {target} | {holds} |")
    return int(any(limit is not None and seconds > limit for _, seconds, limit in rows))


if __name__ == "__main__":
    sys.exit(main())
