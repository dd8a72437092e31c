"""A change around the model is told: packages, lock, tables, data, declaration."""

import pytest

from ml_workbench.monitor.asking import Asked, Present
from ml_workbench.monitor.dependencies import (
    CHECKS,
    changed,
    family,
    origin_readings,
    package_readings,
    pinned,
    schema_change,
    schema_readings,
)
from tests.monitor.shop import by_check

LOCK = b"# by uv\nnumpy==2.4.6 \\\n    --hash=sha256:ab\npsycopg[binary]==3.2.1 ; python_version < '3.14'\nPyYAML==6.0\n"
RECEIPTS = {"member": "BIGINT", "spent": "DECIMAL(12,2)", "bought_at": "TIMESTAMP"}


def asked(**present) -> Asked:
    return Asked({each.name: each for each in CHECKS}, present=Present(**present))


def test_a_lock_is_read_as_pip_and_uv_write_it():
    assert pinned(LOCK) == {"numpy": "2.4.6", "psycopg": "3.2.1", "pyyaml": "6.0"}


def test_the_same_packages_are_fine_and_another_version_is_an_alarm():
    same = package_readings(
        asked(versions={"numpy": "2.4.6"}, lock=LOCK), {"numpy": "2.4.6", "onnx": "1.19"}, LOCK
    )
    assert [each.status for each in same] == ["fine", "fine"]
    other = package_readings(
        asked(versions={"numpy": "2.5.0"}, lock=LOCK.replace(b"6.0", b"6.1")), {"numpy": "2.4.6"}, LOCK
    )
    assert [each.status for each in other] == ["alarm", "alarm"]
    assert "numpy 2.4.6 → 2.5.0" in other[0].sentence and "pyyaml 6.0 → 6.1" in other[1].sentence


def test_a_package_that_is_new_or_gone_changes_the_lock_but_not_what_is_installed():
    assert changed({"onnx": "1"}, {}) == {} and changed({"onnx": "1"}, {}, gone=True) == {"onnx": "1 → none"}


def test_where_there_is_nothing_to_compare_nothing_is_claimed():
    nothing = [
        *package_readings(asked(), {}, None),
        *origin_readings(asked(), {}, {}, None),
        *schema_readings(asked(), {}),
    ]
    assert {each.status for each in nothing} == {"unknown"} and {each.check for each in nothing} == {
        each.name for each in CHECKS
    }


@pytest.mark.parametrize(
    ("kind", "holds"),
    [
        ("int4", "number"),
        ("Decimal(12,2)", "number"),
        ("TEXT", "text"),
        ("timestamp with time zone", "time"),
        ("BOOLEAN", "truth"),
        ("BLOB", "BLOB"),
    ],
)
def test_types_are_told_apart_by_what_they_hold(kind, holds):
    assert family(kind) == holds


@pytest.mark.parametrize(
    ("columns", "status", "said"),
    [
        (RECEIPTS | {"spent": "DOUBLE"}, "fine", "as promised"),
        ({"member": "BIGINT", "bought_at": "TIMESTAMP"}, "alarm", "spent"),
        (
            {"member": "BIGINT", "amount": "DOUBLE", "bought_at": "TIMESTAMP"},
            "alarm",
            "new: amount",
        ),  # renamed
        (RECEIPTS | {"bought_at": "VARCHAR"}, "alarm", "bought_at TIMESTAMP → VARCHAR"),
        (RECEIPTS | {"till": "INTEGER"}, "watch", "new: till"),
    ],
)
def test_a_table_that_changed_is_named_with_its_columns(columns, status, said):
    found = schema_readings(asked(tables={"receipts": RECEIPTS}), {"receipts": {"columns": columns}})
    assert [each.status for each in found] == [status] and said in found[0].sentence


def test_a_column_that_nobody_promised_is_news_only_once():
    wide = {"columns": RECEIPTS | {"till": "INTEGER"}, "before": [*RECEIPTS, "till"]}
    assert [each.status for each in schema_readings(asked(tables={"receipts": RECEIPTS}), {"receipts": wide})] == ["fine"]  # fmt: skip
    new = wide | {"before": [*RECEIPTS]}
    assert [each.status for each in schema_readings(asked(tables={"receipts": RECEIPTS}), {"receipts": new})] == ["watch"]  # fmt: skip


def test_without_a_word_of_the_source_it_is_said_who_would_say_it():
    (found,) = schema_readings(asked(tables={"receipts": RECEIPTS}), {})
    assert found.status == "unknown" and "`ml-workbench online`" in found.sentence
    assert schema_readings(asked(), {}, "it is away")[0].sentence == "It is away."


def test_a_table_that_is_gone_is_an_alarm_of_its_own():
    found = schema_readings(
        asked(tables={"receipts": RECEIPTS, "people": {"member": "BIGINT"}}),
        {"receipts": {"columns": RECEIPTS}},
    )
    assert by_check(found)["dependencies.schema/people"].status == "alarm"


def test_added_removed_and_retyped_are_told_apart():
    assert schema_change({"a": "INT", "b": "INT"}, {"b": "TEXT", "c": "INT"}) == {
        "removed": ["a"],
        "retyped": ["b INT → TEXT"],
        "added": ["c"],
    }


def test_data_and_declaration_of_another_run_are_alarms():
    here = asked(declaration=b"{}", data={"data/tables": "1"})
    found = by_check(
        origin_readings(here, {"data/tables": "2", "data/features": "3"}, here.present.data, b"{ }")
    )
    assert found["dependencies.data"].status == found["dependencies.declaration"].status == "alarm"
    same = by_check(origin_readings(here, {"data/tables": "1"}, here.present.data, b"{}"))
    assert same["dependencies.data"].status == same["dependencies.declaration"].status == "fine"
