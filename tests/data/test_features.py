"""The compiler of features: the same values as the definition, whatever the dates, the engine or the threads."""

import math
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_workbench.data import compiler
from ml_workbench.data.compiler import compile_features
from ml_workbench.data.declarations import Attribute, Derived, Feature, FeatureSet, Relation, only, windows
from ml_workbench.data.features import (
    check_features,
    compute_features,
    compute_labels,
    describe_features,
    measure_costs,
    select_snapshots,
    write_snapshots,
)
from ml_workbench.data.splits import Slice
from ml_workbench.plan.errors import FeatureError

START = datetime(2024, 1, 1, 5)
MONDAYS = tuple(START + timedelta(days=7 * n) for n in range(4, 10))
IRREGULAR = (
    datetime(2024, 2, 1, 5),
    datetime(2024, 2, 1, 17),
    datetime(2024, 2, 13, 3, 21, 7),
    datetime(2024, 3, 1, 5),
)
EVENTS = Relation("orders", "SELECT * FROM orders", "Orders")
MOVES = Relation("moves", "SELECT * FROM moves", "Where customers lived since when", time="since")
PEOPLE = Relation("people", "SELECT * FROM people", "Customers", time=None)

EXPRESSIONS = {
    "rows": "count(*)",
    "amounts": "count(amount)",
    "large": "count(*) FILTER (WHERE amount > 5)",
    "total": "sum(amount)",
    "total_or_zero": "coalesce(sum(amount), 0)",
    "total_of_a": "sum(amount) FILTER (WHERE product = 'a')",
    "share_of_a": "coalesce(sum(amount) FILTER (WHERE product = 'a'), 0) / nullif(sum(amount), 0)",
    "mean": "avg(amount)",
    "spread": "stddev(amount)",
    "variance": "var_samp(amount + 1)",
    "least": "min(amount)",
    "greatest": "max(amount) FILTER (WHERE product <> 'a')",
    "extent": "max(amount) - min(amount)",
    "since_last": "(epoch(as_of) - epoch(max(time))) / 86400",
    "since_first": "(epoch(as_of) - epoch(min(time))) / 86400",
    "products": "count(DISTINCT product)",
    "large_products": "count(DISTINCT product) FILTER (WHERE amount > 5)",
    "pairs": "count(DISTINCT product || CAST(amount AS VARCHAR))",
    "per_product": "sum(amount) / nullif(count(DISTINCT product), 0)",
    "middle": "median(amount)",
    "quarter": "quantile_disc(amount, 0.25)",
    "still_running": "count(*) FILTER (WHERE ends > as_of)",
    "distinct_total": "sum(DISTINCT amount)",
}
ALL = tuple(
    Feature(f"{name}_{days or 'ever'}", expression, "orders", days, name, "test")
    for name, expression in EXPRESSIONS.items()
    for days in (7, 28, None)
)


def make_orders(seed: int, rows: int = 400) -> list[tuple]:
    "Random orders on a grid of six hours, so that many fall exactly on a boundary."
    rng = random.Random(seed)
    return [
        (
            rng.randint(1, 5),
            START + timedelta(hours=6 * rng.randint(-40, 300)),
            rng.choice([None, *range(1, 12)]),
            rng.choice([None, "a", "b", "c", "d", "e"]),
            START + timedelta(days=rng.randint(0, 90)),
        )
        for _ in range(rows)
    ]


def connect(
    orders: list[tuple], as_ofs: tuple[datetime, ...] = MONDAYS, threads: int = 2
) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config={"threads": threads})
    connection.execute(
        "CREATE TABLE orders (customer BIGINT, time TIMESTAMP, amount DECIMAL(12,2), product VARCHAR, ends TIMESTAMP)"
    )
    if orders:
        connection.executemany("INSERT INTO orders VALUES (?, ?, ?, ?, ?)", orders)
    connection.execute(
        "CREATE TABLE snapshots AS SELECT customer, as_of FROM range(1, 8) AS t(customer), (SELECT unnest(?) AS as_of)",
        [list(as_ofs)],
    )
    return connection


@pytest.fixture
def shop() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = connect(make_orders(1))
    connection.execute("CREATE TABLE moves (customer BIGINT, since TIMESTAMP, city VARCHAR)")
    connection.execute(
        "INSERT INTO moves VALUES (1, '2023-01-01', 'Aarau'), (1, '2024-02-12 05:00', 'Bern'), (2, '2024-02-12 05:00:01', 'Chur')"
    )
    connection.execute(
        "CREATE TABLE people AS SELECT * FROM (VALUES (1, 'north', 3), (2, NULL, NULL)) AS t(customer, region, pets)"
    )
    yield connection
    connection.close()


def declare(*features: Feature, **others: object) -> FeatureSet:
    return FeatureSet("customer", (EVENTS, MOVES, PEOPLE), features, **others)


ORDERS = FeatureSet("customer", (EVENTS,), ALL)


def by_definition(
    connection: duckdb.DuckDBPyConnection, features: tuple[Feature, ...]
) -> list[dict[str, float]]:
    "Values straight from the definition: for each snapshot and window, a query over the events that it may see."
    rows = []
    for customer, as_of in connection.execute(
        "SELECT customer, as_of FROM snapshots ORDER BY as_of, customer"
    ).fetchall():
        row = {}
        for days in {feature.days for feature in features}:
            same = [feature for feature in features if feature.days == days]
            begin = as_of - timedelta(days=days) if days else datetime(1900, 1, 1)
            values = ", ".join(
                feature.expression.replace("as_of", f"TIMESTAMP '{as_of}'") for feature in same
            )
            query = f"SELECT {values} FROM orders WHERE customer = ? AND time > ? AND time <= ?"
            found = connection.execute(query, [customer, begin, as_of]).fetchall()[0]
            row |= {
                feature.name: math.nan if value is None else float(value)
                for feature, value in zip(same, found)
            }
        rows.append(row)
    return rows


def assert_as_defined(connection: duckdb.DuckDBPyConnection, features: tuple[Feature, ...] = ALL) -> None:
    computed = compute_features(connection, replace(ORDERS, features=features), exact=True).df()
    wanted = by_definition(connection, features)
    for feature in features:
        got = computed[feature.name].astype(float).tolist()
        expected = [row[feature.name] for row in wanted]
        assert got == pytest.approx(expected, rel=1e-9, abs=1e-9, nan_ok=True), feature.name


@pytest.mark.parametrize("as_ofs", [MONDAYS, IRREGULAR, MONDAYS[:1]], ids=["weekly", "irregular", "one date"])
def test_values_are_those_of_the_definition(as_ofs: tuple[datetime, ...]) -> None:
    assert_as_defined(connect(make_orders(2), as_ofs))


def test_the_plain_join_gives_the_same_values_as_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "MOST_TILES", 0)
    assert_as_defined(connect(make_orders(2), MONDAYS[:2]))


def test_an_event_at_the_as_of_time_counts_and_one_a_window_earlier_does_not() -> None:
    as_of = MONDAYS[0]
    moments = [
        as_of,
        as_of + timedelta(microseconds=1),
        as_of - timedelta(days=7),
        as_of - timedelta(days=7) + timedelta(microseconds=1),
    ]
    connection = connect([(1, moment, 1, "a", None) for moment in moments], (as_of,))
    counted = Feature("orders_1w", "count(*)", "orders", 7, "", "")
    assert compute_features(connection, replace(ORDERS, features=(counted,))).fetchall()[0][2] == 2


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    data=st.lists(
        st.tuples(
            st.integers(1, 3),
            st.datetimes(datetime(2024, 1, 1), datetime(2024, 3, 20)).map(
                lambda t: t.replace(minute=0, second=0, microsecond=0)
            ),
            st.none() | st.integers(-5, 5),
            st.none() | st.sampled_from("abc"),
            st.none() | st.datetimes(datetime(2024, 1, 1), datetime(2024, 4, 1)),
        ),
        max_size=30,
    ),
    as_ofs=st.sets(st.sampled_from([*MONDAYS, *IRREGULAR]), min_size=1, max_size=5),
)
def test_any_events_at_any_as_of_times_give_the_values_of_the_definition(
    data: list[tuple], as_ofs: set[datetime]
) -> None:
    connection = connect(data, tuple(sorted(as_ofs)))
    chosen = tuple(
        f
        for f in ALL
        if f.days != 7
        and f.name.rsplit("_", 1)[0] in ("total", "products", "greatest", "mean", "still_running")
    )
    assert_as_defined(connection, chosen)


@settings(max_examples=15, deadline=None)
@given(
    cut=st.sampled_from(MONDAYS),
    later=st.lists(
        st.tuples(
            st.integers(1, 9), st.integers(1, 10**13), st.integers(-100, 100), st.sampled_from("abcxyz")
        ),
        min_size=1,
        max_size=30,
    ),
)
def test_no_future_event_changes_a_value(cut: datetime, later: list[tuple]) -> None:
    connection = connect(make_orders(3))
    before = compute_features(connection, ORDERS).filter(f"as_of <= TIMESTAMP '{cut}'").df()
    rows = [
        (who, cut + timedelta(microseconds=wait), amount, product, None)
        for who, wait, amount, product in later
    ]
    connection.executemany("INSERT INTO orders VALUES (?, ?, ?, ?, ?)", rows)
    after = compute_features(connection, ORDERS).filter(f"as_of <= TIMESTAMP '{cut}'").df()
    assert after.equals(before)


def test_one_as_of_date_gives_exactly_the_values_of_training(shop: duckdb.DuckDBPyConnection) -> None:
    training = compute_features(shop, ORDERS).df()
    for as_of in MONDAYS:
        shop.execute("CREATE OR REPLACE TABLE batch AS SELECT * FROM snapshots WHERE as_of = ?", [as_of])
        batch = compute_features(shop, ORDERS, snapshots="batch", into="batch_features").df()
        assert batch.equals(training[training["as_of"] == as_of].reset_index(drop=True))


def test_some_entities_give_exactly_the_values_of_all(shop: duckdb.DuckDBPyConnection) -> None:
    everyone = compute_features(shop, ORDERS).df()
    shop.execute("CREATE TABLE few AS SELECT * FROM snapshots WHERE customer IN (2, 7)")
    few = compute_features(shop, ORDERS, snapshots="few", into="few_features").df()
    assert few.equals(everyone[everyone["customer"].isin([2, 7])].reset_index(drop=True))


def test_values_do_not_depend_on_threads_or_on_the_order_of_rows() -> None:
    orders = make_orders(4, rows=5000)
    one = compute_features(connect(orders, threads=1), ORDERS).df()
    four = compute_features(connect(orders[::-1], threads=4), ORDERS).df()
    assert four.equals(one)


def test_null_entities_and_null_times_are_seen_by_nobody(shop: duckdb.DuckDBPyConnection) -> None:
    before = compute_features(shop, ORDERS).df()
    shop.execute("INSERT INTO orders VALUES (NULL, '2024-01-10', 5, 'a', NULL), (1, NULL, 5, 'z', NULL)")
    assert compute_features(shop, ORDERS).df().equals(before)


def test_empty_values_and_derived_features(shop: duckdb.DuckDBPyConnection) -> None:
    declared = declare(
        *windows(
            "spend_{weeks}w",
            "sum(amount)",
            "orders",
            weeks=[1, 4],
            meaning="Spend, {span}",
            family="money",
            empty=0,
        ),
        derived=(
            Derived("trend_doubled", "trend * 2", "", "", empty=-1),
            Derived("trend", "CAST(spend_1w AS DOUBLE) / nullif(spend_4w, 0)", "", ""),
        ),
    )
    rows = compute_features(shop, declared).df().set_index(["customer", "as_of"])
    nobody = rows.loc[(7, MONDAYS[0])]
    assert (nobody["spend_1w"], nobody["trend_doubled"]) == (0, -1)
    assert nobody.isna()["trend"]
    assert str(rows["spend_1w"].dtype) == "float32"
    somebody = rows.loc[(1, MONDAYS[0])]
    assert somebody["trend_doubled"] == pytest.approx(2 * somebody["spend_1w"] / somebody["spend_4w"])


def test_attributes_are_those_known_at_the_as_of_time(shop: duckdb.DuckDBPyConnection) -> None:
    declared = declare(
        attributes=(
            Attribute("city", "city", "moves", "", ""),
            Attribute("region", "upper(region)", "people", "", ""),
            Attribute("pets", "pets", "people", "", "", kind="number"),
        )
    )
    rows = compute_features(shop, declared).df().set_index(["customer", "as_of"])
    cities = [rows.loc[(1, as_of), "city"] for as_of in MONDAYS[:3]]
    assert cities == ["Aarau", "Aarau", "Bern"]  # the move is at the third as-of time exactly
    assert [rows.loc[(2, as_of), "city"] for as_of in MONDAYS[:4]] == ["(missing)"] * 3 + ["Chur"]
    assert rows.loc[(1, MONDAYS[0]), ["region", "pets"]].tolist() == ["NORTH", 3]
    assert rows.loc[(2, MONDAYS[0]), "region"] == "(missing)"


def test_two_rows_of_an_attribute_without_time_are_refused(shop: duckdb.DuckDBPyConnection) -> None:
    shop.execute("INSERT INTO people VALUES (1, 'south', 1)")
    with pytest.raises(FeatureError, match="more than one row for some customer"):
        compute_features(shop, declare(attributes=(Attribute("region", "region", "people", "", ""),)))


def test_labels_look_one_horizon_ahead_and_no_further(shop: duckdb.DuckDBPyConnection) -> None:
    declared = declare(labels=(Feature("next_orders", "count(*)", "orders", 14, "", ""),))
    known_until = MONDAYS[2] + timedelta(days=14)
    labels = compute_labels(shop, declared, known_until=known_until).fetchall()
    for customer, as_of, value in labels:
        query = "SELECT count(*) FROM orders WHERE customer = ? AND time > ? AND time <= ?"
        ahead = shop.execute(query, [customer, as_of, as_of + timedelta(days=14)]).fetchall()[0][0]
        assert value == (ahead if as_of <= MONDAYS[2] else None)
    assert len(labels) == 7 * len(MONDAYS)


def test_labels_of_different_horizons_are_refused(shop: duckdb.DuckDBPyConnection) -> None:
    several = (Feature("a", "count(*)", "orders", 7, "", ""), Feature("b", "count(*)", "orders", 14, "", ""))
    with pytest.raises(FeatureError, match="one horizon"):
        compute_labels(shop, declare(labels=several), known_until=MONDAYS[-1])


def test_snapshots_are_the_active_entities(shop: duckdb.DuckDBPyConnection) -> None:
    select_snapshots(shop, ORDERS, MONDAYS, source="orders", active_days=3, into="active")
    wanted = shop.execute(
        """SELECT DISTINCT customer, as_of FROM snapshots JOIN orders USING (customer)
           WHERE time <= as_of AND time > as_of - INTERVAL 3 DAY ORDER BY as_of, customer"""
    ).fetchall()
    assert shop.table("active").fetchall() == wanted
    assert 0 < len(wanted) < 7 * len(MONDAYS)


def test_only_keeps_what_a_feature_needs() -> None:
    declared = declare(
        *windows("spend_{weeks}w", "sum(amount)", "orders", weeks=[1, 4, 12], meaning="", family=""),
        derived=(Derived("trend", "spend_1w / spend_4w", "", ""), Derived("twice", "trend * 2", "", "")),
    )
    assert [item.name for item in only(declared, ["twice"]).columns] == [
        "spend_1w",
        "spend_4w",
        "trend",
        "twice",
    ]
    with pytest.raises(FeatureError, match="did you mean 'trend'"):
        only(declared, ["trent"])


def test_costs_cover_every_feature(shop: duckdb.DuckDBPyConnection) -> None:
    declared = declare(
        ALL[0],
        derived=(Derived("twice", f"{ALL[0].name} * 2", "", ""),),
        attributes=(Attribute("city", "city", "moves", "", ""),),
    )
    costs = measure_costs(shop, declared)
    assert list(costs) == [item.name for item in declared.columns]
    assert all(cost > 0 for cost in costs.values())


def test_the_catalogue_tells_how_much_is_missing_and_refuses_infinity(
    shop: duckdb.DuckDBPyConnection,
) -> None:
    declared = declare(
        Feature("mean_1w", "avg(amount)", "orders", 7, "Mean order", "money"),
        attributes=(Attribute("city", "city", "moves", "", "who"),),
    )
    rows = compute_features(shop, declared).df()
    mean, city = describe_features(shop, declared)
    assert mean["missing_share"] == rows["mean_1w"].isna().mean()
    assert city["missing_share"] == (rows["city"] == "(missing)").mean() > 0
    assert (mean["source"], mean["window_days"], city["window_days"]) == ("orders", 7, None)
    infinite = declare(Feature("odd", "1 / (count(*) * 0.0::DOUBLE)", "orders", 7, "", ""))
    compute_features(shop, infinite)
    with pytest.raises(FeatureError, match=r"'odd'.*nullif"):
        describe_features(shop, infinite)


def test_the_written_file_is_sorted_and_the_same_bytes_again(
    shop: duckdb.DuckDBPyConnection, tmp_path
) -> None:
    declared = replace(ORDERS, labels=(Feature("next_orders", "count(*)", "orders", 14, "", ""),))
    compute_features(shop, declared)
    compute_labels(shop, declared, known_until=datetime(2030, 1, 1))
    slices = (Slice("early", MONDAYS[:2]), Slice("late", MONDAYS[3:]))
    for name in ("one", "two"):
        write_snapshots(shop, declared, slices, tmp_path / f"{name}.parquet")
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    rows = duckdb.read_parquet(str(tmp_path / "one.parquet")).df()
    assert rows[["as_of", "customer"]].equals(
        rows[["as_of", "customer"]].sort_values(["as_of", "customer"], ignore_index=True)
    )
    assert set(rows["slice"]) == {"early", "late"}
    assert MONDAYS[2] not in set(rows["as_of"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"expression": "sum(amount"}, r"'spend'.*'sum\(amount'.*correct it"),
        ({"expression": "sum(amount), 1"}, "not one SQL expression"),
        ({"expression": ""}, "'spend'.*not.* SQL expression"),
        ({"expression": "sum(amount) FROM people"}, "not one SQL expression"),
        ({"expression": "sum((SELECT max(amount) FROM orders))"}, "could see the future"),
        ({"expression": "sum(amount) OVER ()"}, "could see the future"),
        ({"expression": "amount"}, r"aggregates nothing.*sum\(amount\)"),
        ({"expression": "sum(amount) / product"}, "'product' stands outside an aggregate"),
        ({"days": 0}, "window of 0 days"),
        ({"days": -7}, "window of -7 days"),
        ({"days": 3.5}, r"window of 3\.5 days"),
        ({"source": "oders"}, "'spend'.*unknown relation 'oders', did you mean 'orders'"),
        ({"source": "people"}, "'people' has no time"),
        ({"name": "other"}, "'other' is taken; rename"),
        ({"name": "as_of"}, "'as_of' is taken"),
        ({"name": "Spend now"}, "small letters"),
    ],
)
def test_a_wrong_feature_is_refused_with_its_name_its_text_and_the_fix(changes: dict, message: str) -> None:
    spend = Feature("spend", "sum(amount)", "orders", 7, "", "")
    with pytest.raises(FeatureError, match=message):
        declare(replace(spend, **changes), replace(spend, name="other"))


@pytest.mark.parametrize(
    ("derived", "message"),
    [
        (
            ["ratio = spend / spent"],
            "'ratio'.*'spend / spent'.*unknown feature 'spent', did you mean 'spend'",
        ),
        (["ratio = ratio + 1"], "'ratio'.*needs itself"),
        (["first = second + 1", "second = spend - first"], "needs itself.*→"),
        (["ratio = spend +"], "'spend \\+' is not an SQL expression"),
        (["spend = 1"], "'spend' is taken"),
    ],
)
def test_a_wrong_derived_feature_is_refused(derived: list[str], message: str) -> None:
    items = tuple(Derived(*line.split(" = "), "", "") for line in derived)
    with pytest.raises(FeatureError, match=message):
        declare(Feature("spend", "sum(amount)", "orders", 7, "", ""), derived=items)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("sum(amuont)", r"'sum\(amuont\)' reads unknown column 'amuont' of 'orders', did you mean 'amount'"),
        ("sum(product)", r"'spend': 'sum\(product\)'.*sum\(VARCHAR\)"),
        ("max(soundslike(product))", "soundslike"),
        (
            "sum(CAST(amount AS DOUBLE))",
            r"changes? with the order of rows; write CAST\(.* AS DECIMAL\(18, 4\)\)",
        ),
        ("avg(amount * 0.5::DOUBLE)", "DOUBLE, and such sums"),
    ],
)
def test_the_engine_refuses_what_does_not_fit_the_tables(
    shop: duckdb.DuckDBPyConnection, expression: str, message: str
) -> None:
    with pytest.raises(FeatureError, match=message):
        check_features(shop, declare(Feature("spend", expression, "orders", 7, "", "")))


@pytest.mark.parametrize(
    ("relation", "message"),
    [
        (Relation("orders", "SELECT * FROM order", ""), "'orders': its SQL fails"),
        (Relation("orders", "SELECT customer FROM orders", ""), "no column 'time'"),
        (Relation("orders", "SELECT time FROM orders", ""), "no column 'customer'"),
        (Relation("orders", "SELECT *, time AS as_of FROM orders", ""), "rename it"),
    ],
)
def test_a_relation_that_does_not_fit_is_refused(
    shop: duckdb.DuckDBPyConnection, relation: Relation, message: str
) -> None:
    with pytest.raises(FeatureError, match=message):
        check_features(
            shop, FeatureSet("customer", (relation,), (Feature("n", "count(*)", "orders", 7, "", ""),))
        )


def test_a_good_declaration_passes(shop: duckdb.DuckDBPyConnection) -> None:
    check_features(shop, declare(*ALL, attributes=(Attribute("city", "city", "moves", "", ""),)))


def test_no_snapshots_are_refused() -> None:
    with pytest.raises(FeatureError, match="no snapshots"):
        compile_features(ORDERS, [])


# What PostgreSQL has no word for: DuckDB's ascii and quantile are not part of the promise.
PORTABLE = tuple(feature for feature in ALL if not feature.name.startswith(("quarter", "pairs")))


@pytest.mark.postgres
@pytest.mark.parametrize("as_ofs", [MONDAYS, IRREGULAR], ids=["weekly", "irregular"])
def test_postgresql_computes_the_same_values(postgres_url: str, as_ofs: tuple[datetime, ...]) -> None:
    dbapi = pytest.importorskip("adbc_driver_postgresql.dbapi")
    here = connect(make_orders(5), as_ofs)
    here.execute(
        "CREATE TABLE people AS SELECT * FROM (VALUES (1, 'north'), (2, NULL)) AS t(customer, region)"
    )
    declared = FeatureSet(
        "customer",
        (EVENTS, PEOPLE),
        PORTABLE,
        derived=(Derived("trend", "CAST(total_or_zero_7 AS DOUBLE) / nullif(total_or_zero_28, 0)", "", ""),),
        attributes=(Attribute("region", "region", "people", "", ""),),
    )
    wanted = compute_features(here, declared).df()
    with dbapi.connect(postgres_url) as there, there.cursor() as cursor:
        for table in ("orders", "snapshots", "people"):
            cursor.adbc_ingest(table, here.table(table).to_arrow_table(), mode="create", temporary=True)
        *made, query = compile_features(declared, as_ofs).statements("postgres")
        for statement in made:
            cursor.execute(statement)
        cursor.execute(query)
        got = cursor.fetch_arrow_table().to_pandas()
    assert got["region"].tolist() == wanted["region"].tolist()
    for name in [item.name for item in declared.columns if item.kind == "number"]:
        values = got[name].astype(float).tolist()
        assert values == pytest.approx(
            wanted[name].astype(float).tolist(), rel=1e-6, abs=1e-9, nan_ok=True
        ), name
