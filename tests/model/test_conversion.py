"""Every candidate becomes a graph that answers as it does, in the same bytes every time."""

import subprocess
import sys
from functools import cache

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.ensemble import ExtraTreesClassifier, GradientBoostingClassifier, HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import RidgeClassifier, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC

from ml_workbench.model.candidates import (
    LADDER,
    Candidate,
    Fitted,
    candidate_named,
    fit_candidate,
    fit_ladder,
    rule_candidate,
)
from ml_workbench.model.conversion import (
    answers_of,
    calibration_of,
    onnx_of,
    score_of,
    trees_of,
)
from ml_workbench.model.estimators import BoostedTrees
from ml_workbench.model.graph import Graph, model_of
from ml_workbench.model.session import booster_of, onnx_session, probabilities
from ml_workbench.model.snapshots import Feature, Schema
from ml_workbench.model.trials import Agreement, Way, agreement, fresh_rows
from ml_workbench.plan.charter import Rule
from ml_workbench.plan.errors import ArtifactError
from ml_workbench.plan.params import TrainParams

KINDS = {"days": "number", "weekly": "number", "empty": "number", "constant": "number", "town": "category"}
FEATURES = tuple(Feature(name, kind, name) for name, kind in KINDS.items())
SCHEMA = Schema("member", "as_of", "slice", "left", "spend", 28, "weekly", FEATURES)
QUICK = {
    "xgboost": {"rounds": 60, "patience": 10, "learning_rate": 0.2, "max_depth": 3, "min_child_weight": 5.0},
    "random_forest": {"n_estimators": 20, "max_features": 0.5},
    "kernel_machine": {"components": 60, "gamma": 0.05},
    "mlp": {"width": 4, "learning_rate_init": 0.02, "batch_size": 128, "epochs": 10},
}


def settings(calibration: str = "sigmoid") -> TrainParams:
    return TrainParams(
        seed=1, candidates=list(LADDER), withheld_families=[], use_tuned=False, settings={},
        calibration=calibration, spend=["naive"], threads=1,
    )  # fmt: skip


def members(rows: int = 600, *, seed: int = 1) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({"days": random.exponential(20, rows), "weekly": random.exponential(400, rows)})
    frame = frame.mask(random.random(frame.shape) < 0.1).assign(empty=np.nan, constant=7.0).astype(np.float32)
    frame["town"] = random.choice(["Arles", "Bath", "(missing)"], rows)
    chance = 1 / (1 + np.exp(2 - frame["days"].fillna(5) / 12 - 0.5 * (frame["town"] == "Bath")))
    frame["left"] = (random.random(rows) < chance).astype(int)
    return frame.assign(member=np.arange(rows), as_of=pd.Timestamp("2024-01-01"), slice="train")


TRAIN, LATER = members(seed=1), members(seed=2)


@cache
def ladder(calibration: str = "sigmoid") -> dict[str, Fitted]:
    rule = rule_candidate(Rule(feature="days", order="ascending", meaning="the members lately here"), SCHEMA)
    rungs = [rule, *map(candidate_named, LADDER)]
    found = fit_ladder(rungs, SCHEMA, settings(calibration), train=TRAIN, validation=LATER, settings=QUICK)
    assert not found.failures
    return {each.candidate.name: each for each in found.fitted}


def own(model: BaseEstimator, **changes) -> Fitted:
    "A candidate of somebody's own: gaps filled, then a model of scikit-learn."
    steps = [("prepare", SimpleImputer(strategy="median", keep_empty_features=True)), ("model", model)]
    candidate = Candidate("own", "Own", 3, lambda *_, **__: Pipeline(steps), **changes)
    return fit_candidate(candidate, SCHEMA, settings(), train=TRAIN, validation=LATER)


def parity(fitted: Fitted) -> Agreement:
    "Graph and model, on rows that neither has seen, unknown categories among them."
    rows = fresh_rows(fitted.signature.matrix(LATER), 2000, categories=fitted.signature.categories, seed=3)
    session = onnx_session(onnx_of(fitted))
    way = Way("graph", "Graph", lambda rows: session.run(None, {"features": rows})[0])
    return agreement(way, rows, answers_of(fitted, rows), tolerance=2e-6)


@pytest.mark.parametrize("calibration", ["sigmoid", "isotonic", "none"])
@pytest.mark.parametrize("name", list(LADDER))
def test_the_graph_of_every_candidate_answers_as_the_candidate_does(name, calibration):
    found = parity(ladder(calibration)[name])
    if calibration == "isotonic":  # where it jumps, the answer hangs on the last digit of the score
        assert found.problem is None and found.apart < 0.02 * found.rows
    else:
        assert found.largest < 2e-6


def test_the_rules_graph_gives_a_score_that_puts_gaps_last():
    rule = ladder()["rule"]
    session = onnx_session(onnx_of(rule))
    rows = rule.signature.matrix(LATER)
    assert np.abs(session.run(None, {"features": rows})[0] - answers_of(rule, rows)).max() < 1e-4  # days
    days = np.array([[3.0], [90.0], [np.nan]], dtype=np.float32) * np.ones((1, 5), dtype=np.float32)
    low, high, gap = -session.run(["score"], {"features": days})[0]
    assert low < high < gap


@pytest.mark.parametrize("name", ["rule", *LADDER])
def test_converting_twice_gives_the_same_bytes(name):
    assert onnx_of(ladder()[name]) == onnx_of(ladder()[name])


def test_another_process_gives_the_same_bytes(tmp_path):
    code = (
        "import sys, pathlib, importlib.util as u; s = u.spec_from_file_location('other', sys.argv[1]);"
        "m = u.module_from_spec(s); s.loader.exec_module(m);"
        "[pathlib.Path(sys.argv[2], n).write_bytes(m.onnx_of(m.ladder()[n])) for n in ('stacking', 'rule')]"
    )
    subprocess.run([sys.executable, "-c", code, __file__, tmp_path], check=True, timeout=120)
    for name in ("stacking", "rule"):
        assert (tmp_path / name).read_bytes() == onnx_of(ladder()[name])


class Bayes(GaussianNB):
    "A class that extends one of scikit-learn's, with the decision function that a candidate needs."

    def decision_function(self, X):
        log = self.predict_log_proba(X)
        return np.clip(log[:, 1] - log[:, 0], -13.8, 13.8)


OWN = [
    GradientBoostingClassifier(n_estimators=10, random_state=1),
    HistGradientBoostingClassifier(max_iter=10, random_state=1),
    RidgeClassifier(),
    SGDClassifier(random_state=1),
    SVC(),
    Bayes(),
]


@pytest.mark.filterwarnings(
    "ignore:Attribute `prob:FutureWarning"
)  # skl2onnx reads what scikit-learn retires
@pytest.mark.parametrize("model", OWN, ids=lambda model: type(model).__name__)
def test_a_candidate_of_ones_own_converts_too(model):
    # naive Bayes squares differences and divides by tiny variances: 32 bits cost it a digit or two
    assert parity(own(model, log_odds=False)).largest < (1e-3 if isinstance(model, Bayes) else 2e-5)


def test_what_cannot_be_written_is_named_with_the_remedy():
    class Rounded(TransformerMixin, BaseEstimator):
        def fit(self, X, y=None):
            self.n_features_in_ = X.shape[1]
            return self

        def transform(self, X):
            return np.nan_to_num(X).round()

    fitted = own(RidgeClassifier(), log_odds=False)
    fitted.model.steps[0] = ("prepare", Rounded().fit(TRAIN[list(KINDS)]))
    with pytest.raises(
        ArtifactError, match=r"Rounded cannot be written as ONNX .*skl2onnx .*update_registered_converter"
    ):
        onnx_of(fitted)


def test_a_blend_of_two_kinds_of_trees_is_refused_with_a_reason():
    blend = ladder()["averaging"]
    members = [own(GradientBoostingClassifier(n_estimators=3)).calibrated, *blend.model["model"].members]
    mixed = Pipeline(
        [("prepare", "passthrough"), ("model", type(blend.model["model"])(members).fit(None, None))]
    )
    with pytest.raises(ArtifactError, match="do not fit into one graph"):
        onnx_of(Fitted(blend.candidate, blend.signature, mixed, blend.calibrator, {}))


def test_other_kinds_of_boosting_are_refused_with_a_reason():
    fitted = ladder()["xgboost"]
    matrix = fitted.signature.matrix(TRAIN)
    linear = BoostedTrees(booster="gblinear", n_estimators=3).fit(np.nan_to_num(matrix), TRAIN["left"])
    with pytest.raises(ArtifactError, match="booster='gbtree'"):
        onnx_of(Fitted(fitted.candidate, fitted.signature, Pipeline([("model", linear)]), None, {}))


@pytest.mark.parametrize("calibration", ["sigmoid", "isotonic", "none"])
def test_xgboosts_own_trees_answer_as_the_candidate_does(calibration):
    fitted = ladder(calibration)["xgboost"]
    rows = fresh_rows(fitted.signature.matrix(LATER), 2000, seed=4)
    margin = booster_of(trees_of(fitted)).inplace_predict(rows, predict_type="margin")
    found = probabilities(margin, calibration_of(fitted))
    assert np.abs(found - fitted.probability_matrix(rows)).max() < 1e-6


def test_only_trees_on_the_matrix_itself_are_kept_for_xgboost():
    assert [name for name, fitted in ladder().items() if trees_of(fitted)] == ["xgboost"]


def test_an_extra_forest_with_gaps_in_its_own_way_converts():
    trees = ExtraTreesClassifier(10, random_state=1, max_depth=4)
    rows = fresh_rows(ladder()["xgboost"].signature.matrix(LATER), 500, seed=5)[:, :2]
    trees.fit(TRAIN[["days", "weekly"]].to_numpy(copy=True), TRAIN["left"])
    graph = Graph()
    session = onnx_session(model_of(graph, score_of(graph, trees, "features"), width=2, output="score"))
    chance = np.clip(trees.predict_proba(rows)[:, 1], 1e-6, 1 - 1e-6)
    assert np.abs(session.run(None, {"features": rows})[0] - np.log(chance / (1 - chance))).max() < 1e-4
