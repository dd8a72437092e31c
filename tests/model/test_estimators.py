"""Our own estimators keep scikit-learn's contract, stop in time, calibrate and blend."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.base import clone
from sklearn.metrics import brier_score_loss, log_loss
from sklearn.utils.estimator_checks import parametrize_with_checks

from ml_workbench.model.estimators import (
    Blend,
    BoostedTrees,
    Calibrated,
    Calibrator,
    Forest,
    MissingFlags,
    PatientMLP,
    RankByColumn,
    SignedLog,
)


def people(rows: int = 800, *, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    X = random.normal(size=(rows, 4)).astype(np.float32)
    return X, (random.random(rows) < expit(2 * X[:, 0] - X[:, 1] - 1)).astype(np.int8)


X, Y = people()
LATER, Y_LATER = people(seed=2)
WATCH = [(LATER, Y_LATER)]


@parametrize_with_checks([RankByColumn(), RankByColumn(descending=False), SignedLog(), MissingFlags()])
def test_our_estimators_keep_scikit_learns_contract(estimator, check):
    check(estimator)


def test_flags_mark_the_columns_that_had_holes_in_training():
    X = np.array([[1.0, np.nan, 3.0], [np.nan, 2.0, 3.0]])
    flags = MissingFlags().fit(X)
    assert flags.transform(X).tolist() == [[0, 1], [1, 0]]
    assert flags.transform([[1.0, 2.0, np.nan]]).tolist() == [[0, 0]]
    assert flags.get_feature_names_out(["a", "b", "c"]).tolist() == ["a_missing", "b_missing"]


def test_without_holes_one_flag_stays_so_that_there_is_a_matrix():
    flags = MissingFlags().fit(np.ones((3, 2)))
    assert flags.transform([[np.nan, 1.0]]).tolist() == [[1]]


def test_boosted_trees_keep_no_tree_after_the_best():
    long = BoostedTrees(n_estimators=300, max_depth=3, random_state=0)
    stopped = clone(long).set_params(early_stopping_rounds=10).fit(X, Y, eval_set=WATCH)
    assert stopped.rounds_ == stopped.get_booster().num_boosted_rounds() < 300
    exact = clone(long).set_params(n_estimators=stopped.rounds_).fit(X, Y)
    assert np.array_equal(exact.decision_function(LATER), stopped.decision_function(LATER))


def test_boosted_trees_fit_without_anything_to_watch():
    assert BoostedTrees(n_estimators=7, random_state=0).fit(X, Y).rounds_ == 7


def test_the_log_odds_are_those_of_the_probability():
    for model in (
        BoostedTrees(n_estimators=20),
        PatientMLP(4, epochs=5),
        Forest(n_estimators=20, min_samples_leaf=20),
    ):
        model.fit(X, Y)
        assert expit(model.decision_function(LATER)) == pytest.approx(
            model.predict_proba(LATER)[:, 1], abs=2e-6
        )


def test_a_forest_that_is_certain_has_finite_log_odds():
    certain = Forest(n_estimators=3, random_state=0).fit([[0.0], [1.0]] * 50, [0, 1] * 50)
    assert np.isfinite(certain.decision_function([[0.0], [1.0]])).all()


def test_a_forest_adds_up_its_votes_in_one_order_whatever_the_threads():
    forest = Forest(n_estimators=60, min_samples_leaf=5, random_state=0, n_jobs=2).fit(X, Y)
    found = [forest.decision_function(LATER) for _ in range(20)]
    assert all(np.array_equal(found[0], each) for each in found) and forest.n_jobs == 2


def test_the_network_keeps_the_weights_of_its_best_epoch():
    network = PatientMLP(32, alpha=1e-6, learning_rate_init=0.03, epochs=60, patience=4, random_state=1)
    network.fit(X, Y, eval_set=WATCH)
    shorter = clone(network).set_params(epochs=network.rounds_).fit(X, Y)
    assert network.rounds_ < 60
    assert np.array_equal(network.decision_function(LATER), shorter.decision_function(LATER))


def test_the_network_is_the_same_twice_and_another_with_another_seed():
    once, again, other = (
        PatientMLP(4, epochs=3, random_state=seed).fit(X, Y).coefs_[0] for seed in (1, 1, 2)
    )
    assert np.array_equal(once, again) and not np.array_equal(once, other)


def test_a_network_can_be_cloned_with_its_settings():
    assert clone(PatientMLP(7, alpha=0.5, epochs=9)).get_params()["width"] == 7


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_calibration_mends_a_score_on_the_wrong_scale(method):
    score, later = 9 * X[:, 0] + 4, 9 * LATER[:, 0] + 4
    mended = Calibrator(method).fit(score, Y).probability(later)
    assert brier_score_loss(Y_LATER, mended) < brier_score_loss(Y_LATER, expit(later)) - 0.02
    assert ((mended > 0) & (mended < 1)).all()


def test_a_sigmoid_keeps_the_order_and_an_isotonic_fit_never_reverses_it():
    score = np.sort(X[:, 0])
    assert (np.diff(Calibrator().fit(X[:, 0], Y).probability(score)) >= 0).all()
    assert (np.diff(Calibrator("isotonic").fit(X[:, 0], Y).probability(score)) >= 0).all()


def members() -> list[Calibrated]:
    models = [BoostedTrees(n_estimators=20, random_state=0).fit(X, Y), PatientMLP(4, epochs=4).fit(X, Y)]
    return [Calibrated(model, Calibrator().fit(model.decision_function(LATER), Y_LATER)) for model in models]


def test_an_average_weighs_all_alike_and_a_stack_is_no_worse_where_it_learnt():
    average, stack = Blend(members()).fit(X, Y), Blend(members(), learn=True).fit(X, Y, eval_set=WATCH)
    assert average.weights_.tolist() == [0.5, 0.5]
    losses = [log_loss(Y_LATER, expit(each.decision_function(LATER))) for each in (average, stack)]
    assert losses[1] <= losses[0] + 1e-9


def test_a_stack_turns_no_member_around():
    good = members()[0]
    backwards = Calibrated(good.model, Calibrator().fit(good.model.decision_function(LATER), 1 - Y_LATER))
    stack = Blend([good, backwards], learn=True, penalty=0.001).fit(X, Y, eval_set=WATCH)
    free = stack.weights_[0] - stack.weights_[1]  # the one says the opposite of the other
    assert (stack.weights_ >= 0).all() and free > 0.3


def test_a_heavy_penalty_makes_a_stack_an_average():
    stack = Blend(members(), learn=True, penalty=1e9).fit(X, Y, eval_set=WATCH)
    assert stack.weights_ == pytest.approx([0.5, 0.5], abs=1e-4)
