"""A stream is scored row for row as the model scores, whatever its batches are."""

import threading
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_workbench.model.signature import Input, Signature
from ml_workbench.plan.errors import ScoringError
from ml_workbench.release.loading import loaded
from ml_workbench.serve import scoring
from ml_workbench.serve.everybody import Gathering
from ml_workbench.serve.scoring import ahead, batch_matrix, score_stream

SIGNATURE = Signature(
    (Input("town", "category", ("Arles", "Bath")), Input("weekly", "number"), Input("visits", "number"))
)
number = st.one_of(
    st.none(), st.floats(width=32, allow_infinity=False), st.integers(-(2**20), 2**20).map(float)
)
row = st.tuples(
    st.sampled_from(["Arles", "Bath", "Kiel", None]),
    number,
    st.one_of(st.none(), st.integers(-(2**31), 2**31)),
)


def table_of(rows: list[tuple]) -> pa.Table:
    "Columns in another order than the signature's, and one too many."
    towns, weekly, visits = zip(*rows) if rows else ((), (), ())
    columns = {
        "visits": pa.array(visits, pa.int64()), "other": pa.array([1.0] * len(rows), pa.float64()),
        "weekly": pa.array(weekly, pa.float64(), from_pandas=False), "town": pa.array(towns, pa.string()),
    }  # fmt: skip
    return pa.table(columns)


@given(st.lists(row, min_size=1, max_size=9))
def test_a_batch_is_encoded_as_a_table_is(rows):
    table = table_of(rows)
    (batch,) = table.to_batches()
    matrix = batch_matrix(SIGNATURE, batch)
    assert matrix.dtype == np.float32 and matrix.flags.c_contiguous
    frame = table.to_pandas().astype({"town": object})
    assert np.array_equal(matrix, SIGNATURE.matrix(frame), equal_nan=True)


@pytest.mark.parametrize(
    "towns", [pa.array(["Bath", None]).dictionary_encode(), pa.array(["Bath", None], pa.large_string())]
)
def test_texts_may_come_in_any_form(towns):
    batch = pa.record_batch({"town": towns, "weekly": pa.array([True, False]), "visits": pa.nulls(2)})
    expected = np.array([[1, 1, np.nan], [-1, 0, np.nan]], dtype=np.float32)
    assert np.array_equal(batch_matrix(SIGNATURE, batch), expected, equal_nan=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weekly": None}, "column 'weekly' is missing"),
        ({"weekly": pa.array(["much"])}, "'weekly' must hold numbers, it holds string"),
        ({"town": pa.array([7])}, "'town' must hold texts, it holds int64"),
    ],
)
def test_a_column_that_does_not_fit_is_named(change, message):
    columns = {"town": pa.array(["Bath"]), "weekly": pa.array([1.0]), "visits": pa.array([1])} | change
    batch = pa.record_batch({name: column for name, column in columns.items() if column is not None})
    with pytest.raises(ScoringError, match=message):
        batch_matrix(SIGNATURE, batch)


@pytest.mark.parametrize("name", ["logistic_regression", "xgboost"])
@pytest.mark.parametrize("threads", [1, 3])
def test_scores_do_not_depend_on_the_batches(small, monkeypatch, name, threads):
    monkeypatch.setattr("ml_workbench.release.loading.try_in_child", lambda *_: 0.0)
    monkeypatch.setattr(scoring, "PIECE", 7)
    release, rows = loaded(small.small_bundle(name)), small.members("next")
    expected, table = release.scorer.scores(rows), pa.Table.from_pandas(rows, preserve_index=False)
    for size in (1, 50, 10_000):
        gathering = Gathering("member", ["usual_weekly_spend"], [release.id])
        said = []
        went = score_stream(
            table.to_reader(max_chunksize=size), release, gathering, threads=threads,
            progress=lambda count, seconds, said=said: said.append(count),
        )  # fmt: skip
        found = gathering.everybody()
        np.testing.assert_allclose(found.scores[release.id], expected, atol=1e-6)
        assert found.units.to_pylist() == rows["member"].astype(str).tolist()
        assert np.array_equal(
            found.number("usual_weekly_spend"), rows["usual_weekly_spend"].astype(float), equal_nan=True
        )
        assert went.rows == len(rows) == said[-1] and said == sorted(said)
        assert 0 <= went.waited + went.written <= went.seconds


def test_two_releases_are_scored_in_one_pass(small, monkeypatch):
    monkeypatch.setattr("ml_workbench.release.loading.try_in_child", lambda *_: 0.0)
    releases = [loaded(small.small_bundle(name)) for name in ("logistic_regression", "xgboost")]
    table, encoded = pa.Table.from_pandas(small.members("next"), preserve_index=False), []
    monkeypatch.setattr(scoring, "batch_matrix", lambda *given: encoded.append(1) or batch_matrix(*given))
    gathering = Gathering("member", [], [each.id for each in releases])
    score_stream(table.to_reader(max_chunksize=100), releases, gathering)
    found = gathering.everybody()
    assert {*found.scores} == {each.id for each in releases}
    assert len(encoded) == len(table.to_batches(max_chunksize=100)), (
        "models that are fed alike share a matrix"
    )


@given(st.integers(0, 20))
@settings(deadline=None)
def test_items_come_in_their_order_and_only_one_is_fetched_ahead(count):
    fetched, used = [], []

    def source():
        for item in range(count):
            fetched.append(item)
            yield item

    for item in ahead(source()):
        used.append(item)
        assert len(fetched) <= len(used) + 1
    assert used == list(range(count))


def test_the_next_item_is_fetched_while_the_current_one_is_used():
    asked = threading.Event()

    def source():
        yield "first"
        asked.set()
        yield "second"

    items = ahead(source())
    assert next(items) == "first" and asked.wait(10), "nobody asked for the second, and it was fetched"
    assert list(items) == ["second"]


def test_an_error_of_the_reader_comes_in_its_turn_and_ends_the_stream():
    def source():
        yield 1
        raise ScoringError("the source is gone")

    items = ahead(source())
    assert next(items) == 1
    with pytest.raises(ScoringError, match="the source is gone"):
        next(items)


def test_infinite_features_and_rows_without_an_answer_are_refused():
    batch = pa.record_batch({"weekly": pa.array([1.0, 1e300])})
    scorer = SimpleNamespace(
        signature=Signature((Input("weekly", "number"),)),
        session=SimpleNamespace(booster=None),
        scores_matrix=lambda matrix: Signature((Input("weekly", "number"),)).checked(matrix)[:, 0],
    )
    with pytest.raises(ScoringError, match="'weekly' is infinite in 1 of 2 rows"):
        score_stream([batch], SimpleNamespace(scorer=scorer), lambda *_: None)


def test_nothing_to_score_is_told():
    gathering = Gathering("member", [], [])
    score_stream([], [], gathering)
    with pytest.raises(ScoringError, match="no rows to score"):
        gathering.everybody()
    with pytest.raises(ScoringError, match="column 'member' is missing"):
        gathering(pa.record_batch({"membre": pa.array([1])}), [])
