"""The same row is the same numbers, however it comes, and what does not fit is refused."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_workbench.model.signature import Input, Signature, signature_from, signature_of
from ml_workbench.model.snapshots import Feature, Schema
from ml_workbench.plan.errors import ScoringError

SIGNATURE = Signature(
    (Input("days", "number"), Input("town", "category", ("Arles", "Bath")), Input("weekly", "number"))
)
ROWS = pd.DataFrame({"town": ["Bath", "Arles"], "weekly": [1.5, None], "days": [3, 4], "key": [7, 8]})


def test_columns_are_found_by_name_in_any_order_and_others_are_left_alone():
    expected = [[3.0, 1.0, 1.5], [4.0, 0.0, np.nan]]
    for columns in (list(ROWS), list(ROWS)[::-1]):
        assert np.array_equal(SIGNATURE.matrix(ROWS[columns]), np.float32(expected), equal_nan=True)


def test_a_row_of_a_table_and_the_same_row_as_names_are_the_same_numbers():
    given_ = {"weekly": None, "town": "Arles", "days": 4}
    assert np.array_equal(SIGNATURE.row(given_), SIGNATURE.matrix(ROWS)[1:], equal_nan=True)


@given(st.none() | st.floats(-1e30, 1e30), st.sampled_from(["Arles", "Bath", "Cork", None]))
def test_both_ways_agree_on_any_value(days, town):
    given_ = {"days": days, "town": town, "weekly": 1.0}
    frame = pd.DataFrame({name: pd.Series([value], dtype=object) for name, value in given_.items()})
    assert np.array_equal(SIGNATURE.row(given_), SIGNATURE.matrix(frame), equal_nan=True)


def test_what_was_never_seen_and_what_is_missing_is_the_same_unknown():
    assert SIGNATURE.matrix(ROWS.assign(town=["Cork", None]))[:, 1].tolist() == [-1.0, -1.0]


def test_a_column_that_is_missing_everywhere_is_taken_as_unknown():
    assert np.isnan(SIGNATURE.matrix(ROWS.assign(weekly=None))[:, 2]).all()


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e300])
def test_infinity_is_refused_with_column_and_row(value):
    with pytest.raises(ScoringError, match=r"'weekly' is infinite in 1 of 2 rows \(row 1\): send null"):
        SIGNATURE.matrix(ROWS.assign(weekly=[1.0, value]))
    with pytest.raises(ScoringError, match="'weekly' is infinite"):
        SIGNATURE.row({"days": 1, "town": "Bath", "weekly": value})


def test_a_table_without_a_column_is_refused_by_its_name():
    with pytest.raises(ScoringError, match="column 'days' and 1 more is missing, did you mean 'dayz'"):
        SIGNATURE.matrix(ROWS.rename(columns={"days": "dayz"}).drop(columns="weekly"))


def test_text_where_a_number_belongs_is_refused():
    with pytest.raises(ScoringError, match="column 'days' must hold numbers"):
        SIGNATURE.matrix(ROWS.assign(days=["three", "4"]))
    for wrong in ("3", True, [3]):
        with pytest.raises(ScoringError, match="feature 'days' must be a number or null"):
            SIGNATURE.row({"days": wrong, "town": "Bath", "weekly": 1.0})


def test_a_row_with_a_name_too_many_or_too_few_is_refused():
    with pytest.raises(ScoringError, match="unknown feature 'dayz', did you mean 'days'"):
        SIGNATURE.row({"dayz": 3, "days": 3, "town": "Bath", "weekly": 1.0})
    with pytest.raises(ScoringError, match="feature 'weekly' is missing: send null"):
        SIGNATURE.row({"days": 3, "town": "Bath"})


def test_a_ready_matrix_must_have_the_width_and_be_finite():
    assert SIGNATURE.checked([[1, 2, 3]]).dtype == np.float32
    with pytest.raises(ScoringError, match="rows of 3 values, got an array of 1 × 2"):
        SIGNATURE.checked([[1, 2]])
    with pytest.raises(ScoringError, match="rows of 3 values, got an array of 3"):
        SIGNATURE.checked([1, 2, 3])
    with pytest.raises(ScoringError, match="'town' is infinite"):
        SIGNATURE.checked([[1, np.inf, 3]])


def test_levels_are_learnt_sorted_from_the_training_rows_and_survive_a_file():
    features = (Feature("days", "number", "a"), Feature("town", "category", "b"))
    schema = Schema("key", "as_of", "slice", "left", "spend", 28, "days", features)
    learnt = signature_of(ROWS.assign(town=["Bath", "Arles"]), schema)
    assert learnt.inputs[1].levels == ("Arles", "Bath") and learnt.numbers == [0] and learnt.categories == [1]
    assert signature_from(learnt.as_json()) == learnt
