"""Summaries count everything once, can be added, and come back from their file as they were."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_workbench.plan.errors import ReleaseError
from ml_workbench.release.reference import (
    EDGES,
    LEVELS,
    REFERENCE,
    Categories,
    Numbers,
    Slice,
    added,
    categories,
    edges_of,
    levels_of,
    numbers,
    reference_bytes,
    reference_from,
    reference_of,
)

VALUES = st.lists(st.none() | st.floats(width=32) | st.integers(-3, 3).map(float), max_size=60)
WORDS = st.lists(st.none() | st.sampled_from("abcdefg"), max_size=60)


def masked(values: list) -> np.ma.MaskedArray:
    "A column, masked where there is nothing."
    null = np.array([each is None for each in values], dtype=bool)
    kind = np.float64 if all(each is None or isinstance(each, float) for each in values) else object
    filler = 0.0 if kind is np.float64 else ""
    return np.ma.masked_array(
        np.array([filler if each is None else each for each in values], dtype=kind), mask=null
    )


def close(one: Numbers, other: Numbers) -> bool:
    "Whether two summaries are the same, up to the last digits of the mean."
    rest = ("count", "null", "nan", "infinite", "min", "max", "bins")
    same = all(getattr(one, name) == getattr(other, name) for name in rest)
    means = (one.mean, other.mean)
    return same and (means == (None, None) or bool(np.isclose(*means, rtol=1e-6, atol=1e-6)))


@settings(max_examples=200, deadline=None)
@given(training=VALUES, one=VALUES, other=VALUES)
def test_two_periods_added_are_both_periods_counted_at_once(training: list, one: list, other: list):
    limit = 1e30  # sums of larger numbers overflow, and no feature has them
    one, other = (
        [None if each is not None and limit < abs(each) < np.inf else each for each in part]
        for part in (one, other)
    )
    edges = edges_of(masked(training))
    assert close(
        added(numbers(masked(one), edges), numbers(masked(other), edges)), numbers(masked(one + other), edges)
    )


@settings(max_examples=100, deadline=None)
@given(training=WORDS, one=WORDS, other=WORDS)
def test_categories_of_two_periods_can_be_added_too(training: list, one: list, other: list):
    levels = levels_of(masked(training), 3)
    assert added(categories(masked(one), levels), categories(masked(other), levels)) == categories(
        masked(one + other), levels
    )


@settings(max_examples=200, deadline=None)
@given(training=VALUES, values=VALUES)
def test_every_row_is_counted_once(training: list, values: list):
    edges = edges_of(masked(training))
    found = numbers(masked(values), edges)
    assert sum(found.bins) + found.null + found.nan + found.infinite == found.count == len(values)
    assert len(found.bins) == len(edges) + 1 and list(edges) == sorted({*edges}) and len(edges) <= EDGES


def test_null_nan_and_infinite_are_told_apart():
    found = numbers(masked([None, float("nan"), float("inf"), float("-inf"), 2.0]), (1.0,))
    assert found == Numbers(5, 1, 1, 2, 2.0, 2.0, 2.0, (0, 1))


def test_a_column_without_a_number_has_no_edges_and_no_figures():
    for values in ([], [None, None], [float("nan")]):
        assert edges_of(masked(values)) == ()
        found = numbers(masked(values), ())
        assert (found.min, found.max, found.mean, found.bins) == (None, None, None, (0,))


def test_a_value_on_an_edge_counts_above_it():
    assert numbers(np.array([0.9, 1.0, 1.5, 2.0, 2.1]), (1.0, 2.0)).bins == (1, 2, 2)


def test_a_feature_of_few_values_has_each_as_an_edge_so_that_counts_are_exact():
    values = np.random.default_rng(1).integers(0, 9, 5000).astype(float)
    assert edges_of(values) == tuple(float(each) for each in range(9))
    assert numbers(values, edges_of(values)).bins[1:] == tuple(np.bincount(values.astype(int)))


def test_the_kolmogorov_smirnov_distance_is_told_to_one_part_in_256():
    random = np.random.default_rng(2)
    for shift in (0.0, 0.05, 0.5):
        one, other = random.normal(size=20_000), random.normal(shift, 1, 20_000)
        edges = edges_of(one)
        shares = [np.cumsum(numbers(each, edges).bins) / len(each) for each in (one, other)]
        every = np.sort(np.concatenate([one, other]))
        exact = np.abs(
            np.subtract(
                *(np.searchsorted(np.sort(each), every, side="right") / len(each) for each in (one, other))
            )
        ).max()
        assert abs(np.abs(np.subtract(*shares)).max() - exact) < 1 / EDGES


def test_levels_are_the_most_frequent_and_what_is_new_counts_with_the_rest():
    words = [f"town {number:02}" for number in range(50) for _ in range(50 - number)]
    levels = levels_of(masked(words))
    assert len(levels) == LEVELS and levels[:2] == ("town 00", "town 01")
    assert categories(masked(["town 00", "town 49", "nowhere", None]), levels).counts[::LEVELS] == (1, 2)


def test_summaries_of_other_edges_or_kinds_are_not_added():
    one = numbers(np.arange(3.0), (1.0,))
    for other in (numbers(np.arange(3.0), (1.0, 2.0)), Categories(3, 0, (1, 2))):
        with pytest.raises(ReleaseError, match="cannot be added"):
            added(one, other)


# The file ---------------------------------------------------------------------------------------------------


def part(seed: int, rows: int = 200) -> Slice:
    random = np.random.default_rng(seed)
    columns = {
        "member": np.arange(rows), "as_of": np.full(rows, np.datetime64("2024-01-01T05:00")),
        "days": np.ma.masked_greater(random.exponential(9, rows), 20), "town": random.choice(["Arles", "Bath"], rows),
        "left": (random.random(rows) < 0.3).astype(float),
    }  # fmt: skip
    return Slice(columns, random.random(rows), {"proposed": (20, rows), "rule": (19, rows)})


PARTS = {"train": part(1), "test": part(2, 100)}
NAMES = {"entity": "member", "time": "as_of", "label": "left"}
MADE = reference_of(PARTS, [("days", "number"), ("town", "category")], **NAMES)


def test_a_reference_comes_back_with_every_count():
    read = reference_from(reference_bytes(MADE))
    days = read["features"]["days"]
    assert days["test"].bins == numbers(PARTS["test"].columns["days"], days["edges"]).bins
    town = read["features"]["town"]
    assert town["train"] == categories(PARTS["train"].columns["town"], town["levels"])
    assert read["slices"]["test"] == {
        "rows": 100,
        "units": 100,
        "first": "2024-01-01 05:00:00",
        "last": "2024-01-01 05:00:00",
    }
    assert read["actions"]["rule"] == {
        "train": {"listed": 19, "rows": 200},
        "test": {"listed": 19, "rows": 100},
    }


def test_scores_are_counted_by_hundredths_with_the_label_beside():
    read = reference_from(reference_bytes(MADE))
    assert len(read["score"]["test"].bins) == 100 == len(read["score"]["positive"]["test"])
    assert sum(read["score"]["positive"]["test"]) == PARTS["test"].columns["left"].sum()
    assert sum(read["score"]["test"].bins) == 100


def test_a_score_that_is_no_probability_is_counted_by_its_own_quantiles():
    scores = {name: Slice(each.columns, each.scores * 90, each.listed) for name, each in PARTS.items()}
    read = reference_from(
        reference_bytes(reference_of(scores, [("days", "number")], **NAMES, output="score"))
    )
    assert read["score"]["edges"][-1] > 50 and sum(read["score"]["test"].bins) == 100


def test_the_same_slices_give_the_same_bytes():
    again = reference_of(
        {name: part(seed, rows) for name, seed, rows in (("train", 1, 200), ("test", 2, 100))},
        [("days", "number"), ("town", "category")],
        **NAMES,
    )
    assert reference_bytes(again) == reference_bytes(MADE)


def test_figures_have_six_significant_digits():
    mean = json.loads(reference_bytes(MADE))["features"]["days"]["train"]["mean"]
    assert mean == float(f"{PARTS['train'].columns['days'].mean():.6g}")


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"format": 2}', b'{"format": 1}']
)
def test_what_are_no_summaries_is_refused(data: bytes):
    with pytest.raises(ReleaseError, match=REFERENCE.replace(".", r"\.")):
        reference_from(data)


def test_summaries_with_a_part_missing_or_too_many_are_refused():
    raw = json.loads(reference_bytes(MADE))
    for change in (
        lambda r: r["features"]["days"]["test"].pop("bins"),
        lambda r: r["score"]["test"].update(other=1),
        lambda r: r.pop("score"),
    ):
        broken = json.loads(json.dumps(raw))
        change(broken)
        with pytest.raises(ReleaseError, match="holds no summaries"):
            reference_from(json.dumps(broken).encode())
