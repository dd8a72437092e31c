"""Ten million units summed for an experiment, in the time of little more than the raw sums, and the same bits every time.

Two means, one ratio and one covariate, in one Parquet file. Compared in the same run with one DuckDB query of the very
same sums, and with tea-tasting on a DuckDB relation and on a pandas data frame.
Run as `python benchmarks/attribution.py [--quick]`; prints a table in Markdown, fails when a target is missed.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
from measuring import best_of, peak_megabytes

ROWS, TARGET_RATIO, TARGET_MB, RUNS, AGAIN = 10_000_000, 1.5, 300.0, 20, 4
OUTCOMES, COVARIATE, PRODUCTS = ["revenue", "minutes", "orders"], "before", [("revenue", "orders")]
PAIRS = [(one, one) for one in (*OUTCOMES, COVARIATE)] + PRODUCTS + [(one, COVARIATE) for one in OUTCOMES]


def draw(share: int) -> str:
    "A reproducible uniform number between 0 and 1 for every row, in SQL."
    return f"((hash(i + {share}) % 1000003 + 1) / 1000004.0)"


def write_units(path: Path, rows: int) -> None:
    "Units with skewed revenue, minutes, orders, and revenue before; half of them treated."
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute(f"""
            COPY (SELECT i AS unit, if(hash(i) % 2 = 0, 'control', 'treated') AS arm, -ln({draw(5)}) * 40 AS before,
                         before / 2 - ln({draw(1)}) * 40 AS revenue, -ln({draw(9)}) * 6 AS minutes,
                         floor({draw(7)} * 5)::INTEGER AS orders
                  FROM range({rows}) AS r(i)) TO '{path}' (FORMAT parquet)""")


def raw(path: Path, connection: duckdb.DuckDBPyConnection, *, cubes: bool) -> Callable[[], list]:
    "The same sums as anybody would write them."
    products = [f"sum({one} * {other})" for one, other in PAIRS]
    products += [f"sum({one} * {one} * {one})" for one in OUTCOMES] if cubes else []
    sums = ", ".join([f"sum({name})" for name in (*OUTCOMES, COVARIATE)] + products)
    return lambda: connection.execute(f"SELECT arm, count(*), {sums} FROM '{path}' GROUP BY arm").fetchall()


def ours(path: Path, **options: object) -> Callable[[], object]:
    "The library's summary, guards included."
    from ml_workbench.experiment.summaries import summarise

    wanted = {"arm": "arm", "columns": OUTCOMES, "covariates": [COVARIATE], "products": PRODUCTS}
    return lambda: summarise(path, **wanted, **options)


def tea_tasting(path: Path, engine: str) -> Callable[[], object]:
    "The same three lifts by tea-tasting, which computes its own sums."
    import tea_tasting as tt

    experiment = tt.Experiment(
        {
            "revenue": tt.Mean("revenue", COVARIATE),
            "minutes": tt.Mean("minutes", COVARIATE),
            "value": tt.RatioOfMeans("revenue", "orders", COVARIATE),
        },
        variant="arm",
    )
    if engine == "pandas":
        import pandas as pd

        return lambda: experiment.analyze(pd.read_parquet(path), control="control")
    connection = duckdb.connect(config={"threads": 2})
    return lambda: experiment.analyze(connection.read_parquet(str(path)), control="control")


def fingerprint(summary: object) -> str:
    "All bits of the moments."
    parts = [
        f"{arm}{one.count}".encode() + one.mean.tobytes() + one.scatter.tobytes()
        for arm, one in sorted(summary.arms.items())
    ]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def in_a_process_of_its_own(path: Path, what: str) -> dict:
    "Seconds, memory at its highest and the bits, of one way in a fresh process."
    command = [sys.executable, __file__, "--alone", what, "--file", str(path)]
    return json.loads(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    )


def alone(path: Path, what: str) -> None:
    "Do one thing once, and print what it took."
    ways = {
        "summary": lambda: ours(path, skewness=False),
        "summary with skewness": lambda: ours(path),
        "summary and unit check": lambda: ours(path, unit="unit"),
        "tea-tasting on DuckDB": lambda: tea_tasting(path, "duckdb"),
        "tea-tasting on pandas": lambda: tea_tasting(path, "pandas"),
    }
    work = ways[what]()
    start = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    bits = fingerprint(result) if hasattr(result, "arms") else ""
    print(json.dumps({"seconds": seconds, "megabytes": peak_megabytes(), "bits": bits}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the rows, fewer runs; nothing can fail"
    )
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        alone(options.file, options.alone)
        return 0
    rows, runs = (ROWS // 10, 3) if options.quick else (ROWS, RUNS)
    with tempfile.TemporaryDirectory(prefix="mlw-bench-") as folder:
        path = Path(folder) / "units.parquet"
        write_units(path, rows)
        return report(path, rows, runs, quick=options.quick)


def report(path: Path, rows: int, runs: int, *, quick: bool) -> int:
    "Measure and print; 1 when a target is missed."
    connection = duckdb.connect(config={"threads": 2})
    works = [
        raw(path, connection, cubes=False),
        ours(path, connection=connection, skewness=False),
        raw(path, connection, cubes=True),
        ours(path, connection=connection),
    ]
    plain, summed, cubed, skewed = best_of(runs, works)
    names = ["summary", "summary with skewness", "summary and unit check"]
    names += ["tea-tasting on DuckDB", "tea-tasting on pandas"]
    apart = {name: in_a_process_of_its_own(path, name) for name in names}
    again = {in_a_process_of_its_own(path, "summary")["bits"] for _ in range(runs)} | {
        apart["summary"]["bits"]
    }
    memory = max(apart["summary"]["megabytes"], apart["summary with skewness"]["megabytes"])
    print(
        f"{rows:,} units in {path.stat().st_size / 1e6:.0f} MB of Parquet, {os.cpu_count()} cores, best of {runs} runs in turns, two threads\n"
    )
    print("| what | seconds | against the raw query | target |\n|---|---:|---:|---:|")
    print(f"| one raw query of twelve sums | {plain:.3f} | 1 × | |")
    print(
        f"| `summarise`: the same sums, guarded, order-independent | {summed:.3f} | {summed / plain:.2f} × | {TARGET_RATIO} × |"
    )
    print(f"| the same with third powers, raw | {cubed:.3f} | 1 × | |")
    print(f"| `summarise` with skewness | {skewed:.3f} | {skewed / cubed:.2f} × | {TARGET_RATIO} × |")
    for name in names[2:]:
        print(
            f"| {name}, once, in a process of its own | {apart[name]['seconds']:.2f} | {apart[name]['seconds'] / plain:.1f} × | |"
        )
    print("\n| what | memory at its highest, MB | target |\n|---|---:|---:|")
    print(f"| the process that summarises | {memory:.0f} | {TARGET_MB:.0f} |")
    for name in names[2:]:
        print(f"| {name} | {apart[name]['megabytes']:.0f} | |")
    print(
        f"\nBits of the moments in {AGAIN + 1} processes: {'all the same' if len(again) == 1 else '**different**'}"
    )
    holds = max(summed / plain, skewed / cubed) <= TARGET_RATIO and memory <= TARGET_MB and len(again) == 1
    return 0 if holds or quick else 1


if __name__ == "__main__":
    sys.exit(main())
