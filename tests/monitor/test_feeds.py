"""What was noted of the source in production is read as the replay's is; where nobody noted it, the monitor in the project looks for itself."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from ml_workbench.data.feeds import Held
from ml_workbench.database.connections import transaction
from ml_workbench.monitor.reading import keeping
from ml_workbench.monitor.running import (
    BACK,
    gaps,
    look_at_database,
    look_at_folder,
    place_of,
    with_source,
)
from ml_workbench.plan.settings import Settings
from ml_workbench.serve.feeds import Seen, note
from tests.monitor.shop import MONDAY, WEEK, as_folder, as_records, by_check, place, shop
from tests.release import small
from tests.serve.shop import SHOP, write_tables

COLUMNS = {table.name: {each.name: each.type for each in table.columns} for table in SHOP}
CHECKED = ("dependencies.schema", "staleness.feeds", "staleness.arrival")


@pytest.fixture(autouse=True)
def _promised(monkeypatch):
    "The shop's tables are what is promised here."
    monkeypatch.setattr("ml_workbench.data.tables.TABLES", SHOP)
    monkeypatch.setattr("ml_workbench.monitor.running.TABLES", SHOP)


def held(as_of: datetime, **changes) -> list[Held]:
    "The shop's tables as they should be at a list."
    receipts = Held(
        "receipts", 9, COLUMNS["receipts"], as_of - timedelta(hours=2), as_of - timedelta(minutes=30)
    )
    return [replace(receipts, **changes), Held("people", 3, COLUMNS["people"], None, None)]


def write(records, *moments: tuple[datetime, list[Held]], late: timedelta = timedelta(minutes=30)) -> None:
    for as_of, tables in moments:
        with transaction(records.engine) as connection:
            note(connection, Seen("tables", as_of + late, {as_of: tables}))


def told(looked) -> list[dict[str, str]]:
    "Period by period, what the checks of the source say."
    return [
        {each.cause: each.status for each in one.readings if each.check in CHECKED}
        for one in looked
    ]  # fmt: skip


FINE = dict.fromkeys(CHECKED, "fine")


# Noted by who computed features ----------------------------------------------------------------------------


def test_what_was_noted_in_a_database_is_what_a_folder_would_have_said(url, tmp_path):
    tables, weeks = shop(weeks=2), [MONDAY, MONDAY + WEEK]
    lines = [
        {
            "period": str(week + WEEK),
            "tables": {
                each.table: {
                    "rows": each.rows, "columns": dict(each.columns),
                    "latest": each.latest and str(each.latest), "arrived": each.arrived and str(each.arrived),
                }
                for each in held(week)
            },
        }
        for week in weeks
    ]  # fmt: skip
    folder = look_at_folder(place(tmp_path), as_folder(tmp_path / "replay", tables, lines))
    with as_records(url, tables) as records:
        write(records, *((week, held(week)) for week in weeks))
        found = look_at_database(place(tmp_path), records)
        assert told(found) == told(folder) == [FINE, FINE]
        assert [each.readings for each in found] == [each.readings for each in folder]
        assert look_at_database(place(tmp_path), records) == []


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"columns": {"member": "BIGINT", "bought_at": "TIMESTAMP"}}, "dependencies.schema/receipts"),
        ({"columns": COLUMNS["receipts"] | {"spent": "VARCHAR"}}, "dependencies.schema/receipts"),
        ({"latest": MONDAY - timedelta(hours=2)}, "staleness.feeds/receipts"),
        ({"arrived": MONDAY + WEEK + timedelta(hours=20)}, "staleness.arrival/receipts"),
    ],
    ids=["lost", "retyped", "frozen", "late"],
)
def test_a_source_that_is_not_as_it_should_be_is_an_alarm_in_its_period(tmp_path, changes, cause):
    with as_records(f"sqlite:///{tmp_path}/a.db", shop(weeks=2)) as records:
        late = timedelta(hours=21) if "arrived" in changes else timedelta(minutes=30)
        write(records, (MONDAY, held(MONDAY)))
        write(records, (MONDAY + WEEK, held(MONDAY + WEEK, **changes)), late=late)
        first, second = told(look_at_database(place(tmp_path), records))
    assert first == FINE and [each for each in second if second[each] == "alarm"] == [cause]


def test_a_table_that_went_is_an_alarm_and_a_column_that_came_is_shown_once(tmp_path):
    wide = {"columns": COLUMNS["receipts"] | {"till": "INTEGER"}}
    with as_records(f"sqlite:///{tmp_path}/a.db", shop(weeks=4)) as records:
        weeks = [MONDAY + number * WEEK for number in range(4)]
        write(records, (weeks[0], held(weeks[0])), *((week, held(week, **wide)) for week in weeks[1:3]))
        write(records, (weeks[3], held(weeks[3], **wide)[:1]))
        found = told(look_at_database(place(tmp_path), records))
    assert [each.get("dependencies.schema") for each in found] == ["fine", None, "fine", None]
    assert (
        found[1]["dependencies.schema/receipts"] == "watch"
        and found[3]["dependencies.schema/people"] == "alarm"
    )


def test_of_several_lists_of_a_period_the_newest_says_what_the_source_held(tmp_path):
    wednesday = MONDAY + timedelta(days=2)
    with as_records(f"sqlite:///{tmp_path}/a.db", shop(weeks=1)) as records:
        write(
            records, (MONDAY, held(MONDAY)), (wednesday, held(wednesday, latest=MONDAY - timedelta(days=4)))
        )
        (found,) = look_at_database(place(tmp_path), records)
    assert by_check(found.readings)["staleness.feeds/receipts"].value == pytest.approx(3.0)


def test_a_later_note_of_the_same_list_is_a_reason_to_look_again(tmp_path):
    with as_records(f"sqlite:///{tmp_path}/a.db", shop(weeks=1)) as records:
        write(records, (MONDAY, held(MONDAY, latest=MONDAY - timedelta(days=9))))
        assert "staleness.feeds/receipts" in told(look_at_database(place(tmp_path), records))[0]
        write(records, (MONDAY, held(MONDAY)), late=timedelta(hours=4))
        assert told(look_at_database(place(tmp_path), records)) == [FINE]


def test_features_at_hand_are_known_by_their_time(url, tmp_path):
    tables = shop(weeks=1)
    row = {"feature_set": "f", "as_of": MONDAY, "row": "[]", "written_at": MONDAY}
    online = [row | {"unit": unit} for unit in ("1", "2")] + [row | {"unit": "1", "as_of": MONDAY - WEEK}]
    with as_records(url, tables) as records:
        records.write("online_features", online)
        (found,) = look_at_database(place(tmp_path), records)
    reading = by_check(found.readings)["staleness.online"]
    assert (reading.status, reading.value) == ("fine", 7.0)


# Seen from the project -------------------------------------------------------------------------------------


def project(root: Path, **changes):
    "A place with a source."
    write_tables(root / "tables", small.tables() | changes)
    return replace(place(root), source="tables", settings=Settings(root=root, threads=1))


def until(week: datetime):
    "The shop's receipts up to a time."
    receipts = small.tables()["receipts"]
    last = receipts["bought_at"].max()
    moved = receipts.assign(bought_at=receipts["bought_at"] + (week - last))
    return moved


def test_where_nobody_noted_it_the_monitor_looks_at_the_source_of_the_project(url, tmp_path):
    here = project(tmp_path, receipts=until(MONDAY + WEEK))
    with as_records(url, shop(weeks=2)) as records:
        found = look_at_database(here, records)
        kinds = {"dependencies.schema": "fine", "staleness.feeds": "fine", "staleness.arrival": "unknown"}
        assert told(found) == [kinds, kinds]
        rows = records.read("feeds").to_pylist()
        assert [(row["as_of"], row["feed"]) for row in rows] == [
            (week, name) for week in (MONDAY, MONDAY + WEEK) for name in ("people", "receipts")
        ]
        assert rows[1]["latest"] <= MONDAY < rows[3]["latest"] and rows[1]["source"] == "tables"
        (tmp_path / "tables" / "receipts.parquet").unlink()  # what is noted is noted
        assert look_at_database(here, records) == []


def test_a_dry_run_sees_it_and_notes_nothing(tmp_path):
    here = project(tmp_path, receipts=until(MONDAY))
    with as_records(f"sqlite:///{tmp_path}/a.db", shop(weeks=1)) as records:
        assert told(look_at_database(here, records, write=False))[0]["staleness.feeds"] == "fine"
        assert records.read("feeds").num_rows == 0


def test_what_those_noted_who_computed_features_stands(tmp_path):
    here = project(tmp_path, receipts=until(MONDAY + WEEK))
    with as_records(f"sqlite:///{tmp_path}/a.db", shop(weeks=2)) as records:
        write(records, (MONDAY, held(MONDAY)))
        with keeping(records) as kept:
            assert gaps(kept, [MONDAY + WEEK, MONDAY + 2 * WEEK], 7) == [MONDAY + WEEK]
        look_at_database(here, records)
        assert [row["rows"] for row in records.read("feeds").to_pylist()][:2] == [3, 9]


def test_of_a_period_that_is_going_on_the_source_is_seen_while_it_can_be(tmp_path):
    tables = shop(weeks=2)
    here = project(tmp_path, receipts=until(MONDAY + WEEK))
    with as_records(f"sqlite:///{tmp_path}/a.db", tables) as records, keeping(records) as kept:
        known, seen = with_source(kept, here, [MONDAY + WEEK])
        assert [*seen.held] == [MONDAY, MONDAY + WEEK] and [*known.seen] == [*seen.held]
        assert gaps(kept, [], 7) == [MONDAY]


def test_a_source_that_ends_before_a_list_says_nothing_about_it_and_that_is_said(tmp_path):
    here = project(tmp_path, receipts=until(MONDAY))
    with as_records(f"sqlite:///{tmp_path}/a.db", shop(weeks=2)) as records:
        first, second = look_at_database(here, records)
    assert told([first])[0]["staleness.feeds"] == "fine"
    reading = by_check(second.readings)["staleness.feeds"]
    assert reading.status == "unknown" and "the one here, tables, ends before these lists" in reading.sentence


@pytest.mark.parametrize(
    ("source", "said"), [("", "`ml-workbench score`"), ("nowhere", "nowhere does not exist")]
)
def test_where_no_source_can_be_seen_it_is_said_how_to_change_that(tmp_path, source, said):
    here = replace(place(tmp_path), source=source)
    with as_records(f"sqlite:///{tmp_path}/a.db", shop(weeks=1)) as records:
        (found,) = look_at_database(here, records)
        assert records.read("feeds").num_rows == 0
    for name in CHECKED:
        reading = by_check(found.readings)[name]
        assert reading.status == "unknown" and said in reading.sentence and "data.source" in reading.sentence


def test_what_was_noted_long_ago_is_not_read_and_the_list_before_the_first_is(tmp_path):
    weeks = [MONDAY + number * WEEK for number in range(BACK + 4)]
    with as_records(f"sqlite:///{tmp_path}/a.db", {}) as records:
        write(records, *((week, held(week)) for week in weeks))
        with keeping(records, since=weeks[-2]) as kept:
            assert [*kept.seen] == weeks[-7:]
            assert kept.known_of_source(weeks[-2], weeks[-1])["receipts"]["before"] == sorted(
                COLUMNS["receipts"]
            )


def test_a_place_knows_the_source_of_its_project(tmp_path):
    root = Path(__file__).resolve().parents[2]
    (tmp_path / "params.yaml").write_text((root / "params.yaml").read_text())
    assert place_of(Settings(root=tmp_path)).source == "completejourney:"
    assert place_of(Settings(root=tmp_path / "nowhere")).source == ""
