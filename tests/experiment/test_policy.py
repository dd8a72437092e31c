"""The value of policies that may never have run, where the truth is known."""

from dataclasses import dataclass

import numpy as np
import pytest

from ml_workbench.experiment.policy import (
    Logged,
    expected_outcomes,
    logged,
    policy_value,
    top,
    what_if,
)
from ml_workbench.plan.errors import ExperimentError

WEEKS = 4


@dataclass(frozen=True)
class World:
    "Randomised decisions, and for each row what the coin could have changed."

    rows: Logged
    taste: np.ndarray  # known before
    gain: np.ndarray  # of the action, per row
    lists: np.ndarray  # arms × rows: who is on whose list
    new: np.ndarray  # who would be on the list of a policy that never ran

    def truth(self, policy: np.ndarray) -> float:
        "What the supported choices of a policy gain, a week."
        return float(self.gain[policy & (self.lists.any(axis=0))].sum()) / WEEKS


def world(seed: int, units: int = 800, holdout: float = 0.1) -> World:
    "Units in several weeks; each keeps its arm, and its arm's list decides."
    rng = np.random.default_rng(seed)
    weights = np.array([0.6, 0.4]) * (1 - holdout)
    arm = rng.choice(3, units, p=[holdout, *weights])
    unit = np.repeat(np.arange(units), WEEKS)
    taste, level = rng.normal(size=units)[unit], rng.normal(0, 4, units)[unit]
    lists = taste + rng.normal(0, 1, (2, len(unit))) > 0.5
    action = np.where(arm[unit] == 0, False, np.where(arm[unit] == 1, lists[0], lists[1]))
    chance = weights @ lists
    gain = 0.5 + taste
    outcome = 10 + 5 * taste + level + rng.normal(0, 5, len(unit)) + gain * action
    rows = logged(unit, action, np.where(action, chance, 1 - chance), outcome, rounds=WEEKS)
    return World(rows, taste, gain, lists, taste + rng.normal(0, 0.5, len(unit)) > 0.8)


def simulated(seeds: int, estimate, **options) -> tuple[float, float, float]:
    "Share of intervals that cover the truth, bias in standard errors of the simulation, mean standard error ratio."
    covered, errors, told = [], [], []
    for seed in range(seeds):
        each = world(seed, **options)
        found, truth = estimate(each)
        covered.append(found.value.low <= truth <= found.value.high)
        errors.append(found.value.value - truth)
        told.append(found.standard_error)
    bias = np.mean(errors) / (np.std(errors) / seeds**0.5)
    return float(np.mean(covered)), float(bias), float(np.mean(told) / np.std(errors))


def by(method: str, expected=None):
    "An estimate of the new policy's value by a method, with its truth."
    return lambda each: (
        policy_value(each.rows, each.new, method=method, expected=expected and expected(each)),
        each.truth(each.new),
    )


def good_model(each: World) -> tuple[np.ndarray, np.ndarray]:
    return expected_outcomes(each.rows, each.taste)


def wrong_model(each: World) -> tuple[np.ndarray, np.ndarray]:
    return 20 - 2 * each.taste, 5 + 3 * each.taste


ESTIMATORS = {
    "ips": by("ips"),
    "snips": by("snips"),
    "dr": by("dr", good_model),
    "dr with a wrong model": by("dr", wrong_model),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimators_are_unbiased_and_their_standard_errors_honest(name):
    _, bias, ratio = simulated(200, ESTIMATORS[name])
    assert abs(bias) < 3 and 0.85 < ratio < 1.15


@pytest.mark.slow
@pytest.mark.parametrize("name", ESTIMATORS)
def test_intervals_cover_the_truth_as_often_as_promised(name):
    covered, bias, _ = simulated(1000, ESTIMATORS[name], units=3000)
    assert 0.93 <= covered <= 0.97 and abs(bias) < 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["snips", "dr"])
def test_intervals_hold_with_few_units_too(name):
    covered, _, _ = simulated(1000, ESTIMATORS[name], units=600)
    assert 0.93 <= covered <= 0.97


def test_doubly_robust_is_right_with_wrong_propensities_and_a_right_model():
    def estimate(each: World):
        wrong = np.where(each.rows.supported, np.clip(each.rows.propensity * 0.5 + 0.3, 0, 0.95), 1.0)
        rows = logged(each.rows.unit, each.rows.action, wrong, each.rows.outcome, rounds=WEEKS)
        right = 10 + 5 * each.taste, 10 + 5 * each.taste + each.gain
        return policy_value(rows, each.new, method=method, expected=right), each.truth(each.new)

    method = "dr"
    assert abs(simulated(150, estimate)[1]) < 3
    method = "ips"
    assert abs(simulated(150, estimate)[1]) > 5  # which needs the right propensities


def test_a_good_model_narrows_the_interval():
    errors = {name: simulated(40, ESTIMATORS[name])[2] for name in ("snips", "dr")}
    assert all(0.8 < ratio < 1.25 for ratio in errors.values())
    each = world(1)
    widths = {name: ESTIMATORS[name](each)[0].standard_error for name in ESTIMATORS}
    assert widths["dr"] < widths["snips"] < widths["ips"]


def test_a_constant_added_to_every_outcome_changes_only_ips():
    each = world(2)
    shifted = logged(
        each.rows.unit, each.rows.action, each.rows.propensity, each.rows.outcome + 100, rounds=WEEKS
    )
    values = {
        method: [policy_value(rows, each.new, method=method).value.value for rows in (each.rows, shifted)]
        for method in ("ips", "snips")
    }
    assert values["snips"][0] == pytest.approx(values["snips"][1])
    assert abs(values["ips"][0] - values["ips"][1]) > 10


def test_weeks_of_one_unit_are_not_taken_for_independent():
    each = world(3)
    apart = logged(
        np.arange(len(each.rows.unit)),
        each.rows.action,
        each.rows.propensity,
        each.rows.outcome,
        rounds=WEEKS,
    )
    clustered, naive = (policy_value(rows, each.new, method="ips") for rows in (each.rows, apart))
    assert clustered.value.value == pytest.approx(naive.value.value)
    assert clustered.standard_error > 1.2 * naive.standard_error
    assert clustered.effective_units < naive.effective_units


def test_with_a_fair_coin_for_all_ips_is_the_difference_of_sums_and_snips_of_means():
    rng = np.random.default_rng(4)
    action, outcome = np.repeat([True, False], [30, 70]), rng.normal(5, 1, 100)
    rows = logged(np.arange(100), action, np.full(100, 0.5), outcome)
    everybody = np.ones(100, bool)
    ips = policy_value(rows, everybody, method="ips").value.value
    assert ips == pytest.approx(2 * (outcome[:30].sum() - outcome[30:].sum()))
    snips = policy_value(rows, everybody, method="snips")
    gap = outcome[:30].mean() - outcome[30:].mean()
    assert snips.value.value == pytest.approx(100 * gap)
    known = 100 * (outcome[:30].var(ddof=1) / 30 + outcome[30:].var(ddof=1) / 70) ** 0.5
    assert snips.standard_error == pytest.approx(known, rel=0.03)
    assert snips.effective_units == pytest.approx(100)


def test_two_policies_are_compared_where_they_differ():
    each = world(5)
    against = policy_value(each.rows, each.new, against=each.lists[0], method="ips")
    alone = [policy_value(each.rows, policy, method="ips") for policy in (each.new, each.lists[0])]
    assert against.value.value == pytest.approx(alone[0].value.value - alone[1].value.value)
    assert against.choices == pytest.approx((each.new ^ each.lists[0]).sum() / WEEKS)
    nothing = policy_value(each.rows, each.new, against=each.new)
    assert nothing.value is None and nothing.choices == 0


def test_a_policy_may_toss_coins_itself():
    each = world(6)
    whole, half = (policy_value(each.rows, part * each.new, method="ips") for part in (1.0, 0.5))
    assert half.value.value == pytest.approx(whole.value.value / 2)
    assert half.choices == pytest.approx(whole.choices / 2)


def test_choices_without_support_are_counted_and_not_guessed():
    each = world(7)
    found = policy_value(each.rows, np.ones(len(each.new), bool))
    assert found.supported_share == pytest.approx(each.lists.any(axis=0).mean())
    only = policy_value(each.rows, each.lists.any(axis=0))
    assert found.value == only.value and only.supported_share == 1


def test_without_a_holdout_units_on_every_list_have_no_support_and_with_one_they_do():
    on_all = [world(8, holdout=share) for share in (0.0, 0.1)]
    values = [policy_value(each.rows, each.lists.all(axis=0)) for each in on_all]
    assert values[0].value is None and values[0].supported_share == 0
    assert values[1].value is not None and values[1].supported_share == 1


def test_one_unit_on_a_side_is_no_evidence():
    rows = logged(np.arange(5), [1, 0, 0, 0, 0], np.full(5, 0.5), np.arange(5.0))
    assert policy_value(rows, np.ones(5), method="snips").value is None


def test_rounds_and_months_only_scale():
    each = world(9)
    week = policy_value(each.rows, each.new)
    month = week.times(52 / 12)
    assert month.value.low == pytest.approx(week.value.low * 52 / 12)
    assert month.standard_error == pytest.approx(week.standard_error * 52 / 12)
    assert month.choices == week.choices


def test_predictions_never_come_from_the_units_own_rows():
    each = world(10, units=100)
    some = each.rows.unit[each.rows.supported][0]
    own, outcome = each.rows.unit == some, each.rows.outcome.copy()
    outcome[own] += 1e6
    changed = logged(each.rows.unit, each.rows.action, each.rows.propensity, outcome)
    first, second = (expected_outcomes(rows, each.taste, seed=3) for rows in (each.rows, changed))
    off = [np.abs(before - after) for before, after in zip(first, second, strict=True)]
    assert max(each[own].max() for each in off) < 1e-6
    assert max(each[~own].max() for each in off) > 1


def test_a_prediction_made_for_one_policy_narrows_its_interval():
    errors = []
    for seed in range(30):
        each = world(seed)
        odd = each.new & (each.taste > 1.5)  # what it is about is a corner of all rows
        curved = each.rows.outcome + 5 * each.taste**3
        rows = logged(each.rows.unit, each.rows.action, each.rows.propensity, curved, rounds=WEEKS)
        models = [expected_outcomes(rows, each.taste, policy=policy) for policy in (None, odd)]
        errors.append(
            [policy_value(rows, odd, method="dr", expected=model).standard_error for model in models]
        )
    assert np.mean(errors, axis=0)[1] < 0.95 * np.mean(errors, axis=0)[0]


def test_rows_without_support_teach_nothing():
    each = world(13)
    outcome = np.where(each.rows.supported, each.rows.outcome, 1e9)
    spoilt = logged(each.rows.unit, each.rows.action, each.rows.propensity, outcome)
    for before, after in zip(
        *(expected_outcomes(rows, each.taste) for rows in (each.rows, spoilt)), strict=True
    ):
        np.testing.assert_allclose(before, after)


def test_a_list_takes_the_best_of_each_round_and_ties_in_order():
    score = np.array([1.0, 3.0, np.nan, 2.0, 5.0, 5.0])
    rounds = np.array([0, 0, 0, 1, 1, 1])
    assert top(score, 1, round_=rounds).tolist() == [False, True, False, False, True, False]
    assert top(score, 9, round_=rounds).tolist() == [True, True, False, True, True, True]
    assert not top(score, 0).any()


def test_what_if_is_the_value_of_each_list():
    each, weeks = world(11), np.tile(np.arange(WEEKS), 800)
    found = what_if(each.rows, each.taste, [10, 50], round_=weeks, method="snips")
    assert [size for size, _ in found] == [10, 50]
    for size, value in found:
        assert value == policy_value(each.rows, top(each.taste, size, round_=weeks))
        assert value.choices == size


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"action": [0, 2, 1]}, "action must be 0 or 1; row 1 has 2"),
        ({"propensity": [0.5, 0.0, 0.5]}, "propensity must be above 0"),
        ({"propensity": [0.5, 1.5, 0.5]}, "propensity must be above 0"),
        ({"outcome": [1.0, 2.0, float("nan")]}, "row 2 has nan"),
        ({"outcome": [1.0, 2.0]}, "as many units"),
        ({"rounds": 0}, "rounds"),
    ],
)
def test_impossible_decisions_are_refused(change, message):
    good = {"unit": [0, 1, 2], "action": [0, 1, 0], "propensity": [0.5] * 3, "outcome": [1.0, 2.0, 3.0]}
    with pytest.raises(ExperimentError, match=message):
        logged(**(good | change))


def test_impossible_policies_methods_and_features_are_refused():
    each = world(12, units=20)
    for policy in (np.ones(3), np.full(80, 2.0), np.full(80, np.nan)):
        with pytest.raises(ExperimentError, match="a policy says for each row"):
            policy_value(each.rows, policy)
    with pytest.raises(ExperimentError, match="known: ips"):
        policy_value(each.rows, each.new, method="magic")
    with pytest.raises(ExperimentError, match="expected_outcomes"):
        policy_value(each.rows, each.new, method="dr")
    with pytest.raises(ExperimentError, match="fill what is missing"):
        expected_outcomes(each.rows, np.full(80, np.nan))
