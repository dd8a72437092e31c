"""What is written down is there once, whole, and as it was; whoever retries, crashes or comes at the same time."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_workbench.database.connections import transaction
from ml_workbench.database.rows import as_rows, schema_of
from ml_workbench.database.tables import TABLES, content_of, key_of
from ml_workbench.plan.errors import RecordError
from ml_workbench.plan.experiment import Arm, Experiment, Metric
from ml_workbench.plan.settings import Settings
from ml_workbench.serve.designs import changes, design_hash, plain_design, same_assignment
from ml_workbench.serve.records import EXPORTED, Records, Written, export_records, open_records

MONDAY = datetime(2017, 11, 13, 5)
TRIAL = Experiment(
    name="trial",
    namespace="offers",
    holdout=0.1,
    arms=[Arm(name="control", policy="none", weight=0.5), Arm(name="offer", policy="rule", weight=0.5)],
    control="control",
    metrics=[
        Metric(name="spend", label="spend", kind="revenue", outcome="basket", of="sum"),
        Metric(name="visits", label="visits", kind="mean", outcome="basket", of="count"),
    ],
    primary="spend",
    segments=["region", "age"],
    horizon_days=28,
)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Records]:
    "Migrated records in a database of either kind."
    postgres = request.param == "postgres"
    url = request.getfixturevalue("postgres_url") if postgres else f"sqlite:///{tmp_path}/records.db"
    with Records(url) as made:
        made.migrate()
        yield made


def basket(event: object = "b1", **more: object) -> dict:
    "A row of outcomes."
    row = {"outcome": "basket", "event_id": event, "unit": "7", "occurred_at": MONDAY, "value": 12.5}
    return row | {"recorded_at": MONDAY + timedelta(hours=1)} | more


def example(name: str, i: int = 0) -> dict:
    "A row of any table, with something in each column."
    value = {
        pa.string(): f"it's {i}: 100%\\ Zürich\t東",
        pa.float64(): 0.1 + 0.2 + i,
        pa.int64(): i,
        pa.bool_(): bool(i % 2),
    }
    times = MONDAY + timedelta(days=i, microseconds=123_456)
    return {field.name: value.get(field.type, times) for field in schema_of(name)}


@pytest.mark.parametrize("name", TABLES.tables)
def test_what_is_read_is_what_was_written(records: Records, name: str) -> None:
    rows = [example(name, i) for i in range(5)]
    assert records.write(name, rows[::-1]) == Written(5, 5, 0, 0)
    found = records.read(name)
    assert found.schema.equals(schema_of(name))
    assert found.to_pylist() == sorted(rows, key=lambda row: [row[each] for each in key_of(name)])


@pytest.mark.parametrize("name", TABLES.tables)
def test_writing_again_changes_nothing(records: Records, name: str) -> None:
    rows = [example(name, i) for i in range(4)]
    records.write(name, rows[:3])
    before = records.read(name)
    assert records.write(name, rows[:3]) == Written(3, 0, 3, 0)
    assert records.read(name).equals(before)
    assert records.write(name, rows) == Written(4, 1, 3, 0)


@pytest.mark.parametrize("name", [name for name in TABLES.tables if content_of(name)])
def test_another_content_under_the_same_key_is_a_conflict_and_the_first_stands(
    records: Records, name: str
) -> None:
    first = example(name)
    records.write(name, [first])
    for column in content_of(name):
        changed = first | {column: example(name, 1)[column]}
        assert records.write(name, [changed]) == Written(1, 0, 0, 1), column
    assert records.read(name).to_pylist() == [first]


def test_when_something_was_noted_is_no_content(records: Records) -> None:
    records.write("outcomes", [basket()])
    assert records.write("outcomes", [basket(recorded_at=MONDAY + timedelta(days=9))]) == Written(1, 0, 1, 0)
    assert records.read("outcomes")["recorded_at"].to_pylist() == [MONDAY + timedelta(hours=1)]


def test_repeats_and_conflicts_within_a_call_are_told_apart(records: Records) -> None:
    rows = [
        basket(),
        basket(),
        basket(value=99.0),
        basket("b2", value=None),
        basket("b2", value=None),
        basket("b2"),
    ]
    assert records.write("outcomes", rows) == Written(6, 2, 2, 2)
    assert records.read("outcomes")["value"].to_pylist() == [12.5, None]


def test_a_unit_in_another_arm_is_kept_beside_the_first(records: Records) -> None:
    row = {
        "experiment": "trial",
        "unit": 7,
        "propensity": 0.5,
        "assigned_at": MONDAY,
        "design_hash": "0" * 12,
    }
    assert records.write("assignments", [row | {"arm": arm} for arm in ("control", "offer")]).new == 2


def test_a_call_in_chunks_is_one_call(records: Records) -> None:
    rows = [basket(f"b{i:03}", value=float(i)) for i in range(250)]
    assert records.write("outcomes", [*rows, *rows], chunk=7) == Written(500, 250, 250, 0)
    assert records.read("outcomes").to_pylist() == rows


def test_no_rows_are_no_rows(records: Records) -> None:
    assert records.write("outcomes", []) == Written(0, 0, 0, 0) == records.write("outcomes", pa.table({}))
    assert records.read("outcomes").equals(schema_of("outcomes").empty_table())


def test_an_arrow_table_and_its_rows_are_the_same(records: Records) -> None:
    rows = [basket(f"b{i}", unit=i) for i in range(9)]
    records.write("outcomes", rows)
    kinds = pa.schema({**{field.name: field.type for field in schema_of("outcomes")}, "unit": pa.int16()})
    table = pa.Table.from_pylist(rows, kinds).set_column(
        0, "outcome", pa.array(["basket"] * 9).dictionary_encode()
    )
    assert records.write("outcomes", table) == Written(9, 0, 9, 0)


def test_reading_one_experiment_brings_its_rows_and_the_outcomes_of_its_units(records: Records) -> None:
    row = {"arm": "offer", "propensity": 0.5, "assigned_at": MONDAY, "design_hash": "0" * 12}
    records.write(
        "assignments", [row | {"experiment": name, "unit": unit} for name, unit in (("one", 1), ("two", 2))]
    )
    records.write("outcomes", [basket(f"b{unit}", unit=unit) for unit in (1, 2, 3)])
    assert records.read("assignments", experiment="one")["unit"].to_pylist() == ["1"]
    assert records.read("outcomes", experiment="one")["event_id"].to_pylist() == ["b1"]
    assert len(records.read("outcomes", experiment="three")) == 0


# What does not fit.


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"unit": None}, "outcomes.unit is empty in 1 of 2 rows"),
        ({"unit": ""}, "outcomes.unit is an empty text in 1 of 2 rows"),
        ({"unit": 7.0}, "outcomes.unit holds 7.0"),
        ({"unit": True}, "outcomes.unit holds True"),
        ({"event_id": None}, "outcomes.event_id is empty"),
        ({"value": float("nan")}, "outcomes.value: 1 values are NaN or infinite"),
        ({"value": float("-inf")}, "NaN or infinite"),
        ({"value": "12,50"}, "outcomes.value does not fit double"),
        ({"occurred_at": None}, "outcomes.occurred_at is empty"),
        ({"occurred_at": "2017-11-13"}, "outcomes.occurred_at holds '2017-11-13'"),
        ({"occurred_at": date(2017, 11, 13)}, "a datetime is needed"),
        ({"occurred_at": MONDAY.replace(tzinfo=UTC)}, "time zones are mixed"),
        ({"amount": 3}, "outcomes has no column 'amount'"),
    ],
)
def test_a_row_that_does_not_fit_keeps_the_whole_call_out(records: Records, more: dict, said: str) -> None:
    with pytest.raises(RecordError, match=said):
        records.write("outcomes", [basket("good"), basket("bad") | more])
    assert len(records.read("outcomes")) == 0


def test_columns_that_must_be_there_are_named(records: Records) -> None:
    with pytest.raises(RecordError, match="the rows lack unit, occurred_at, recorded_at"):
        records.write("outcomes", [{"outcome": "basket", "event_id": "b1"}])


def test_a_table_that_does_not_exist_is_guessed_at(records: Records) -> None:
    with pytest.raises(RecordError, match="did you mean 'exposures'"):
        records.write("exposure", [{}])


def test_numbers_of_any_kind_are_numbers() -> None:
    rows = [
        basket(str(i), value=value) for i, value in enumerate((3, 3.0, Decimal("3.0"), np.float32(3), None))
    ]
    assert [as_rows("outcomes", [row])["value"].to_pylist()[0] for row in rows] == [3.0, 3.0, 3.0, 3.0, None]
    assert as_rows("outcomes", [basket(unit=np.int64(7))])["unit"].to_pylist() == ["7"]


def test_times_with_zones_are_all_brought_to_utc(records: Records) -> None:
    east = timezone(timedelta(hours=9))
    row = basket(occurred_at=MONDAY.replace(tzinfo=east), recorded_at=MONDAY.replace(tzinfo=UTC))
    records.write("outcomes", [row])
    assert records.read("outcomes").to_pylist() == [
        basket(occurred_at=MONDAY - timedelta(hours=9), recorded_at=MONDAY)
    ]


def test_zones_are_looked_at_across_columns_of_a_table() -> None:
    table = pa.Table.from_pylist([basket()])
    zoned = table.set_column(3, "occurred_at", table["occurred_at"].cast(pa.timestamp("us", "UTC")))
    with pytest.raises(
        RecordError, match=r"mixed: outcomes\.occurred_at with one, outcomes\.recorded_at without"
    ):
        as_rows("outcomes", zoned)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.one_of(st.none(), st.integers(0, 1)), st.integers(1, 3)), max_size=12
    )
)
def test_whatever_is_sent_in_whatever_order_the_first_of_each_key_stands(
    sent: list[tuple[int, int | None, int]],
) -> None:
    first: dict[str, float | None] = {}
    with Records("sqlite://") as records:
        records.migrate()
        for event, value, times in sent:
            known = f"b{event}" in first
            first.setdefault(f"b{event}", value)
            found = records.write("outcomes", [basket(f"b{event}", value=value)] * times)
            assert found.new == (not known)
            assert found.given == times == found.new + found.repeated + found.conflicting
            assert (found.conflicting > 0) == (first[f"b{event}"] != value)
        rows = records.read("outcomes")
    assert dict(zip(rows["event_id"].to_pylist(), rows["value"].to_pylist(), strict=True)) == first


# Crashes, crowds and databases that are away.

KILLED = """
import os, signal, sys
from datetime import datetime
from ml_workbench.database import insertion as module
from ml_workbench.serve.records import Records

entering = module._let_in

def dies(connection, name):
    entering(connection, name)  # the rows are in, and the transaction is not over
    os.kill(os.getpid(), signal.SIGKILL)

module._let_in = dies
time = datetime(2017, 11, 13, 5)
row = {"outcome": "basket", "unit": "7", "occurred_at": time, "recorded_at": time, "value": 1.0}
Records(sys.argv[1]).write("outcomes", [row | {"event_id": str(i)} for i in range(5000)])
"""


def test_a_process_killed_in_the_middle_of_a_write_leaves_nothing(records: Records) -> None:
    url = records.engine.url.set(drivername=records.engine.dialect.name).render_as_string(hide_password=False)
    records.write("outcomes", [basket("before")])
    done = subprocess.run([sys.executable, "-c", KILLED, url], env=os.environ, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert records.read("outcomes")["event_id"].to_pylist() == ["before"]
    assert records.write("outcomes", [basket(str(i)) for i in range(5)]).new == 5


def test_writers_at_the_same_time_write_each_row_once(records: Records) -> None:
    url = records.engine.url.set(drivername=records.engine.dialect.name).render_as_string(hide_password=False)

    def write(first: int) -> int:
        with Records(url) as own:
            return sum(
                own.write("outcomes", [basket(f"b{i:03}") for i in range(start, start + 60)]).new
                for start in (first, 0, 40)
            )

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(write, (0, 20, 30, 40))) == 100
    assert len(records.read("outcomes")) == 100


@pytest.mark.postgres
def test_one_view_of_the_records_holds_while_others_write(postgres_url: str) -> None:
    count = sa.text("SELECT count(*) FROM outcomes")
    with Records(postgres_url) as records, Records(postgres_url) as other:
        records.migrate()
        records.write("outcomes", [basket("before")])
        with transaction(records.engine, reading=True) as connection:
            assert connection.execute(count).scalar() == 1
            other.write("outcomes", [basket("meanwhile")])
            assert connection.execute(count).scalar() == 1
        assert len(records.read("outcomes")) == 2


@pytest.mark.parametrize(
    "call",
    [Records.migrate, lambda each: each.read("outcomes"), lambda each: each.write("outcomes", [basket()])],
)
def test_a_database_that_is_away_is_told_without_its_password(call: Callable[[Records], object]) -> None:
    with Records("postgresql://ann:s3cret@127.0.0.1:1/records?application_name=x") as away:
        with pytest.raises(RecordError) as caught:
            call(away)
        assert "s3cret" not in repr(away)
    said = str(caught.value)
    assert (
        said.startswith("postgresql://ann@127.0.0.1:1/records: it cannot be reached") and "s3cret" not in said
    )
    assert caught.value.__cause__ is None  # nor in the traceback


@pytest.mark.postgres
def test_a_connection_cut_in_the_middle_is_told_and_the_next_call_works(postgres_url: str) -> None:
    with Records(postgres_url) as records:
        records.migrate()
        records.write("outcomes", [basket("before")])
        with pytest.raises(RecordError, match="cannot be reached"), transaction(records.engine) as connection:
            connection.execute(sa.text("DELETE FROM outcomes"))
            own = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar()
            with Records(postgres_url) as other, transaction(other.engine) as killer:
                killer.execute(sa.text(f"SELECT pg_terminate_backend({own})"))
            connection.execute(sa.text("SELECT 1"))
        assert records.read("outcomes")["event_id"].to_pylist() == ["before"]
        assert records.write("outcomes", [basket("before"), basket("after")]) == Written(2, 1, 1, 0)


def test_records_without_tables_say_what_to_do(tmp_path: Path) -> None:
    with Records(f"sqlite:///{tmp_path}/empty.db") as empty:
        for call in (lambda: empty.read("outcomes"), lambda: empty.write("outcomes", [basket()])):
            with pytest.raises(RecordError, match=r"bring it there with `ml-workbench migrate`"):
                call()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://ann:s3cret@host/db", "records are not kept in 'mysql'"),
        ("state/workbench.db", "not a database's URL"),
        ("s3cret://", "records are not kept in 's3cret'"),
    ],
)
def test_an_address_that_is_none_is_refused(url: str, said: str) -> None:
    with pytest.raises(RecordError, match=said) as caught:
        Records(url)
    assert "ann:s3cret" not in str(caught.value) and "sqlite:///file" in str(caught.value)


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("no database at all, " * 99)
    with (
        Records(f"sqlite:///{tmp_path}/notes.db") as notes,
        pytest.raises(RecordError, match="no SQLite database"),
    ):
        notes.migrate()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with (
        Records(f"sqlite:///{tmp_path}/file/records.db") as records,
        pytest.raises(RecordError, match="folder cannot"),
    ):
        records.migrate()


def test_the_projects_database_stands_in_the_project(tmp_path: Path) -> None:
    with open_records(Settings(root=tmp_path)) as records:
        records.migrate()
    assert (tmp_path / "state" / "workbench.db").is_file()


# Designs.


def test_a_design_is_frozen_once_and_later_changes_are_told(records: Records) -> None:
    first = records.freeze(TRIAL, at=MONDAY, actor="Ann")
    again = records.freeze(TRIAL, at=MONDAY + timedelta(days=1), actor="Bob")
    longer = records.freeze(
        TRIAL.model_copy(update={"horizon_days": 49}), at=MONDAY + timedelta(days=2), actor="Bob"
    )
    assert (first.changed, again, longer.changed) == (False, first, True)
    assert longer.changes == ("horizon: 28 days → 49 days",)
    assert records.freeze(TRIAL, at=MONDAY + timedelta(days=3), actor="Ann") == first
    rows = records.read("experiments", experiment="trial").sort_by("started_at").to_pylist()
    assert [(row["actor"], row["started_at"]) for row in rows] == [
        ("Ann", MONDAY),
        ("Bob", MONDAY + timedelta(days=2)),
    ]
    assert json.loads(rows[0]["design"]) == plain_design(TRIAL)


def test_a_hash_of_a_design_knows_what_order_means() -> None:
    turned = {name: getattr(TRIAL, name)[::-1] for name in ("metrics", "segments")}
    assert design_hash(TRIAL.model_copy(update=turned)) == design_hash(TRIAL)
    assert design_hash(TRIAL.model_copy(update={"arms": TRIAL.arms[::-1]})) != design_hash(TRIAL)
    assert design_hash(TRIAL) == "9ed92f70c09f"  # for good: assignments bear it


@pytest.mark.parametrize(
    ("update", "said", "alike"),
    [
        ({"ramp": 0.5}, ("ramp: 1 → 0.5",), True),
        ({"looks": 7, "late_days": 1}, ("late: 7 days → 1 day", "looks: 1 → 7"), True),
        ({"covariates": ["usual"]}, ("covariates: none → usual",), True),
        ({"metrics": TRIAL.metrics[:1]}, ("metric visits: taken out",), True),
        ({"arms": TRIAL.arms[::-1]}, ("arms: in another order, control, offer → offer, control",), False),
        ({"control": "offer"}, ("control: control → offer",), False),
        (
            {"arms": [TRIAL.arms[0], Arm(name="offer", policy="xgboost", weight=0.25)]},
            ("arm offer, policy: rule → xgboost", "arm offer, weight: 0.5 → 0.25"),
            False,
        ),
    ],
)
def test_changes_are_said_in_words(update: dict, said: tuple[str, ...], alike: bool) -> None:
    old, new = plain_design(TRIAL), plain_design(TRIAL.model_copy(update=update))
    assert changes(old, new) == said
    assert same_assignment(old, new) is alike


def replayed(records: Records, name: str) -> None:
    "A replay of an experiment, with an outcome of its own and one that is not."
    records.freeze(TRIAL.model_copy(update={"name": name}), at=MONDAY, actor="replay")
    row = {
        "experiment": name,
        "unit": 7,
        "arm": "offer",
        "propensity": 0.5,
        "assigned_at": MONDAY,
        "design_hash": "0",
    }
    records.write("assignments", [row])
    records.write("outcomes", [basket(f"{name}:b1"), basket("real")])


def test_a_replay_can_be_forgotten_and_nothing_else_with_it(records: Records) -> None:
    replayed(records, "trial")
    replayed(records, "trial_")  # an underscore is no wildcard
    decided = {
        "experiment": "trial",
        "report_hash": "0",
        "decision": "stop",
        "actor": "Ann",
        "reason": "",
        "decided_at": MONDAY,
    }
    records.write("decisions", [decided])
    assert records.forget("trial") == 3
    assert records.read("outcomes")["event_id"].to_pylist() == ["real", "trial_:b1"]
    assert len(records.read("assignments")) == len(records.read("decisions")) == 1


def test_what_really_happened_cannot_be_forgotten(records: Records) -> None:
    replayed(records, "trial")
    records.freeze(TRIAL.model_copy(update={"ramp": 0.5}), at=MONDAY + timedelta(days=1), actor="Ann")
    with pytest.raises(RecordError, match="no replay: Ann started it"):
        records.forget("trial")
    with pytest.raises(RecordError, match="did you mean 'trial'"):
        records.forget("triall")
    assert len(records.read("assignments")) == 1


# A copy.


def test_a_copy_holds_the_experiment_and_is_the_same_each_time(records: Records, tmp_path: Path) -> None:
    replayed(records, "trial")
    replayed(records, "other")
    counts = export_records(records, tmp_path / "copy", "trial")
    before = {path.name: path.read_bytes() for path in (tmp_path / "copy").iterdir()}
    assert counts == {
        "experiments": 1,
        "assignments": 1,
        "covariates": 0,
        "predictions": 0,
        "exposures": 0,
        "outcomes": 2,
    }
    assert {*before} == {f"{name}.parquet" for name in EXPORTED}
    records.write("covariates", [{"experiment": "other", "unit": 7, "name": "usual", "number": 1.0}])
    export_records(records, tmp_path / "copy", "trial")
    assert {path.name: path.read_bytes() for path in (tmp_path / "copy").iterdir()} == before
    assert pq.read_table(tmp_path / "copy" / "outcomes.parquet").schema.equals(schema_of("outcomes"))
