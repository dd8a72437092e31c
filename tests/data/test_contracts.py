"Promises about tables: what holds passes, what breaks is named with table, column, rule, count and rows."

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_workbench.data.contracts import (
    Breach,
    Column,
    Limits,
    Table,
    check,
    inspect,
    literal,
    previous_rows,
    quoted,
    report,
    scan,
)
from ml_workbench.plan.errors import ContractError
from ml_workbench.plan.files import write_json

ORDERS = Table(
    "orders",
    "One row per order",
    (
        Column("order_id", "BIGINT"),
        Column("customer_id", "BIGINT", references="customers.customer_id", tolerated=0.25),
        Column("amount", "DECIMAL(12,2)", minimum=0, maximum=100),
        Column("channel", "VARCHAR", nullable=True, allowed=("shop", "web")),
        Column("ordered", "TIMESTAMP"),
    ),
    key=("order_id",),
    time="ordered",
    fresh_days=2,
)
CUSTOMERS = Table(
    "customers", "One row per customer", (Column("customer_id", "BIGINT"),), key=("customer_id",)
)
TABLES = (CUSTOMERS, ORDERS)
LIMITS = Limits(earliest="2024-05-01", latest="2024-05-04", now=datetime(2024, 6, 1, tzinfo=UTC))


@pytest.fixture
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("""
            CREATE TABLE customers (customer_id BIGINT);
            INSERT INTO customers VALUES (1), (2), (3);
            CREATE TABLE orders (
                order_id BIGINT, customer_id BIGINT, amount DECIMAL(12,2), channel VARCHAR, ordered TIMESTAMP);
            INSERT INTO orders VALUES
                (1, 1, 0, 'web', '2024-05-01'), (2, 1, 100, NULL, '2024-05-02'),
                (3, 2, 5, 'shop', '2024-05-03 12:00'), (4, 3, 7.25, 'web', '2024-05-04');
        """)
        yield connection


def broken(engine: duckdb.DuckDBPyConnection, limits: Limits = LIMITS) -> list[Breach]:
    "The breaches that a check reports, after making sure that it also raises them."
    breaches = inspect(engine, TABLES, limits).breaches
    with pytest.raises(ContractError) as caught:
        check(engine, TABLES, limits)
    for breach in breaches:
        assert str(breach) in str(caught.value)
    return list(breaches)


def only(engine: duckdb.DuckDBPyConnection, limits: Limits = LIMITS) -> Breach:
    [breach] = broken(engine, limits)
    return breach


def test_tables_that_keep_every_promise_pass_with_their_facts(engine):
    inspection = check(engine, TABLES, LIMITS)
    assert inspection.found == ()
    orders = inspection.facts[1]
    assert (orders.rows, orders.first_event, orders.last_event) == (
        4,
        "2024-05-01 00:00:00",
        "2024-05-04 00:00:00",
    )


def test_values_on_the_bounds_are_allowed(engine):
    amounts = engine.execute("SELECT min(amount), max(amount) FROM orders").fetchone()
    assert amounts == (0, 100)
    assert inspect(engine, TABLES, LIMITS).breaches == ()


@pytest.mark.parametrize(
    ("change", "column", "rule", "count", "example"),
    [
        ("amount = -0.01 WHERE order_id = 2", "amount", "is below 0", 1, "order_id=2, amount=-0.01"),
        ("amount = 100.01 WHERE order_id = 2", "amount", "is above 100", 1, "order_id=2, amount=100.01"),
        (
            "channel = 'fax' WHERE order_id < 3",
            "channel",
            "is none of shop, web",
            2,
            "order_id=1, channel=fax",
        ),
        ("ordered = NULL WHERE order_id = 1", "ordered", "is NULL", 1, "order_id=1, ordered=NULL"),
        (
            "customer_id = NULL WHERE order_id = 1",
            "customer_id",
            "is NULL",
            1,
            "order_id=1, customer_id=NULL",
        ),
        ("order_id = NULL WHERE order_id = 1", "order_id", "is NULL", 1, "order_id=NULL"),
        (
            "ordered = '2024-04-30 23:59:59' WHERE order_id = 1",
            "ordered",
            "is before 2024-05-01",
            1,
            "order_id=1",
        ),
        (
            "ordered = '2024-05-04 00:00:01' WHERE order_id = 1",
            "ordered",
            "is after 2024-05-04",
            1,
            "order_id=1",
        ),
        ("ordered = '2024-06-02' WHERE order_id = 1", "ordered", "is in the future", 1, "order_id=1"),
        (
            "order_id = 4 WHERE order_id = 3",
            "order_id",
            "should be unique but repeats",
            2,
            "order_id=4, times=2",
        ),
    ],
)
def test_a_breach_names_column_rule_count_and_rows(engine, change, column, rule, count, example):
    engine.execute(f"UPDATE orders SET {change}")
    breach = only(engine)
    assert (breach.table, breach.column, breach.rule, breach.count) == ("orders", column, rule, count)
    assert breach.examples[0].startswith(example)


def test_three_offending_rows_are_shown_however_many_there_are(engine):
    engine.execute("UPDATE orders SET amount = -order_id")
    breach = only(engine)
    assert breach.count == 4
    assert breach.examples == (
        "order_id=1, amount=-1.00",
        "order_id=2, amount=-2.00",
        "order_id=3, amount=-3.00",
    )


def test_all_breaches_of_all_tables_are_reported_together(engine):
    engine.execute("UPDATE orders SET amount = -1, channel = 'fax'; INSERT INTO customers VALUES (3), (NULL)")
    found = {(breach.table, breach.column) for breach in broken(engine)}
    assert found == {
        ("orders", "amount"), ("orders", "channel"), ("customers", "customer_id"),
    }  # fmt: skip


def test_a_reference_is_tolerated_up_to_the_declared_share_and_then_reported(engine):
    engine.execute("UPDATE orders SET customer_id = 9 WHERE order_id = 1")
    inspection = check(engine, TABLES, LIMITS)
    assert [(breach.column, breach.count, breach.share) for breach in inspection.tolerated] == [
        ("customer_id", 1, 0.25)
    ]
    engine.execute("UPDATE orders SET customer_id = 9 WHERE order_id = 2")
    assert only(engine).rule == "is missing from customers.customer_id"


def test_an_empty_table_is_a_breach(engine):
    engine.execute("TRUNCATE orders")
    assert str(only(engine)) == "orders is empty"


def test_a_stale_table_is_a_breach(engine):
    limits = Limits(latest="2024-05-06 00:00:01", now=LIMITS.now)
    assert only(engine, limits).rule.startswith("ends 2024-05-04 00:00:00, 2.0 days before")
    assert inspect(engine, TABLES, Limits(latest="2024-05-06", now=LIMITS.now)).breaches == ()


def test_infinite_event_times_are_breaches_not_crashes(engine):
    engine.execute("UPDATE orders SET ordered = 'infinity' WHERE order_id = 1")
    engine.execute("UPDATE orders SET ordered = '-infinity' WHERE order_id = 2")
    rules = {breach.rule for breach in broken(engine)}
    assert {"is in the future", "is before 2024-05-01"} <= rules


@pytest.mark.parametrize(("previous", "fits"), [(8, True), (9, False), (3, True), (2, False)])
def test_the_row_count_may_change_only_so_much_against_the_previous_run(engine, previous, fits):
    limits = Limits(previous={"orders": previous}, max_row_change=0.5)
    if fits:
        assert inspect(engine, TABLES, limits).breaches == ()
    else:
        assert f"has 4 rows, the previous run had {previous}" in only(engine, limits).rule


def test_a_missing_table_and_a_missing_column_name_what_is_there(engine):
    engine.execute("ALTER TABLE orders RENAME amount TO amounts; DROP TABLE customers")
    customers, amount = broken(engine)
    assert str(customers) == "customers is missing"
    assert str(amount) == "orders.amount is missing, did you mean 'amounts'?"


def test_another_type_is_a_breach(engine):
    engine.execute("ALTER TABLE orders ALTER amount TYPE DOUBLE")
    assert str(only(engine)) == "orders.amount is DOUBLE, declared DECIMAL(12,2)"


def test_numbers_that_are_not_finite_are_breaches(engine):
    engine.execute("CREATE TABLE readings AS SELECT unnest([1.0, 'nan'::DOUBLE, '-inf'::DOUBLE]) AS value")
    [breach] = inspect(engine, [Table("readings", "", (Column("value", "DOUBLE"),))]).breaches
    assert (breach.rule, breach.count) == ("is not finite", 2)


def test_a_value_that_could_not_be_converted_is_not_blamed_for_being_null_too(engine):
    engine.execute("UPDATE orders SET amount = NULL WHERE order_id = 1")
    unread = Breach("orders", "amount", "is no DECIMAL(12,2)", 1, ("amount=two",), 4)
    assert inspect(engine, TABLES, LIMITS, found=[unread]).breaches == (unread,)


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: Column("amount", "DECIMALS"), "unknown type 'DECIMALS'"),
        (lambda: Column("customer", "BIGINT", references="customers"), "write 'table.column'"),
        (lambda: Table("t", "", (Column("a", "BIGINT"), Column("a", "BIGINT"))), "declared twice: a"),
        (lambda: Table("t", "", (Column("a", "BIGINT"),), key=("b",)), "no column 'b'"),
        (lambda: Table("t", "", (Column("a", "BIGINT"),), time="when"), "no column 'when'"),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(declare, message):
    with pytest.raises(ContractError, match=message):
        declare()


def test_a_reference_to_what_no_table_declares_is_refused(engine):
    with pytest.raises(
        ContractError, match=r"orders\.customer_id refers to customers\.customer_id, which is not declared"
    ):
        inspect(engine, [ORDERS])


@pytest.fixture(scope="module")
def shared() -> Iterator[duckdb.DuckDBPyConnection]:
    "One engine for all examples of the property tests."
    with duckdb.connect() as connection:
        yield connection


names = st.text(min_size=1, max_size=12).filter(lambda text: "\0" not in text and text.isprintable())


@given(name=names, value=names)
@settings(deadline=None)
def test_any_name_and_any_value_survive_quoting(shared, name, value):
    cursor = shared.execute(f"SELECT {literal(value)} AS {quoted(name)}")
    assert (cursor.description[0][0], cursor.fetchone()[0]) == (name, value)


def fill(engine: duckdb.DuckDBPyConnection, rows: list[tuple]) -> None:
    "Make `rows` the content of table t."
    engine.execute("CREATE OR REPLACE TABLE t (number INTEGER, letter VARCHAR)")
    if rows:
        engine.executemany("INSERT INTO t VALUES (?, ?)", rows)


rows = st.lists(st.tuples(st.integers(-5, 5) | st.none(), st.sampled_from(["a", "b", None])), max_size=30)


@given(rows=rows, seed=st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_rules_count_what_a_loop_over_the_rows_counts(shared, rows, seed):
    number = Column("number", "INTEGER", minimum=-1, maximum=2)
    table = Table("t", "", (number, Column("letter", "VARCHAR", allowed=("a",))), key=("number", "letter"))
    fill(shared, rows)
    counted = {(breach.column, breach.rule): breach.count for breach in inspect(shared, [table]).breaches}
    fingerprint = scan(shared, table)[0].fingerprint
    fill(shared, seed.sample(rows, len(rows)))
    assert scan(shared, table)[0].fingerprint == fingerprint
    expected = {
        ("number", "is NULL"): sum(number is None for number, _ in rows),
        ("letter", "is NULL"): sum(letter is None for _, letter in rows),
        ("number", "is below -1"): sum(number is not None and number < -1 for number, _ in rows),
        ("number", "is above 2"): sum(number is not None and number > 2 for number, _ in rows),
        ("letter", "is none of a"): sum(letter == "b" for _, letter in rows),
        ("number, letter", "should be unique but repeats"): sum(rows.count(row) > 1 for row in rows),
    }
    assert {key: count for key, count in counted.items() if count} == {
        key: count for key, count in expected.items() if count
    }
    assert ((None, "is empty") in counted) == (not rows)


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("ab")), min_size=1, max_size=12), st.data())
@settings(max_examples=40, deadline=None)
def test_any_changed_dropped_or_doubled_row_changes_the_fingerprint(shared, rows, data):
    place = data.draw(st.integers(0, len(rows) - 1))
    number, letter = rows[place]
    changed = data.draw(
        st.sampled_from([[], [(number + 1, letter)], [(number, letter)] * 2, [(None, letter)]])
    )
    table = Table("t", "", (Column("number", "INTEGER"), Column("letter", "VARCHAR")))
    prints = set()
    for version in (rows, rows[:place] + changed + rows[place + 1 :]):
        fill(shared, version)
        prints.add(scan(shared, table)[0].fingerprint)
    assert len(prints) == 2


def test_the_version_stands_for_the_content_of_all_tables_in_any_order(engine):
    version = inspect(engine, TABLES, LIMITS).version
    assert inspect(engine, TABLES[::-1], LIMITS).version == version
    assert len(version) == 12
    engine.execute("INSERT INTO customers VALUES (4)")
    assert inspect(engine, TABLES, LIMITS).version != version


def test_the_report_is_compared_with_only_when_the_source_is_the_same(engine, tmp_path: Path):
    record = report(inspect(engine, TABLES, LIMITS), TABLES, source="one:", description="made up")
    write_json(tmp_path / "data.json", record)
    assert previous_rows(tmp_path / "data.json", "one:") == {"customers": 3, "orders": 4}
    assert previous_rows(tmp_path / "data.json", "two:") == {}
    assert previous_rows(tmp_path / "none.json", "one:") == {}


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"source": "one:"})])
def test_an_unreadable_record_of_the_previous_run_says_what_to_do(tmp_path: Path, text):
    (tmp_path / "data.json").write_text(text)
    with pytest.raises(
        ContractError, match=r"data\.json, the record of the previous run, cannot be read; delete it"
    ):
        previous_rows(tmp_path / "data.json", "one:")
