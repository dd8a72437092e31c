"""What an action is declared to do, event by event: nothing more, nothing less, and the same on every machine."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_workbench.experiment.effects import DAY, Actions, Events, described, events_of, respond
from ml_workbench.plan.errors import ExperimentError
from ml_workbench.plan.experiment import Effect

NAMES = np.array([f"unit {number}" for number in range(40)])


def actions(units, days, usual=10.0):
    units = np.asarray(units, dtype=np.int64)
    return Actions(units, np.asarray(days, dtype=np.int64) * DAY, np.full(len(units), float(usual)))


def events(*rows):
    unit, day, value = (
        (np.array(column) for column in zip(*rows, strict=True)) if rows else (np.zeros(0),) * 3
    )
    return events_of(unit.astype(np.int64), (day * DAY).astype(np.int64), value.astype(np.float64))


def answer(effect, on, happened, horizon_days=28, seed=0):
    return respond(effect, on, happened, NAMES, horizon_days=horizon_days, seed=seed)


def whole(response):
    return round(response.added.sum() + response.value.sum(), 2)


def test_no_effect_and_an_effect_of_no_size_change_nothing() -> None:
    for effect in (Effect(kind="none", size=0.5), Effect(kind="constant", size=0.0)):
        response = answer(effect, actions([0], [0]), events((0, 1, 5.0)))
        assert not response.added.any() and not len(response.unit)


def test_a_constant_effect_is_a_share_of_the_usual_spend_of_the_horizon() -> None:
    response = answer(
        Effect(kind="constant", size=0.25), actions([0], [0]), events((0, 1, 5.0), (0, 28, 5.0), (0, 29, 5.0))
    )
    assert response.added.tolist() == [
        5.0,
        5.0,
        0.0,
    ]  # a quarter of 4 weeks at 10, over the two in the horizon


def test_an_event_at_the_moment_of_the_action_belongs_to_what_was_before() -> None:
    response = answer(
        Effect(kind="constant", size=0.25), actions([0], [7]), events((0, 7, 5.0), (0, 35, 5.0))
    )
    assert response.added.tolist() == [0.0, 10.0]


def test_who_would_not_have_come_comes_once_under_a_constant_effect() -> None:
    response = answer(Effect(kind="constant", size=0.25), actions([3], [0]), events((0, 1, 5.0)))
    assert (response.unit.tolist(), response.time.tolist(), response.value.tolist()) == (
        [3],
        [14 * DAY],
        [10.0],
    )


def test_a_harm_takes_no_more_than_there_was_and_brings_nobody() -> None:
    response = answer(
        Effect(kind="constant", size=-1.0), actions([0, 1], [0, 0]), events((0, 1, 5.0), (0, 2, 90.0))
    )
    assert response.added.tolist() == [-5.0, -20.0] and not len(response.unit)


def test_several_actions_on_one_unit_add_up_under_a_constant_effect() -> None:
    twice = answer(Effect(kind="constant", size=0.25), actions([0, 0], [0, 7]), events((0, 8, 5.0)))
    assert twice.added.tolist() == [20.0]


def test_a_fading_effect_halves_from_the_first_action_on_even_for_later_ones() -> None:
    fading = Effect(kind="fading", size=0.25, half_life_weeks=1.0)
    response = answer(fading, actions([0, 0], [0, 28]), events((0, 7, 5.0), (0, 35, 5.0)))
    assert response.added.tolist() == [5.0, round(10 / 2**5, 2)]


def test_a_heterogeneous_effect_does_nothing_for_those_who_come_anyway() -> None:
    response = answer(Effect(kind="heterogeneous", size=1.0), actions([0, 1], [0, 0]), events((0, 20, 5.0)))
    assert not response.added.any() and set(response.unit.tolist()) == {1}


def test_who_is_kept_spends_as_usual_every_week_of_the_horizon() -> None:
    response = answer(Effect(kind="heterogeneous", size=1.0), actions([1], [7]), events((0, 20, 5.0)))
    assert response.value.tolist() == [10.0] * 4
    assert (response.time / DAY).tolist() == [10.5, 17.5, 24.5, 31.5]


def test_a_unit_that_is_kept_is_not_kept_twice_at_once() -> None:
    once = answer(
        Effect(kind="heterogeneous", size=1.0), actions([1, 1, 1], [0, 7, 28]), events((0, 20, 5.0))
    )
    assert whole(once) == 80.0 and set(once.action.tolist()) == {0, 2}


def test_who_is_kept_hangs_on_the_seed_and_the_name_alone() -> None:
    half, all_units = Effect(kind="heterogeneous", size=0.5), actions(range(40), [0] * 40)
    first = set(answer(half, all_units, events(), seed=1).unit.tolist())
    assert first == set(answer(half, actions(range(39, -1, -1), [3] * 40), events(), seed=1).unit.tolist())
    assert first != set(answer(half, all_units, events(), seed=2).unit.tolist()) and 8 < len(first) < 32


def test_a_share_of_lapsers_outside_0_and_1_is_refused() -> None:
    for size in (-0.1, 1.5):
        with pytest.raises(ExperimentError, match="between 0 and 1"):
            answer(Effect(kind="heterogeneous", size=size), actions([0], [0]), events())


def test_an_event_of_unknown_value_stays_in_its_place() -> None:
    response = answer(Effect(kind="constant", size=-0.5), actions([0], [0]), events((0, 1, np.nan)))
    assert response.added.tolist() == [0.0]


rows = st.lists(st.tuples(st.integers(0, 9), st.integers(-30, 60), st.integers(0, 200)), max_size=30)
kinds = st.sampled_from(["constant", "heterogeneous", "fading"])


@settings(max_examples=60, deadline=None)
@given(
    rows,
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 30)), min_size=1, max_size=12, unique=True),
    kinds,
)
def test_units_do_not_answer_for_one_another(happened, done, kind) -> None:
    effect, log = Effect(kind=kind, size=0.5), events(*happened)
    units, days = zip(*done, strict=True)
    everyone = answer(effect, actions(units, days), log)
    for unit in set(units):
        own = answer(
            effect, actions([unit] * units.count(unit), [day for who, day in done if who == unit]), log
        )
        mine = log.unit == unit
        assert np.array_equal(own.added[mine], everyone.added[mine]) and not own.added[~mine].any()
        assert own.value.sum() == pytest.approx(everyone.value[everyone.unit == unit].sum())


def test_events_stand_in_the_order_of_unit_and_time() -> None:
    log = events((1, 5, 1.0), (0, 9, 2.0), (1, -3, 3.0))
    assert log.unit.tolist() == [0, 1, 1] and log.value.tolist() == [2.0, 3.0, 1.0]
    asked = log.before(np.array([0, 1, 1, 2]), np.array([8, -3, 4, 0]) * DAY)
    assert asked.tolist() == [0, 2, 2, 3]


def test_no_events_at_all_are_no_obstacle() -> None:
    empty = Events(*(np.zeros(0, dtype=kind) for kind in (np.int64, np.int64, np.float64)))
    assert whole(answer(Effect(kind="constant", size=0.1), actions([0, 1], [0, 0]), empty)) == 8.0


@pytest.mark.parametrize(
    ("effect", "said"),
    [
        (Effect(kind="none"), "changes nothing"),
        (Effect(kind="constant", size=-0.05), "lowers the spend of a household over the next 4 weeks by 5%"),
        (Effect(kind="heterogeneous", size=0.15), "keeps 15% at their usual spend"),
        (Effect(kind="fading", size=0.1, half_life_weeks=1.0), "half as much for every 1 week since"),
    ],
)
def test_a_declared_effect_is_said_in_a_sentence(effect, said) -> None:
    text = described(effect)
    assert text.startswith("Declared: ") and said in text
