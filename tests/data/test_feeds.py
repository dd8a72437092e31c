"""What a source holds is seen the same wherever its tables are: columns, rows, newest events, arrival."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from ml_workbench.data.contracts import Column, Table
from ml_workbench.data.feeds import Held, held_by
from ml_workbench.data.sources import open_source
from ml_workbench.plan.errors import SourceError

VISITS = Table(
    "visits", "Visits",
    (Column("member", "VARCHAR"), Column("at", "TIMESTAMP"), Column("spent", "DECIMAL(12,2)"), Column("paid", "BOOLEAN", nullable=True)),
    time="at",
)  # fmt: skip
PEOPLE = Table("people", "Members", (Column("member", "BIGINT"),))
GONE = Table("gone", "Nobody has it", (Column("member", "BIGINT"),))
MONDAYS = [datetime(2024, 7, 1, 5), datetime(2024, 7, 8, 5)]
WRITTEN = datetime(2024, 7, 8, 4, 30)
ROWS = pd.DataFrame({
    "member": [7, 8, 7], "at": pd.to_datetime(["2024-06-28 10:00", "2024-07-01 05:00", "2024-07-09 12:00"]),
    "spent": [1.5, 2.25, 3.0], "paid": [True, False, True], "till": ["a", "b", "c"],
})  # fmt: skip
TABLES = {"visits": ROWS, "people": pd.DataFrame({"member": ["7", "8"]})}


def seen(url: str, tables=(VISITS, PEOPLE, GONE), moments=MONDAYS) -> dict[datetime, dict[str, Held]]:
    with open_source(url) as source:
        found = held_by(source, tables, moments, threads=1)
    return {moment: {each.table: each for each in tables} for moment, tables in found.items()}


def as_files(folder: Path, kind: str, tables=TABLES) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as connection:
        for name, rows in tables.items():
            connection.register(name, rows)
            connection.execute(f"COPY {name} TO '{folder / name}.{kind}' (FORMAT {kind})")
            os.utime(folder / f"{name}.{kind}", (0, WRITTEN.replace(tzinfo=UTC).timestamp()))
    return str(folder)


def as_database(path: Path, tables=TABLES) -> str:
    with duckdb.connect(str(path)) as connection:
        for name, rows in tables.items():
            connection.register("given", rows)
            connection.execute(f"CREATE TABLE {name} AS FROM given")
    os.utime(path, (0, WRITTEN.replace(tzinfo=UTC).timestamp()))
    return f"duckdb:///{path}"


@pytest.fixture
def server(postgres_url) -> Callable[..., str]:
    from adbc_driver_postgresql import dbapi

    def run(*statements: str) -> str:
        with dbapi.connect(postgres_url, autocommit=True) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
        return postgres_url

    return run


@pytest.mark.parametrize("kind", ["parquet", "csv", "duckdb"])
def test_files_and_a_file_database_say_what_they_hold_and_when_they_came(tmp_path, kind):
    url = as_database(tmp_path / "shop.duckdb") if kind == "duckdb" else as_files(tmp_path / "shop", kind)
    found = seen(url)
    for moment, rows, latest in zip(MONDAYS, (2, 2), (datetime(2024, 7, 1, 5), datetime(2024, 7, 1, 5))):
        visits, people = found[moment]["visits"], found[moment]["people"]
        assert (visits.rows, visits.latest, visits.arrived) == (rows, latest, WRITTEN)
        assert (people.rows, people.latest, dict(people.columns)) == (2, None, {"member": "BIGINT"})
        assert "gone" not in found[moment]
        kinds = dict(visits.columns)
        assert list(kinds) == ["member", "at", "spent", "paid", "till"] and kinds["till"] == "VARCHAR"
        assert kinds["member"] == "VARCHAR" and kinds["at"].startswith("TIMESTAMP")


def test_events_after_a_list_are_not_seen_by_it(tmp_path):
    found = seen(
        as_files(tmp_path / "shop", "parquet"), moments=[datetime(2024, 6, 30), datetime(2024, 8, 1)]
    )
    assert [(each["visits"].rows, each["visits"].latest) for each in found.values()] == [
        (1, datetime(2024, 6, 28, 10)),
        (3, datetime(2024, 7, 9, 12)),
    ]


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_value_that_is_no_number_makes_a_column_of_texts(tmp_path, kind):
    wrong = ROWS.assign(spent=["1.5", "two", "3"], paid=["yes", "maybe", None])
    kinds = seen(as_files(tmp_path / "shop", kind, {"visits": wrong}))[MONDAYS[0]]["visits"].columns
    assert kinds["spent"] == kinds["paid"] == "VARCHAR" and kinds["at"].startswith("TIMESTAMP")


def test_a_table_that_lost_its_time_has_rows_and_no_newest_event(tmp_path):
    lost = {"visits": ROWS.drop(columns="at")}
    visits = seen(as_files(tmp_path / "shop", "parquet", lost))[MONDAYS[0]]["visits"]
    assert (visits.rows, visits.latest) == (3, None) and "at" not in visits.columns


def test_a_table_that_cannot_be_read_is_named(tmp_path):
    url = as_files(tmp_path / "shop", "parquet")
    (tmp_path / "shop" / "people.parquet").write_bytes(b"nothing")
    with pytest.raises(SourceError, match="table 'people' cannot be read"):
        seen(url)


def test_of_a_table_in_parts_the_newest_part_counts_and_a_part_that_went_does_not(tmp_path):
    folder = tmp_path / "shop" / "people"
    for number in range(2):
        as_files(folder, "parquet", {f"part{number}": TABLES["people"]})
    os.utime(folder / "part0.parquet", (0, 1))
    with open_source(str(tmp_path / "shop")) as source:
        found = held_by(source, [PEOPLE], MONDAYS)
        assert {(each.rows, each.arrived) for tables in found.values() for each in tables} == {(4, WRITTEN)}
        from ml_workbench.data.feeds import arrival_of

        for part in folder.iterdir():
            part.unlink()
        assert arrival_of(source, "people") is None


@pytest.mark.postgres
def test_a_server_says_what_it_holds_and_not_when_it_came(server):
    url = server(
        "CREATE TYPE town AS ENUM ('Bath')",
        "CREATE TABLE visits (member integer, at timestamptz, spent numeric, paid boolean, till town)",
        "INSERT INTO visits VALUES (7, '2024-06-28 12:00+02', 1.5, true, 'Bath'), (8, '2024-07-01 05:00+00', 2.25, false, 'Bath'),"
        " (7, '2024-07-09 12:00+00', 3, true, 'Bath')",
        "CREATE TABLE people (member text)",
        "INSERT INTO people VALUES ('7'), ('8')",
    )
    found = seen(url, moments=[datetime(2024, 6, 30), MONDAYS[0]])
    first, second = (each["visits"] for each in found.values())
    assert [(each.rows, each.latest) for each in (first, second)] == [
        (1, datetime(2024, 6, 28, 10)),
        (2, MONDAYS[0]),
    ]
    assert first.arrived is None and dict(found[MONDAYS[0]]["people"].columns) == {"member": "BIGINT"}
    kinds = dict(first.columns)
    assert kinds == {"member": "VARCHAR", "at": "timestamp with time zone", "spent": "numeric", "paid": "boolean", "till": "text"}  # fmt: skip


@pytest.mark.postgres
def test_times_that_a_server_keeps_as_text_or_as_days_are_read_as_times(server):
    url = server(
        "CREATE TABLE visits (member text, at text, spent text, paid boolean)",
        "INSERT INTO visits VALUES ('7', '2024-06-28 10:00:00', '1.5', true), ('8', '2024-07-09 10:00:00', 'two', true)",
    )
    visits = seen(url)[MONDAYS[0]]["visits"]
    assert (visits.rows, visits.latest) == (1, datetime(2024, 6, 28, 10))
    assert visits.columns["at"] == "TIMESTAMP" and visits.columns["spent"] == "text"
    server("DROP TABLE visits", "CREATE TABLE visits (at date)", "INSERT INTO visits VALUES ('2024-06-30')")
    assert seen(url)[MONDAYS[0]]["visits"].latest == datetime(2024, 6, 30)
