"""What is counted of decisions as they come is what would have been counted of all of them at once."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_workbench.plan.errors import ReleaseError
from ml_workbench.release.reference import categories, numbers
from ml_workbench.serve.tallies import (
    Count,
    Measure,
    Tally,
    both,
    counted_together,
    rows_in,
    squeezed,
    tally_from,
    tally_text,
    unsqueezed,
)

calm = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
EDGES = {"away": (0.0, 5.0, 10.0), "usual": (1.5,), "constant": ()}
LEVELS = {"town": ("Arles", "Bath")}
NAMES = ("away", "town", "usual", "more", "constant")
SCORES = (0.25, 0.5)
REFERENCE = {
    "features": {name: {"kind": "number", "edges": edges} for name, edges in EDGES.items()}
    | {name: {"kind": "category", "levels": levels} for name, levels in LEVELS.items()}
    | {"lapsed": {"kind": "number", "edges": [0, 1]}},
    "score": {"edges": SCORES},
}
MEASURE = Measure(REFERENCE)

finite = st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.5, 5.0, 10.0]) | st.integers(-9, 9)
number = st.none() | finite
town = st.none() | st.sampled_from(["Arles", "Bath", "Ulm", ""])
ROWS = st.lists(st.tuples(number, town, number, number, number).map(list), max_size=12)
DECISION = st.tuples(
    st.sampled_from(["offer", "none"]),
    st.sampled_from(["assigned", "holdout"]),
    st.sampled_from(["proposed", "rule", "none"]),
    st.none() | st.floats(0, 1),
)
DECISIONS = st.lists(DECISION, max_size=12)


def count_of(rows: list[list], decided: Sequence[tuple] = (), measure: Measure = MEASURE) -> Count:
    count = Count(measure)
    count.features(NAMES, [orjson.dumps(row).decode() for row in rows])
    count.decided(*(zip(*decided) if decided else [()] * 4))
    return count


def told(count: Count) -> Tally:
    return tally_from(count.text())


def column(rows: list[list], name: str) -> np.ma.MaskedArray:
    "As the reference takes it: masked where there is nothing."
    values = [row[NAMES.index(name)] for row in rows]
    mask = [each is None for each in values]
    if name in LEVELS:
        return np.ma.array([each or "" for each in values], mask=mask, dtype=object)
    return np.ma.array([np.nan if each is None else float(each) for each in values], mask=mask, dtype=float)


def alike(one: Any, other: Any) -> None:
    "The same summary; sums of numbers may differ in their last digits."
    assert type(one) is type(other)
    for name, value in vars(one).items():
        expected = pytest.approx(value, rel=1e-9, abs=1e-6) if name == "mean" and value is not None else value
        assert getattr(other, name) == expected, name


@calm
@given(rows=ROWS.filter(bool))
def test_every_column_is_what_the_reference_would_say_of_it(rows: list[list]) -> None:
    found = told(count_of(rows)).features
    assert found.keys() == {*EDGES, *LEVELS}, (
        "the label is no feature, and what has no reference is not counted"
    )
    for name, edges in EDGES.items():
        alike(found[name], numbers(column(rows, name), edges))
    for name, levels in LEVELS.items():
        assert found[name] == categories(column(rows, name), levels)


@calm
@given(decided=DECISIONS)
def test_the_score_is_that_of_models_and_every_action_and_reason_is_counted(decided: list[tuple]) -> None:
    found = told(count_of([], decided))
    scores = [score for _, _, policy, score in decided if policy == "proposed"]
    mask = [each is None for each in scores]
    alike(found.score, numbers(np.ma.array([each or 0.0 for each in scores], mask=mask, dtype=float), SCORES))
    for name, place in (("actions", 0), ("reasons", 1)):
        counts = getattr(found, name)
        assert counts == {each: sum(row[place] == each for row in decided) for each in counts}
    assert found.decisions == len(decided)


@calm
@given(parts=st.lists(st.tuples(ROWS, DECISIONS), min_size=1, max_size=5), data=st.data())
def test_parts_in_any_order_through_text_or_memory_are_the_whole(parts: list, data: st.DataObject) -> None:
    rows = [row for some, _ in parts for row in some]
    whole = told(count_of(rows, [each for _, some in parts for each in some]))
    left = [count_of(*part) for part in data.draw(st.permutations(parts))]
    while len(left) > 1:
        one = left.pop(data.draw(st.integers(0, len(left) - 1)))
        if data.draw(st.booleans()):  # a process that read its row from the table
            one = Count(MEASURE, told(one))
        left[0] = counted_together(one, left[0])
    merged = told(left[0])
    assert (merged.actions, merged.reasons) == (whole.actions, whole.reasons)
    assert merged.features.keys() == whole.features.keys()
    for name, each in whole.features.items():
        alike(merged.features[name], each)
    alike(merged.score, whole.score)


@calm
@given(rows=ROWS, decided=DECISIONS)
def test_both_says_what_counting_on_says(rows: list[list], decided: list[tuple]) -> None:
    one, other = count_of(rows, decided), count_of(rows[::2], decided[::2])
    added, counted = both(told(one), told(other)), told(counted_together(one, other))
    assert (added.actions, added.reasons, added.features.keys()) == (
        counted.actions,
        counted.reasons,
        counted.features.keys(),
    )
    for name, each in added.features.items():
        alike(each, counted.features[name])
    assert tally_from(tally_text(added)) == added


@calm
@given(bins=st.lists(st.sampled_from([0, 0, 0, 1, 7, 10**12]), max_size=40), data=st.data())
def test_bins_survive_being_written_short(bins: list[int], data: st.DataObject) -> None:
    starts = [0, *sorted(data.draw(st.sets(st.integers(1, len(bins) - 1))))] if len(bins) > 1 else [0]
    parts = squeezed(np.array(bins, dtype=np.int64), starts) if bins else []
    expected = (
        [tuple(bins[first:end]) for first, end in zip(starts, [*starts[1:], len(bins)])] if bins else []
    )
    assert [unsqueezed(part) for part in parts] == expected
    assert unsqueezed(bins) == tuple(bins), "plain counts are read as well"
    assert all(len(part) <= len(whole) for part, whole in zip(parts, expected))


def test_a_row_of_a_few_decisions_is_small() -> None:
    edges = {f"feature_{n}": {"kind": "number", "edges": list(range(255))} for n in range(95)}
    measure = Measure({"features": edges, "score": {"edges": [n / 100 for n in range(1, 100)]}})
    count = Count(measure)
    count.features(tuple(edges), [json.dumps([1.5] * 95)])
    assert len(count.text()) < 15_000
    assert len(tally_text(told(count))) == len(count.text())


# What does not fit.

ODD = (
    "",
    "null",
    "{}",
    "7",
    "[1,2]",
    "[",
    '"text"',
    "[1],[2]",
    "[1,2,3,4,5,6]",
    '["much",null,1,1,1]',
    '[{"a":1},null,1,1,1]',
    "[[1],null,1,1,1]",
    f"[{10**400},null,1,1,1]",
    "[1,null,NaN,1,1]",
    None,
    7,
)


@pytest.mark.parametrize("odd", ODD)
def test_features_that_are_none_are_left_out_and_the_others_counted(odd: Any) -> None:
    good = '[3,"Bath",1,null,0]'
    count = Count(MEASURE)
    count.features(NAMES, [good, odd, good])
    assert {each.count for each in told(count).features.values()} == {2}


scalar = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
anything = st.recursive(scalar, lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(), inner))


@calm
@given(values=st.lists(st.lists(anything, min_size=4, max_size=6) | anything, max_size=6))
def test_nothing_that_a_record_may_hold_stops_the_counting(values: list[Any]) -> None:
    count = Count(MEASURE)
    count.features(NAMES, [json.dumps(each) for each in values])
    counts = {each.count for each in told(count).features.values()}
    assert len(counts) <= 1 and max(counts, default=0) <= len(values)


def test_categories_that_are_no_text_are_counted_as_their_text() -> None:
    found = told(count_of([[1, 3, 1, 1, 1], [1, True, 1, 1, 1], [1, ["Bath"], 1, 1, 1]])).features["town"]
    assert found == categories(np.array(["3", "True", "['Bath']"]), LEVELS["town"])


def test_a_text_that_reads_as_several_rows_is_none() -> None:
    assert rows_in(["[1,2]", "[3,4],[5,6]", "[7,8]"], 2) == [[1, 2], [7, 8]]


def test_without_a_reference_there_are_actions_and_reasons_and_nothing_else() -> None:
    count = count_of([[1, "Bath", 1, 1, 1]], [("offer", "assigned", "proposed", 0.5)], Measure())
    assert told(count) == Tally(actions={"offer": 1}, reasons={"assigned": 1})
    assert not Measure().features and MEASURE.features


def test_what_was_counted_while_the_reference_was_at_hand_stays_when_it_is_gone() -> None:
    before = count_of([[1, "Bath", 1, 1, 1]] * 3, [("offer", "assigned", "proposed", 0.5)] * 3)
    later = counted_together(
        Count(Measure(), told(before)), count_of([], [("none", "holdout", "none", None)], Measure())
    )
    assert told(later) == Tally(
        told(before).features, told(before).score, {"offer": 3, "none": 1}, {"assigned": 3, "holdout": 1}
    )
    again = counted_together(Count(MEASURE, told(later)), count_of([[1, "Bath", 1, 1, 1]]))
    assert {each.count for each in told(again).features.values()} == {4}


def test_counts_of_other_edges_are_no_counts_of_these() -> None:
    before = told(count_of([[1, "Bath", 1, 1, 1]]))
    other = Measure(REFERENCE | {"features": {"away": {"kind": "number", "edges": [1, 2]}}})
    with pytest.raises(ReleaseError, match="other edges"):
        Count(other, before)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"features":{"a":{}},"score":null,"actions":{},"reasons":{}}', "nope"]
)
def test_a_text_that_is_no_summary_is_told(text: str) -> None:
    with pytest.raises(ReleaseError, match="cannot be read"):
        tally_from(text)
