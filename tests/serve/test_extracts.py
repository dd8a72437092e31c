"""What a source knew at a time is what training would have known, and no table, column or row more is read."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pytest

from ml_workbench.data import definitions
from ml_workbench.data.declarations import Feature, FeatureSet
from ml_workbench.data.features import compute_features, select_snapshots
from ml_workbench.data.tables import TABLES
from ml_workbench.plan.errors import ContractError, FeatureError, SourceError
from ml_workbench.serve import extracts
from ml_workbench.serve.extracts import known_at, needed_tables, reduced
from tests.serve.shop import MONDAY, SHOP, small, write_tables

OPTIONS = {"activity": "visits", "active_days": 84, "tables": SHOP}
DECLARED = replace(small.DECLARED, labels=())


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    "A folder with the shop's tables."
    return write_tables(tmp_path / "tables")


def test_features_are_those_that_training_computes(shop):
    with duckdb.connect() as connection:
        for name, table in small.tables().items():
            connection.register(name, table)
        select_snapshots(connection, DECLARED, [MONDAY], source="visits", active_days=84)
        expected = compute_features(connection, DECLARED).fetchall()
    with known_at(MONDAY, str(shop), [DECLARED], **OPTIONS) as known:
        found = known.connection.execute(f"FROM {known.features(DECLARED)}").fetchall()
        assert known.units == len(found) and MONDAY - timedelta(days=1) <= known.last_event <= MONDAY
    assert found == expected and len(found) > 100


@pytest.mark.parametrize("names", [["visits_4w"], ["usual_weekly_spend", "days_since_visit"]])
def test_fewer_features_are_the_same_features(shop, names):
    part = reduced(DECLARED, names, activity="visits")
    with known_at(MONDAY, str(shop), [DECLARED, part], **OPTIONS) as known:
        whole = known.connection.sql(f"FROM {known.features(DECLARED)}").df()
        few = known.connection.sql(f"FROM {known.features(part, 'few')}").df()
    assert set(few) == {"member", "as_of", *names}
    for name in names:
        assert np.array_equal(few[name], whole[name], equal_nan=True)


def test_only_needed_tables_and_columns_are_read():
    declared = definitions.declare()
    few = reduced(declared, ["days_since_basket"], activity="baskets")
    (table,) = needed_tables([few], TABLES)
    assert table.name == "transactions" and {each.name for each in table.columns} == {
        "household_id", "store_id", "basket_id", "product_id", "sales_value", "transaction_timestamp",
    }  # fmt: skip
    assert next(each for each in table.columns if each.name == "product_id").references is None
    everything = reduced(declared, [each.name for each in declared.columns], activity="baskets")
    assert "coupons" not in {each.name for each in needed_tables([everything], TABLES)}, "no feature reads it"
    people = next(each for each in needed_tables([everything], TABLES) if each.name == "demographics")
    assert len(people.columns) == 8, "SELECT * takes all"
    assert not few.labels and [each.name for each in few.relations] == ["baskets"]


def test_a_table_that_no_needed_feature_reads_may_be_missing(shop):
    (shop / "people.parquet").unlink()
    part = reduced(DECLARED, ["visits_4w"], activity="visits")
    with known_at(MONDAY, str(shop), [part], **OPTIONS) as known:
        assert known.units > 100
    with (
        pytest.raises(SourceError, match="lacks 1 declared table"),
        known_at(MONDAY, str(shop), [DECLARED], **OPTIONS),
    ):
        pass


def test_a_time_that_is_none_is_named_and_not_passed_over(tmp_path):
    folder = write_tables(tmp_path / "texts", kind="csv")
    lines = (folder / "receipts.csv").read_text().splitlines()
    lines[3] = lines[3].replace("2024-", "20x4-")
    (folder / "receipts.csv").write_text("\n".join(lines))
    with (
        pytest.raises(ContractError, match="is no TIMESTAMP"),
        known_at(MONDAY, str(folder), [DECLARED], **OPTIONS),
    ):
        pass


def test_an_unknown_activity_or_expression_is_told(shop):
    with pytest.raises(
        FeatureError, match="no relation 'visit' shows which units are active, did you mean 'visits'"
    ):
        reduced(DECLARED, ["visits_4w"], activity="visit")
    counted = Feature("x", "sum(nothing)", "visits", 28, "m", "f")
    wrong = FeatureSet("member", small.DECLARED.relations[:1], (counted,))
    with (
        known_at(MONDAY, str(shop), [DECLARED], **OPTIONS) as known,
        pytest.raises(FeatureError, match="unknown column 'nothing'"),
    ):
        known.features(wrong)


def test_events_after_the_time_are_not_even_read(shop):
    with known_at(MONDAY, str(shop), [DECLARED], **OPTIONS) as known:
        last, count = known.connection.execute("SELECT max(bought_at), count(*) FROM receipts").fetchone()
    whole = small.tables()["receipts"]
    assert last <= MONDAY and count == (whole["bought_at"] <= MONDAY).sum() < len(whole)


def test_who_was_not_active_is_left_out(shop):
    with known_at(MONDAY, str(shop), [DECLARED], **OPTIONS | {"active_days": 7}) as known:
        few = known.units
    with known_at(MONDAY, str(shop), [DECLARED], **OPTIONS) as known:
        assert 0 < few < known.units
    with (
        pytest.raises(SourceError, match="lies in their future"),
        known_at(datetime(2030, 1, 1), str(shop), [DECLARED], **OPTIONS),
    ):
        pass


def test_a_file_that_is_damaged_is_told_in_a_line(shop):
    path = shop / "receipts.parquet"
    data = bytearray(path.read_bytes())
    data[40:600] = b"\xff" * 560
    path.write_bytes(data)
    with (
        pytest.raises(SourceError, match=f"{shop}.*cannot be read"),
        known_at(MONDAY, str(shop), [DECLARED], **OPTIONS),
    ):
        pass


def test_tables_that_are_as_promised_are_read_where_they_are(shop, monkeypatch):
    extracted = []
    monkeypatch.setattr(
        extracts,
        "extract",
        lambda source, tables, *_, **__: extracted.extend(each.name for each in tables) or [],
    )
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE receipts AS FROM '{shop}/receipts.parquet'")
        for kind, direct in (("DECIMAL(12,2)", True), ("DOUBLE", False)):
            connection.execute(
                f"COPY (SELECT * REPLACE (spent::{kind} AS spent) FROM receipts) TO '{shop}/receipts.parquet'"
            )
            extracted.clear()
            try:
                with known_at(MONDAY, str(shop), [DECLARED], **OPTIONS) as known:
                    assert known.units > 100
            except SourceError:
                assert not direct
            assert ("receipts" not in extracted) is direct
