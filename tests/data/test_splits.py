"""Slices of time that cannot leak into one another."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_workbench.data.splits import (
    NEXT,
    as_of_grid,
    check_labels,
    check_reach,
    describe_slices,
    moved_forward,
    plan_slices,
)
from ml_workbench.plan.errors import SplitError
from ml_workbench.plan.params import load_params

PARAMS = {
    "first_as_of": "2017-03-20 05:00",
    "last_as_of": "2017-12-04 05:00",
    "next_as_of": "2018-01-01 05:00",
    "every_days": 7,
    "horizon_days": 28,
    "train": ["2017-03-20 05:00", "2017-06-26 05:00"],
    "validation": ["2017-07-24 05:00", "2017-08-14 05:00"],
    "test": ["2017-09-11 05:00", "2017-10-16 05:00"],
    "replay": ["2017-11-13 05:00", "2017-12-04 05:00"],
}


def test_the_default_slices_are_those_of_the_parameters(root) -> None:
    section = load_params(root).features.model_dump(exclude={"active_days", "records"})
    slices = plan_slices(**section)
    assert [piece.name for piece in slices] == ["train", "validation", "test", "replay", NEXT]
    assert [len(piece.as_ofs) for piece in slices] == [12, 3, 10, 4, 1]


def test_no_time_need_be_kept_for_a_replay(root) -> None:
    section = load_params(root).features.model_dump(exclude={"active_days", "records"})
    names = [piece.name for piece in plan_slices(**{**section, "replay": None})]
    assert names == ["train", "validation", "test", NEXT]


def test_a_label_window_ends_before_the_following_slice_begins() -> None:
    for earlier, later in pairwise(plan_slices(**PARAMS)):
        assert earlier.last + timedelta(days=28) <= later.first


def test_a_gap_of_exactly_one_horizon_will_do_and_a_step_less_will_not() -> None:
    plan_slices(**PARAMS | {"validation": ["2017-07-24 05:00", "2017-08-14 05:00"]})
    with pytest.raises(
        SplitError, match=r"label windows overlap.*train \(2017-06-26 05:00\).*begin it on 2017-07-24 05:00"
    ):
        plan_slices(**PARAMS | {"validation": ["2017-07-17 05:00", "2017-08-14 05:00"]})


def test_one_as_of_time_is_a_slice() -> None:
    slices = plan_slices(**PARAMS | {"replay": ["2017-12-04 05:00", "2017-12-04 05:00"]})
    assert slices[3].as_ofs == (datetime(2017, 12, 4, 5),)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"test": ["2017-09-12 05:00", "2017-10-16 05:00"]},
            r"test: 2017-09-12 05:00 is not on the grid.*2017-09-11 05:00 and 2017-09-18 05:00",
        ),
        ({"test": ["2017-09-11", "2017-10-16"]}, "test: 2017-09-11 00:00 is not on the grid"),
        ({"train": ["2017-03-13 05:00", "2017-06-26 05:00"]}, r"train: 2017-03-13 05:00 is not on the grid"),
        (
            {"replay": ["2017-11-13 05:00", "2017-12-11 05:00"]},
            r"replay: 2017-12-11 05:00 is not on the grid",
        ),
        (
            {"test": ["2017-10-16 05:00", "2017-09-11 05:00"]},
            "test: ends on 2017-09-11 05:00, before it begins",
        ),
        (
            {"test": ["2017-04-10 05:00", "2017-04-17 05:00"]},
            "test begins on 2017-04-10 05:00, not after validation.*earliest that would do is 2017-09-11",
        ),
        (
            {"validation": ["2017-06-26 05:00", "2017-08-14 05:00"]},
            "validation begins on 2017-06-26 05:00, not after train",
        ),
        (
            {"last_as_of": "2017-12-11 05:00"},
            "horizon beyond the data.*2018-01-08 05:00.*latest last_as_of that would do is 2017-12-04 05:00",
        ),
        ({"horizon_days": 35}, "horizon beyond the data"),
        ({"horizon_days": 0}, "horizon_days: 0"),
        ({"every_days": 0}, "every_days: 0"),
        ({"last_as_of": "2017-03-13 05:00"}, "last_as_of: 2017-03-13 05:00 is before first_as_of"),
        ({"first_as_of": "next Monday"}, "first_as_of: 'next Monday' is not a time like"),
        ({"next_as_of": "2018-01-01 05:00+00:00"}, "next_as_of: .* names a time zone"),
    ],
)
def test_slices_that_cannot_be_used_are_refused_with_the_dates(changes: dict, message: str) -> None:
    with pytest.raises(SplitError, match=message):
        plan_slices(**PARAMS | changes)


@given(
    every=st.integers(1, 14),
    horizon=st.integers(1, 60),
    starts=st.lists(st.integers(0, 60), min_size=8, max_size=8),
)
def test_whatever_is_accepted_has_no_overlap(every: int, horizon: int, starts: list[int]) -> None:
    first = datetime(2020, 1, 1)
    grid = as_of_grid(first, first + timedelta(days=every * 60), every)
    periods = [[str(grid[a]), str(grid[b])] for a, b in zip(starts[::2], starts[1::2])]
    try:
        slices = plan_slices(
            first_as_of=str(grid[0]),
            last_as_of=str(grid[-1]),
            next_as_of=str(grid[-1] + timedelta(days=horizon)),
            every_days=every,
            horizon_days=horizon,
            **dict(zip(("train", "validation", "test", "replay"), periods)),
        )
    except SplitError:
        gaps = [starts[i + 1] - starts[i] for i in (1, 3, 5)]
        backwards = any(b < a for a, b in zip(starts[::2], starts[1::2]))
        assert backwards or min(gaps) * every < horizon
    else:
        assert all(
            later.first - earlier.last >= timedelta(days=horizon) for earlier, later in pairwise(slices)
        )


def test_events_that_end_early_are_noticed() -> None:
    slices = plan_slices(**PARAMS)
    check_reach(slices, datetime(2017, 12, 31, 5))
    with pytest.raises(
        SplitError,
        match=r"last event is of 2017-12-31 04:59.*up to 2018-01-01 05:00.*would do is 2018-01-01 04:59",
    ):
        check_reach(slices, datetime(2017, 12, 31, 4, 59))


@pytest.fixture
def labelled() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect()
    moments = [moment for piece in plan_slices(**PARAMS) for moment in piece.as_ofs]
    connection.execute(
        """CREATE TABLE labels AS SELECT as_of, CAST(i % 4 = 0 AS TINYINT) AS lapsed, i AS spend
           FROM range(8) AS t(i), (SELECT unnest(?) AS as_of)""",
        [moments],
    )
    connection.execute(
        "UPDATE labels SET lapsed = NULL, spend = NULL WHERE as_of = TIMESTAMP '2018-01-01 05:00'"
    )
    yield connection
    connection.close()


def test_the_overview_keeps_sealed_labels_to_itself(labelled: duckdb.DuckDBPyConnection) -> None:
    overview = {
        entry["slice"]: entry
        for entry in describe_slices(labelled, plan_slices(**PARAMS), label="lapsed", value="spend")
    }
    assert (overview["train"]["rows"], overview["train"]["label_share"], overview["train"]["mean_value"]) == (
        120,
        0.25,
        3.5,
    )
    assert overview["replay"]["rows"] == 32
    assert [overview[name]["label_share"] for name in ("replay", NEXT)] == [None, None]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            "UPDATE labels SET lapsed = 0 WHERE as_of < TIMESTAMP '2017-07-01'",
            r"train \(2017-03-20.*'lapsed' is 0 for all 120",
        ),
        (
            "UPDATE labels SET lapsed = 1 WHERE as_of > TIMESTAMP '2017-11-01'",
            "replay .*'lapsed' is 1 for all",
        ),
        (
            "DELETE FROM labels WHERE as_of BETWEEN TIMESTAMP '2017-09-01' AND TIMESTAMP '2017-11-01'",
            "test .*has no snapshots",
        ),
        (
            "UPDATE labels SET lapsed = NULL WHERE as_of = TIMESTAMP '2017-08-14 05:00'",
            "validation .*8 snapshots without a label",
        ),
    ],
)
def test_a_slice_that_teaches_nothing_is_refused(
    labelled: duckdb.DuckDBPyConnection, statement: str, message: str
) -> None:
    check_labels(labelled, plan_slices(**PARAMS), label="lapsed")
    labelled.execute(statement)
    with pytest.raises(SplitError, match=message):
        check_labels(labelled, plan_slices(**PARAMS), label="lapsed")


@given(st.integers(-30, 400), st.integers(1, 10))
def test_later_slices_keep_lengths_gaps_and_grid_and_reach_as_far_as_the_data(days, step) -> None:
    end = datetime(2018, 1, 1, 5)
    section = PARAMS | {"every_days": 7, "horizon_days": 28}
    moved, by = moved_forward(section, end + timedelta(days=days, hours=step))
    assert by == max(days // 7, 0) * 7 and datetime.fromisoformat(moved["next_as_of"]) <= end + timedelta(
        days=max(days, 0), hours=step
    )
    for before, after in zip(plan_slices(**section), plan_slices(**moved)):
        assert after.name == before.name and [each - timedelta(days=by) for each in after.as_ofs] == list(
            before.as_ofs
        )


def test_nothing_is_moved_back_or_by_less_than_a_step() -> None:
    for reach in (datetime(2010, 1, 1), datetime(2018, 1, 8, 4, 59)):
        assert moved_forward(PARAMS, reach) == (PARAMS, 0)
    assert moved_forward(PARAMS, datetime(2018, 1, 8, 5))[1] == 7


def test_what_is_no_time_stays_and_no_replay_stays_none(root) -> None:
    section = load_params(root).features.model_dump() | {"replay": None}
    moved, days = moved_forward(section, datetime(2018, 2, 1))
    assert (
        days == 28
        and moved["replay"] is None
        and moved["active_days"] == 84
        and section["next_as_of"] == "2018-01-01 05:00"
    )
