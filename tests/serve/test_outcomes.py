"""Outcomes from the network: what fits is kept as it was meant, what does not is named with its place."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_workbench.serve.fitting import fit, gathered
from ml_workbench.serve.outcomes import LONGEST, OutcomeError, outcome_records

NOON = datetime(2017, 11, 13, 12)
BASKET = {
    "outcome": "basket",
    "event_id": "b1",
    "unit": "7",
    "occurred_at": "2017-11-13T05:00:00",
    "value": 12.5,
}


def refused(*given: Any) -> OutcomeError:
    with pytest.raises(OutcomeError) as caught:
        outcome_records(list(given), now=NOON)
    return caught.value


def test_what_is_sent_becomes_a_row_of_the_table() -> None:
    rows = outcome_records([BASKET, {**BASKET, "event_id": 2, "unit": 8, "value": None}], now=NOON)
    assert rows[0] == BASKET | {"recorded_at": "2017-11-13T12:00:00"}
    assert (rows[1]["event_id"], rows[1]["unit"], rows[1]["value"]) == ("2", "8", None)
    assert gathered([orjson.dumps({"outcomes": rows})])["outcomes"][0] == ("basket", "basket")


def test_when_it_came_in_is_now_unless_it_is_said() -> None:
    (row,) = outcome_records([BASKET])
    assert abs(
        datetime.fromisoformat(row["recorded_at"]) - datetime.now(UTC).replace(tzinfo=None)
    ) < timedelta(minutes=1)
    (row,) = outcome_records([BASKET | {"recorded_at": "2017-11-14"}], now=NOON)
    assert row["recorded_at"] == "2017-11-14T00:00:00"
    east = NOON.replace(tzinfo=timezone(timedelta(hours=9)))
    assert outcome_records([BASKET], now=east)[0]["recorded_at"] == "2017-11-13T03:00:00"


def test_times_with_a_zone_are_brought_to_utc() -> None:
    (row,) = outcome_records([BASKET | {"occurred_at": "2017-11-13T05:00:00.25+09:00"}], now=NOON)
    assert row["occurred_at"] == "2017-11-12T20:00:00.250000"


@pytest.mark.parametrize("name", ["outcome", "event_id", "unit", "occurred_at"])
@pytest.mark.parametrize("how", ["left out", "null"])
def test_a_field_that_is_missing_is_named(name: str, how: str) -> None:
    wrong = {key: value for key, value in BASKET.items() if key != name} | (
        {name: None} if how == "null" else {}
    )
    error = refused(BASKET, wrong)
    assert (error.position, error.field, str(error)) == (2, name, f"outcome 2, {name}: it is missing")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("unit", 7.0, "7.0 is no name"),
        ("unit", True, "True is no name"),
        ("unit", ["7"], "is no name"),
        ("unit", "", "the name is empty"),
        ("unit", " \t", "the name is empty"),
        ("unit", "x" * (LONGEST + 1), "at most 200 characters, this one has 201"),
        ("event_id", 10**999, "at most 200 characters"),
        ("event_id", "a\0b", "a character that no database takes"),
        ("outcome", "\ud800", "a character that no database takes"),
        ("value", "12,50", "'12,50' is no number"),
        ("value", True, "True is no number"),
        ("value", float("nan"), "NaN or infinite"),
        ("value", float("-inf"), "NaN or infinite"),
        ("value", 10**400, "NaN or infinite"),
        ("occurred_at", "yesterday", "'yesterday' is no time"),
        ("occurred_at", "2017-13-13", "is no time"),
        ("occurred_at", 1510549200, "1510549200 is no time"),
        ("recorded_at", "later", "'later' is no time"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_its_place(field: str, value: Any, said: str) -> None:
    error = refused(BASKET | {"event_id": "b0"}, BASKET | {field: value})
    assert (error.position, error.field) == (2, field) and said in str(error) and len(str(error)) < 160


def test_a_field_with_a_slip_in_its_name_is_no_field() -> None:
    assert str(refused(BASKET | {"valeu": 3})) == "outcome 1, 'valeu': no such field, did you mean 'value'?"
    assert "no such field" in str(refused({7: 8}))


@pytest.mark.parametrize("given", [None, 7, "basket", [BASKET], True])
def test_what_is_no_object_is_refused(given: Any) -> None:
    error = refused(BASKET, given)
    assert (error.position, error.field) == (2, "") and "is no object with outcome, event_id" in str(error)


def test_a_time_outside_the_calendar_is_refused() -> None:
    assert "outside the calendar" in str(refused(BASKET | {"occurred_at": "0001-01-01T00:00:00+09:00"}))


def test_zones_are_not_mixed_within_a_request() -> None:
    zoned = {"event_id": "b2", "occurred_at": "2017-11-13T05:00:00Z"}
    assert refused(BASKET, BASKET | zoned).field == "occurred_at"
    assert refused(BASKET | {"recorded_at": "2017-11-13T05:00:00Z"}).field == "recorded_at"


def test_an_event_told_in_two_ways_is_refused_and_one_told_twice_is_not() -> None:
    error = refused(BASKET, BASKET | {"event_id": "b2"}, BASKET | {"value": 13})
    assert (error.position, error.field) == (3, "event_id") and "is outcome 1 too" in str(error)
    assert (
        len(outcome_records([BASKET, BASKET | {"value": 12.5}, BASKET | {"outcome": "visit", "value": 1}]))
        == 3
    )
    assert len(outcome_records([BASKET, BASKET | {"recorded_at": "2017-11-14"}])) == 2


def test_nothing_is_nothing() -> None:
    assert outcome_records([]) == []


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda each: st.lists(each, max_size=2) | st.dictionaries(st.text(max_size=4), each, max_size=2),
    max_leaves=4,
)
OBJECTS = st.fixed_dictionaries(
    {},
    optional={name: ANYTHING | st.just(value) for name, value in BASKET.items()} | {"recorded_at": ANYTHING},
)


@given(st.lists(OBJECTS | ANYTHING, max_size=3))
def test_whatever_is_sent_is_refused_in_words_or_fits_the_database(given: list) -> None:
    try:
        rows = outcome_records(given, now=NOON)
    except OutcomeError as error:
        assert 1 <= error.position <= len(given) and str(error).startswith(f"outcome {error.position}")
    else:
        assert len(fit("outcomes", json.loads(orjson.dumps(rows)))) == 6


def test_nothing_heavy_is_loaded(run_python: Callable) -> None:
    heavy = ("pandas", "pyarrow", "duckdb", "numpy", "sqlalchemy")
    code = (
        f"import sys, ml_workbench.serve.outcomes; print([each for each in {heavy} if each in sys.modules])"
    )
    assert run_python("-c", code).stdout == "[]\n"
