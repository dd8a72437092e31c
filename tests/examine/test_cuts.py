"""Rows are grouped in an order that a reader expects."""

import numpy as np
import pandas as pd
import pytest

from ml_workbench.examine.cuts import by_band, by_category, slicings
from ml_workbench.model.snapshots import Feature, Schema
from ml_workbench.plan.errors import TrainingError

COLUMNS = (
    Feature("weekly", "number", "money"),
    Feature("age", "category", "people"),
    Feature("card", "category", "loyalty"),
)
SCHEMA = Schema("member", "as_of", "slice", "left", "spend", 28, "weekly", COLUMNS)


@pytest.mark.parametrize(
    ("levels", "sorted_"),
    [
        (["65+", "19-24", "(missing)", "25-34"], ("19-24", "25-34", "65+", "(missing)")),
        (["100-124K", "Under 15K", "15-24K", "250K+"], ("Under 15K", "15-24K", "100-124K", "250K+")),
        (["10", "9", "5+", "1"], ("1", "5+", "9", "10")),
        (["Renter", "(missing)", "Homeowner"], ("Homeowner", "Renter", "(missing)")),
        (["2 Adults Kids", "1 Adult No Kids", "unknown"], ("1 Adult No Kids", "2 Adults Kids", "unknown")),
    ],
)
def test_levels_come_in_the_order_of_their_numbers_and_the_unknown_last(levels, sorted_):
    cut = by_category(pd.Series(levels, name="level"))
    assert cut.levels == sorted_
    assert [cut.levels[place] for place in cut.place] == levels


def test_a_missing_value_is_a_level():
    cut = by_category(pd.Series(["a", None, np.nan], name="card"))
    assert cut.levels == ("a", "(missing)") and cut.place.tolist() == [0, 1, 1]


def test_codes_and_booleans_are_levels_too():
    assert by_category(pd.Series([3, 1, 2], name="store")).levels == ("1", "2", "3")
    assert by_category(pd.Series([True, False], name="member")).levels == ("False", "True")


def test_bands_hold_equally_many_rows_and_cover_all():
    values = pd.Series(np.random.default_rng(1).gamma(2.0, 30.0, 1000), name="weekly")
    cut = by_band(values, 10)
    assert len(cut.levels) == 10 and np.bincount(cut.place).tolist() == [100] * 10
    assert cut.levels[0].startswith("up to ") and cut.levels[-1].startswith("above ")
    assert (values.groupby(cut.place).max().diff().dropna() > 0).all()


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        ([0, 0, 0, 0, 0, 5], ("up to 0", "above 0")),
        ([7.0, 7.0, 7.0], ("all",)),
        ([np.nan, np.nan], ("all", "(missing)")),
        ([1.0, 2.0, 3.0, np.nan], ("up to 1.5", "1.5 to 2.5", "above 2.5", "(missing)")),
    ],
)
def test_ties_gaps_and_constants_make_fewer_bands(values, levels):
    cut = by_band(pd.Series(values, name="weekly", dtype=float), 4)
    assert cut.levels == (levels if len(levels) != 4 else cut.levels)
    assert cut.place.max() < len(cut.levels) and len(cut.place) == len(values)


def test_edges_are_told_apart_however_close_they_are():
    cut = by_band(pd.Series(1000 + np.arange(400) / 1000, name="weekly"), 4)
    assert len(set(cut.levels)) == 4


def test_one_band_is_refused():
    with pytest.raises(TrainingError, match="'weekly' cannot be cut into 1 band"):
        by_band(pd.Series([1.0], name="weekly"), 1)


def test_families_and_numbers_are_chosen_by_name_and_what_has_one_level_is_left_out():
    rows = pd.DataFrame({"weekly": np.arange(8.0), "age": ["a", "b"] * 4, "card": ["gold"] * 8})
    cuts = slicings(rows, SCHEMA, families=["people", "loyalty"], bands={"weekly": 2})
    assert [cut.name for cut in cuts] == ["age", "weekly"]
    assert slicings(rows, SCHEMA) == ()


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"families": ["pepole"]}, "no family 'pepole' to slice by, did you mean 'people'"),
        ({"bands": {"weakly": 4}}, "no number 'weakly' to slice by, did you mean 'weekly'"),
        ({"bands": {"age": 4}}, "no number 'age' to slice by"),
    ],
)
def test_an_unknown_name_is_refused_with_a_suggestion(choice, message):
    with pytest.raises(TrainingError, match=message):
        slicings(pd.DataFrame({"weekly": [1.0]}), SCHEMA, **choice)
