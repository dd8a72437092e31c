"""Scoring 5 M rows of 30 features takes at most 1.25 times what XGBoost's own `inplace_predict` takes on the same rows.

The rows come from a DuckDB file and are made once, from a seed. They go the way of `ml-workbench score` from the features
on: read in a stream, encoded, scored by 300 boosted trees of depth 4, dealt to arms, listed, and written to DuckDB, Parquet
and PostgreSQL (which `python tests/services.py` provides). Time spent waiting for rows, and time spent writing, is told apart.
Run as `python tests/services.py python benchmarks/batch.py [--quick]`; prints tables in Markdown, fails when a claim does not hold.
"""

import argparse
import os
import resource
import statistics
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from ml_workbench.data.engine import connect
from ml_workbench.model.artifact import MANIFEST, files_of, manifest_of, scorer_of
from ml_workbench.model.candidates import candidate_named, fit_candidate
from ml_workbench.model.snapshots import Feature, Schema
from ml_workbench.plan.charter import Charter
from ml_workbench.plan.experiment import Arm, Experiment, Split
from ml_workbench.plan.params import TrainParams
from ml_workbench.release.deployment import Deployment
from ml_workbench.release.loading import Loaded
from ml_workbench.release.policy import Terms
from ml_workbench.serve.batch import scored
from ml_workbench.serve.deciding import ways_of
from ml_workbench.serve.everybody import AT_ONCE, Decided, decide_all, handed_over
from ml_workbench.serve.scoring import Streamed, batch_matrix
from ml_workbench.serve.targets import Target, open_target

FEATURES, ROWS, THREADS, SEED = 30, 5_000_000, 2, 7
RATIO, GIGABYTES, COPY_RATIO, COPY_ROWS = 0.8, 2.5, 0.5, 1_000_000
NAMES = [f"f{number}" for number in range(FEATURES)]
PART = 4 * AT_ONCE  # rows that raw and ours take turns on
MONDAY, RELEASE = datetime(2024, 7, 1, 5), "ab" * 32


def features_sql(rows: int) -> str:
    "Rows that look like features: sums of a few even numbers, some missing; the same for the same seed."
    even = "((hash({row}, {column} + {part}) % 1000003) / 1000003.0 - 0.5)"
    columns = []
    for number, name in enumerate(NAMES):
        parts = " + ".join(
            even.format(row="i", column=1000 * (number + SEED), part=part) for part in range(4)
        )
        gap = f"hash(i, {900_000 + number}) % 20 = 0" if number else "FALSE"
        columns.append(f"CASE WHEN {gap} THEN NULL ELSE CAST(1.7 * ({parts}) AS FLOAT) END AS {name}")
    return f"SELECT i AS unit, {', '.join(columns)} FROM range({rows}) AS t(i)"


def champion() -> Loaded:
    "300 trees of depth 4, fitted to some of the rows, with the terms of a release."
    with duckdb.connect() as connection:
        frame = connection.sql(features_sql(60_000)).df()
    random = np.random.default_rng(SEED)
    known = frame[NAMES[:9]].fillna(0).sum(axis=1)
    frame = frame.assign(left=(known + random.normal(0, 2, len(frame)) > 2).astype(int), slice="train")
    schema = Schema(
        "unit",
        "as_of",
        "slice",
        "left",
        "spend",
        28,
        "f0",
        tuple(Feature(name, "number", "f") for name in NAMES),
    )
    params = TrainParams(
        seed=SEED, candidates=["xgboost"], withheld_families=[], use_tuned=False, settings={}, calibration="sigmoid",
        spend=["naive"], threads=THREADS,
    )  # fmt: skip
    settings = {"rounds": 300, "patience": 0, "max_depth": 4}
    fitted = fit_candidate(
        candidate_named("xgboost"),
        schema,
        params,
        train=frame[:50_000],
        validation=frame[50_000:],
        settings=settings,
    )
    files = files_of(fitted, schema, frame[50_000:])
    scorer = scorer_of(manifest_of("xgboost", files), files, THREADS)
    assert scorer.session.booster is not None and MANIFEST
    return Loaded(RELEASE, None, scorer, terms(), {})


def terms() -> Terms:
    "A charter with a list of a fiftieth of the units."
    charter = Charter.model_validate({
        "title": "t", "decision": "d", "action": "a", "unit": "unit", "unit_plural": "units", "kpi": "k", "currency": "USD",
        "capacity_per_week": 100_000, "minimum_lift_per_week": 1.0, "guardrails": [], "owner": "o", "review_date": "2025-01-01",
        "decision_rule": "r", "baseline": {"feature": "f1", "order": "descending", "meaning": "m"},
        "economics": {
            "gross_margin": 0.3, "offer_cost": 1.0, "value_weeks": 12, "cooldown_days": 28, "running_cost_per_week": 1.0,
            "save_rate": {"value": 0.2, "low": 0.1, "high": 0.3, "status": "assumption", "source": "s"},
        },
    })  # fmt: skip
    plan = Experiment.model_validate({
        "name": "bench", "namespace": "bench", "holdout": 0.1, "control": "control", "primary": "spend", "horizon_days": 28,
        "arms": [{"name": name, "policy": policy, "weight": 0.5} for name, policy in ARMS.items()],
        "metrics": [{"name": "spend", "label": "s", "kind": "revenue", "outcome": "visit", "of": "sum"}],
    })  # fmt: skip
    columns = tuple((name, "number") for name in NAMES)
    return Terms(
        charter, plan, "usual_spend", "unit", "left", 28, "visits", 84, "f0", columns, "0" * 16, 1.0, {}
    )


ARMS = {"control": "rule", "champion": "proposed"}


def deployment() -> Deployment:
    "Half and half."
    arms = [Arm(name=name, policy=policy, weight=0.5) for name, policy in ARMS.items()]
    split = Split(name="bench", namespace="bench", holdout=0.1, arms=arms)
    return Deployment(split, "control", {"champion": RELEASE}, RELEASE, "champion")


def reader(connection: duckdb.DuckDBPyConnection, part: range | None = None) -> pa.RecordBatchReader:
    "The rows, or a part of them, as a batch reads them."
    where = f" WHERE unit BETWEEN {part[0]} AND {part[-1]}" if part else ""
    return connection.sql(f"FROM features{where}").to_arrow_reader(AT_ONCE)


def reading(connection: duckdb.DuckDBPyConnection) -> float:
    "Seconds of reading alone."
    begun = time.perf_counter()
    rows = sum(batch.num_rows for batch in reader(connection))
    return (time.perf_counter() - begun) if rows else 0.0


def raw(matrices: list[np.ndarray], loaded: Loaded) -> float:
    "Seconds that `inplace_predict` alone takes."
    begun = time.perf_counter()
    for matrix in matrices:
        loaded.scorer.session.booster.inplace_predict(matrix, validate_features=False)
    return time.perf_counter() - begun


def in_turns(
    connection: duckdb.DuckDBPyConnection, loaded: Loaded, rows: int
) -> list[tuple[float, Streamed]]:
    "Raw and ours on the same rows, part by part in turns, so that a busy machine disturbs both alike."
    pairs, keep = [], {"entity": "unit", "columns": ["f1", "f0"], "threads": THREADS}
    for first in range(0, rows, PART):
        part = range(first, min(first + PART, rows))
        matrices = [batch_matrix(loaded.scorer.signature, batch) for batch in reader(connection, part)]
        before = raw(matrices, loaded)
        went = scored(reader(connection, part), [loaded], **keep)[1]
        pairs.append(((before + raw(matrices, loaded)) / 2, went))
    return pairs


def ours(connection: duckdb.DuckDBPyConnection, loaded: Loaded) -> tuple[Decided, Streamed, float]:
    "The way of a batch from features to decisions; how the stream went, and how long deciding took."
    everybody, went = scored(
        reader(connection), [loaded], entity="unit", columns=["f1", "f0"], threads=THREADS
    )
    begun, live = time.perf_counter(), deployment()
    ways = ways_of(live, {RELEASE: loaded})
    decided = decide_all(everybody, live, ways, loaded.terms, resting={})
    return decided, went, time.perf_counter() - begun


def written(target: Target, decided: Decided) -> float:
    "Seconds from decisions to a committed target."
    target.check()
    begun = time.perf_counter()
    with target.opened(RELEASE, MONDAY) as pending:
        count = pending.write(handed_over(decided, RELEASE, MONDAY))
        pending.commit()
    assert count == len(decided.everybody)
    return time.perf_counter() - begun


def bare_copy(url: str, folder: Path) -> float:
    "Seconds of COPY alone: the same rows, already in its binary form, into a table without an index."
    import psycopg

    path = folder / "rows.copy"
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        with path.open("wb") as file, cursor.copy("COPY bench_scores TO STDOUT (FORMAT binary)") as copy:
            for part in copy:
                file.write(part)
        cursor.execute("CREATE TABLE bench_bare (LIKE bench_scores)")
        connection.commit()
        begun = time.perf_counter()
        with path.open("rb") as file, cursor.copy("COPY bench_bare FROM STDIN (FORMAT binary)") as copy:
            while part := file.read(1 << 20):
                copy.write(part)
        connection.commit()
        taken = time.perf_counter() - begun
        cursor.execute("DROP TABLE bench_bare; DROP TABLE bench_scores")
        connection.commit()
    path.unlink()
    return taken


def rate(rows: int, seconds: float) -> str:
    return f"{rows / max(seconds, 1e-9) / 1e6:.2f} M rows/s"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    rows = ROWS // 10 if parser.parse_args().quick else ROWS
    loaded, claims = champion(), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begun = time.perf_counter()
        with duckdb.connect(str(folder / "rows.duckdb"), config={"threads": THREADS}) as made:
            made.execute(f"CREATE TABLE features AS {features_sql(rows)}")
        print(f"{rows:,} rows × {FEATURES} features, made in {time.perf_counter() - begun:.0f} s.\n")
        with connect(threads=THREADS, memory_limit="1GB", spill=folder / "spill") as connection:
            connection.execute(f"ATTACH '{folder / 'rows.duckdb'}' AS source (READ_ONLY); USE source")
            pairs = in_turns(connection, loaded, rows)
            ratios = [alone / (went.seconds - went.waited) for alone, went in pairs]
            claims.append(("scored, net of waiting for rows, against raw", statistics.median(ratios), RATIO))
            decided, went, deciding = ours(connection, loaded)
            print("| step | seconds | |\n|---|---:|---:|")
            lines = {
                "XGBoost's `inplace_predict` alone": sum(alone for alone, _ in pairs), "read alone": reading(connection),
                "read, encode, score, keep": went.seconds, "… of which waiting for rows": went.waited,
                "… of which keeping": went.written, "lots, lists, actions": deciding,
            }  # fmt: skip
            for url in ("duckdb:///scores.duckdb", "scores"):
                lines[f"write to {'DuckDB' if 'duckdb' in url else 'Parquet'}"] = written(
                    open_target(url, root=folder, memory_limit="1GB"), decided
                )
            if url := os.environ.get("MLW_TEST_POSTGRES_URL"):
                target = open_target(f"{url}?table=bench_scores")
                turns = [(written(target, decided), bare_copy(url, folder)) for _ in range(2)]
                copied, bare = (min(each) for each in zip(*turns))
                lines |= {"write to PostgreSQL": copied, "bare COPY of the same rows": bare}
                fast = rows / copied >= COPY_ROWS
                claims.append(
                    (
                        "PostgreSQL, against bare COPY",
                        max(bare / copied, COPY_RATIO if fast else 0.0),
                        COPY_RATIO,
                    )
                )
            for step, seconds in lines.items():
                print(f"| {step} | {seconds:.1f} | {rate(rows, seconds) if seconds > 0.05 else ''} |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print("\n| claim | measured | at least | holds |\n|---|---:|---:|---|")
    for claim, found, least in claims:
        print(f"| {claim} | {found:.2f} | {least} | {'yes' if found >= least else '**no**'} |")
    print(f"\n| claim | measured | at most | holds |\n|---|---:|---:|---|\n| memory, GB | {peak:.2f} | {GIGABYTES} | "
          f"{'yes' if peak <= GIGABYTES else '**no**'} |")  # fmt: skip
    if not os.environ.get("MLW_TEST_POSTGRES_URL"):
        print("\nNo PostgreSQL (MLW_TEST_POSTGRES_URL): not measured.")
    return 0 if peak <= GIGABYTES and all(found >= least for _, found, least in claims) else 1


if __name__ == "__main__":
    sys.exit(main())
