"""Inputs that are not as in training are named, column by column; what merely varies is left alone."""

from datetime import timedelta

import numpy as np
import orjson
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_workbench.monitor.asking import Asked
from ml_workbench.monitor.invariants import (
    CHECKS,
    clock_readings,
    column_readings,
    excess,
    jumps,
    middle_of,
    row_readings,
    stuck,
    usual_rows,
)
from ml_workbench.monitor.reading import inputs_of
from tests.monitor.shop import features_of, released
from tests.release.small import DECLARED, members

COLUMNS = [(each.name, each.kind) for each in DECLARED.columns]
REFERENCE = released().reference
CHECKED = {each.name: each for each in CHECKS}


def readings(rows: pd.DataFrame, **rest):
    texts = rows if isinstance(rows, list) else features_of(rows)
    return column_readings(
        Asked(CHECKED, minimum=50, **rest), inputs_of(texts, REFERENCE, COLUMNS), REFERENCE
    )


def broken(rows) -> set[str]:
    return {each.cause for each in readings(rows) if each.status == "alarm"}


def test_other_members_of_the_same_shop_break_nothing():
    for slice in ("train", "validation", "test", "next"):
        assert broken(members(slice)) == set(), slice


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (
            lambda rows: rows.assign(usual_weekly_spend=rows["usual_weekly_spend"].mask(rows.index % 3 == 0)),
            "invariants.nulls/usual_weekly_spend",
        ),
        (
            lambda rows: rows.assign(usual_weekly_spend=rows["usual_weekly_spend"] * 100),
            "invariants.scale/usual_weekly_spend",
        ),
        (lambda rows: rows.assign(visits_4w=0.0), "invariants.constant/visits_4w"),
        (lambda rows: rows.assign(town="Rome"), "invariants.unseen/town"),
        (
            lambda rows: rows.assign(days_since_visit=rows["days_since_visit"] + 1000),
            "invariants.range/days_since_visit",
        ),
    ],
    ids=["empty", "cents", "constant", "unseen", "beyond"],
)
def test_a_broken_column_raises_its_own_alarm(change, cause):
    assert cause in broken(change(members("next").copy()))


def test_numbers_that_are_none_break_at_once():
    texts = features_of(members("next"))
    texts[0] = texts[0].replace(texts[0][1 : texts[0].index(",")], "Infinity", 1)
    assert "invariants.infinite/days_since_visit" in broken(texts)


def test_columns_that_are_renamed_or_retyped_are_named():
    rows = [
        dict(zip([name for name, _ in COLUMNS], orjson.loads(text))) for text in features_of(members("next"))
    ]
    renamed = [
        orjson.dumps(
            {("spend" if name == "usual_weekly_spend" else name): value for name, value in row.items()}
        ).decode()
        for row in rows
    ]
    assert {"invariants.columns/usual_weekly_spend", "invariants.columns/spend"} <= broken(renamed)
    retyped = [orjson.dumps(row | {"visits_4w": str(row["visits_4w"])}).decode() for row in rows]
    assert "invariants.columns/visits_4w" in broken(retyped)


def test_of_many_broken_columns_the_worst_are_told_and_all_are_counted():
    found = [
        each
        for each in readings(
            members("next").assign(**{name: np.nan for name, kind in COLUMNS if kind == "number"})
        )
        if each.check == "invariants.nulls"
    ]
    assert len(found) == 3 and all(each.details["broken"] == 3 for each in found)


def test_too_few_rows_are_no_reason_to_wake_anybody():
    assert broken(members("next").head(20).assign(visits_4w=0.0)) == set()
    assert {
        each.status for each in readings(members("next").head(20)) if each.check == "invariants.nulls"
    } == {"unknown"}


def test_a_day_without_features_is_unknown_and_not_fine():
    assert {each.status for each in readings([])} == {"unknown"}


def test_only_what_is_worse_than_ever_before_counts():
    half = inputs_of(features_of(members("train")), REFERENCE, COLUMNS).columns
    assert all(value == pytest.approx(0, abs=0.02) for value in excess("nulls", half, REFERENCE).values())
    assert set(stuck(half, REFERENCE).values()) == {0.0}
    assert all(
        value < 2
        for value in jumps(inputs_of(features_of(members("test")), REFERENCE, COLUMNS), REFERENCE).values()
    )


@given(st.lists(st.integers(1, 400), min_size=4, max_size=30))
def test_the_middle_lies_within_the_edges(counts):
    edges = [float(place) for place in range(len(counts) - 1)]
    middle = middle_of(edges, counts)
    assert middle is None or 0 < middle <= edges[-1]


# Rows ------------------------------------------------------------------------------------------------------


def test_rows_are_held_against_the_periods_before_and_else_against_the_weeks_it_was_judged_on():
    assert usual_rows([100, 0, 300], None, 7) == (200.0, "2 periods before")
    usual, when = usual_rows([], REFERENCE, 7)
    assert usual == REFERENCE["slices"]["test"]["rows"] and "judged" in when
    assert usual_rows([], None, 7) == (None, "")


@pytest.mark.parametrize(
    ("rows", "status"), [(100, "fine"), (55, "fine"), (40, "alarm"), (0, "alarm"), (160, "alarm")]
)
def test_a_day_on_which_nothing_was_decided_is_the_worst(rows, status):
    (found,) = row_readings(Asked(CHECKED), rows, rows, (100.0, "2 periods before"))
    assert found.status == status
    assert ("Nothing was decided" in found.sentence) == (rows == 0)


def test_clocks_that_disagree_and_days_that_came_twice_are_told():
    fine = clock_readings(Asked(CHECKED), 0, 0, 0, 100)
    bad = clock_readings(Asked(CHECKED), 1, 2, 3, 100)
    assert [each.status for each in fine] == ["fine", "fine"] and [each.value for each in bad] == [0.03, 0.03]
    assert [each.status for each in bad] == ["alarm", "alarm"]
    assert {each.status for each in clock_readings(Asked(CHECKED), 0, 0, 0, 0)} == {"unknown"}


def test_times_are_read_from_what_was_served(tmp_path):
    import pyarrow as pa

    from ml_workbench.monitor.invariants import readings as everything
    from tests.monitor.shop import MONDAY, WEEK, as_folder, shop
    from tests.monitor.test_reading import looked

    tables = shop(weeks=1)
    served = tables["served"].to_pandas()
    served.loc[0, "at"] -= timedelta(days=2)  # older than its features
    served.loc[1, "at"] = MONDAY + 99 * WEEK  # in the future
    again = served.tail(5).assign(decision_id=[f"again-{place}" for place in range(5)])
    tables["served"] = pa.Table.from_pandas(
        pd.concat([served, again]), schema=tables["served"].schema, preserve_index=False
    )
    found = {
        each.check: each
        for each in everything(looked(as_folder(tmp_path, tables)), Asked(CHECKED, minimum=50))
    }
    assert found["invariants.clock"].details == {"early": 1, "ahead": 1} and found[
        "invariants.repeats"
    ].value == 5 / len(tables["served"])
