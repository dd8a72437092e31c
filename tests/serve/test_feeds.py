"""What a source held goes on record with what was computed from it, once, and keeps nothing from being computed."""

import os
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from ml_workbench.data.feeds import Held
from ml_workbench.database.connections import transaction
from ml_workbench.plan.errors import ContractError, SourceError
from ml_workbench.serve import feeds
from ml_workbench.serve.batch import Order, score
from ml_workbench.serve.feeds import Seen, looked, note, seen_in
from ml_workbench.serve.records import Records
from ml_workbench.serve.refreshing import refresh
from tests.release import small
from tests.serve.shop import MONDAY, SHOP, WEEK, project, write_tables

AT = datetime(2024, 7, 1, 6)


@pytest.fixture(autouse=True)
def _loading_without_quarantine(monkeypatch: pytest.MonkeyPatch) -> None:
    "The child process in which releases are tried has tests of its own, and takes its time."
    monkeypatch.setattr("ml_workbench.release.loading.try_in_child", lambda *_: 0.0)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def records(request: pytest.FixtureRequest, tmp_path: Path):
    "An empty database of either kind."
    url = (
        f"sqlite:///{tmp_path}/a.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    )
    with Records(url) as opened:
        opened.migrate()
        yield opened


@pytest.fixture
def shop(tmp_path: Path):
    "A project with its records in SQLite."
    return project(tmp_path)


def seen(rows: int = 5, at: datetime = AT, tables: tuple[str, ...] = ("people", "receipts")) -> Seen:
    held = [Held(name, rows, {"member": "BIGINT", "straße": "VARCHAR"}, MONDAY, None) for name in tables]
    return Seen("tables", at, {MONDAY: held})


def noted(records: Records, *looks: Seen, **options) -> list[tuple]:
    for each in looks:
        with transaction(records.engine) as connection:
            note(connection, each, **options)
    return [(row["feed"], row["rows"], row["seen_at"]) for row in records.read("feeds").to_pylist()]


def on_record(settings) -> list[dict]:
    with Records(settings.database_url, root=settings.root) as opened:
        opened.migrate()
        return opened.read("feeds").to_pylist()


# Written down ----------------------------------------------------------------------------------------------


def test_the_same_seen_again_changes_nothing_not_even_when_it_was_seen(records):
    assert noted(records, seen(), seen(at=AT + WEEK)) == [("people", 5, AT), ("receipts", 5, AT)]
    (row, _) = records.read("feeds").to_pylist()
    assert row["columns"] == '{"member": "BIGINT", "straße": "VARCHAR"}' and row["arrived"] is None


def test_what_is_another_by_then_replaces_what_was_seen_before_and_a_table_that_went_goes(records):
    later = AT + timedelta(hours=30)
    assert noted(records, seen(), seen(6, later, ("receipts",))) == [("receipts", 6, later)]


def test_who_looks_afterwards_fills_gaps_and_replaces_nothing(records):
    noted(records, seen(tables=("people",)))
    later = AT + WEEK
    assert noted(records, seen(9, later), afterwards=True) == [("people", 5, AT), ("receipts", 9, later)]


def test_a_source_without_any_of_the_tables_is_noted_as_nothing(records):
    assert noted(records, seen(), seen(tables=())) == []


# By the way ------------------------------------------------------------------------------------------------


def test_a_batch_and_the_online_table_note_what_they_were_made_from(shop):
    os.utime(shop.root / "tables" / "receipts.parquet", (0, 1_719_807_000))
    score(Order(MONDAY, "tables", "results"), shop, tables=SHOP)
    first = on_record(shop)
    people, receipts = first
    assert (people["rows"], people["latest"], people["source"]) == (300, None, "tables")
    assert MONDAY - timedelta(days=3) < receipts["latest"] <= MONDAY
    assert receipts["arrived"] == datetime(2024, 7, 1, 4, 10) and "spent" in receipts["columns"]
    refresh(MONDAY, "tables", shop, tables=SHOP)
    assert on_record(shop) == first
    refresh(MONDAY + WEEK, "tables", shop, tables=SHOP)
    assert [row["as_of"] for row in on_record(shop)] == [MONDAY] * 2 + [MONDAY + WEEK] * 2


@pytest.mark.parametrize("how", ["score", "online"])
def test_where_nothing_can_be_computed_what_the_source_held_is_noted_all_the_same(shop, how):
    tables = small.tables()
    narrow = tables | {"receipts": tables["receipts"].drop(columns="spent")}
    write_tables(shop.root / "narrow", narrow)
    with pytest.raises(SourceError, match="lacks column 'spent'"):
        if how == "score":
            score(Order(MONDAY, "narrow", "results"), shop, tables=SHOP)
        else:
            refresh(MONDAY, "narrow", shop, tables=SHOP)
    assert [(row["feed"], "spent" in row["columns"]) for row in on_record(shop)] == [("people", False), ("receipts", False)]  # fmt: skip


def test_a_feed_that_stands_still_is_on_record_though_no_list_came_of_it(shop):
    with pytest.raises((SourceError, ContractError)):
        score(Order(MONDAY + 20 * WEEK, "tables", "results"), shop, tables=SHOP)
    receipts = on_record(shop)[1]
    assert receipts["as_of"] == MONDAY + 20 * WEEK and receipts["latest"] < MONDAY + 19 * WEEK


def test_a_time_that_lies_ahead_is_a_slip_and_nothing_is_noted_of_it(shop):
    with pytest.raises(SourceError, match="lies in their future"):
        score(Order(datetime(2924, 7, 1, 5), "tables", "results"), shop, tables=SHOP)
    assert on_record(shop) == []


def test_a_source_that_cannot_be_looked_at_keeps_no_list_from_being_drawn_up(shop, monkeypatch):
    def broken(*_, **__):
        raise SourceError("no right to count")

    monkeypatch.setattr(feeds, "held_by", broken)
    said = []
    assert score(Order(MONDAY, "tables", "results"), shop, tables=SHOP, step=said.append).units == 199
    assert "what the source holds is not noted: no right to count" in said and on_record(shop) == []
    assert refresh(MONDAY, "tables", shop, tables=SHOP)[0].units == 199


def test_a_source_that_is_not_there_is_said(shop):
    said = []
    assert looked("nowhere", shop, SHOP, MONDAY, said.append) is None and "does not exist" in said[0]
    with pytest.raises(SourceError):
        seen_in("nowhere", shop, SHOP, [MONDAY])
