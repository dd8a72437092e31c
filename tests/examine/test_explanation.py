"""Base and contributions are the score, for every rung of the ladder."""

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.pipeline import Pipeline

from ml_workbench.examine.explanation import (
    Contributions,
    _sampled,
    calibrated,
    contributions,
    owners,
    shap_importance,
)
from ml_workbench.model.candidates import LADDER, Fitted
from ml_workbench.model.estimators import Blend, Calibrated, Calibrator, RankByColumn
from ml_workbench.model.signature import signature_of
from ml_workbench.model.snapshots import Feature, Schema
from ml_workbench.plan.errors import ScoringError

FEATURES = (
    Feature("away", "number", "recency"),
    Feature("spend", "number", "money"),
    Feature("card", "category", "loyalty"),
    Feature("luck", "number", "stars"),
    Feature("same", "number", "stars"),
)
SCHEMA = Schema("member", "as_of", "slice", "left", "value", 28, "spend", FEATURES)
SMALL = {
    "random_forest": {"n_estimators": 15},
    "xgboost": {"rounds": 30, "patience": 0},
    "kernel_machine": {"components": 50},
    "mlp": {"epochs": 5, "batch_size": 100},
}
SINGLE = [name for name, candidate in LADDER.items() if not candidate.ensemble]


def table(rows: int = 500, *, seed: int = 1) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(random.gamma(2.0, 10.0, (rows, 3)), columns=["away", "spend", "luck"]).assign(
        same=3.0
    )
    frame["card"] = random.choice(["gold", "none", "silver"], rows)
    odds = 0.1 * frame["away"] - 0.02 * frame["spend"] + (frame["card"] == "none") - 2.5
    frame["left"] = (random.random(rows) < expit(odds)).astype(int)
    frame.loc[random.random(rows) < 0.1, "spend"] = np.nan
    return frame


@pytest.fixture(scope="module")
def ladder() -> dict[str, Fitted]:
    rows = table()
    signature, y = signature_of(rows, SCHEMA), rows["left"].to_numpy()
    matrix, fitted = signature.matrix(rows), {}
    for name in SINGLE:
        settings = {**LADDER[name].defaults, **SMALL.get(name, {})}
        model = LADDER[name].build(signature, settings, seed=1, threads=1).fit(matrix[:350], y[:350])
        calibrator = Calibrator().fit(model.decision_function(matrix[350:]), y[350:])
        fitted[name] = Fitted(LADDER[name], signature, model, calibrator, settings)
    members = [Calibrated(each.model, each.calibrator) for each in fitted.values()]
    for name, learn in (("averaging", False), ("stacking", True)):
        blend = Blend(members, learn=learn).fit(matrix[:350], y[:350], eval_set=[(matrix[350:], y[350:])])
        model = Pipeline([("prepare", "passthrough"), ("model", blend)])
        calibrator = Calibrator().fit(model.decision_function(matrix[350:]), y[350:])
        fitted[name] = Fitted(LADDER[name], signature, model, calibrator, {})
    return fitted


def matrices(fitted: Fitted) -> tuple[np.ndarray, np.ndarray]:
    "A few rows to explain, one with an unseen category, and the background."
    few = table(12, seed=9)
    few.loc[0, "card"] = "platinum"
    return fitted.signature.matrix(few), fitted.signature.matrix(table())


@pytest.mark.parametrize("name", LADDER)
def test_base_and_contributions_are_the_score(ladder, name):
    rows, background = matrices(ladder[name])
    found = contributions(ladder[name], rows, background, raw=True, evaluations=5000)
    assert np.allclose(found.total, ladder[name].score_matrix(rows), atol=1e-4)


@pytest.mark.parametrize("name", LADDER)
@pytest.mark.parametrize("method", ["sigmoid", "isotonic", None])
def test_after_calibration_they_are_the_log_odds_of_the_probability(ladder, name, method):
    rows, background = matrices(ladder[name])
    scores, label = ladder[name].score_matrix(background), table()["left"].to_numpy()
    calibrator = method and Calibrator(method).fit(scores, label)
    one = Fitted(LADDER[name], ladder[name].signature, ladder[name].model, calibrator, {})
    odds = contributions(one, rows, background, evaluations=5000).total
    assert np.allclose(expit(odds), one.probability_matrix(rows), atol=1e-4)


@pytest.mark.parametrize("name", LADDER)
def test_a_feature_that_never_changes_contributes_nothing_and_the_strong_one_most(ladder, name):
    rows, background = matrices(ladder[name])
    found = contributions(ladder[name], rows, background, evaluations=6_000)
    assert np.abs(found.values[:, 4]).max() < 1e-6
    assert np.abs(found.values).mean(axis=0).argmax() == 0


def test_a_linear_model_is_taken_apart_by_its_coefficients(ladder):
    fitted = ladder["logistic_regression"]
    rows, background = matrices(fitted)
    found = contributions(fitted, rows, background, raw=True)
    for place in range(5):
        swapped = rows.copy()
        swapped[:, place] = rows[0, place]
        moved = fitted.score_matrix(swapped) - fitted.score_matrix(rows)
        assert np.allclose(moved, found.values[0, place] - found.values[:, place])
    assert np.isclose(found.base, fitted.score_matrix(background).mean())


def test_sampling_comes_to_the_average_over_all_orders():
    class Product:
        "A score with an interaction."

        def decision_function(self, X):
            return X[:, 0] * X[:, 1] + X[:, 2]

    random = np.random.default_rng(4)
    rows, background = random.normal(size=(3, 3)), random.normal(size=(40, 3))
    exact, model = np.zeros((3, 3)), Product()
    for start in background:
        for order in permutations(range(3)):
            now = np.repeat(start[None], 3, axis=0)
            for place in order:
                before = model.decision_function(now)
                now[:, place] = rows[:, place]
                exact[:, place] += (model.decision_function(now) - before) / (6 * len(background))
    found = _sampled(model, rows, background, evaluations=2 * 3 * 3 * 40, seed=1)
    assert np.allclose(found.values, exact, atol=0.15)
    assert np.allclose(found.total, model.decision_function(rows))
    assert np.isclose(found.base, model.decision_function(background).mean())


def test_columns_find_the_feature_they_came_from(ladder):
    fitted = ladder["logistic_regression"]
    _, background = matrices(fitted)
    belongs = owners(fitted.model[:-1], background, fitted.signature)
    card = belongs[fitted.signature.names.index("card")]
    assert card.sum() == 3 and belongs[fitted.signature.names.index("spend")].sum() == 2
    assert (belongs.sum(axis=0) <= 1).all()


def test_columns_that_follow_two_features_have_no_owner(ladder):
    fitted = ladder["kernel_machine"]
    assert owners(fitted.model[:-1], matrices(fitted)[1], fitted.signature) is None


def test_the_rule_goes_by_its_feature_alone(ladder):
    signature = ladder["xgboost"].signature
    rows, background = matrices(ladder["xgboost"])
    model = Pipeline([("prepare", "passthrough"), ("model", RankByColumn(0))])
    model.fit(background, table()["left"])
    found = contributions(Fitted(LADDER["xgboost"], signature, model, None, {}), rows, background)
    assert np.allclose(found.total, model.decision_function(rows)) and np.allclose(found.values[:, 1:], 0.0)


@pytest.mark.parametrize("name", ["xgboost", "random_forest", "logistic_regression"])
def test_the_same_seed_gives_the_same_contributions(ladder, name):
    rows, background = matrices(ladder[name])
    first, again = (contributions(ladder[name], rows, background, evaluations=4000, seed=3) for _ in range(2))
    assert np.array_equal(first.values, again.values) and first.base == again.base


@pytest.mark.parametrize("name", ["xgboost", "random_forest", "logistic_regression"])
def test_the_order_of_the_rows_does_not_matter(ladder, name):
    rows, background = matrices(ladder[name])
    forwards, backwards = (
        contributions(ladder[name], each, background, evaluations=4000).values for each in (rows, rows[::-1])
    )
    assert np.allclose(forwards, backwards[::-1])


def test_a_sigmoid_stretches_every_reason_alike():
    found, calibrator = Contributions(-1.0, np.array([[0.5, -0.2]])), Calibrator()
    calibrator.slope_, calibrator.offset_ = 1.2, 0.3
    after = calibrated(found, calibrator)
    assert np.allclose(after.values, [[0.6, -0.24]]) and np.isclose(after.base, -0.9)


def test_nothing_to_explain_is_refused(ladder):
    rows, background = matrices(ladder["xgboost"])
    with pytest.raises(ScoringError, match="nothing to explain: 0 rows"):
        contributions(ladder["xgboost"], rows[:0], background)
    with pytest.raises(ScoringError, match="against a background of 0"):
        contributions(ladder["xgboost"], rows, background[:0])


def test_rows_of_another_width_are_refused(ladder):
    rows, background = matrices(ladder["xgboost"])
    with pytest.raises(ScoringError, match="rows of 5 values"):
        contributions(ladder["xgboost"], rows[:, :3], background)


def test_features_are_told_by_size_with_their_families(ladder):
    fitted = ladder["xgboost"]
    rows, background = matrices(fitted)
    told = shap_importance(contributions(fitted, rows, background), fitted.signature, SCHEMA)
    assert (told[0].feature, told[0].family) == ("away", "recency") and told[-1].mean_absolute < 1e-6
    assert [each.mean_absolute for each in told] == sorted(
        (each.mean_absolute for each in told), reverse=True
    )
