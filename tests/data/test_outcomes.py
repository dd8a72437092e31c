"""What happened to units, as events: complete, each once, and only those of the period."""

from collections.abc import Iterator
from datetime import datetime

import duckdb
import pytest

from ml_workbench.data.engine import connect, view_tables
from ml_workbench.data.outcomes import BASKET, OUTCOMES, Outcome, outcome_named, read_outcome
from ml_workbench.plan.errors import ContractError
from ml_workbench.plan.params import load_params

FIRST, LAST = datetime(2020, 1, 6, 5), datetime(2020, 1, 13, 5)
SHOP = Outcome(
    "sale", "SELECT id AS event_id, who AS unit, sold AS occurred_at, paid AS value FROM sales", "A sale"
)


@pytest.fixture
def shop() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        connection.execute("CREATE TABLE sales (id BIGINT, who VARCHAR, sold TIMESTAMP, paid DECIMAL(12, 2))")
        yield connection


def sell(connection: duckdb.DuckDBPyConnection, *rows: tuple) -> None:
    connection.executemany("INSERT INTO sales VALUES (?, ?, ?, ?)", rows)


def read(connection: duckdb.DuckDBPyConnection) -> list[dict]:
    return read_outcome(connection, SHOP, after=FIRST, until=LAST).to_pylist()


def test_every_outcome_that_the_planned_metrics_ask_for_is_declared(root) -> None:
    for metric in load_params(root).experiment.metrics:
        if metric.outcome:
            assert outcome_named(metric.outcome) in OUTCOMES


def test_a_period_is_open_at_its_beginning_and_closed_at_its_end(shop) -> None:
    sell(shop, (1, "a", FIRST, 1.0), (2, "a", FIRST.replace(second=1), 2.0), (3, "b", LAST, 3.5))
    assert [(each["event_id"], each["unit"], each["value"]) for each in read(shop)] == [
        ("2", "a", 2.0),
        ("3", "b", 3.5),
    ]


def test_events_come_in_the_order_of_time_and_then_of_identity(shop) -> None:
    same = datetime(2020, 1, 8)
    sell(shop, (30, "a", same, 1.0), (4, "b", same, 1.0), (9, "c", datetime(2020, 1, 7), 1.0))
    assert [each["event_id"] for each in read(shop)] == ["9", "30", "4"]


def test_an_event_without_a_value_is_kept_for_the_analysis_to_count(shop) -> None:
    sell(shop, (1, "a", LAST, None))
    assert read(shop) == [{"event_id": "1", "unit": "a", "occurred_at": LAST, "value": None}]


def test_no_events_give_an_empty_table_of_the_same_columns(shop) -> None:
    table = read_outcome(shop, SHOP, after=FIRST, until=LAST)
    assert table.num_rows == 0 and table.column_names == ["event_id", "unit", "occurred_at", "value"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ((None, "a", LAST, 1.0), "no event_id"),
        ((1, None, LAST, 1.0), "no unit"),
        ((1, "a", None, 1.0), "no occurred_at"),
    ],
)
def test_an_event_that_nobody_can_place_is_refused(shop, row, said) -> None:
    sell(shop, row)
    with pytest.raises(ContractError, match=said):
        read(shop)


def test_two_events_with_one_identity_are_refused_by_name(shop) -> None:
    sell(shop, (7, "a", LAST, 1.0), (7, "b", LAST, 1.0))
    with pytest.raises(ContractError, match="1 identities belong to several events, like 7"):
        read(shop)


def test_a_declaration_that_is_no_query_says_where_it_stands(shop) -> None:
    broken = Outcome("sale", "SELECT id AS event_id FROM sells", "A sale")
    with pytest.raises(ContractError, match=r"outcome 'sale' in nbs/data/outcomes\.ipynb: .*sells"):
        read_outcome(shop, broken, after=FIRST, until=LAST)


def test_the_default_baskets_agree_with_the_lines_of_their_receipts(produced) -> None:
    with connect() as connection:
        view_tables(connection, produced / "data/tables")
        first, last = datetime(2017, 11, 13, 5), datetime(2017, 11, 20, 5)
        baskets = read_outcome(connection, BASKET, after=first, until=last)
        query = "SELECT count(DISTINCT basket_id), sum(sales_value) FROM transactions WHERE transaction_timestamp > ? AND transaction_timestamp <= ?"
        count, spent = connection.execute(query, [first, last]).fetchall()[0]
    assert baskets.num_rows == count and round(sum(baskets["value"].to_pylist()), 2) == float(spent)
