"""One engine for all stages: limits, UTC, nothing fetched."""

from datetime import datetime
from pathlib import Path

import duckdb
import pytest

import ml_workbench.data.engine as module
from ml_workbench.data.engine import connect, literal, quoted, view_tables
from ml_workbench.plan.errors import SourceError


def test_the_limits_hold_and_nothing_is_fetched() -> None:
    wanted = "current_setting('threads'), current_setting('TimeZone'), current_setting('autoinstall_known_extensions')"
    with connect(threads=1) as engine:
        assert engine.execute(f"SELECT {wanted}").fetchall() == [(1, "UTC", False)]


def test_written_tables_are_seen_under_their_names_and_anew(tmp_path: Path) -> None:
    with connect() as engine:
        for rows in (3, 5):
            duckdb.sql(f"FROM range({rows})").write_parquet(str(tmp_path / "it's odd.parquet"))
            assert view_tables(engine, tmp_path) == ("it's odd",)
            assert engine.execute('SELECT count(*) FROM "it\'s odd"').fetchall() == [(rows,)]


def test_a_folder_without_tables_says_which_stage_to_run(tmp_path: Path) -> None:
    with connect() as engine, pytest.raises(SourceError, match="run the data stage first"):
        view_tables(engine, tmp_path)


@pytest.mark.parametrize(
    ("value", "text"),
    [("O'Hara", "'O''Hara'"), (7, "7"), (datetime(2017, 3, 20, 5), "TIMESTAMP '2017-03-20 05:00:00'")],
)
def test_values_are_quoted_by_their_kind(value: object, text: str) -> None:
    assert literal(value) == text
    assert duckdb.sql(f"SELECT {literal(value)}").fetchall() == [(value,)]


def test_a_name_with_quotes_stays_one_name() -> None:
    name = 'a "b" c'
    assert duckdb.sql(f"SELECT 1 AS {quoted(name)}").columns == [name]


def test_what_does_not_fit_into_memory_spills_beside_other_temporary_files_and_is_removed(
    monkeypatch, tmp_path: Path
):
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: str(tmp_path))
    with connect(memory_limit="64MB") as engine:
        engine.execute("CREATE TABLE t AS SELECT hash(range) AS a, hash(range + 1) AS b FROM range(6000000)")
        [folder] = tmp_path.iterdir()
        assert list(folder.iterdir())
    assert list(tmp_path.iterdir()) == []
