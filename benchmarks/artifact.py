"""One row through an artefact takes at most 1.5 times a bare `InferenceSession.run`, checks included.

The champion's size: 88 features, gaps among them; a logistic regression and 300 boosted trees of depth 4. The row comes
ready, as a request handler keeps it. Also: how long an artefact takes to load, in its quarantine and after it.
Run as `python benchmarks/artifact.py [--quick]`; prints a table in Markdown, fails when the target is missed.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from ml_workbench.model.artifact import Scorer, read_artifact, read_files, write_artifact
from ml_workbench.model.candidates import candidate_named, fit_candidate
from ml_workbench.model.quarantine import try_in_child
from ml_workbench.model.session import BATCH, INPUT
from ml_workbench.model.snapshots import Feature, Schema
from ml_workbench.plan.params import TrainParams

TARGET, FEATURES, ROWS = 1.5, 88, 4_000
NAMES = [f"f{number}" for number in range(FEATURES)]
SCHEMA = Schema(
    "unit", "as_of", "slice", "left", "spend", 28, "f0", tuple(Feature(name, "number", "f") for name in NAMES)
)
PARAMS = TrainParams(
    seed=1, candidates=["xgboost"], withheld_families=[], use_tuned=False, settings={}, calibration="sigmoid",
    spend=["naive"], threads=1,
)  # fmt: skip
CANDIDATES = {"logistic_regression": {}, "xgboost": {"rounds": 300, "patience": 0}}


def rows(seed: int) -> pd.DataFrame:
    "Rows with gaps, and a label that some features know of."
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(random.normal(size=(ROWS, FEATURES)).astype(np.float32), columns=NAMES)
    frame = frame.mask(random.random(frame.shape) < 0.05)
    known = frame[NAMES[:9]].fillna(0).sum(axis=1)
    return frame.assign(left=(known + random.normal(0, 3, ROWS) > 3).astype(int), slice="train")


def microseconds(action, argument, times: int) -> float:
    "The median of single calls."
    taken = []
    for _ in range(times):
        begun = time.perf_counter_ns()
        action(argument)
        taken.append(time.perf_counter_ns() - begun)
    return statistics.median(taken) / 1000


def one_row(scorer: Scorer, row: np.ndarray, times: int) -> tuple[float, float]:
    "Bare and ours, taken in turns so that a busy machine disturbs both."
    run, name = scorer.session.run, (scorer.output,)

    def bare(given: np.ndarray) -> list:
        return run(name, {INPUT: given})

    pairs = [(microseconds(bare, row, times), microseconds(scorer.one, row, times)) for _ in range(9)]
    return min(pair[0] for pair in pairs), min(pair[1] for pair in pairs)


def seconds(action, *arguments) -> float:
    "Shortest of three."
    taken = []
    for _ in range(3):
        begun = time.perf_counter()
        action(*arguments)
        taken.append(time.perf_counter() - begun)
    return min(taken)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the calls")
    times, worst = 200 if parser.parse_args().quick else 2000, 0.0
    train, later = rows(1), rows(2)
    print("| candidate | graph | bare | one row | ratio | target | quarantine | load in all |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for name, settings in CANDIDATES.items():
            candidate, where = candidate_named(name), Path(folder) / name
            fitted = fit_candidate(
                candidate, SCHEMA, PARAMS, train=train, validation=later, settings=settings
            )
            manifest = write_artifact(where, fitted, SCHEMA, later)
            child, whole = seconds(try_in_child, read_files(where)[1]), seconds(read_artifact, where)
            scorer = read_artifact(where)
            matrix = scorer.signature.matrix(later)
            bare, ours = one_row(scorer, matrix[:1].copy(), times)
            worst = max(worst, ours / bare)
            print(
                f"| {candidate.label} | {manifest.size_of('model.onnx') / 1000:.0f} kB | {bare:.1f} µs | {ours:.1f} µs "
                f"| {ours / bare:.2f} | {TARGET} | {child:.2f} s | {whole:.2f} s |"
            )
    print(
        f"\nXGBoost's own prediction against ONNX Runtime, one thread each (the switch is at {BATCH} rows):\n"
    )
    print("| rows | ONNX Runtime | XGBoost |\n|---:|---:|---:|")
    for count in (1, 8, 32, 64, 128, 1024):
        part, session = matrix[:count].copy(), scorer.session
        by = [
            microseconds(way, part, max(20, times // count)) / 1000
            for way in (session.by_onnx, session.by_xgboost)
        ]
        print(f"| {count:,} | {by[0]:.3f} ms | {by[1]:.3f} ms |")
    return 0 if worst <= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
