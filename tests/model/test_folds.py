"""Folds keep a horizon and whole units between what is learnt from and what is judged."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_workbench.model.folds import folds_of, plan_spans, unit_groups_of
from ml_workbench.model.snapshots import Feature, Schema
from ml_workbench.plan.errors import SplitError, TrainingError

MONDAYS = pd.date_range("2024-01-01", periods=15, freq="7D")
SCHEMA = Schema(
    "member", "as_of", "slice", "left", "spend", 28, "weekly", (Feature("weekly", "number", "money"),)
)


def members(dates=MONDAYS, *, units: int = 120, seed: int = 1) -> pd.DataFrame:
    rows = pd.DataFrame([(who, when) for when in dates for who in range(units)], columns=["member", "as_of"])
    return rows.assign(slice="train", left=np.random.default_rng(seed).integers(0, 2, len(rows)))


def cut(rows: pd.DataFrame, **changes):
    options = {"folds": 3, "fold_weeks": 2, "unit_groups": 3, "seed": 7} | changes
    return folds_of(rows, SCHEMA, **options)


@settings(deadline=None, max_examples=150)
@given(
    days=st.sets(st.integers(0, 400), min_size=2, max_size=40),
    horizon=st.integers(1, 60),
    folds=st.integers(1, 5),
    fold_weeks=st.integers(1, 4),
)
def test_no_label_window_reaches_into_what_is_judged_for_any_dates(days, horizon, folds, fold_weeks):
    dates = pd.Timestamp("2024-01-01") + pd.to_timedelta(sorted(days), unit="D")
    try:
        spans = plan_spans(dates, horizon_days=horizon, folds=folds, fold_weeks=fold_weeks)
    except SplitError as error:
        assert "no room" in str(error) and "features.train" in str(error)
        return
    assert len(spans) == folds
    judged = np.concatenate([span.validation for span in spans])
    assert len(np.unique(judged)) == folds * fold_weeks and judged[-1] == dates[-1].to_datetime64()
    for span in spans:
        assert len(span.train) and len(span.validation) == fold_weeks
        assert span.train[-1] + np.timedelta64(horizon, "D") <= span.validation[0]


@settings(deadline=None, max_examples=60)
@given(
    st.data(), st.integers(20, 60), st.integers(2, 5), st.integers(1, 3), st.integers(0, 99), st.booleans()
)
def test_no_unit_and_no_row_is_on_two_sides(data, units, groups, folds, seed, named):
    rows = members(units=units, seed=seed)
    rows = rows[data.draw(st.integers(1, 3)) <= (rows["member"] + rows.index) % 7].reset_index(drop=True)
    if named:
        rows["member"] = "member " + rows["member"].astype(str)
    try:
        found = cut(rows, folds=folds, unit_groups=groups, seed=seed)
    except TrainingError as error:
        assert "tune.unit_groups" in str(error)
        return
    for fold in found:
        parts = [rows.iloc[each] for each in (fold.train, fold.watch, fold.validation)]
        learnt, watched, judged = (set(part["member"]) for part in parts)
        assert not learnt & watched and not learnt & judged and not watched & judged
        last = max(parts[0]["as_of"].max(), parts[1]["as_of"].max())
        assert last + pd.Timedelta(days=28) <= parts[2]["as_of"].min()
        now = rows[rows["as_of"].isin(fold.span.validation)]  # dates on which nobody was judged, too
        assert fold.share == pytest.approx(len(judged) / now["member"].nunique())


def test_groups_do_not_depend_on_order_company_or_type():
    whole = unit_groups_of(np.arange(1000), 4, seed=3)
    assert (unit_groups_of(np.arange(1000)[::-1], 4, seed=3) == whole[::-1]).all()
    assert (unit_groups_of([str(unit) for unit in range(200, 300)], 4, seed=3) == whole[200:300]).all()
    assert unit_groups_of([7, 42, 2017], 4, seed=3).tolist() == [0, 0, 2]  # the same on every machine
    assert (unit_groups_of(np.arange(1000), 4, seed=4) != whole).any()
    assert np.bincount(whole, minlength=4).min() > 200


def test_the_order_of_rows_decides_nothing():
    rows = members()
    shuffled = rows.sample(frac=1, random_state=2)
    for one, other in zip(cut(rows), cut(shuffled), strict=True):
        for part in ("train", "watch", "validation"):
            there = shuffled.iloc[getattr(other, part)].index
            assert sorted(there) == getattr(one, part).tolist()


def test_fifteen_weeks_and_a_horizon_of_four():
    spans = plan_spans(MONDAYS, horizon_days=28, folds=3, fold_weeks=2)
    assert [(len(span.train), span.as_json()["validation"]) for span in spans] == [
        (6, ["2024-03-04", "2024-03-11"]),
        (8, ["2024-03-18", "2024-03-25"]),
        (10, ["2024-04-01", "2024-04-08"]),
    ]


def test_the_last_room_there_is_can_be_used_and_no_more():
    assert len(plan_spans(MONDAYS, horizon_days=28, folds=11, fold_weeks=1)[0].train) == 1
    with pytest.raises(SplitError, match=r"of which 11 lie a whole horizon .* lower tune.folds to 11"):
        plan_spans(MONDAYS, horizon_days=28, folds=12, fold_weeks=1)


@pytest.mark.parametrize(
    ("dates", "options", "remedy"),
    [
        (MONDAYS[:4], {"folds": 1, "fold_weeks": 1}, "no fold fits into 28 days or less"),
        (MONDAYS[:6], {"folds": 2, "fold_weeks": 3}, "lower tune.fold_weeks to 2, with one fold"),
        (MONDAYS, {"folds": 4, "fold_weeks": 3}, "lower tune.folds to 3"),
    ],
)
def test_where_there_is_no_room_dates_and_remedy_are_named(dates, options, remedy):
    with pytest.raises(SplitError) as caught:
        plan_spans(dates, horizon_days=28, **options)
    assert remedy in str(caught.value) and "2024-01-01" in str(caught.value)


def test_a_class_missing_in_a_fold_is_named_with_the_remedy():
    rows = members()
    late = rows.assign(left=rows["left"].where(rows["as_of"] < MONDAYS[13], 0))
    with pytest.raises(TrainingError, match=r"fold 3 is judged on only 'left' = 0 \(\d+ rows, 2024-04-01 to"):
        cut(late)
    early = rows.assign(left=rows["left"].where(rows["as_of"] > MONDAYS[5], 1))
    with pytest.raises(TrainingError, match=r"fold 1 learns from only 'left' = 1.*lower tune.unit_groups"):
        cut(early)


def test_a_group_without_units_is_named_too():
    with pytest.raises(TrainingError, match=r"fold \d .* nothing \(0 rows"):
        cut(members(units=3), unit_groups=40)


def test_rows_of_another_slice_are_refused():
    rows = members()
    rows.loc[rows.index[-5:], "slice"] = "test"
    with pytest.raises(SplitError, match="training slice only, and here are rows of test"):
        cut(rows)


def test_a_missing_label_is_refused():
    with pytest.raises(TrainingError, match="have no label 'left'"):
        cut(members().assign(left=np.nan))


def test_a_single_group_keeps_units_together_and_says_so():
    rows = members()
    for fold in cut(rows, unit_groups=1):
        learnt, judged = rows.iloc[np.append(fold.train, fold.watch)], rows.iloc[fold.validation]
        assert set(judged["member"]) == set(learnt["member"]) == set(range(120)) and fold.share == 1
        assert learnt["as_of"].max() + pd.Timedelta(days=28) <= judged["as_of"].min()
        assert fold.as_json()["units_apart"] is False
    assert all(fold.as_json()["units_apart"] for fold in cut(rows))
