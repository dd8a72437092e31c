"""Candidates are fitted the same way twice, calibrated, and one that fails does not cost the others."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss
from sklearn.pipeline import Pipeline

from ml_workbench.model.candidates import (
    LADDER,
    Candidate,
    candidate_named,
    fit_candidate,
    fit_ladder,
    importances,
    prediction_table,
    rule_candidate,
    settings_of,
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


SINGLE = [name for name, candidate in LADDER.items() if not candidate.ensemble]
QUICK = {
    "xgboost": {"rounds": 80, "patience": 10, "learning_rate": 0.2, "max_depth": 2, "min_child_weight": 5.0},
    "random_forest": {"n_estimators": 30, "max_features": 0.5},
    "kernel_machine": {"components": 60, "gamma": 0.05},
    "mlp": {"width": 4, "learning_rate_init": 0.02, "batch_size": 128, "epochs": 20},
}


def settings(**changes) -> TrainParams:
    given = {
        "seed": 1,
        "candidates": list(LADDER),
        "withheld_families": [],
        "use_tuned": False,
        "settings": {},
        "calibration": "sigmoid",
        "spend": ["naive"],
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
    members = ()
    if candidate.ensemble:
        pair = ("logistic_regression", "xgboost")
        members = tuple(fitted(each, train=train, validation=validation, **changes) for each in pair)
    return fit_candidate(
        candidate,
        SCHEMA,
        settings(**changes),
        train=train,
        validation=validation,
        settings=QUICK.get(name, {}),
        members=members,
    )


@pytest.mark.parametrize("name", ["rule", *LADDER])
def test_every_candidate_ranks_better_than_chance(name):
    assert validation_metrics(fitted(name), SCHEMA, members(seed=3))["auc"] > 0.75


@pytest.mark.parametrize("name", ["rule", *LADDER])
def test_fitting_twice_gives_the_same_scores_to_the_last_digit(name):
    assert np.array_equal(fitted(name).score(LATER), fitted(name).score(LATER))


@pytest.mark.parametrize("name", SINGLE)
def test_every_candidate_sees_nothing_but_the_signatures_matrix(name):
    model = fitted(name)
    matrix = model.signature.matrix(LATER)
    assert np.array_equal(model.probability(LATER), model.probability_matrix(matrix))
    assert np.array_equal(model.score(LATER[SCHEMA.names[::-1]]), model.score_matrix(matrix))


@pytest.mark.parametrize("name", list(LADDER))
def test_calibration_mends_probabilities_that_no_longer_hold(name):
    shifted, unseen = members(seed=4, shift=2.0), members(seed=5, shift=2.0)
    raw = fitted(name, validation=shifted, calibration="none")
    mended = fitted(name, validation=shifted)
    before = brier_score_loss(unseen["left"], raw.probability(unseen))
    slack = 0.003 if name in ("logistic_regression", "xgboost", "random_forest") else 0.0
    assert (
        brier_score_loss(unseen["left"], mended.probability(unseen)) <= before - slack
    )  # others have stopped or calibrated by the shift


def test_calibration_changes_no_order():
    model = fitted("xgboost")
    score, probability = model.score(LATER), model.probability(LATER)
    assert (np.argsort(score, kind="stable") == np.argsort(probability, kind="stable")).mean() > 0.99


def test_boosting_stops_by_the_validation_slice():
    assert 1 <= fitted("xgboost").rounds < 80
    assert fitted("logistic_regression").rounds is None


@pytest.mark.parametrize("name", list(LADDER))
@pytest.mark.parametrize("value", [np.nan, 7.0])
def test_a_feature_that_is_missing_or_constant_everywhere_does_no_harm(name, value):
    train, later = TRAIN.assign(noise=np.float32(value)), LATER.assign(noise=np.float32(value))
    probability = fitted(name, train=train, validation=later).probability(later)
    assert np.isfinite(probability).all() and probability.std() > 0.03


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
    beyond = LATER["days"] - rule.score(LATER)
    assert beyond.to_numpy() == pytest.approx(beyond[0])  # the feature less a constant
    assert rule.calibrator is None and not rule.has_probability


@pytest.mark.parametrize("name", SINGLE)
def test_importance_finds_the_feature_that_matters_and_not_the_noise(name):
    table = {
        row["feature"]: row["importance"]
        for row in importances(fitted(name), SCHEMA, LATER, repeats=2, seed=1)
    }
    assert next(iter(table)) == "days" and abs(table["noise"]) < 0.2 * table["days"]
    assert importances(fitted(name), SCHEMA, LATER, repeats=2, seed=1)[0]["importance"] == table["days"]


def test_predictions_are_sorted_and_hold_no_column_for_the_rule():
    rows = LATER.sample(frac=1, random_state=1)
    table = prediction_table([fitted("rule"), fitted("xgboost")], rows, SCHEMA)
    assert list(table) == ["member", "as_of", "slice", "xgboost"] and table["member"].is_monotonic_increasing


def rungs(*names: str) -> list[Candidate]:
    return [rule_candidate(RULE, SCHEMA), *map(candidate_named, names)]


def ladder(*candidates: Candidate):
    return fit_ladder(candidates, SCHEMA, settings(), train=TRAIN, validation=LATER, settings=QUICK)


def careless(signature, settings, *, seed, threads):
    raise MemoryError("too wide")


def hasty(signature, settings, *, seed, threads):
    return Pipeline([("prepare", "passthrough"), ("model", LogisticRegression(max_iter=1))])


def test_the_report_holds_every_candidate_with_its_place_on_the_ladder():
    report = training_report(ladder(*rungs(*LADDER)), SCHEMA, LATER)
    found = [(row["name"], row["complexity"], row["features"]) for row in report["candidates"]]
    assert found[:3] == [("rule", 1, 1), ("logistic_regression", 2, 4), ("linear_svm", 3, 4)]
    assert [name for name, *_ in found] == ["rule", *LADDER] and report["failed"] == []
    assert report["candidates"][0]["validation"]["log_loss"] is None


def test_a_candidate_that_fails_is_reported_and_the_others_go_on():
    found = ladder(
        *rungs("logistic_regression", "xgboost", "stacking"), Candidate("own", "My own", 5, careless)
    )
    assert [each.candidate.name for each in found.fitted] == [
        "rule",
        "logistic_regression",
        "xgboost",
        "stacking",
    ]
    assert [(each.name, each.reason) for each in found.failures] == [("own", "MemoryError: too wide")]
    assert training_report(found, SCHEMA, LATER)["failed"][0]["label"] == "My own"


def test_a_candidate_that_gives_no_finite_score_fails():
    def blind(signature, settings, *, seed, threads):
        model = LogisticRegression()
        model.decision_function = lambda X: np.full(len(X), np.nan)
        return Pipeline([("prepare", "passthrough"), ("model", model)])

    own = Candidate("own", "My own", 5, blind)
    numbers = SCHEMA.__class__(**{**SCHEMA.__dict__, "features": SCHEMA.features[:3]})
    found = fit_ladder(
        [candidate_named("logistic_regression"), own],
        numbers,
        settings(calibration="none"),
        train=TRAIN,
        validation=LATER,
    )
    assert "no finite score for 800 rows" in found.failures[0].reason


def test_a_fit_that_does_not_converge_is_kept_with_its_complaint():
    found = ladder(rule_candidate(RULE, SCHEMA), Candidate("hasty", "Hasty", 2, hasty))
    assert found.failures == () and "failed to converge" in found.fitted[1].warnings[0]
    assert training_report(found, SCHEMA, LATER)["candidates"][1]["warnings"] == list(
        found.fitted[1].warnings
    )


def test_an_ensemble_of_fewer_than_two_is_reported():
    found = ladder(*rungs("logistic_regression", "averaging"))
    assert found.failures[0].reason == "Average of all needs two other candidates that were fitted, got 1"


def test_where_nothing_can_be_fitted_the_stage_stops_with_every_reason():
    with pytest.raises(TrainingError, match="no candidate could be fitted: My own: MemoryError: too wide"):
        ladder(rule_candidate(RULE, SCHEMA), Candidate("own", "My own", 5, careless))


def test_later_settings_win_and_keep_the_kind_of_the_default():
    merged = settings_of(LADDER["xgboost"], {"max_depth": 6, "reg_lambda": 2}, {"max_depth": 3})
    assert (
        merged["max_depth"] == 3 and merged["reg_lambda"] == 2.0 and isinstance(merged["reg_lambda"], float)
    )
    assert LADDER["xgboost"].defaults["max_depth"] == 4


@pytest.mark.parametrize(
    "change, message",
    [
        ({"depth": 3}, "train.settings.xgboost: unknown setting 'depth', did you mean 'max_depth'"),
        ({"max_depth": 3.5}, "train.settings.xgboost.max_depth must be a whole number, got 3.5"),
        ({"max_depth": True}, "must be a whole number, got True"),
        ({"subsample": "half"}, "train.settings.xgboost.subsample must be a number, got 'half'"),
    ],
)
def test_a_setting_that_is_none_or_of_another_kind_is_refused(change, message):
    with pytest.raises(TrainingError, match=message):
        settings_of(LADDER["xgboost"], change)
