"""Importing outcomes: all of a file or nothing, and it is told what became of each event."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from ml_workbench.plan.errors import RecordError
from ml_workbench.plan.experiment import Arm, Experiment, Metric
from ml_workbench.run.cli import Workbench
from ml_workbench.run.outcomes import Imported, import_outcomes, outcomes, read_outcomes, told
from ml_workbench.serve.records import Records

MONDAY = datetime(2017, 11, 13, 5)
DAY = timedelta(days=1)
TRIAL = Experiment(
    name="trial",
    namespace="offers",
    holdout=0.1,
    arms=[Arm(name="control", policy="none", weight=0.5), Arm(name="offer", policy="rule", weight=0.5)],
    control="control",
    metrics=[Metric(name="came", label="came", kind="proportion", outcome="basket", of="any")],
    primary="came",
    horizon_days=28,
)


@click.group(cls=Workbench)
def workbench() -> None:
    "As the command line of the project has it."


workbench.add_command(outcomes)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Records]:
    "Migrated records in a database of either kind."
    postgres = request.param == "postgres"
    url = request.getfixturevalue("postgres_url") if postgres else f"sqlite:///{tmp_path}/records.db"
    with Records(url) as made:
        made.migrate()
        yield made


def baskets(count: int = 3, **more: list) -> pa.Table:
    "Some events."
    columns = {
        "event_id": [f"b{number}" for number in range(count)],
        "unit": [f"{number:03}" for number in range(count)],
        "occurred_at": [MONDAY + number * DAY for number in range(count)],
        "value": [float(number) for number in range(count)],
    }
    return pa.table(columns | more)


def read(table: pa.Table | str, folder: Path, **options: object) -> pa.Table:
    "What is read of a table that was written to a file."
    path = folder / ("outcomes.csv" if isinstance(table, str) else "outcomes.parquet")
    path.write_text(table) if isinstance(table, str) else pq.write_table(table, path)
    return read_outcomes(str(path), **{"outcome": "basket", "recorded_at": MONDAY + 30 * DAY} | options)


# What can be read.


def test_parquet_csv_and_duckdb_give_the_same_events(tmp_path: Path) -> None:
    table = baskets()
    pq.write_table(table, tmp_path / "a.parquet")
    with duckdb.connect(str(tmp_path / "a.duckdb")) as connection:
        connection.execute(f"CREATE TABLE baskets AS FROM '{tmp_path}/a.parquet'")
        connection.execute("CREATE TABLE other AS SELECT 1 AS one")
        connection.execute(f"COPY baskets TO '{tmp_path}/a.csv' (HEADER)")
    options = {"outcome": "basket", "recorded_at": MONDAY, "root": tmp_path}
    found = [
        read_outcomes(source, **options)
        for source in ("a.parquet", "a.csv", "duckdb:///a.duckdb?table=baskets")
    ]
    assert found[0].equals(found[1]) and found[0].equals(found[2])
    assert found[0]["unit"].to_pylist() == ["000", "001", "002"]  # also from CSV
    assert set(found[0]["outcome"].to_pylist()) == {"basket"} and set(
        found[0]["recorded_at"].to_pylist()
    ) == {MONDAY}


@pytest.mark.postgres
def test_postgresql_gives_the_same_events(tmp_path: Path, postgres_url: str) -> None:
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(postgres_url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("baskets", baskets(), mode="create")
        cursor.execute(
            "CREATE TABLE exact AS SELECT event_id, unit, occurred_at, value::numeric(9, 2) FROM baskets"
        )
    options = {"outcome": "basket", "recorded_at": MONDAY}
    expected = read(baskets(), tmp_path, **options)
    for name in ("baskets", "exact"):
        found = read_outcomes(f"{postgres_url}?table={name}", **options)
        assert found.sort_by("event_id").equals(expected)


def test_whole_numbers_dates_and_decimals_are_taken_as_they_are_meant(tmp_path: Path) -> None:
    table = baskets(
        unit=[1, 2, 3],
        event_id=[7, 8, 9],
        occurred_at=pa.array([MONDAY.date()] * 3, pa.date32()),
        value=pa.array([1, 2, 3], pa.decimal128(9, 2)),
    )
    found = read(table, tmp_path)
    assert (found["unit"].to_pylist(), found["event_id"].to_pylist()) == (["1", "2", "3"], ["7", "8", "9"])
    assert found["occurred_at"][0].as_py() == datetime(2017, 11, 13) and found["value"].to_pylist() == [
        1,
        2,
        3,
    ]


def test_values_that_nobody_knows_may_be_empty_or_not_there_at_all(tmp_path: Path) -> None:
    assert read(baskets().drop_columns("value"), tmp_path)["value"].null_count == 3
    assert read("event_id,unit,occurred_at,value\nb1,7,2017-11-13,\n", tmp_path)["value"].null_count == 1


def test_the_table_may_say_itself_what_and_when(tmp_path: Path) -> None:
    more = {
        "outcome": ["basket", "visit", "visit"],
        "recorded_at": [MONDAY + 9 * DAY] * 3,
        "clerk": ["x"] * 3,
    }
    found = read(baskets(**more), tmp_path, outcome="")
    assert (
        found["outcome"].to_pylist() == more["outcome"]
        and found["recorded_at"].to_pylist() == more["recorded_at"]
    )


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_times_with_a_zone_are_brought_to_utc(tmp_path: Path, kind: str) -> None:
    if kind == "csv":
        found = read(
            "event_id,unit,occurred_at\nb1,7,2017-11-13T05:00:00+01:00\nb2,7,2017-11-13 04:00:00Z\n", tmp_path
        )
    else:
        at = pa.array([MONDAY.replace(hour=4, tzinfo=UTC)] * 2, pa.timestamp("us", "Europe/Berlin"))
        found = read(baskets(2, occurred_at=at), tmp_path)
    assert found["occurred_at"].to_pylist() == [MONDAY.replace(hour=4)] * 2
    assert found["recorded_at"][0].as_py() == MONDAY + 30 * DAY


def test_without_a_word_they_came_in_now(tmp_path: Path) -> None:
    at = read(baskets(), tmp_path, recorded_at=None)["recorded_at"][0].as_py()
    assert abs(at - datetime.now(UTC).replace(tzinfo=None)) < timedelta(minutes=1)


# What cannot.

CSV = "event_id,unit,occurred_at,value\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("event_id,unit,occured_at\nb1,7,2017-11-13\n", "no column 'occurred_at', did you mean 'occured_at'"),
        ("event_id,occurred_at\nb1,2017-11-13\n", "no column 'unit'"),
        (CSV + "b1,7,2017-11-13,NaN\n", "NaN or infinite"),
        (CSV + "b1,7,2017-11-13,inf\n", "NaN or infinite"),
        (CSV + 'b1,7,2017-11-13,"12,50"\n', "value holds '12,50'"),
        (CSV + "b1,7,13.11.2017,1\n", "occurred_at holds '13.11.2017'"),
        (CSV + "b1,7,,1\n", "occurred_at is empty in 1 of 1"),
        (CSV + "b1,,2017-11-13,1\n", "unit is empty in 1 of 1"),
        (CSV + "b1,7,2017-11-13T05:00:00Z,1\nb2,7,2017-11-13T05:00:00,1\n", "time zones are mixed"),
        (
            CSV + "b1,7,2017-11-13,1\nb1,7,2017-11-13,2\n",
            "'b1' is told in more than one way, as are 0 others",
        ),
        (CSV + "b1,7,2017-11-13,1\nb1,7,2017-11-13,\n", "told in more than one way"),
        (CSV + "b1,7\n", "cannot be read"),
        ("", "no column 'event_id'"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_as_a_whole(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(RecordError, match=said) as caught:
        read(text, tmp_path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"value": [1.0, float("nan"), 2.0]}, "1 values are NaN or infinite"),
        ({"value": [True, False, True]}, "value does not fit double"),
        ({"unit": [1.5, 2.5, 3.5]}, "unit is double"),
        ({"unit": ["", "a", "b"]}, "unit is an empty text"),
        ({"occurred_at": [1, 2, 3]}, "occurred_at is int64: a time is needed"),
        ({"recorded_at": pa.array([MONDAY] * 3, pa.timestamp("us", "UTC"))}, "time zones are mixed"),
        ({"outcome": ["basket"] * 3}, "leave --outcome out"),
    ],
)
def test_a_column_of_the_wrong_kind_is_refused(tmp_path: Path, more: dict, said: str) -> None:
    with pytest.raises(RecordError, match=said):
        read(baskets(**more), tmp_path)


def test_which_outcome_it_is_must_be_said(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="add --outcome NAME"):
        read(baskets(), tmp_path, outcome=" ")


def test_sources_that_are_none_are_told_without_a_password(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("a", "b"):
        pq.write_table(baskets(), tmp_path / "folder" / f"{name}.parquet")
    (tmp_path / "broken.parquet").write_text("no Parquet at all")
    for source, said in {
        "nowhere.parquet": "does not exist; is the path right?",
        "folder": "several tables are there",
        "broken.parquet": "cannot be read",
        "duckdb:///nowhere.duckdb?table=x": "does not exist",
        "mysql://ann:s3cret@host/db?table=x": "unknown kind 'mysql'",
        "postgresql://ann:s3cret@127.0.0.1:1/db?table=x": "Does it run?",
    }.items():
        with pytest.raises(RecordError, match=said.replace("?", r"\?")) as caught:
            read_outcomes(source, outcome="basket", root=tmp_path)
        assert "s3cret" not in str(caught.value) and "data.source" not in str(caught.value)


def test_the_same_row_twice_is_one_event(tmp_path: Path, records: Records) -> None:
    rows = read(pa.concat_tables([baskets(), baskets()]), tmp_path)
    found = import_outcomes(records, rows)
    assert (found.read, found.new, found.repeated, found.conflicting) == (6, 3, 3, 0)


def test_an_empty_table_is_no_mistake(tmp_path: Path, records: Records) -> None:
    found = import_outcomes(records, read(baskets().slice(0, 0), tmp_path), source="empty")
    assert found == Imported("empty", 0, 0, 0, 0, 0, 0, {})


# What becomes of them.


def assigned(records: Records, *units: str, experiment: str = "trial", actor: str = "Ada") -> None:
    records.freeze(TRIAL.model_copy(update={"name": experiment}), at=MONDAY, actor=actor)
    row = {"arm": "offer", "propensity": 0.5, "assigned_at": MONDAY, "design_hash": "0" * 12}
    records.write("assignments", [row | {"experiment": experiment, "unit": unit} for unit in units])


def test_new_repeated_and_conflicting_events_are_counted_and_the_first_stands(
    tmp_path: Path, records: Records
) -> None:
    assert import_outcomes(records, read(baskets(3), tmp_path)).new == 3
    found = import_outcomes(records, read(baskets(5, value=[0.0, 1.0, 9.0, 3.0, 4.0]), tmp_path))
    assert (found.new, found.repeated, found.conflicting) == (2, 2, 1)
    assert records.read("outcomes")["value"].to_pylist() == [0, 1, 2, 3, 4]


def test_units_that_were_never_assigned_are_counted_and_kept(tmp_path: Path, records: Records) -> None:
    assigned(records, "000", "001")
    assigned(records, "002", experiment="played", actor="replay")  # no experiment
    found = import_outcomes(records, read(baskets(4), tmp_path))
    assert (found.units, found.never_assigned) == (4, 2) and len(records.read("outcomes")) == 4


@pytest.mark.parametrize(
    ("occurred", "recorded", "late"),
    [
        (1, 28 + 7, 0),
        (1, 28 + 7 + 0.01, 1),
        (28, 36, 1),
        (28.01, 60, 0),  # after the horizon: it would not count anyway
        (0, 60, 0),  # before the assignment
    ],
)
def test_an_event_is_late_when_it_would_have_counted(
    tmp_path: Path, records: Records, occurred: float, recorded: float, late: int
) -> None:
    assigned(records, "000")
    rows = read(
        baskets(1, occurred_at=[MONDAY + occurred * DAY]), tmp_path, recorded_at=MONDAY + recorded * DAY
    )
    assert import_outcomes(records, rows).late == ({"trial": 1} if late else {})


def test_an_event_that_was_in_time_is_not_late_when_it_comes_again(tmp_path: Path, records: Records) -> None:
    assigned(records, "000", "001", "002")
    early, afterwards = (read(baskets(1), tmp_path, recorded_at=MONDAY + days * DAY) for days in (3, 300))
    assert import_outcomes(records, early).late == {}
    assert import_outcomes(records, afterwards).late == {}
    more = read(baskets(2, occurred_at=[MONDAY, MONDAY + DAY]), tmp_path, recorded_at=MONDAY + 300 * DAY)
    assert import_outcomes(records, more).late == {"trial": 1}


def test_what_became_of_them_is_said_in_sentences() -> None:
    everything = Imported("a.csv", 12_000, 11_000, 990, 10, 900, 3, {"trial": 1, "other": 1200})
    assert told(everything) == [
        "a.csv: 12,000 events, 11,000 new, 990 there already",
        "10 events there already with another content: what came first stands",
        "1,200 events came too late for experiment 'other', and will not be counted in it",
        "1 event came too late for experiment 'trial', and will not be counted in it",
        "3 of 900 units were never assigned in any experiment",
    ]
    assert told(Imported("a.csv", 1, 1, 0, 0, 1, 0, {})) == ["a.csv: 1 event, 1 new, 0 there already"]


# The command.


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    "A folder without a project, as in production."
    monkeypatch.setenv("MLW_DATABASE_URL", f"sqlite:///{tmp_path}/records.db")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(workbench, ["outcomes", "import", *words])


def test_the_command_imports_and_says_what_became_of_them(project: Path) -> None:
    pq.write_table(baskets(), "baskets.parquet")
    done = run("baskets.parquet", "--outcome", "basket", "--recorded-at", "2017-11-20")
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[0] == "baskets.parquet: 3 events, 3 new, 0 there already"
    again = run("baskets.parquet", "--outcome", "basket", "--json")
    assert json.loads(again.output) == {
        "source": "baskets.parquet", "read": 3, "new": 0, "repeated": 3, "conflicting": 0, "units": 3,
        "never_assigned": 3, "late": {},
    }  # fmt: skip


def test_a_mistake_is_a_line_and_writes_nothing(project: Path) -> None:
    Path("baskets.csv").write_text(CSV + "b1,7,2017-11-13,1\nb2,7,2017-11-13,NaN\n")
    done = run("baskets.csv", "--outcome", "basket")
    assert done.exit_code == 1 and done.stderr.startswith("error: outcomes.value: 1 values are NaN")
    assert len(done.stderr.splitlines()) == 1 and not Path("records.db").exists()
    assert run("nowhere.csv", "--outcome", "basket").exit_code == 1
    wrong = run("baskets.csv", "--recorded-at", "yesterday")
    assert wrong.exit_code == 2 and "'yesterday' is no time" in wrong.stderr


def test_help_loads_nothing_heavy(run_python: Callable) -> None:
    heavy = ("pandas", "pyarrow", "duckdb", "sqlalchemy")
    code = f"import sys, ml_workbench.run.outcomes; print([each for each in {heavy} if each in sys.modules])"
    assert run_python("-c", code).stdout == "[]\n"


def test_many_events_are_looked_at_by_column(tmp_path: Path) -> None:
    "A million would not be a problem: no value is a Python object before it is written."
    count = 50_000
    table = baskets(count, occurred_at=[MONDAY] * count)
    with Records(f"sqlite:///{tmp_path}/records.db") as records:
        records.migrate()
        assert import_outcomes(records, read(table, tmp_path)).new == count
