"""A model's file is tried for real: written, read back, scored every way, held against the clock and a model in use."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ml_workbench.model.artifact import read_artifact, write_artifact
from ml_workbench.model.candidates import LADDER, fit_candidate
from ml_workbench.model.evaluation import candidate_policy, judge, rule_policy
from ml_workbench.model.snapshots import Feature, Schema
from ml_workbench.model.trials import (
    Way,
    agreement,
    compared,
    fresh_rows,
    incumbent_at,
    measured_speed,
    one_row_times,
    tried,
    ways_of,
)
from ml_workbench.model.value import panel_of
from ml_workbench.plan.errors import GateError
from ml_workbench.plan.params import load_params

KINDS = {"days": "number", "weekly": "number", "noise": "number", "town": "category"}
FEATURES = tuple(Feature(name, kind, name) for name, kind in KINDS.items())
SCHEMA = Schema("member", "as_of", "slice", "left", "spend", 28, "weekly", FEATURES)


def members(count=250, weeks=4, *, seed=1):
    "Members seen week after week; those who stay away long leave."
    random = np.random.default_rng(seed)
    days = random.integers(0, 80, (weeks, count)).astype(np.float32)
    frame = pd.DataFrame({"member": np.tile(np.arange(count), weeks), "days": days.ravel()})
    frame["as_of"] = np.repeat(pd.date_range("2020-01-06", periods=weeks, freq="7D"), count)
    frame["weekly"] = np.tile(random.gamma(2.0, 40.0, count), weeks).astype(np.float32)
    frame["noise"] = random.normal(size=len(frame)).astype(np.float32)
    frame.loc[random.random(len(frame)) < 0.1, "noise"] = np.nan
    frame["town"] = random.choice(["Arles", "Bath", "(missing)"], len(frame))
    frame["left"] = (random.random(len(frame)) < 1 / (1 + np.exp(3 - frame["days"] / 15))).astype(np.int8)
    return frame.assign(slice="test", spend=0.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory, root):
    "A project with two models in it, and what they were made of."
    folder, params = tmp_path_factory.mktemp("made"), load_params(root)
    economics = params.charter.economics.model_copy(update={"run_in_weeks": 0})  # the slice here is short
    charter = params.charter.model_copy(update={"economics": economics})
    train, later, test = members(600, seed=1), members(seed=2), members(seed=3)
    fitted, hashes = {}, {}
    for name in ("logistic_regression", "xgboost"):
        fitted[name] = fit_candidate(LADDER[name], SCHEMA, params.train, train=train, validation=later)
        hashes[name] = write_artifact(folder / "models" / name, fitted[name], SCHEMA, later).sha256
    return SimpleNamespace(root=folder, fitted=fitted, hashes=hashes, test=test, charter=charter)


def tried_here(made, name="xgboost", root=None, **changes):
    fitted = made.fitted[name]
    options = {
        "expected": made.hashes[name], "research": fitted.calibrated, "test": made.test,
        "evaluated": fitted.probability(made.test), "count": 2000, "tolerance": 1e-4, "seed": 1,
    }  # fmt: skip
    return tried(root or made.root, name, **options | changes)


@pytest.fixture(scope="module")
def scorer(made):
    "The trees, read from their file."
    return read_artifact(made.root / "models/xgboost")


@pytest.fixture
def copy(made, tmp_path):
    "The same project, to be damaged."
    shutil.copytree(made.root, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.parametrize("name", ["logistic_regression", "xgboost"])
def test_a_good_file_agrees_every_way_on_every_row(made, name):
    found = tried_here(made, name)
    ways = ["golden", "evaluated", "onnx", *(["xgboost"] if name == "xgboost" else [])]
    assert [each.name for each in found.agreements] == ways
    assert all(each.holds(0.001 * (each.name != "golden")) for each in found.agreements)
    assert found.artifact == made.hashes[name] and found.problem is None
    files = [path for path in (made.root / "models" / name).iterdir() if path.name != "manifest.json"]
    assert found.size_bytes == sum(path.stat().st_size for path in files)
    assert 0 < found.speed.one_row_ms <= found.speed.slow_row_ms and found.speed.rows_per_second > 0


def test_another_model_under_the_same_name_does_not_score_as_evaluated(made):
    other = made.fitted["logistic_regression"]
    found = tried_here(made, evaluated=other.probability(made.test), research=other.calibrated)
    apart = {each.name: each.apart for each in found.agreements}
    assert apart["golden"] == 0 and min(apart["evaluated"], apart["onnx"], apart["xgboost"]) > 500


def test_a_file_that_training_did_not_write_is_a_finding(made):
    found = tried_here(made, expected="0" * 64)
    assert found.artifact is None and "is another artefact" in found.problem and not found.agreements
    assert found.problem.startswith("models/xgboost") and found.speed is None


@pytest.mark.parametrize("file", ["model.onnx", "xgboost.json", "golden.json", "manifest.json"])
def test_a_damaged_file_is_a_finding_that_names_it(made, copy, file):
    path = copy / "models/xgboost" / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    found = tried_here(made, root=copy)
    assert file in found.problem and str(copy) not in found.problem


def test_a_file_that_is_not_there_is_a_finding(made, copy):
    shutil.rmtree(copy / "models/xgboost")
    assert "models/xgboost" in tried_here(made, root=copy).problem


def test_test_rows_without_a_column_are_a_finding(made):
    assert "'noise' is missing" in tried_here(made, test=made.test.drop(columns="noise")).problem


def test_fresh_rows_take_their_values_from_real_rows_and_their_combinations_from_none():
    random = np.random.default_rng(1)
    real = np.column_stack([random.integers(0, 9, 400), random.random(400), random.integers(0, 3, 400)])
    rows = fresh_rows(real, 5000, categories=[2], seed=4)
    assert rows.shape == (5000, 3) and rows.dtype == np.float32 and not np.isinf(rows).any()
    known = set(real[:, 1].astype(np.float32))
    assert 0.7 < np.mean([value in known for value in rows[:, 1]]) < 0.85  # a fifth moved, some missing
    assert set(np.unique(rows[:, 2])) == {-1, 0, 1, 2}
    assert 0.01 < np.isnan(rows[3:, :2]).mean() < 0.03
    pairs = {tuple(row) for row in real.astype(np.float32)}
    assert sum(tuple(row) in pairs for row in rows) < 200  # by chance: one column is continuous


def test_fresh_rows_begin_with_the_corners_and_depend_on_the_seed_alone():
    real = np.array([[1.0, np.nan, 0.0], [3.0, np.nan, 2.0]], dtype=np.float32)
    rows = fresh_rows(real, 10, categories=[2], seed=1)
    assert np.array_equal(rows[:3], [[np.nan, np.nan, -1], [1, np.nan, 0], [3, np.nan, 2]], equal_nan=True)
    assert np.array_equal(rows, fresh_rows(real, 10, categories=[2], seed=1), equal_nan=True)
    assert not np.array_equal(rows, fresh_rows(real, 10, categories=[2], seed=2), equal_nan=True)
    assert fresh_rows(real, 1, seed=1).shape == (1, 3)
    assert real[0, 0] == 1.0


def test_fresh_rows_need_real_ones():
    with pytest.raises(GateError, match="there are none"):
        fresh_rows(np.empty((0, 3)), 10, seed=1)


ROWS = np.linspace(0, 1, 1000, dtype=np.float32)[:, None]
HALF = np.full(1000, 0.5)


def answering(change):
    "How far a way agrees with one half, when it answers that with a change."
    found = HALF.copy()
    change(found)
    return agreement(Way("way", "Way", lambda rows: found), ROWS, HALF, tolerance=0.01)


def test_the_tolerance_is_for_differences_and_the_share_for_rows():
    def one_beyond(found):
        found[:10] += 0.009
        found[0] += 0.002

    found = answering(one_beyond)
    assert (found.apart, found.unusable) == (1, 0) and found.largest == pytest.approx(0.011)
    assert found.holds(0.001) and not found.holds(0.0009) and not found.holds(0.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.001, 1.001])
def test_an_answer_that_is_no_probability_is_never_excused(value):
    found = answering(lambda found: found.__setitem__(3, value))
    assert found.unusable == 1 and found.apart == 0 and not found.holds(1.0)


@pytest.mark.parametrize(
    ("way", "problem"),
    [
        (lambda rows: HALF[:-1], "answer of shape (999,)"),
        (lambda rows: rows, "answer of shape (1000, 1)"),
        (lambda rows: ["high"] * len(rows), "ValueError"),
        (lambda rows: rows.no_such_thing, "AttributeError"),
    ],
)
def test_a_way_that_cannot_score_says_why_and_stops_nobody(way, problem):
    found = agreement(Way("way", "Way", way), ROWS, HALF, tolerance=1.0)
    assert problem in found.problem and found.unusable == 1000 and not found.holds(1.0)


def test_no_rows_at_all_prove_nothing():
    empty = agreement(Way("way", "Way", lambda rows: HALF[:0]), ROWS[:0], HALF[:0], tolerance=1.0)
    assert not empty.holds(1.0) and np.isnan(empty.largest)


def test_the_median_of_many_calls_ignores_a_few_slow_ones():
    calls = []

    def one(row):
        assert row.shape == (1, 1)
        calls.append(row)
        sum(range(200_000 if len(calls) % 50 == 0 else 10))

    speed = measured_speed(one, len, ROWS, calls=200)
    assert len(calls) == 220 and speed.one_row_ms < speed.slow_row_ms / 5
    assert len(one_row_times(lambda row: None, ROWS[:3], calls=7)) == 7


def test_the_model_in_use_is_compared_in_money_with_a_paired_interval(made):
    mine = made.fitted["xgboost"].probability(made.test)
    options = {"resamples": 300, "confidence": 0.95, "seed": 5}
    found = incumbent_at(
        made.root, "models/logistic_regression", made.test, mine, SCHEMA, made.charter, **options
    )
    assert found.label == "Logistic regression" and found.artifact == made.hashes["logistic_regression"]
    assert found.gain.low < found.gain.high
    theirs = made.fitted["logistic_regression"].probability(made.test)
    spend = made.test["weekly"].to_numpy()
    policies = [
        candidate_policy(name, name, 2, chance, spend, made.charter)
        for name, chance in (("mine", mine), ("theirs", theirs))
    ]
    rule = rule_policy(made.charter.baseline, made.test["days"].to_numpy())
    judged = judge(
        [*policies, rule], panel_of(made.test, SCHEMA, made.charter.economics), made.charter, resamples=5
    )
    weekly = [each.at_capacity.profit_per_week.value for each in judged]
    assert found.gain.value == pytest.approx(weekly[0] - weekly[1], abs=0.05)


def test_a_model_compared_with_itself_neither_gains_nor_loses(made, scorer):
    mine = scorer.probability(made.test)
    found = compared(scorer, made.test, mine, SCHEMA, made.charter, resamples=50, confidence=0.9, seed=1)
    assert (found.gain.value, found.gain.low, found.gain.high) == (0.0, 0.0, 0.0)


def test_a_useless_model_against_a_good_one_loses_for_certain(made, scorer):
    noise = np.random.default_rng(1).random(len(made.test))
    charter = made.charter.model_copy(update={"capacity_per_week": 30})
    found = compared(scorer, made.test, noise, SCHEMA, charter, resamples=200, confidence=0.95, seed=1)
    assert found.gain.high < 0


def test_no_model_in_use_is_no_comparison(made):
    assert incumbent_at(made.root, "") is None


@pytest.mark.parametrize(
    ("folder", "drop", "why"),
    [("models/nowhere", (), "no artefact"), ("models/xgboost", ("noise",), "'noise' is missing")],
)
def test_a_model_in_use_that_cannot_be_compared_with_is_named(made, folder, drop, why):
    test, mine = made.test.drop(columns=list(drop)), np.zeros(len(made.test))
    options = {"resamples": 5, "confidence": 0.9, "seed": 1}
    with pytest.raises(GateError, match=rf"gate\.champion: '{folder}' cannot be compared with: .*{why}"):
        incumbent_at(made.root, folder, test, mine, SCHEMA, made.charter, **options)


def test_a_damaged_model_in_use_is_not_loaded(made, copy):
    path = copy / "models/logistic_regression/model.onnx"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(GateError, match="not the file that the manifest lists"):
        incumbent_at(copy, "models/logistic_regression")


def test_both_ways_of_scoring_trees_are_tried(made, scorer):
    assert [way.name for way in ways_of(scorer)] == ["onnx", "xgboost"]
    broken = replace(scorer, session=replace(scorer.session, booster=None))
    assert [way.name for way in ways_of(broken)] == ["onnx"]
    golden = json.loads((made.root / "models/xgboost/golden.json").read_text())["rows"]
    matrix = np.array([row["row"] for row in golden], dtype=np.float32)
    for way in ways_of(scorer):
        assert np.abs(way.probability(matrix) - [row["expected"] for row in golden]).max() < 1e-5
