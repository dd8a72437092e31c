"Served features are what training would have computed: exactly, at any size, with the worst differences shown."

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_workbench.monitor.checks import MONITORS
from ml_workbench.monitor.skew import CHECKS, Skew, compared, offline_features, served_features, skew_readings
from ml_workbench.plan.errors import MonitorError
from ml_workbench.release.declaration import columns_in, declaration_bytes
from ml_workbench.serve.records import Records
from tests.release.small import DECLARED, SCHEMA, WEEKS, members, tables

NAMED = {each.name: each for each in CHECKS}
COLUMNS = [("spend", "number"), ("town", "category")]
MONDAY = datetime(2024, 3, 4, 5)


def offline(rows: list[tuple]) -> pa.Table:
    "Snapshots (member, spend, town), spend as 32-bit numbers."
    members, spend, town = zip(*rows) if rows else ((), (), ())
    return pa.table(
        {
            "member": pa.array(members, pa.int64()),
            "as_of": pa.array([MONDAY] * len(rows), pa.timestamp("us")),
            "spend": pa.array(spend, pa.float32()),
            "town": pa.array(town, pa.string()),
        }
    )


def served(rows: list[tuple], **other: Any) -> pa.Table:
    "Decisions (unit, spend, town), as a service keeps them."
    units = pa.array([str(unit) for unit, *_ in rows], pa.string())
    columns = {
        "unit": units,
        "as_of": pa.array([MONDAY] * len(rows), pa.timestamp("us")),
        "features": pa.array([json.dumps(each) for _, *each in rows], pa.string()),
    }
    return pa.table(columns | other)


VALUE = st.one_of(st.none(), st.floats(width=32, allow_nan=False, allow_infinity=False))
ROWS = st.lists(st.tuples(VALUE, st.sampled_from(["Arles", "Bath", None])), min_size=1, max_size=20)


@settings(max_examples=40, deadline=None)
@given(ROWS)
def test_what_was_served_from_the_same_definition_never_differs(rows: list[tuple]) -> None:
    numbered = [(number, *row) for number, row in enumerate(rows)]
    found = compared(served(numbered), offline(numbered), COLUMNS, entity="member")
    assert (found.examples, found.joined, found.differing, found.skewed) == (len(rows), len(rows), 0, ())


@settings(max_examples=40, deadline=None)
@given(ROWS, st.data())
def test_every_difference_is_found_and_counted_once(rows: list[tuple], data: st.DataObject) -> None:
    numbered = [(number, *row) for number, row in enumerate(rows)]
    changed = data.draw(st.lists(st.sampled_from(range(len(rows))), unique=True))
    others = [
        (number, (spend or 0.0) / 2 + 1e30, town) if number in changed else (number, spend, town)
        for number, spend, town in numbered
    ]
    found = compared(served(others), offline(numbered), COLUMNS, entity="member")
    really = [
        number
        for number in changed
        if np.float32(others[number][1]) != (None if rows[number][0] is None else np.float32(rows[number][0]))
    ]
    assert found.features == {"spend": len(really), "town": 0} and found.differing == len(really)


def test_the_last_of_32_bits_counts_and_what_lies_below_does_not() -> None:
    value = np.float32(0.1)
    found = compared(
        served([(1, float(np.nextafter(value, 1, dtype=np.float32)), "Bath"), (2, 0.1, "Bath")]),
        offline([(1, value, "Bath"), (2, value, "Bath")]),
        COLUMNS,
        entity="member",
    )
    assert found.features == {"spend": 1, "town": 0} and found.worst["spend"][0].unit == "1"


def test_nothing_is_nothing_on_both_sides_and_something_is_not() -> None:
    rows = [(1, None, "Bath"), (2, None, "Bath"), (3, 5.0, None), (4, 5.0, "Bath")]
    theirs = [(1, float("nan"), "Bath"), (2, 0.0, "Bath"), (3, 5.0, "missing"), (4, None, "Bath")]
    found = compared(served(rows), offline(theirs), COLUMNS, entity="member")
    assert found.features == {"spend": 2, "town": 1} and found.differing == 3
    assert (found.worst["town"][0].served, found.worst["town"][0].offline) == (None, "missing")


def test_the_worst_are_shown_with_both_values_the_farthest_first() -> None:
    rows = [(number, float(number), "Bath") for number in range(10)]
    theirs = [(number, 0.0, "Bath") for number in range(9)] + [(9, None, "Bath")]
    worst = compared(served(rows), offline(theirs), COLUMNS, entity="member").worst["spend"]
    assert [(each.unit, each.served, each.offline) for each in worst] == [
        ("9", 9.0, None),
        ("8", 8.0, 0.0),
        ("7", 7.0, 0.0),
    ]
    assert worst[0].as_of == "2024-03-04 05:00:00"


def test_another_as_of_time_another_unit_and_lists_of_another_length_are_not_compared() -> None:
    rows = served([(1, 1.0, "Bath"), (2, 1.0, "Bath"), (77, 1.0, "Bath")])
    late = served([(1, 9.0, "Bath")]).set_column(
        1, "as_of", pa.array([datetime(2024, 3, 11, 5)], pa.timestamp("us"))
    )
    odd = served([(2, 1.0, "Bath", 4.0)])
    found = compared(
        pa.concat_tables([rows, late, odd]),
        offline([(1, 1.0, "Bath"), (2, 1.0, "Bath")]),
        COLUMNS,
        entity="member",
    )
    assert (found.examples, found.joined, found.differing) == (4, 2, 0)


def test_only_what_a_release_decided_is_compared_when_asked() -> None:
    rows = served([(1, 2.0, "Bath"), (2, 1.0, "Bath")], release=["a", "b"])
    theirs = offline([(1, 1.0, "Bath"), (2, 1.0, "Bath")])
    assert compared(rows, theirs, COLUMNS, entity="member", release="b").differing == 0
    assert compared(rows, theirs, COLUMNS, entity="member", release="a").differing == 1


def test_a_feature_that_the_offline_side_lacks_is_named() -> None:
    found = compared(
        served([(1, 2.0, "Bath")]),
        offline([(1, 1.0, "Bath")]).drop_columns(["spend"]),
        COLUMNS,
        entity="member",
    )
    assert found.missing == ("spend",) and found.features == {"town": 0}


def test_what_cannot_be_compared_is_told(tmp_path: Path) -> None:
    with pytest.raises(MonitorError, match="no column 'household'"):
        compared(served([(1, 2.0, "Bath")]), offline([]), COLUMNS, entity="household")
    with pytest.raises(MonitorError, match="cannot be compared"):
        compared(tmp_path / "none.parquet", offline([]), COLUMNS, entity="member")


# With a real declaration -----------------------------------------------------------------------------------

DECLARATION = columns_in(declaration_bytes(DECLARED))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    "The shop's tables and its snapshots, as files."
    made = tmp_path_factory.mktemp("shop")
    (made / "tables").mkdir()
    for name, frame in tables().items():
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), made / "tables" / f"{name}.parquet")
    pq.write_table(pa.Table.from_pandas(members("next"), preserve_index=False), made / "snapshots.parquet")
    return made


def decided() -> pa.Table:
    "All members of the last date, as a batch keeps them."
    rows = members("next")
    values = [
        [None if isinstance(each, float) and np.isnan(each) else each for each in row]
        for row in rows[[name for name, _ in DECLARATION]].astype(object).to_numpy().tolist()
    ]
    return pa.table(
        {
            "unit": [str(each) for each in rows[SCHEMA.entity]],
            "as_of": pa.array([WEEKS[-1]] * len(rows), pa.timestamp("us")),
            "features": [json.dumps(each) for each in values],
        }
    )


def test_the_offline_side_is_computed_for_the_units_that_were_served(folder: Path) -> None:
    rows = pa.concat_tables([decided(), served([("nobody", 1.0, "Bath")]), decided().slice(0, 3)])
    computed = offline_features(rows, folder / "tables", DECLARED)
    assert len(computed) == len(decided())
    for theirs in (computed, folder / "snapshots.parquet"):
        found = compared(rows, theirs, DECLARATION, entity=SCHEMA.entity)
        assert (found.joined, found.differing, found.missing) == (len(decided()) + 3, 0, ())


def test_a_feature_computed_over_another_window_is_found(folder: Path) -> None:
    place = [name for name, _ in DECLARATION].index("visits_4w")
    lists = [json.loads(each) for each in decided()["features"].to_pylist()]
    for row in lists[:50]:
        row[place] += 1
    skewed = decided().set_column(2, "features", pa.array([json.dumps(each) for each in lists]))
    found = compared(skewed, folder / "snapshots.parquet", DECLARATION, entity=SCHEMA.entity)
    assert found.features["visits_4w"] == found.differing == 50 and found.skewed == ("visits_4w",)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Records]:
    "Migrated records in a database of either kind."
    postgres = request.param == "postgres"
    with Records(
        request.getfixturevalue("postgres_url") if postgres else f"sqlite:///{tmp_path}/records.db"
    ) as made:
        made.migrate()
        yield made


def test_what_was_served_comes_out_of_a_database(records: Records) -> None:
    about = {
        "at": MONDAY, "line": 1, "experiment": "e", "arm": None, "propensity": 1.0, "reason": "assigned", "policy": "proposed", "score": 0.1, "value": None,
        "action": "none", "features_hash": "", "shadows": None, "latency_ms": None, "channel": "rest",
    }  # fmt: skip
    rows = [
        about
        | {
            "decision_id": str(i),
            "unit": str(i),
            "as_of": datetime(2024, 3, 4 + i, 5),
            "release": "ab"[i % 2],
            "features": "[1.0]" if i else None,
        }
        for i in range(6)
    ]
    records.write("served", rows)
    assert sorted(served_features(records)["unit"].to_pylist()) == ["1", "2", "3", "4", "5"]
    some = served_features(records, release="b", after=datetime(2024, 3, 5, 5), until=datetime(2024, 3, 9, 5))
    assert sorted(some["unit"].to_pylist()) == ["3", "5"]


# Readings --------------------------------------------------------------------------------------------------


def skew(differing: int, joined: int = 2000, examples: int = 2000) -> Skew:
    rows = [(number, 2.0, "Bath") for number in range(joined)]
    theirs = [(number, 1.0 if number < differing else 2.0, "Bath") for number in range(joined)]
    found = compared(served(rows), offline(theirs), COLUMNS, entity="member")
    return Skew(**vars(found) | {"examples": examples})


def test_every_check_is_declared_with_a_monitor_and_a_remedy() -> None:
    assert all(each.monitor in MONITORS and each.remedy for each in CHECKS) and len(NAMED) == len(CHECKS)


def test_one_in_a_thousand_is_fine_and_more_is_an_alarm_with_an_example() -> None:
    assert [each.status for each in skew_readings(skew(0), NAMED)] == ["fine", "fine"]
    assert {each.status for each in skew_readings(skew(2), NAMED)} == {"fine"}
    whole, joined, feature = skew_readings(skew(3), NAMED)
    assert (whole.status, joined.status, feature.status) == ("alarm", "fine", "alarm")
    assert feature.cause == "skew.feature/spend" and "served 2, computed 1" in feature.sentence
    assert feature.details["worst"][0]["offline"] == 1.0 and whole.details["features"] == {"spend": 3}


def test_where_hardly_anything_could_be_joined_nothing_was_compared() -> None:
    _, joined = skew_readings(skew(0, joined=100), NAMED)
    assert joined.status == "alarm" and joined.value == 0.05
    nothing = skew_readings(skew(0, joined=0, examples=50), NAMED)
    assert [each.status for each in nothing] == ["unknown", "alarm"]
    assert [each.status for each in skew_readings(None, NAMED)] == ["unknown"]
    assert {each.status for each in skew_readings(skew(0, joined=0, examples=0), NAMED)} == {"unknown"}
