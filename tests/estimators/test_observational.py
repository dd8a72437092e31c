"""What can be said without randomisation."""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from ml_workbench.estimators.observational import (
    WEAKER,
    Panel,
    credibility,
    difference_in_differences,
    placebos_in_time,
    placebos_in_units,
    synthetic_difference_in_differences,
)
from ml_workbench.plan.errors import ExperimentError

STATES = Path(__file__).with_name("proposition_99.csv")


@pytest.fixture(scope="module")
def california() -> Panel:
    "Packs of cigarettes per head, 39 states, 1970 to 2000; California taxed them from 1989."
    header = STATES.read_text().splitlines()[0].split(",")[1:]
    values = np.loadtxt(STATES, delimiter=",", skiprows=1)[:, 1:].T
    return Panel(values, np.array([name == "California" for name in header]), 19)


def drifting(seed: int, *, effect: float = 0.0, head_start: float = 0.0) -> Panel:
    "Forty units over sixteen periods; the first ten are treated from period eleven on."
    rng = np.random.default_rng(seed)
    treated = np.arange(40) < 10
    values = rng.gamma(4, 10, (40, 1)) + rng.normal(0, 3, (40, 16))
    values[treated, 11:] += effect
    return Panel(values + np.outer(treated, np.linspace(0, head_start, 16)), treated, 11)


def test_synthetic_difference_in_differences_gives_the_published_figure(california):
    found = synthetic_difference_in_differences(california, draws=20)
    assert round(found.effect.value, 3) == -15.604  # Arkhangelsky et al. (2021) print -15.6
    assert (found.treated, found.controls) == (1, 38)


def test_difference_in_differences_gives_the_published_figure(california):
    assert round(difference_in_differences(california).effect.value, 3) == -27.349  # they print -27.3


def test_the_placebos_tell_the_two_methods_apart_on_the_published_data(california):
    starts = [8, 10, 12, 14]
    plain = placebos_in_time(california, difference_in_differences, starts)
    synthetic = placebos_in_time(california, partial(synthetic_difference_in_differences, draws=40), starts)
    alarms = [sum(not one.effect.low <= 0 <= one.effect.high for one in each) for each in (plain, synthetic)]
    assert alarms[0] > 0 == alarms[1]


@pytest.mark.parametrize("method", [difference_in_differences, synthetic_difference_in_differences])
def test_an_effect_that_was_put_in_is_found_and_believed(method):
    panel = drifting(1, effect=8.0)
    found = method(panel)
    assert found.effect.low < 8 < found.effect.high
    judged = credibility(
        found, placebos_in_time(panel, method, [5, 7]), placebos_in_units(panel, method, draws=25)
    )
    assert judged.believable
    assert judged.unit_p_value <= 0.05
    assert found.evidence == WEAKER
    assert WEAKER in judged.sentence


def test_intervals_cover_an_effect_that_was_put_in():
    found = [difference_in_differences(drifting(seed, effect=5.0)).effect for seed in range(60)]
    assert sum(each.low <= 5 <= each.high for each in found) >= 52


def test_units_that_were_rising_anyway_are_not_believed():
    panel = drifting(2, head_start=20.0)
    found = difference_in_differences(panel)
    in_time = placebos_in_time(panel, difference_in_differences, [4, 6])
    judged = credibility(found, in_time, placebos_in_units(panel, difference_in_differences, draws=10))
    assert not judged.believable
    assert "not to be believed" in judged.sentence


def test_where_nothing_happened_nothing_is_found():
    panel = drifting(3)
    found = difference_in_differences(panel)
    judged = credibility(
        found,
        placebos_in_time(panel, difference_in_differences, [5]),
        placebos_in_units(panel, difference_in_differences, draws=20),
    )
    assert "could not be chance" in judged.sentence


def test_the_same_seed_gives_the_same_placebos():
    panel = drifting(4)
    one, other = (placebos_in_units(panel, difference_in_differences, draws=5, seed=3) for _ in range(2))
    assert one.tolist() == other.tolist()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"start": 1}, "after two periods"),
        ({"start": 16}, "before the last of 16, got 16"),
        ({"treated": np.zeros(40, dtype=bool)}, "0 of 40 units are treated"),
        ({"treated": np.ones(40, dtype=bool)}, "40 of 40 units are treated"),
        ({"treated": np.zeros(3, dtype=bool)}, "for each of 40 units"),
        ({"values": np.full((40, 16), np.nan)}, "the panel has gaps"),
    ],
)
def test_a_panel_that_cannot_be_compared_is_refused(change, said):
    panel = drifting(5)
    parts = {"values": panel.values, "treated": panel.treated, "start": panel.start} | change
    with pytest.raises(ExperimentError, match=said):
        Panel(**parts)


def test_a_placebo_at_a_time_when_something_did_happen_is_refused():
    with pytest.raises(ExperimentError, match="before period 11, got 12"):
        placebos_in_time(drifting(6), difference_in_differences, [5, 12])


def test_without_the_extra_the_way_to_get_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "diff_diff", None)
    with pytest.raises(ExperimentError, match=r"pip install 'ml-workbench\[causal\]'"):
        difference_in_differences(drifting(7))
