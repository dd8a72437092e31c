"""Measure what the project claims about its speed: `make bench`, or `make bench ARGS=--quick` without a fresh clone.

Runs every other script of this folder (each prints a Markdown table), then a fresh copy of the project from
nothing to the result, as a person would. Ends with 1 when a claim does not hold.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
HERE = Path(__file__).resolve().parent
SAMPLING = 0.2  # seconds between two looks at the memory


@dataclass(frozen=True)
class Figure:
    "One claim, and what was measured."

    claim: str
    measured: float
    limit: float
    unit: str

    @property
    def holds(self) -> bool:
        return self.measured <= self.limit

    def row(self) -> str:
        return (
            f"| {self.claim} | {self.measured:.4g} {self.unit} | {self.limit:g} {self.unit} "
            f"| {'yes' if self.holds else '**no**'} |"
        )


@dataclass(frozen=True)
class Run:
    "What a command did."

    seconds: float
    gigabytes: float  # resident memory of the command and all it started, at its highest
    text: str


def environment(project: Path) -> dict[str, str]:
    "This process's environment, with the tools of the project's own .venv first."
    kept = {
        key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "MAKEFLAGS", "MAKELEVEL")
    }
    return kept | {
        "PATH": f"{project / '.venv' / 'bin'}{os.pathsep}{kept['PATH']}",
        "DVC_NO_ANALYTICS": "true",
    }


def resident(process: psutil.Process) -> int:
    "Bytes of resident memory of a process and its descendants."
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_info().rss
        except psutil.Error:
            continue
    return total


def run(project: Path, *command: str) -> Run:
    "Run a command in a project, watching its time and memory; ends the benchmark when it fails."
    peak = 0
    done = threading.Event()
    started = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=project, env=environment(project), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip

    def watch() -> None:
        nonlocal peak
        while not done.wait(SAMPLING):
            try:
                peak = max(peak, resident(psutil.Process(process.pid)))
            except psutil.Error:
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    text, _ = process.communicate()
    seconds = time.perf_counter() - started
    done.set()
    watcher.join()
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed in the copy:\n{text[-3000:]}")
    return Run(seconds, peak / 1e9, text)


def fresh_copy(folder: Path) -> Path:
    "A copy of what git holds, committed, with no environment and no results."
    project = folder / "project"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in sorted(set(filter(None, listed.split("\0")))):
        if (ROOT / name).is_file():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, project / name)
    git = ["git", "-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "A copy to measure"]):
        subprocess.run([*git, *command], cwd=project, check=True)
    return project


def edit(notebook: Path, change: Callable[[dict], bool]) -> None:
    "Change the first cell of a notebook that `change` can change."
    content = json.loads(notebook.read_text(encoding="utf-8"))
    if not any(change(cell) for cell in content["cells"]):
        sys.exit(f"{notebook.name}: nothing found to edit")
    notebook.write_text(
        json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def reworded(cell: dict) -> bool:
    "Add a sentence to the first paragraph of prose."
    prose = cell["cell_type"] == "markdown" and not "".join(cell["source"]).startswith("#")
    if prose:
        cell["source"] = ["".join(cell["source"]) + " This sentence changes nothing."]
    return prose


def other_feature(cell: dict) -> bool:
    "Make a feature look at the first event instead of the last."
    source = "".join(cell["source"])
    found = cell["cell_type"] == "code" and "Feature(" in source and "MAX(" in source
    if found:
        cell["source"] = [source.replace("MAX(", "MIN(", 1)]
    return found


def stages_to_run(project: Path) -> set[str]:
    "The stages that DVC would run now."
    text = run(project, "dvc", "repro", "--dry").text
    return {line.split("'")[1] for line in text.splitlines() if line.startswith("Running stage")}


def from_nothing_to_the_result() -> list[Figure]:
    "The way of a person who has just cloned the project."
    with tempfile.TemporaryDirectory(prefix="mlw-bench-") as folder:
        project = fresh_copy(Path(folder))
        first = run(project, "make", "run", f"PYTHON={getattr(sys, '_base_executable', sys.executable)}")
        figures = [Figure("`make run` in a fresh clone, packages cached", first.seconds, 240, "s")]
        return figures + in_a_project(project)


def in_a_project(project: Path) -> list[Figure]:
    "What a day's work costs; changes the project, so give it a copy."
    pipeline = run(project, "dvc", "repro", "--force")
    tuning = run(project, "ml-workbench", "tune")
    nothing = min(run(project, "dvc", "repro").seconds for _ in range(3))
    edit(project / "nbs" / "plan" / "charter.ipynb", reworded)
    run(project, "ml-workbench", "export")
    after_prose = stages_to_run(project)
    edit(project / "nbs" / "data" / "definitions.ipynb", other_feature)
    run(project, "ml-workbench", "export")
    after_feature = stages_to_run(project)
    if "features" not in after_feature:
        sys.exit(f"editing a feature would rerun {after_feature or 'nothing'}")
    return [
        Figure("the pipeline alone, with the tuned settings that are there", pipeline.seconds, 240, "s"),
        Figure("its memory at its highest, all processes together", pipeline.gigabytes, 4, "GB"),
        Figure("tuning with the default budget, from nothing", tuning.seconds, 600, "s"),
        Figure("`dvc repro` with nothing to do", nothing, 1.5, "s"),
        Figure("stages rerun by an edit of prose in a library notebook", len(after_prose), 0, "stages"),
        Figure(
            "reruns of the data stage by an edit of a feature", len(after_feature & {"data"}), 0, "stages"
        ),
    ]


def scripts() -> bool:
    "Run the other benchmarks, printing what they print; whether all succeeded."
    succeeded = True
    for script in sorted(HERE.glob("*.py")):
        if script.name not in (Path(__file__).name, "measuring.py"):
            print(f"\n## {script.stem.replace('_', ' ')}\n", flush=True)
            succeeded &= (
                subprocess.run([sys.executable, script], cwd=ROOT, env=environment(ROOT)).returncode == 0
            )
    return succeeded


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="only the other scripts, no fresh copy")
    options = parser.parse_args()
    succeeded = scripts()
    if options.quick:
        return 0 if succeeded else 1
    figures = from_nothing_to_the_result()
    print("\n## from nothing to the result\n")
    print("| claim | measured | limit | holds |\n|---|---:|---:|---|")
    print("\n".join(figure.row() for figure in figures))
    return 0 if succeeded and all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
