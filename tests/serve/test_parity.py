"""Production decides as training did, and whatever differs is counted and shown."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ml_workbench.experiment.play import weekly_lists
from ml_workbench.model.evaluation import with_predictions
from ml_workbench.model.snapshots import read_schema, read_slices
from ml_workbench.plan.errors import GateError
from ml_workbench.plan.settings import load_settings
from ml_workbench.release.bundle import build
from ml_workbench.release.loading import loaded
from ml_workbench.serve.parity import RESPECTS, Surroundings, by_decider, parity
from tests.serve.shop import SHOP, settings_of, small, write_tables


@pytest.fixture(autouse=True)
def _loading_without_quarantine(monkeypatch: pytest.MonkeyPatch) -> None:
    "The child process in which releases are tried has tests of its own, and takes its time."
    monkeypatch.setattr("ml_workbench.release.loading.try_in_child", lambda *_: 0.0)


def asked(tmp_path: Path, name: str = "logistic_regression", change=None, **options):
    "The parity of a small release over two as-of times, perhaps with something changed in the snapshots."
    release = loaded(small.small_bundle(name, rank_by=options.pop("rank_by", "usual_spend")))
    rows = small.snapshots()
    rows = rows[rows["slice"].isin(["validation", "test"])].reset_index(drop=True)
    rows = rows.astype({name: np.float32 for name in small.SCHEMA.of_kind("number")})
    rows = rows.assign(**{release.release.model: release.scorer.scores(rows)})
    rows = change(rows) if change else rows
    around = Surroundings(str(write_tables(tmp_path / "tables")), settings_of(tmp_path), SHOP)
    return {
        each.name: each for each in parity(release, rows, small.SCHEMA, around, lists=weekly_lists, **options)
    }


@pytest.mark.parametrize(
    ("name", "rank_by"),
    [
        ("logistic_regression", "usual_spend"),
        ("xgboost", "usual_spend"),
        ("logistic_regression", "probability"),
    ],
)
def test_a_small_release_decides_as_it_was_judged(tmp_path, name, rank_by):
    found = asked(tmp_path, name, rank_by=rank_by)
    assert list(found) == [f"{way} {each}" for way in ("batch", "rest") for each in RESPECTS]
    assert all(each.holds() and each.problem is None for each in found.values()), found
    assert found["batch features"].largest == 0.0 and found["batch features"].rows > 300


def raised(column: str, by: float):
    "Change one figure of one member."

    def change(rows: pd.DataFrame) -> pd.DataFrame:
        values = rows[column].to_numpy(copy=True)
        values[7] += by
        return rows.assign(**{column: values})

    return change


def test_a_feature_that_differs_in_its_last_bit_is_found_and_named(tmp_path):
    def change(rows):
        values = rows["usual_weekly_spend"].to_numpy(copy=True)
        values[7] = np.nextafter(values[7], np.float32(np.inf))
        return rows.assign(usual_weekly_spend=values)

    found = asked(tmp_path, change=change)
    assert found["batch features"].apart == found["rest features"].apart == 1
    assert "usual_weekly_spend" in found["batch features"].worst and not found["batch features"].holds()
    assert found["batch features"].holds(0.01) and found["batch scores"].holds()


def test_a_score_that_differs_is_found_with_its_value(tmp_path):
    found = asked(tmp_path, change=raised("logistic_regression", 0.05), service=None)
    assert list(found) == [f"batch {each}" for each in RESPECTS]
    assert found["batch scores"].apart <= 1 and found["batch features"].holds()
    every = asked(
        tmp_path, change=lambda rows: rows.assign(logistic_regression=rows["logistic_regression"] * 0.9)
    )
    for way in ("batch", "rest"):
        assert every[f"{way} scores"].apart > 100 and every[f"{way} values"].apart > 50
        assert every[f"{way} scores"].worst.count(" instead of ") == 1


def test_another_order_shows_in_places_and_actions(tmp_path):
    def shuffled(rows):
        return rows.assign(logistic_regression=1 - rows["logistic_regression"])

    found = asked(tmp_path, change=shuffled)
    for way in ("batch", "rest"):
        assert found[f"{way} places"].apart > 50 and found[f"{way} actions"].apart > 5


def test_a_member_that_only_one_side_knows_is_unusable(tmp_path):
    found = asked(tmp_path, change=lambda rows: rows.drop(index=[3]).reset_index(drop=True))
    assert all(each.unusable == 1 and not each.holds(0.5) for each in found.values())


def test_a_service_that_answers_otherwise_is_found(tmp_path):
    def lazy(question):
        for answer in by_decider(question):
            yield answer | {"action": "none"}

    found = asked(tmp_path, service=lazy)
    assert found["batch actions"].holds() and found["rest actions"].apart > 10
    assert found["rest actions"].worst.endswith("action False instead of True")


def test_a_way_that_fails_is_a_finding(tmp_path):
    def broken(question):
        raise ConnectionError("no service on port 8502")

    found = asked(tmp_path, service=broken)
    assert found["batch scores"].holds()
    for each in RESPECTS:
        assert "no service on port 8502" in found[f"rest {each}"].problem and not found[f"rest {each}"].holds(
            1.0
        )


def test_where_there_is_nothing_to_compare_nothing_is_proved(tmp_path):
    with pytest.raises(GateError, match="no snapshots to compare with"):
        asked(tmp_path, change=lambda rows: rows[:0])


@pytest.mark.slow
def test_the_real_release_decides_as_it_was_judged(produced):
    schema = read_schema(produced / "data/features/schema.json")
    rows, scores = (
        read_slices(produced / path, schema, ["next"])
        for path in ("data/features/snapshots.parquet", "data/predictions.parquet")
    )
    release = loaded(build(produced, allow_dirty=True))
    around = Surroundings("data/tables", load_settings(produced))
    found = parity(release, with_predictions(rows, scores, schema), schema, around, lists=weekly_lists)
    assert all(each.holds() for each in found), [each for each in found if not each.holds()]
    assert found[0].rows == len(rows)
