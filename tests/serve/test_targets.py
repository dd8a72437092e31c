"""A target is replaced as one or stays as it was, holds every unit once, and keeps its secrets."""

from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml_workbench.data.sources import open_source
from ml_workbench.plan.errors import RecordError
from ml_workbench.serve.targets import SCORES, Target, open_target

MONDAY, RELEASE = datetime(2024, 7, 1, 5), "4f" * 32
ROW = {
    "as_of": MONDAY, "release": RELEASE, "experiment": "trial", "arm": None, "propensity": 0.1, "reason": "outside",
    "policy": "rule", "listed": True, "action": "offer", "cost": 1.0,
}  # fmt: skip


def rows(*units: object, **more: object) -> pa.RecordBatchReader:
    "Decisions about some units."
    table = pa.Table.from_pylist([ROW | {"unit": str(unit)} | more for unit in units], schema=SCORES)
    return table.to_reader(max_chunksize=2)


@pytest.fixture(params=["folder", "duckdb", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    "A target of each kind."
    if request.param == "postgres":
        return request.getfixturevalue("postgres_url")
    return str(tmp_path / "results") if request.param == "folder" else f"duckdb:///{tmp_path}/results.duckdb"


def write(
    target: Target, reader: pa.RecordBatchReader, release: str = RELEASE, as_of: datetime = MONDAY
) -> int:
    "Replace, and commit."
    with target.opened(release, as_of) as pending:
        count = pending.write(reader)
        pending.commit()
    return count


def held(url: str, spool: Path, table: str = "scores") -> list[dict]:
    "What a target holds, read as a source."
    with open_source(url.split("?")[0]) as source, duckdb.connect() as connection:
        relation = source.relation(connection, table, SCORES.names, spool)
        return (
            connection.sql(f"SELECT * FROM {relation} ORDER BY as_of, release, unit")
            .to_arrow_table()
            .to_pylist()
        )


def test_what_is_written_is_what_a_source_reads(url, tmp_path):
    target = open_target(url)
    target.check()
    assert write(target, rows(1, 2, 3, score=0.25, rank=7)) == 3
    expected = [
        {name: None for name in SCORES.names} | ROW | {"unit": unit, "score": 0.25, "rank": 7}
        for unit in "123"
    ]
    assert held(url, tmp_path / "spool") == expected


def test_rows_of_the_same_release_and_time_are_replaced_and_all_others_stay(url, tmp_path):
    target, later, other = open_target(url), MONDAY + timedelta(weeks=1), "ab" * 32
    write(target, rows(1, 2))
    write(target, rows(1, as_of=later), as_of=later)
    write(target, rows(1, release=other), release=other)
    write(target, rows(2, 3, 4))
    found = [(row["as_of"], row["release"], row["unit"]) for row in held(url, tmp_path / "spool")]
    assert found == [
        *((MONDAY, RELEASE, unit) for unit in "234"),
        (MONDAY, other, "1"),
        (later, RELEASE, "1"),
    ]


def test_without_a_commit_nothing_has_changed(url, tmp_path):
    target = open_target(url)
    write(target, rows(1, 2))
    with target.opened(RELEASE, MONDAY) as pending:
        assert pending.write(rows(7, 8, 9)) == 3
    assert [row["unit"] for row in held(url, tmp_path / "spool")] == ["1", "2"]


def test_an_error_while_rows_come_leaves_what_was_there(url, tmp_path):
    def broken():
        yield from rows(7, 8, 9)
        raise RuntimeError("the engine is gone")

    target = open_target(url)
    write(target, rows(1, 2))
    with pytest.raises(RecordError, match=r"cannot be written.*the engine is gone"):
        write(target, pa.RecordBatchReader.from_batches(SCORES, broken()))
    assert [row["unit"] for row in held(url, tmp_path / "spool")] == ["1", "2"]
    assert write(target, rows(5)) == 1 and [row["unit"] for row in held(url, tmp_path / "spool")] == ["5"]


def test_a_trial_leaves_no_trace(url, tmp_path):
    open_target(url).check()
    if url.startswith("postgresql"):
        with open_source(url) as source:
            assert source.tables() == ()
    elif url.startswith("duckdb"):
        with duckdb.connect(f"{tmp_path}/results.duckdb") as connection:
            assert connection.sql("SHOW TABLES").fetchall() == []
    else:
        assert not list((tmp_path / "results").rglob("*.*"))


@pytest.mark.parametrize("kind", ["duckdb", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_a_table_of_another_make_is_left_alone(request, kind, tmp_path):
    if kind == "duckdb":
        url = f"duckdb:///{tmp_path}/results.duckdb"
        with duckdb.connect(f"{tmp_path}/results.duckdb") as connection:
            connection.execute("CREATE TABLE scores (unit TEXT, scroe DOUBLE)")
    else:
        from adbc_driver_postgresql import dbapi

        url = request.getfixturevalue("postgres_url")
        with dbapi.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE scores (unit TEXT, scroe DOUBLE PRECISION)")
    for action in (lambda target: target.check(), lambda target: write(target, rows(1))):
        with pytest.raises(
            RecordError, match=r"exists and lacks the column.*Give the batch a table of its own"
        ):
            action(open_target(url))
    assert open_target(f"{url}?table=letters").check() is None


@pytest.mark.postgres
def test_a_table_in_another_schema_and_a_column_more(postgres_url):
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(postgres_url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA marketing")
    target = open_target(f"{postgres_url}?schema=marketing&table=letters")
    write(target, rows(1, 2))
    with dbapi.connect(postgres_url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("ALTER TABLE marketing.letters ADD COLUMN seen_at TIMESTAMP DEFAULT now()")
    assert write(target, rows(3)) == 1
    with dbapi.connect(postgres_url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT unit, seen_at IS NOT NULL FROM marketing.letters")
        assert cursor.fetchall() == [("3", True)]


@pytest.mark.postgres
def test_who_may_not_write_is_told_before_any_work(postgres_url):
    from adbc_driver_postgresql import dbapi

    write(open_target(postgres_url), rows(1))
    name = f"reader_{postgres_url.rpartition('_')[2]}"
    with dbapi.connect(postgres_url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'hidden'")
        cursor.execute(f"GRANT SELECT ON scores TO {name}")
    try:
        host = postgres_url.split("@")[1]
        with pytest.raises(RecordError, match="cannot be written") as caught:
            open_target(f"postgresql://{name}:hidden@{host}").check()
        assert "hidden" not in str(caught.value)
    finally:
        with dbapi.connect(postgres_url, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(f"REVOKE ALL ON scores FROM {name}")
            cursor.execute(f"DROP ROLE {name}")


def test_a_parquet_target_is_a_table_of_parts_with_one_file_for_each_batch(tmp_path):
    target = open_target("results?table=letters", root=tmp_path)
    write(target, rows(1))
    write(target, rows(2))
    (path,) = (tmp_path / "results" / "letters").glob("*.parquet")
    assert path.name == "2024-07-01T050000_4f4f4f4f4f4f.parquet" and pq.read_table(path)[
        "unit"
    ].to_pylist() == ["2"]
    assert [each.name for each in path.parent.iterdir() if each.name.endswith(".tmp")] == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "results").write_text("a file")
    with pytest.raises(RecordError, match="cannot be written: "):
        open_target("results", root=tmp_path).check()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://ann:secret@host/x", "unknown kind 'mysql'"),
        ("postgresql://ann:secret@host/x?table=a;b", "is no name for a table"),
        ("duckdb://host/file", "write duckdb:///file"),
        ("duckdb:///", "write duckdb:///file"),
        ("results?colour=red", "unknown 'colour'"),
        ("results?table=..", "is no name for a table"),
    ],
)
def test_what_is_no_target_is_told_without_its_password(url, message):
    with pytest.raises(RecordError, match=message) as caught:
        open_target(url)
    assert "secret" not in str(caught.value)


def test_a_target_is_shown_the_same_way_however_it_is_written(tmp_path):
    shown = open_target("postgresql://ann:secret@host:5432/x?table=letters&sslmode=require").shown
    assert shown == "postgresql://ann@host:5432/x?table=letters"
    relative, absolute = (
        open_target("results", root=tmp_path).shown,
        open_target(str(tmp_path / "results")).shown,
    )
    assert relative == absolute == f"{tmp_path}/results?table=scores"
    assert (
        open_target("duckdb:///x.duckdb", root=tmp_path).shown
        == f"duckdb:///{tmp_path}/x.duckdb?table=scores"
    )
