"""Effects by day, so far, and whether they last."""

import numpy as np
import pytest

from ml_workbench.estimators.lifts import lift
from ml_workbench.estimators.moments import moments_of
from ml_workbench.estimators.timing import combined, over_time
from ml_workbench.plan.errors import ExperimentError

DAYS = 14
COLUMNS = [f"d{day}" for day in range(1, DAYS + 1)]
BY_DAY = dict(enumerate(COLUMNS, start=1))


def spends(rng: np.random.Generator, units: int) -> np.ndarray:
    return rng.gamma(1.0, 5.0, (units, 1)) * rng.gamma(0.5, 2.0, (units, DAYS))


def test_weighted_sums_of_columns_have_the_moments_of_the_summed_rows():
    rows = np.random.default_rng(1).gamma(2.0, 2.0, (60, 3))
    found = combined(moments_of(list("abc"), rows), {"x": {"a": 1.0, "c": -2.0}, "y": {"b": 0.5}})
    known = moments_of(["x", "y"], np.column_stack([rows[:, 0] - 2 * rows[:, 2], rows[:, 1] / 2]))
    assert found.names == known.names and found.count == known.count
    assert found.mean == pytest.approx(known.mean) and found.scatter == pytest.approx(known.scatter)


def test_the_last_point_is_the_whole_lift_and_a_day_is_that_days_lift():
    rng = np.random.default_rng(3)
    treated, control = spends(rng, 200) + 1.0, spends(rng, 250)
    found = over_time(
        *(moments_of(COLUMNS, each) for each in (treated, control)), BY_DAY, metric="spend", arm="champion"
    )
    totals = [moments_of(["y"], each.sum(axis=1, keepdims=True)) for each in (treated, control)]
    known = lift(*totals, metric="spend", column="y")
    assert (found.points[-1].absolute.low, found.points[-1].absolute.high) == pytest.approx(
        (known.absolute.low, known.absolute.high)
    )
    assert found.daily[4].day == 5 and found.daily[4].sequential is None
    assert found.daily[4].absolute.value == pytest.approx(treated[:, 4].mean() - control[:, 4].mean())
    assert found.arm == "champion" and len(found.points) == len(found.daily) == DAYS


def test_covariates_narrow_every_point():
    rng = np.random.default_rng(4)
    usual = rng.gamma(2.0, 10.0, (800, 1))
    rows = np.hstack([usual * rng.gamma(4.0, 0.25, (800, DAYS)), usual])
    sides = [moments_of([*COLUMNS, "usual"], each) for each in (rows[:400], rows[400:])]
    plain, adjusted = (
        over_time(*sides, BY_DAY, metric="spend", covariates=names).points for names in ([], ["usual"])
    )
    for one, other in zip(plain, adjusted, strict=True):
        assert other.absolute.high - other.absolute.low < 0.9 * (one.absolute.high - one.absolute.low)


def test_a_ratio_is_the_ratio_of_sums_on_every_day():
    rng = np.random.default_rng(5)
    visits = rng.poisson(1.0, (600, DAYS))
    rows = np.hstack([visits * rng.gamma(4.0, 5.0, (600, DAYS)), visits])
    names, below = COLUMNS, [f"v{day}" for day in range(1, DAYS + 1)]
    sides = [moments_of([*names, *below], each) for each in (rows[:300], rows[300:])]
    found = over_time(*sides, BY_DAY, metric="per visit", denominators=dict(enumerate(below, start=1)))
    means = [each[:, :3].sum() / each[:, DAYS : DAYS + 3].sum() for each in (rows[:300], rows[300:])]
    assert found.points[2].absolute.value == pytest.approx(means[0] - means[1])
    assert found.novelty.p_value > 0.01


def test_a_day_on_which_nothing_varies_has_no_interval():
    rng = np.random.default_rng(6)
    rows = spends(rng, 100)
    rows[:, 0] = 0.0
    found = over_time(*(moments_of(COLUMNS, each) for each in (rows[:50], rows[50:])), BY_DAY, metric="spend")
    assert found.daily[0].absolute is None and found.points[0].sequential is None
    assert found.points[1].absolute is not None


def test_a_fading_effect_wears_off_a_growing_one_builds_up_and_a_lasting_one_does_neither():
    rng = np.random.default_rng(7)
    shapes = {
        "wears off": 6 * 0.5 ** (np.arange(DAYS) / 3),
        "builds up": np.linspace(0, 6, DAYS),
        "No sign": 3.0,
    }
    for words, effect in shapes.items():
        sides = moments_of(COLUMNS, spends(rng, 3000) + effect), moments_of(COLUMNS, spends(rng, 3000))
        assert words in over_time(*sides, BY_DAY, metric="spend").novelty.sentence


def test_weeks_are_called_weeks():
    rng = np.random.default_rng(8)
    weeks = {7: "d1", 14: "d2", 21: "d3"}
    effect = np.append([6.0, 3.0, 0.0], np.zeros(DAYS - 3))
    sides = moments_of(COLUMNS, spends(rng, 3000) + effect), moments_of(COLUMNS, spends(rng, 3000))
    assert "in the first week" in over_time(*sides, weeks, metric="spend").novelty.sentence


def cries(persistent: bool, runs: int, days: int = 28, units: int = 200) -> np.ndarray:
    "Shares of experiments without effect in which the plain interval, the band and the trend ever see one."
    found, columns = [], [f"d{day}" for day in range(days)]
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        usual = rng.gamma(1.0, 5.0, (2 * units, 1)) if persistent else np.full((2 * units, 1), 5.0)
        rows = usual * rng.gamma(0.5, 2.0, (2 * units, days))
        sides = [moments_of(columns, each) for each in (rows[:units], rows[units:])]
        curve = over_time(*sides, dict(enumerate(columns)), metric="spend")
        looks = [
            any(each.low > 0 or each.high < 0 for each in kind)
            for kind in zip(*((look.absolute, look.sequential) for look in curve.points), strict=True)
        ]
        found.append([*looks, curve.novelty.p_value < 0.05])
    return np.mean(found, axis=0)


def test_looking_every_day_errs_with_the_plain_interval_and_not_with_the_band():
    plain, band, trend = cries(persistent=False, runs=150)
    assert plain > 0.12 and band <= 0.05 and trend < 0.12


@pytest.mark.slow
@pytest.mark.parametrize("persistent", [False, True])
def test_the_band_holds_over_twenty_eight_looks_and_the_trend_errs_one_time_in_twenty(persistent):
    plain, band, trend = cries(persistent, runs=1000)
    assert plain > 0.15 and band <= 0.035 and 0.025 < trend < 0.065


def test_days_without_columns_are_refused():
    sides = [moments_of(["d1"], np.ones((3, 1)))] * 2
    with pytest.raises(ExperimentError, match="a column for each day"):
        over_time(*sides, {}, metric="spend")
    with pytest.raises(ExperimentError, match="a ratio two"):
        over_time(*sides, {1: "d1"}, metric="spend", denominators={2: "d1"})
    with pytest.raises(ExperimentError, match="did you mean 'd1'"):
        over_time(*sides, {1: "d11"}, metric="spend")
