"""A million decisions of thirty features compared with their reference, in the time of one plain scan for quantiles.

PSI and KS of all columns from one Parquet file, against a DuckDB query for the same columns' quantiles in the same
run; the memory of a process that does it; ten times the rows; and each distance against SciPy's on the raw values.
Run as `python benchmarks/monitoring.py [--quick]`; prints a table in Markdown, fails when a target is missed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
from measuring import best_of, peak_megabytes

from ml_workbench.monitor.counting import scan
from ml_workbench.monitor.summaries import Scale
from ml_workbench.release.reference import Apart, Numbers, apart, edges_of, numbers

ROWS, COLUMNS, RUNS = 1_000_000, 30, 5
TARGET_RATIO, TARGET_MB, TARGET_GROWTH, TARGET_KS = 1.5, 600.0, 10.0, 1e-3


def draw(place: int, share: int) -> str:
    "A reproducible uniform number between 0 and 1 for every row, in SQL."
    return f"((hash(i * 64 + {2 * place + share}) % 1000003 + 1) / 1000004.0)"


def write_features(path: Path, rows: int, *, first: int = 0, moved: float = 0.0) -> None:
    "Amounts, measures and counts in turn, as 32-bit numbers; a tenth of every fifth column is empty."
    kinds = (
        "-ln({u}) * 40 * (1 + {moved})",
        "sqrt(-2 * ln({u})) * cos(2 * pi() * {v}) + {moved}",
        "floor(-ln({u}) * 5 * (1 + {moved}))",
    )
    columns = []
    for place in range(COLUMNS):
        value = kinds[place % 3].format(u=draw(place, 0), v=draw(place, 1), moved=moved * (place % 4))
        value = f"CASE WHEN hash(i) % 10 > 0 THEN {value} END" if place % 5 == 0 else value
        columns.append(f"({value})::FLOAT AS c{place}")
    with duckdb.connect(config={"threads": 2, "memory_limit": "500MB"}) as connection:
        source = f"SELECT {', '.join(columns)} FROM range({first}, {first + rows}) AS r(i)"
        connection.execute(f"COPY ({source}) TO '{path}' (FORMAT parquet)")


def column(path: Path, place: int) -> np.ma.MaskedArray:
    "The raw values of one column."
    with duckdb.connect() as connection:
        return np.ma.asarray(connection.execute(f"SELECT c{place} FROM '{path}'").fetchnumpy()[f"c{place}"])


def reference_of(path: Path) -> tuple[Scale, dict[str, Numbers]]:
    "Edges and summaries, as a release carries them."
    marks, then = {}, {}
    for place in range(COLUMNS):
        values, name = column(path, place), f"c{place}"
        marks[name] = edges_of(values)
        then[name] = numbers(values, marks[name])
    return Scale(dict.fromkeys(marks, "number"), marks | {"label": ()}, (), "label"), then


def ours(path: Path, scale: Scale, then: dict[str, Numbers]) -> Callable[[], dict[str, Apart]]:
    "Both indices of all columns, from the file."

    def compared() -> dict[str, Apart]:
        features = scan(path, scale, day=None).whole().features
        return {name: apart(then[name], features[name], scale.marks[name]) for name in then}

    return compared


def plain(path: Path, count: int = 256) -> Callable[[], list]:
    "Quantiles of all columns, as anybody would ask for them."
    steps = ", ".join(f"{i / max(count - 1, 1):.9f}" if count > 1 else "0.5" for i in range(count))
    asked = ", ".join(f"quantile_cont(c{place}, [{steps}])" for place in range(COLUMNS))
    connection = duckdb.connect(config={"threads": 2})
    return lambda: connection.execute(f"SELECT {asked} FROM '{path}'").fetchall()


def written(scale: Scale, then: dict[str, Numbers], path: Path) -> None:
    "The reference as a file, for a process of its own."
    raw = {name: {"edges": scale.marks[name], "then": vars(each)} for name, each in then.items()}
    path.write_text(json.dumps(raw), encoding="utf-8")


def read(path: Path) -> tuple[Scale, dict[str, Numbers]]:
    "The reference out of its file."
    raw = json.loads(path.read_text(encoding="utf-8"))
    marks = {name: tuple(each["edges"]) for name, each in raw.items()}
    then = {
        name: Numbers(**each["then"] | {"bins": tuple(each["then"]["bins"])}) for name, each in raw.items()
    }
    return Scale(dict.fromkeys(marks, "number"), marks | {"label": ()}, (), "label"), then


def memory_of(file: Path, reference: Path) -> float:
    "Megabytes at their highest of a fresh process that compares."
    command = [sys.executable, __file__, "--alone", str(file), "--reference", str(reference)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def farthest(before: Path, now: Path, found: dict[str, Apart]) -> float:
    "By how much a distance is off SciPy's at most, which sees every value."
    from scipy.stats import ks_2samp

    off = []
    for place in range(COLUMNS):
        one, other = (values.compressed() for values in (column(before, place), column(now, place)))
        off.append(abs(ks_2samp(one, other, method="asymp").statistic - found[f"c{place}"].distance))
    return max(off)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, one run; nothing can fail")
    parser.add_argument("--alone", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--reference", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        ours(options.alone, *read(options.reference))()
        print(peak_megabytes())
        return 0
    rows, runs = (ROWS // 10, 1) if options.quick else (ROWS, RUNS)
    with tempfile.TemporaryDirectory(prefix="mlw-bench-") as folder:
        return report(Path(folder), rows, runs, quick=options.quick)


def report(folder: Path, rows: int, runs: int, *, quick: bool) -> int:
    "Measure and print; 1 when a target is missed."
    before, now, large = (folder / f"{name}.parquet" for name in ("before", "now", "large"))
    kept = folder / "reference.json"
    write_features(before, rows, first=50_000_000)
    write_features(now, rows, moved=0.05)
    write_features(large, 10 * rows, moved=0.05)
    scale, then = reference_of(before)
    written(scale, then, kept)
    work = ours(now, scale, then)
    off = farthest(before, now, work())
    works = [plain(now), plain(now, 1), work, ours(large, scale, then)]
    scanned, median, compared, tenfold = best_of(runs, works)
    memory, memory_large = memory_of(now, kept), memory_of(large, kept)
    loads = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    print(
        f"{rows:,} rows × {COLUMNS} columns, {now.stat().st_size / 1e6:.0f} MB of Parquet, {os.cpu_count()} cores,"
        f" two threads, best of {runs} runs in turns, load {loads}\n"
    )
    print("| what | measured | target |\n|---|---:|---:|")
    print(f"| one plain scan: 256 quantiles of each column, seconds | {scanned:.2f} | |")
    print(f"| the median of each column alone, seconds | {median:.2f} | |")
    print(f"| PSI and KS of all columns against the reference, seconds | {compared:.2f} | |")
    print(f"| against the plain scan | {compared / scanned:.2f} × | {TARGET_RATIO} × |")
    print(f"| ten times the rows: {tenfold:.2f} seconds | {tenfold / compared:.1f} × | {TARGET_GROWTH:g} × |")
    print(f"| memory at its highest, MB | {memory:.0f} | {TARGET_MB:.0f} |")
    print(f"| the same for ten times the rows, MB | {memory_large:.0f} | {TARGET_MB:.0f} |")
    print(f"| KS off the exact value, at most | {off:.1e} | {TARGET_KS:.0e} |")
    holds = (
        compared / scanned <= TARGET_RATIO
        and tenfold / compared <= TARGET_GROWTH
        and max(memory, memory_large) < TARGET_MB
        and off <= TARGET_KS
    )
    return 0 if holds or quick else 1


if __name__ == "__main__":
    sys.exit(main())
