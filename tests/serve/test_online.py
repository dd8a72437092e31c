"""The features that a service looks up: whole or not at all, bit for bit, of the newest as-of time."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ml_workbench.database.connections import address, connected, transaction
from ml_workbench.database.schema import upgrade
from ml_workbench.database.tables import table_of
from ml_workbench.model.signature import UNSEEN, Input, Signature
from ml_workbench.model.snapshots import read_schema, read_slices
from ml_workbench.plan.errors import RecordError, ScoringError
from ml_workbench.serve.online import AT_ONCE, Stored, latest_as_of, read_online, write_online

MONDAY = datetime(2017, 12, 4, 5)
COLUMNS = (("away", "number"), ("town", "category"), ("weekly", "number"))
TERMS = SimpleNamespace(feature_set="4f2a", columns=COLUMNS)
ROWS = [[3.0, "Ulm", 0.1], [30.0, "(missing)", None], [float("nan"), None, 1e-30]]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def engine(request: pytest.FixtureRequest, tmp_path) -> Iterator[sa.Engine]:
    "A migrated database of either kind."
    postgres = request.param == "postgres"
    url = request.getfixturevalue("postgres_url") if postgres else f"sqlite:///{tmp_path}/records.db"
    made = connected(address(url))
    with transaction(made) as connection:
        upgrade(connection)
    yield made
    made.dispose()


def write(engine: sa.Engine, weeks: int = 0, units=("7", "8", "9"), rows=ROWS, **more) -> Stored:
    "Features of three units, so many weeks later."
    given = {"feature_set": "4f2a", "columns": COLUMNS} | more
    return write_online(
        engine, given["feature_set"], MONDAY + timedelta(weeks=weeks), given["columns"], units, rows
    )


def test_what_is_read_is_what_was_written(engine):
    assert write(engine) == Stored(3, 0, ())
    found = read_online(engine, TERMS)
    assert (found.as_of, found.units, found.index) == (MONDAY, ["7", "8", "9"], {"7": 0, "8": 1, "9": 2})
    assert found.row(0) == {"away": 3.0, "town": "Ulm", "weekly": float(np.float32(0.1))}
    assert found.row(2) == {"away": None, "town": None, "weekly": float(np.float32(1e-30))}
    assert found.column("town") == ["Ulm", "(missing)", None]


def test_a_model_is_fed_its_own_columns_in_its_own_order(engine):
    write(engine)
    signature = Signature(
        (Input("weekly", "number"), Input("town", "category", ("Bonn", "Ulm")), Input("away", "number"))
    )
    matrix = read_online(engine, TERMS).matrix(signature)
    expected = np.array([[0.1, 1, 3], [np.nan, UNSEEN, 30], [1e-30, UNSEEN, np.nan]], dtype=np.float32)
    assert matrix.dtype == np.float32 and matrix.flags.c_contiguous
    assert np.array_equal(matrix, expected, equal_nan=True)
    single = signature.row(read_online(engine, TERMS).row(0))
    assert np.array_equal(single[0], matrix[0])


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (Input("wekly", "number"), "no feature 'wekly'.*did you mean 'weekly'"),
        (Input("town", "number"), "is no number"),
    ],
)
def test_a_model_that_needs_what_is_not_declared_is_told(engine, column, message):
    write(engine)
    with pytest.raises(ScoringError, match=message):
        read_online(engine, TERMS).matrix(Signature((column,)))


floats = st.floats(width=32, allow_infinity=False)


@settings(deadline=None)
@given(matrix=arrays(np.float32, st.tuples(st.integers(1, 5), st.just(2)), elements=floats))
def test_32_bits_survive_the_way_through_text(tmp_path_factory, matrix):
    engine = connected(address(f"sqlite:///{tmp_path_factory.mktemp('one')}/records.db"))
    with transaction(engine) as connection:
        upgrade(connection)
    columns = (("a", "number"), ("b", "number"))
    units = [str(place) for place in range(len(matrix))]
    write_online(engine, "1", MONDAY, columns, units, matrix.tolist())
    found = read_online(engine, SimpleNamespace(feature_set="1", columns=columns))
    engine.dispose()
    bits = np.where(np.isnan(matrix), np.float32("nan"), matrix).view(np.int32)
    assert np.array_equal(found.values.view(np.int32), bits)


def test_an_as_of_time_written_again_is_replaced_and_only_two_are_kept(engine):
    for weeks in range(3):
        last = write(engine, weeks)
    assert last.dropped == (MONDAY,)
    assert write(engine, 2, ["1"], ROWS[:1]) == Stored(1, 3, ())
    assert read_online(engine, TERMS).units == ["1"]
    table = table_of("online_features")
    with transaction(engine, reading=True) as connection:
        counted = connection.execute(sa.select(table.c.as_of, sa.func.count()).group_by(table.c.as_of)).all()
    assert dict(map(tuple, counted)) == {MONDAY + timedelta(weeks=1): 3, MONDAY + timedelta(weeks=2): 1}


def test_features_that_nobody_would_read_are_refused(engine):
    for weeks in (1, 2):
        write(engine, weeks)
    with pytest.raises(RecordError, match="older than those in use"):
        write(engine, 0)
    assert write(engine, 1) == Stored(3, 3, ()), "the one before the newest may be corrected"
    assert latest_as_of(engine, "4f2a") == MONDAY + timedelta(weeks=2)


def test_two_declarations_do_not_meet(engine):
    write(engine)
    write(engine, 1, ["5"], ROWS[:1], feature_set="other")
    assert read_online(engine, TERMS).units == ["7", "8", "9"]
    assert latest_as_of(engine, "4f2a") == MONDAY and latest_as_of(engine, "none") is None


def test_where_nothing_was_written_the_remedy_is_named(engine):
    with pytest.raises(RecordError, match=r"no online features of the declaration 4f2a.*ml-workbench online"):
        read_online(engine, TERMS)


@pytest.mark.parametrize(
    ("units", "rows", "message"),
    [
        (["7", "7"], ROWS[:2], "1 units come twice"),
        (["7", "8"], [ROWS[0], ROWS[1][:2]], "unit '8' has 2 features, 3 are declared"),
        (["7"], [["much", "Ulm", 1.0]], "declared as numbers hold something else"),
        (["7", "8"], [ROWS[0], [float("inf"), "Ulm", 1.0]], "'away' of unit '8' is infinite"),
        ([], [], "no unit has features"),
    ],
)
def test_what_is_no_row_is_refused_and_the_features_before_stay(engine, units, rows, message):
    write(engine)
    for weeks in (0, 1):
        with pytest.raises(RecordError, match=message):
            write(engine, weeks, units, rows)
    assert read_online(engine, TERMS).row(0)["town"] == "Ulm" and latest_as_of(engine, "4f2a") == MONDAY


def test_an_error_in_the_middle_of_many_rows_leaves_nothing(engine):
    def broken():
        yield from (ROWS[0] for _ in range(AT_ONCE + 10))
        raise ValueError("the source is gone")

    write(engine)
    with pytest.raises(ValueError, match="gone"):
        write(engine, 1, map(str, range(2 * AT_ONCE)), broken())
    assert latest_as_of(engine, "4f2a") == MONDAY


def test_a_row_that_was_damaged_is_told_with_the_remedy(engine):
    write(engine)
    for damage in ("[1, 2", "[1]", "7"):
        table = table_of("online_features")
        with transaction(engine) as connection:
            connection.execute(table.update().values(row=damage))
        with pytest.raises(RecordError, match="write them again with `ml-workbench online`"):
            read_online(engine, TERMS)


def test_writers_at_the_same_time_do_not_disturb_each_other_nor_a_reader(engine):
    write(engine)
    with ThreadPoolExecutor(6) as pool:
        jobs = [pool.submit(write, engine, weeks) for weeks in (1, 1, 2, 2)]
        reads = [pool.submit(lambda: len(read_online(engine, TERMS).units)) for _ in range(8)]
        failures = [str(error) for job in jobs if (error := job.exception())]
    assert all("older than those in use" in failure for failure in failures)
    assert {read.result() for read in reads} == {3}
    assert read_online(engine, TERMS).as_of == MONDAY + timedelta(weeks=2)


def test_the_real_features_come_back_as_they_are_in_the_snapshots(produced, engine):
    schema = read_schema(produced / "data/features/schema.json")
    rows = read_slices(produced / "data/features/snapshots.parquet", schema, ["next"])
    columns = tuple((each.name, each.kind) for each in schema.features)
    units = rows[schema.entity].astype(str).tolist()
    write_online(engine, "real", MONDAY, columns, units, rows[schema.names].to_numpy(dtype=object).tolist())
    found = read_online(engine, SimpleNamespace(feature_set="real", columns=columns))
    order = [found.index[unit] for unit in units]
    for name in schema.of_kind("number"):
        assert np.array_equal(found.column(name)[order], rows[name].to_numpy(), equal_nan=True), name
    for name in schema.of_kind("category"):
        assert [found.column(name)[place] for place in order] == rows[name].tolist(), name


def test_a_service_may_read_without_any_library_of_tables():
    heavy = "{'pandas', 'pyarrow', 'duckdb', 'sklearn', 'scipy', 'xgboost', 'alembic'}"
    code = f"import sys, ml_workbench.serve.online; print({heavy} & {{*sys.modules}})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
