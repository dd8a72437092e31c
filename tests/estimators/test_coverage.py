"""The promise of the intervals, played two thousand times: the table of nbs/research/03_coverage.ipynb.

Of 2,000 intervals that hold the truth with probability 95%, between 94% and 96% do so in nineteen cases of twenty. The
published columns came from such a simulation, too, so that two of them may differ by almost three points at 90%.
"""

import numpy as np
import pytest

from ml_workbench.estimators.scenarios import (
    AS_IF_FIXED,
    SCENARIOS,
    Coverage,
    Scenario,
    coverage,
    false_alarms,
    samples,
)

SEED = 17
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
# Per cent, as published. S4's Fieller interval is unbounded at times: the test of the truth then decides.
PUBLISHED = {
    "S1": {"log-delta": 94.5, "delta": 94.5, AS_IF_FIXED: 93.5, "fieller": 94.8},
    "S2": {"log-delta": 93.1, "delta": 93.0, AS_IF_FIXED: 93.0, "fieller": 95.1},
    "S3": {"log-delta": 93.8, "delta": 93.0, AS_IF_FIXED: 95.8, "fieller": 95.8},
    "S4": {"log-delta": 90.5, "delta": 93.2, AS_IF_FIXED: 88.6, "fieller": 88.7},
    "S5": {"log-delta": 94.8, "delta": 94.7, AS_IF_FIXED: 83.7, "fieller": 95.2},
    "S6": {"log-delta": 94.9, "delta": 94.5, AS_IF_FIXED: 94.0, "fieller": 94.6},
}


def default(found: Coverage) -> float:
    return round(100 * found.held["fieller"], 2)


def adjusters(scenario: Scenario) -> tuple[str, ...]:
    return ("before",) if scenario.correlation else ()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["S1", "S5", "S6"])
def test_the_default_interval_keeps_its_promise(name):
    assert 94 <= default(coverage(BY_NAME[name], seed=SEED, covariates=adjusters(BY_NAME[name]))) <= 96


@pytest.mark.slow
@pytest.mark.parametrize(("name", "times"), [("S2", 2000), ("S4", 8000)])
def test_the_default_interval_keeps_its_promise_for_a_heavy_tail_that_is_capped(name, times):
    "S4 lies at 94.3%: near enough to 94 that two thousand repetitions would often fall below by chance."
    assert 94 <= default(coverage(BY_NAME[name], times=times, seed=SEED, cap=0.99)) <= 96


@pytest.mark.slow
def test_a_cap_halves_the_width_about():
    plain, capped = (coverage(BY_NAME["S2"], times=300, seed=SEED, cap=cap) for cap in (None, 0.99))
    assert 0.5 < capped.width["fieller"] / plain.width["fieller"] < 0.65


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_all_methods_cover_as_often_as_published(name):
    found = coverage(BY_NAME[name], seed=SEED, covariates=adjusters(BY_NAME[name]))
    for method, published in PUBLISHED[name].items():
        chance = 300 * np.sqrt(
            2 * published / 100 * (1 - published / 100) / 2000
        )  # three errors of a difference
        assert abs(100 * found.held[method] - published) <= chance, method


@pytest.mark.slow
def test_a_covariate_takes_a_sixth_off_the_width():
    plain, adjusted = (
        coverage(BY_NAME["S6"], times=500, seed=SEED, covariates=names) for names in ((), ("before",))
    )
    assert adjusted.width["fieller"] / plain.width["fieller"] == pytest.approx(0.83, abs=0.01)


@pytest.mark.slow
def test_twenty_looks_find_something_in_a_quarter_of_all_cases_unless_the_interval_is_made_for_it():
    fixed, sequence = false_alarms(seed=SEED)
    assert fixed == pytest.approx(0.257, abs=0.03)
    assert sequence <= 0.05
    assert sequence == pytest.approx(0.012, abs=0.01)


def test_the_heavy_tail_is_as_skewed_as_declared():
    metric, _ = BY_NAME["S2"].draw(np.random.default_rng(3), 200)
    control = metric[:, 5000:]
    # A sample's own skewness hardly ever reaches that of the distribution; its moments do on average.
    second, third = ((control**power).mean() for power in (2, 3))
    mean, share, tail = control.mean(), 0.03, 1.22
    assert mean == pytest.approx(share * np.exp(tail**2 / 2), rel=0.02)
    exact = [share * np.exp(power * power * tail**2 / 2) for power in (1, 2, 3)]
    variance = exact[1] - exact[0] ** 2
    skewness = (exact[2] - 3 * exact[0] * exact[1] + 2 * exact[0] ** 3) / variance**1.5
    assert 50 < skewness < 60 and second == pytest.approx(exact[1], rel=0.1) and third > 0


def test_a_seed_gives_the_same_repetitions_again():
    small = Scenario("small", "to look at", 40, 20, 0.1, share=0.5, tail=1.0)
    one, other = (list(samples(small, times=7, seed=4, batch=3)) for _ in range(2))
    assert len(one) == 7 and one[0].treated.mean != one[6].treated.mean
    assert all(np.array_equal(a.treated.scatter, b.treated.scatter) for a, b in zip(one, other, strict=True))


def test_a_capped_repetition_knows_its_skewness():
    sample = next(samples(BY_NAME["S4"], times=1, seed=4, cap=0.99))
    assert sample.skewness > 3 and sample.lift().degrees < 200
    assert next(samples(BY_NAME["S4"], times=1, seed=4)).skewness is None
