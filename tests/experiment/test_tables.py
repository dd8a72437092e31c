"""Any table with one row per unit, opened by its name."""

import gzip
from pathlib import Path

import duckdb
import pytest

from ml_workbench.experiment.summaries import summarise
from ml_workbench.experiment.tables import open_table
from ml_workbench.plan.errors import ExperimentError

ROWS = [("u1", "A", 12.5, 1), ("u2", "B", 20.0, 0), ("u3", "A", 7.5, 2), ("u4", "B", 0.0, 0)]
TEXT = "person,arm,spend,orders\n" + "".join(",".join(map(str, row)) + "\n" for row in ROWS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "units.csv").write_text(TEXT)
    (tmp_path / "units.csv.gz").write_bytes(gzip.compress(TEXT.encode()))
    (tmp_path / "units.tsv").write_text(TEXT.replace(",", "\t"))
    (tmp_path / "semicolon.csv").write_text(TEXT.replace(",", ";"))
    (tmp_path / "parts").mkdir()
    with duckdb.connect(str(tmp_path / "units.duckdb")) as connection:
        connection.execute(
            "CREATE TABLE units (person VARCHAR, arm VARCHAR, spend DECIMAL(9,2), orders INTEGER)"
        )
        connection.executemany("INSERT INTO units VALUES (?, ?, ?, ?)", ROWS)
        connection.execute("CREATE TABLE others AS SELECT 1 AS x")
        connection.execute(f"COPY units TO '{tmp_path / 'units.parquet'}' (FORMAT parquet)")
        for part in (1, 2):
            where = f"WHERE person {'<=' if part == 1 else '>'} 'u2'"
            connection.execute(
                f"COPY (FROM units {where}) TO '{tmp_path / 'parts' / f'{part}.parquet'}' (FORMAT parquet)"
            )
    return tmp_path


def means(source: str) -> dict[str, float]:
    with open_table(source) as table:
        arms = summarise(table.ask, unit="person", arm="arm", columns=["spend", "orders"]).arms
    return {arm: one.of("spend") for arm, one in arms.items()}


@pytest.mark.parametrize(
    "name",
    ["units.csv", "units.csv.gz", "units.tsv", "semicolon.csv", "units.parquet", "parts", "parts/*.parquet"],
)
def test_every_kind_of_file_gives_the_same(folder: Path, name: str):
    assert means(str(folder / name)) == {"A": 10.0, "B": 10.0}


def test_a_table_of_a_duckdb_database_gives_the_same(folder: Path):
    assert means(f"duckdb:///{folder}/units.duckdb?table=units") == {"A": 10.0, "B": 10.0}


def test_types_of_a_csv_file_come_from_all_its_lines(tmp_path: Path):
    rows = "".join(f"{place},{'AB'[place % 2]},{place % 7}\n" for place in range(30_000))
    (tmp_path / "long.csv").write_text("person,arm,spend\n" + rows + "30000,A,0.25\n30001,B,oops\n")
    with (
        open_table(str(tmp_path / "long.csv")) as table,
        pytest.raises(ExperimentError, match="1 of its values is no number, for example 'oops'"),
    ):
        summarise(table.ask, arm="arm", columns=["spend"])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("unit.csv", "no such file, did you mean 'units.csv'"),
        ("nowhere/units.csv", "no such file; is the path right"),
        ("*.feather", "no such file"),
        ("units.duckdb", r"write duckdb:///.*units.duckdb\?table="),
        ("", "only one kind at a time"),
    ],
)
def test_a_file_that_is_not_there_or_no_table_is_named(folder: Path, name: str, said: str):
    with pytest.raises(ExperimentError, match=said), open_table(str(folder / name)):
        pass


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("duckdb:///{}/units.duckdb?table=unitz", "no table 'unitz' there, did you mean 'units'"),
        ("duckdb:///{}/units.duckdb", r"which table\? add \?table= and its name, known: others, units"),
        ("duckdb:///{}/other.duckdb?table=units", "does not exist"),
        ("s3://bucket/units.parquet", "cannot open 's3:'"),
    ],
)
def test_a_database_without_that_table_names_those_it_has(folder: Path, url: str, said: str):
    with pytest.raises(ExperimentError, match=said), open_table(url.format(folder)):
        pass


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("damaged.parquet", b"PAR1 and then nothing", "damaged.parquet: .*magic bytes"),
        ("latin.csv", "person,arm\nu1,é\n".encode("latin-1"), "is the file UTF-8"),
        ("ragged.csv", b"a,b\n1,2\n3,4,5\n" + b"6,7\n" * 20, "no column 'arm'|as many fields"),
    ],
)
def test_a_damaged_file_is_named_with_a_hint(tmp_path: Path, name: str, content: bytes, said: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ExperimentError, match=said), open_table(str(tmp_path / name)) as table:
        summarise(table.ask, arm="arm", columns=["b"])


def test_a_database_out_of_reach_is_named_without_its_password():
    url = "postgresql://me:sesame@127.0.0.1:1/shop?table=units"
    with (
        pytest.raises(ExperimentError, match="cannot reach database 'shop' on 127") as caught,
        open_table(url),
    ):
        pass
    assert "sesame" not in str(caught.value)


@pytest.mark.postgres
def test_a_table_of_postgresql_gives_the_same_and_decimals_are_numbers(postgres_url: str):
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(postgres_url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE units (person text, arm varchar(9), spend numeric(9,2), orders int, seen timestamptz)"
        )
        for person, arm, spend, orders in ROWS:
            cursor.execute(f"INSERT INTO units VALUES ('{person}', '{arm}', {spend}, {orders}, now())")
    source = f"{postgres_url}?table=units"
    assert means(source) == {"A": 10.0, "B": 10.0}
    with open_table(source, columns=["arm", "spend"]) as table:
        assert {name for name, *_ in table.ask("DESCRIBE SELECT * FROM {units}")} == {"arm", "spend"}
    with (
        pytest.raises(ExperimentError, match="no column 'spent', did you mean 'spend'"),
        open_table(source, columns=["spent"]),
    ):
        pass
    with (
        pytest.raises(ExperimentError, match="no table 'unit' there, did you mean"),
        open_table(f"{postgres_url}?table=unit"),
    ):
        pass
