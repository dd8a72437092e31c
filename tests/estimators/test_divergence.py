"How far two binned distributions are apart: known truths, the bound of what bins hide, and what chance shows."

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from ml_workbench.estimators.divergence import (
    LEAST_BIN,
    by_chance,
    ks,
    ks_by_chance,
    merged_bins,
    psi,
    regrouped,
    variation,
    variation_by_chance,
)

COUNTS = st.lists(st.integers(0, 500), min_size=2, max_size=100).filter(lambda counts: sum(counts) > 0)


@given(COUNTS)
def test_merged_bins_lose_nobody_and_none_is_small(counts: list[int]) -> None:
    edges = [float(i) for i in range(len(counts) - 1)]
    kept, sums = merged_bins(edges, counts)
    assert sum(sums) == sum(counts) and len(sums) == len(kept) + 1
    assert all(count >= LEAST_BIN * sum(counts) for count in sums)
    assert set(kept) <= set(edges) and kept == sorted(kept)
    for edge, total in zip(kept, np.cumsum(sums)):
        assert sum(counts[: edges.index(edge) + 1]) == total


@given(COUNTS, st.integers(1, 9))
def test_the_index_is_zero_for_the_same_shares_and_positive_otherwise(counts: list[int], times: int) -> None:
    counts = [count + 1 for count in counts]
    assert psi(counts, [count * times for count in counts]) == pytest.approx(0)
    assert psi(counts, [*counts[:-1], counts[-1] + 50]) > 0
    assert psi(counts, counts[::-1]) == pytest.approx(psi(counts[::-1], counts))


def test_an_empty_bin_is_no_infinity() -> None:
    assert 0 < psi([100, 100], [200, 0]) < 10 and psi([100, 0], [100, 0]) == 0


def test_chance_alone_stays_below_its_limit_999_times_of_1000() -> None:
    random, shares = np.random.default_rng(11), np.full(15, 1 / 15)
    expected = random.multinomial(4000, shares)
    found = [
        psi(random.multinomial(4000, shares).tolist(), random.multinomial(300, shares).tolist())
        for _ in range(2000)
    ]
    over = np.mean(np.array(found) > by_chance(15, int(expected.sum()), 300))
    assert over < 0.005, over


@given(COUNTS, st.data())
def test_what_is_counted_later_is_brought_together_as_the_reference_was(
    counts: list[int], data: st.DataObject
) -> None:
    edges = [float(i) for i in range(len(counts) - 1)]
    kept, sums = merged_bins(edges, counts)
    assert regrouped(edges, counts, kept) == sums
    others = data.draw(st.lists(st.integers(0, 50), min_size=len(counts), max_size=len(counts)))
    found = regrouped(edges, others, kept)
    assert sum(found) == sum(others) and len(found) == len(sums)
    assert found[0] == sum(others[: edges.index(kept[0]) + 1] if kept else others)


# The distance of cumulated shares -------------------------------------------------------------------------

VALUES = st.lists(st.floats(-5, 5) | st.integers(-3, 3).map(float), min_size=1, max_size=60)


def counted(values: list[float] | np.ndarray, edges: list[float] | np.ndarray) -> list[int]:
    return np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1).tolist()


@given(VALUES, VALUES, st.lists(st.integers(-5, 5).map(float), max_size=12, unique=True).map(sorted))
def test_the_true_distance_lies_between_the_one_of_the_bins_and_its_bound(
    one: list[float], other: list[float], edges: list[float]
) -> None:
    truth, found = ks_2samp(one, other).statistic, ks(counted(one, edges), counted(other, edges))
    assert found.value - 1e-12 <= truth <= found.value + found.error + 1e-12
    assert 0 <= found.value <= 1 and found.error >= 0


@given(VALUES, VALUES)
def test_nothing_is_hidden_where_every_value_is_an_edge(one: list[float], other: list[float]) -> None:
    edges = sorted({*one, *other})
    found = ks(counted(one, edges), counted(other, edges))
    assert found.value == pytest.approx(ks_2samp(one, other).statistic, abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.01, 0.1, 1.0])
def test_quantiles_as_edges_tell_the_distance_to_a_thousandth(shift: float) -> None:
    random = np.random.default_rng(4)
    one, other = random.gamma(2, 10, 100_000), random.gamma(2, 10, 100_000) * (1 + shift)
    edges = np.quantile(one, np.linspace(0, 1, 256), method="inverted_cdf")
    found = ks(counted(one, edges), counted(other, edges))
    assert abs(found.value - ks_2samp(one, other).statistic) < 1e-3
    assert found.error < 2.5 / 255


def test_the_place_is_the_edge_where_the_distance_is() -> None:
    found = ks([10, 0, 10], [10, 10, 0])
    assert (found.value, found.place) == (0.5, 1)
    assert ks([4], [9]).value == 0.0 and ks([4], [9]).place == 0


def test_nothing_is_apart_from_nothing() -> None:
    assert ks([0, 0], [0, 0]).value == 0.0 and ks([5, 5], [0, 0]).value == 0.5
    assert psi([0, 0], [0, 0]) == 0.0 and variation([0, 0], [0, 0]) == 0.0


@pytest.mark.parametrize("sizes", [(200, 200), (5000, 300), (40, 2000)])
def test_chance_alone_keeps_the_distance_below_its_floor(sizes: tuple[int, int]) -> None:
    random, edges = np.random.default_rng(6), np.linspace(0.01, 0.99, 99)
    found = [ks(*(counted(random.random(size), edges) for size in sizes)).value for _ in range(1500)]
    assert np.mean(np.array(found) > ks_by_chance(*sizes)) < 0.004
    assert np.mean(np.array(found) > ks_by_chance(*sizes) / 2) > 0.05, (
        "a floor that nothing comes near is none"
    )


# Categories -----------------------------------------------------------------------------------------------


@given(COUNTS)
def test_the_share_that_would_have_to_move_has_bounds_and_no_direction(counts: list[int]) -> None:
    other = counts[::-1]
    assert 0 <= variation(counts, other) <= 1 + 1e-12
    assert variation(counts, other) == pytest.approx(variation(other, counts))
    assert variation(counts, [3 * count for count in counts]) == pytest.approx(0)


def test_a_category_that_was_never_there_counts_with_its_share() -> None:
    assert variation([60, 40, 0], [45, 30, 25]) == pytest.approx(0.25)


def test_chance_alone_moves_less_than_its_floor() -> None:
    random, shares = np.random.default_rng(12), [0.4, 0.3, 0.2, 0.1]
    draw = lambda count: random.multinomial(count, shares).tolist()  # noqa: E731
    found = np.array([variation(draw(3000), draw(250)) for _ in range(2000)])
    assert np.mean(found > variation_by_chance(4, 3000, 250)) < 0.005


def test_the_module_loads_nothing(run_python: object) -> None:
    told = run_python(
        "-c",
        "import ml_workbench.estimators.divergence, sys; print({'numpy', 'scipy', 'pandas', 'duckdb', 'sklearn'} & {*sys.modules})",
    )
    assert told.stdout.strip() == "set()", told.stderr
