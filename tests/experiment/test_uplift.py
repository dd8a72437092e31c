"""Qini curves and effects by score, where the truth is known."""

import numpy as np
import pytest

from ml_workbench.experiment.policy import Logged, expected_outcomes, logged, policy_value, top
from ml_workbench.experiment.uplift import uplift
from ml_workbench.plan.errors import ExperimentError


def coin(seed: int, units: int = 1000, weeks: int = 2) -> tuple[Logged, np.ndarray, np.ndarray]:
    "Units with a taste that says what the action changes, in several weeks, treated with a chance that depends on it."
    rng = np.random.default_rng(seed)
    unit = np.repeat(np.arange(units), weeks)
    taste = rng.normal(size=units)[unit]
    chance = 0.3 + 0.4 * (taste > 0)
    action = (rng.random(units) < chance[::weeks])[unit]
    gain = 2.0 * (taste > 0.5) - 0.5
    outcome = rng.normal(10, 2, units)[unit] + 3 * taste + rng.normal(0, 2, len(unit)) + gain * action
    return logged(unit, action, np.where(action, chance, 1 - chance), outcome, rounds=weeks), taste, gain


def test_a_point_of_the_curve_is_the_self_normalised_value_of_that_list():
    rows, taste, _ = coin(1)
    found = uplift(rows, taste, steps=10, resamples=20)
    for point in found.points[1:]:
        known = policy_value(rows, top(taste, round(point.share * 2000)), method="snips")
        assert point.gain.value == pytest.approx(known.value.value)


def test_the_curve_begins_with_nobody_and_ends_with_everybody_for_any_ranking():
    rows, taste, _ = coin(2)
    good, bad = uplift(rows, taste, resamples=20), uplift(rows, -taste, resamples=20)
    assert good.points[0].share == 0 and good.points[0].gain.value == 0
    assert good.points[-1].share == 1
    assert good.points[-1].gain.value == pytest.approx(bad.points[-1].gain.value)


def test_a_ranking_by_the_effect_is_found_its_reverse_is_worse_and_chance_is_neither():
    rows, taste, _ = coin(3, units=6000)
    rng = np.random.default_rng(3)
    good, bad, blind = (uplift(rows, score, resamples=200) for score in (taste, -taste, rng.random(12_000)))
    assert good.coefficient.low > 0 and "finds those" in good.verdict
    assert bad.coefficient.high < 0 and "worse" in bad.verdict
    assert blind.coefficient.low < 0 < blind.coefficient.high and "not clearly" in blind.verdict


def test_a_prediction_narrows_the_curve_and_moves_it_by_no_more_than_noise():
    rows, taste, gain = coin(10, units=3000)
    plain = uplift(rows, taste, resamples=200)
    narrow = uplift(rows, taste, resamples=200, expected=expected_outcomes(rows, taste))
    for one, other in zip(plain.points[4::4], narrow.points[4::4], strict=True):
        assert other.gain.high - other.gain.low < 0.9 * (one.gain.high - one.gain.low)
        known = gain[np.argsort(-taste, kind="stable")][: round(other.share * 6000)].sum() / 2
        assert other.gain.low <= known <= other.gain.high


def test_bins_say_where_the_action_works_and_where_it_harms():
    rows, taste, gain = coin(4, units=6000)
    found = uplift(rows, taste, steps=20, bins=4, resamples=200)
    parts = np.array_split(np.argsort(-taste, kind="stable"), 4)
    for each, part in zip(found.bins, parts, strict=True):
        assert each.count == 3000 and each.score == pytest.approx(taste[part].mean())
        assert each.uplift.value == pytest.approx(gain[part].mean(), abs=0.35)
    assert found.bins[0].uplift.low > 0 > found.bins[-1].uplift.high


def test_the_same_seed_gives_the_same_intervals_and_another_one_others():
    rows, taste, _ = coin(5, units=300)
    one, same, other = (uplift(rows, taste, resamples=50, seed=seed) for seed in (1, 1, 2))
    assert one == same and one != other
    assert one.coefficient.value == other.coefficient.value


def test_whole_units_are_drawn_so_that_repeating_weeks_narrows_nothing():
    rows, taste, _ = coin(6, units=500, weeks=1)
    rows_twice = logged(
        *(np.repeat(each, 2) for each in (rows.unit, rows.action, rows.propensity, rows.outcome)), rounds=2
    )
    once, twice = uplift(rows, taste, resamples=300), uplift(rows_twice, np.repeat(taste, 2), resamples=300)
    widths = [each.points[-1].gain.high - each.points[-1].gain.low for each in (once, twice)]
    assert widths[0] == pytest.approx(widths[1])


def test_decisions_without_a_coin_are_left_out():
    rows, taste, _ = coin(7, units=300)
    more = logged(
        np.append(rows.unit, np.arange(300, 400)),
        np.append(rows.action, np.ones(100, bool)),
        np.append(rows.propensity, np.ones(100)),
        np.append(rows.outcome, np.full(100, 1e6)),
        rounds=rows.rounds,
    )
    assert uplift(more, np.append(taste, np.zeros(100)), resamples=30) == uplift(rows, taste, resamples=30)


def test_a_beginning_without_one_of_the_sides_has_no_interval_and_the_coefficient_stands():
    rng = np.random.default_rng(8)
    action = np.append(np.ones(20), rng.integers(0, 2, 380))
    rows = logged(np.arange(400), action, np.full(400, 0.5), rng.normal(size=400))
    found = uplift(rows, -np.arange(400.0), steps=20, resamples=50)
    assert found.points[1].gain is None and found.points[3].gain is not None
    assert found.coefficient is not None


def truth(seed: int = 99, units: int = 300_000) -> tuple[np.ndarray, float]:
    "Gain per unit at shares of a fifth, and the coefficient, of the population."
    _, taste, gain = coin(seed, units, weeks=1)
    curve = np.append(0.0, gain[np.argsort(-taste)].cumsum()) / units
    shares = np.linspace(0, 1, units + 1)
    return np.interp(np.linspace(0.2, 1, 5), shares, curve), float(
        np.trapezoid(curve - curve[-1] * shares, shares)
    )


@pytest.mark.slow
def test_intervals_cover_the_truth_as_often_as_promised():
    curve, coefficient = truth()
    covered = []
    for seed in range(600):
        rows, taste, _ = coin(seed)
        found = uplift(rows, taste, resamples=300, seed=seed)
        gains = [point.gain for point in found.points[4::4]]
        inside = [each.low <= 1000 * known <= each.high for each, known in zip(gains, curve, strict=True)]
        covered.append([*inside, found.coefficient.low <= 1000 * coefficient <= found.coefficient.high])
    shares = np.mean(covered, axis=0)
    assert 0.93 <= shares.mean() <= 0.97 and shares.min() > 0.91, shares


def test_impossible_scores_and_steps_are_refused():
    rows, taste, _ = coin(9, units=20)
    for score in (taste[:3], np.full(40, np.nan)):
        with pytest.raises(ExperimentError, match="one finite score"):
            uplift(rows, score)
    with pytest.raises(ExperimentError, match="20 steps cannot make 3 bins"):
        uplift(rows, taste, bins=3)
    with pytest.raises(ExperimentError, match="no decision has support"):
        uplift(logged([0, 1], [1, 1], [1.0, 1.0], [1.0, 2.0]), np.arange(2.0))
