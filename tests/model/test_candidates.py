"""Candidates are fitted the same way twice, calibrated, kept and read back without trust."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import brier_score_loss
from sklearn.utils.estimator_checks import parametrize_with_checks

from ml_workbench.model.artifact import read_model, write_model
from ml_workbench.model.candidates import (
    LADDER,
    RankByColumn,
    SignedLog,
    candidate_named,
    fit_candidate,
    importances,
    prediction_table,
    rule_candidate,
    training_report,
    validation_metrics,
)
from ml_workbench.model.snapshots import Feature, Schema
from ml_workbench.plan.charter import Rule
from ml_workbench.plan.errors import TrainingError
from ml_workbench.plan.params import TrainParams

KINDS = {"days": "number", "weekly": "number", "noise": "number", "town": "category"}
SCHEMA = Schema(
    "member",
    "as_of",
    "slice",
    "left",
    "spend",
    28,
    "weekly",
    tuple(Feature(name, kind, name) for name, kind in KINDS.items()),
)
RULE = Rule(feature="days", order="descending", meaning="the members longest away")


def settings(**changes) -> TrainParams:
    given = {
        "seed": 1,
        "candidates": ["logistic_regression", "xgboost"],
        "withheld_families": [],
        "logistic_c": 0.1,
        "xgboost_rounds": 80,
        "xgboost_patience": 10,
        "xgboost_learning_rate": 0.2,
        "xgboost_max_depth": 2,
        "xgboost_min_child_weight": 5.0,
        "xgboost_subsample": 0.8,
        "xgboost_colsample": 1.0,
        "xgboost_lambda": 1.0,
        "calibration": "sigmoid",
        "importance_repeats": 2,
        "threads": 1,
    }
    return TrainParams.model_validate({**given, **changes})


def members(rows: int = 800, *, seed: int = 1, shift: float = 0.0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "days": random.exponential(20, rows),
            "weekly": random.exponential(40, rows),
            "noise": random.normal(size=rows),
        }
    ).astype(np.float32)
    frame["town"] = random.choice(["Arles", "Bath", "(missing)"], rows)
    chance = 1 / (1 + np.exp(3 - frame["days"] / 12 - shift))
    frame["left"] = (random.random(rows) < chance).astype(int)
    return frame.assign(member=np.arange(rows), as_of=pd.Timestamp("2024-01-01"), slice="train")


TRAIN, LATER = members(seed=1), members(seed=2)


def fitted(name: str, *, train=TRAIN, validation=LATER, **changes):
    candidate = rule_candidate(RULE, SCHEMA) if name == "rule" else candidate_named(name)
    return fit_candidate(candidate, SCHEMA, settings(**changes), train=train, validation=validation)


@parametrize_with_checks([RankByColumn(), RankByColumn(descending=False), SignedLog()])
def test_our_estimators_keep_scikit_learns_contract(estimator, check):
    check(estimator)


@pytest.mark.parametrize("name", ["rule", *LADDER])
def test_every_candidate_ranks_better_than_chance(name):
    assert validation_metrics(fitted(name), SCHEMA, members(seed=3))["auc"] > 0.75


@pytest.mark.parametrize("name", ["rule", *LADDER])
def test_fitting_twice_gives_the_same_bytes(name, tmp_path):
    for copy in ("once", "again"):
        write_model(tmp_path / copy, fitted(name).estimator)
    assert (tmp_path / "once").read_bytes() == (tmp_path / "again").read_bytes()


def test_another_process_gives_the_same_bytes(tmp_path):
    write_model(tmp_path / "here", fitted("xgboost").estimator)
    code = (
        "import sys, importlib.util as u; s = u.spec_from_file_location('other', sys.argv[1]); m = u.module_from_spec(s);"
        "s.loader.exec_module(m); m.write_model(sys.argv[2], m.fitted('xgboost').estimator)"
    )
    subprocess.run([sys.executable, "-c", code, __file__, str(tmp_path / "there")], check=True, timeout=120)
    assert (tmp_path / "here").read_bytes() == (tmp_path / "there").read_bytes()


@pytest.mark.parametrize("calibration", ["sigmoid", "isotonic", "none"])
@pytest.mark.parametrize("name", list(LADDER))
def test_a_kept_model_predicts_the_same(name, calibration, tmp_path):
    model = fitted(name, calibration=calibration)
    write_model(tmp_path / "m.skops", model.estimator)
    restored = read_model(tmp_path / "m.skops").predict_proba(LATER[SCHEMA.names])[:, 1]
    assert (restored == model.probability(LATER)).all()


@pytest.mark.parametrize("name", list(LADDER))
def test_calibration_mends_probabilities_that_no_longer_hold(name):
    shifted, unseen = members(seed=4, shift=2.0), members(seed=5, shift=2.0)
    raw = fitted(name, validation=shifted, calibration="none")
    mended = fitted(name, validation=shifted)
    before = brier_score_loss(unseen["left"], raw.probability(unseen))
    assert brier_score_loss(unseen["left"], mended.probability(unseen)) < before - 0.005


def test_calibration_changes_no_order():
    model = fitted("xgboost")
    score, probability = model.score(LATER[SCHEMA.names]), model.probability(LATER)
    assert (np.argsort(score, kind="stable") == np.argsort(probability, kind="stable")).mean() > 0.99


def test_boosting_stops_by_the_validation_slice():
    assert 1 <= fitted("xgboost").rounds < 80
    assert fitted("logistic_regression").rounds is None


@pytest.mark.parametrize("name", list(LADDER))
@pytest.mark.parametrize("value", [np.nan, 7.0])
def test_a_feature_that_is_missing_or_constant_everywhere_does_no_harm(name, value):
    train, later = TRAIN.assign(noise=np.float32(value)), LATER.assign(noise=np.float32(value))
    probability = fitted(name, train=train, validation=later).probability(later)
    assert np.isfinite(probability).all() and probability.std() > 0.05


@pytest.mark.parametrize("name", list(LADDER))
def test_gaps_and_unknown_categories_are_taken_as_they_come(name):
    train = TRAIN.assign(weekly=TRAIN["weekly"].mask(TRAIN.index % 3 == 0))
    later = LATER.assign(town="Ys", days=LATER["days"].mask(LATER.index % 5 == 0))
    assert np.isfinite(fitted(name, train=train).probability(later)).all()


@pytest.mark.parametrize("name", ["rule", *LADDER])
def test_a_label_of_one_class_is_refused_in_either_slice(name):
    with pytest.raises(TrainingError, match="'left' is 0 in every row of slice 'train'"):
        fitted(name, train=TRAIN.assign(left=0))
    with pytest.raises(TrainingError, match="'left' is 1 in every row of slice 'validation'"):
        fitted(name, validation=LATER.assign(left=1, slice="validation"))


def test_an_unknown_candidate_is_answered_with_the_closest():
    with pytest.raises(TrainingError, match="unknown 'xgbost', did you mean 'xgboost'"):
        candidate_named("xgbost")


def test_a_rule_about_no_feature_or_a_category_is_refused():
    for feature in ("dayz", "town"):
        with pytest.raises(
            TrainingError, match=f"charter.baseline.feature: '{feature}' is no numeric feature"
        ):
            rule_candidate(Rule(feature=feature, order="ascending", meaning="…"), SCHEMA)


def test_the_rule_ranks_by_its_feature_and_has_no_probability():
    rule = fitted("rule")
    beyond = LATER["days"] - rule.score(LATER[SCHEMA.names])
    assert beyond.to_numpy() == pytest.approx(beyond[0])  # the feature less a constant
    assert rule.calibrated is None and not hasattr(rule.estimator, "predict_proba")


@pytest.mark.parametrize("name", list(LADDER))
def test_importance_finds_the_feature_that_matters_and_not_the_noise(name):
    table = {
        row["feature"]: row["importance"]
        for row in importances(fitted(name), SCHEMA, LATER, repeats=2, seed=1)
    }
    assert next(iter(table)) == "days" and abs(table["noise"]) < 0.1 * table["days"]
    assert importances(fitted(name), SCHEMA, LATER, repeats=2, seed=1)[0]["importance"] == table["days"]


def test_predictions_are_sorted_and_hold_no_column_for_the_rule():
    rows = LATER.sample(frac=1, random_state=1)
    table = prediction_table([fitted("rule"), fitted("xgboost")], rows, SCHEMA)
    assert list(table) == ["member", "as_of", "slice", "xgboost"] and table["member"].is_monotonic_increasing


def test_the_report_holds_every_candidate_with_its_place_on_the_ladder():
    report = training_report([fitted("rule"), *map(fitted, LADDER)], SCHEMA, LATER, settings())
    assert [(row["name"], row["complexity"], row["features"]) for row in report["candidates"]] == [
        ("rule", 1, 1),
        ("logistic_regression", 2, 4),
        ("xgboost", 3, 4),
    ]
    assert (
        set(report["importance"]) == set(LADDER) and report["candidates"][0]["validation"]["log_loss"] is None
    )
