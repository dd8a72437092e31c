"Drift by effect size: quiet where nothing but chance, season and calendar moved, loud where something did; and who moved the scores."

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_workbench.model.signature import UNSEEN, Input, Signature
from ml_workbench.monitor.checks import MONITORS
from ml_workbench.monitor.drift import (
    CHECKS,
    GROSS,
    action_drift,
    baseline_of,
    drift_readings,
    feature_drift,
    score_drift,
)
from ml_workbench.monitor.shift import levels_back, put_back, served_matrix, shift_of
from ml_workbench.monitor.summaries import Counted, Summary, scale_of, summary_of
from ml_workbench.plan.errors import MonitorError
from ml_workbench.release.reference import (
    Slice,
    apart,
    categories,
    edges_of,
    numbers,
    reference_bytes,
    reference_from,
    reference_of,
)

NAMED = {each.name: each for each in CHECKS}
COLUMNS = [("money", "number"), *((f"habit_{i}", "number") for i in range(18)), ("town", "category")]
END = datetime(2024, 9, 2, 5)
WEEK = np.timedelta64(7, "D")


def members(
    count: int, seed: int, *, first: str = "2024-03-04T05:00", weeks: int = 8, calendar: bool = False
) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    found = {name: random.gamma(2.0, 10.0, count) for name, kind in COLUMNS if kind == "number"}
    week = random.integers(0, weeks, count)
    if calendar:
        found["habit_0"] = 7.0 * week + random.integers(
            0, 2, count
        )  # days since something that happened once
    monday = np.datetime64(first) + week * WEEK
    return found | {
        "town": random.choice(["Arles", "Bath"], count),
        "lapsed": np.zeros(count),
        "member": np.arange(count),
        "as_of": monday,
    }


def scored(columns: dict[str, np.ndarray]) -> np.ndarray:
    return 1 / (1 + columns["money"] / 20)


def made(**options: Any) -> dict[str, Any]:
    "A reference of two slices of eight weeks."
    parts = {}
    for seed, name in enumerate(("train", "test")):
        columns = members(6000, seed, first=("2024-01-08T05:00", "2024-03-04T05:00")[seed], **options)
        parts[name] = Slice(columns, scored(columns), {"proposed": (300, 6000), "rule": (280, 6000)})
    return reference_from(
        reference_bytes(reference_of(parts, COLUMNS, entity="member", time="as_of", label="lapsed"))
    )


REFERENCE = made()
SCALE = scale_of(REFERENCE)
TEST = baseline_of(REFERENCE, END, 7)


def week(seed: int = 9, count: int = 2000, **changed: Any) -> Summary:
    "A week of decisions, some columns changed by a function."
    columns = members(count, seed)
    columns |= {name: change(columns[name]) for name, change in changed.items()}
    return summary_of(SCALE, columns, scored(columns), {"proposed": (round(count / 20), count)})


def status(readings: list[Any]) -> dict[str, str]:
    return {each.cause: each.status for each in readings}


def test_every_check_is_declared_with_a_monitor_and_a_remedy() -> None:
    assert all(each.monitor in MONITORS and each.remedy for each in CHECKS) and len(NAMED) == len(CHECKS)


@pytest.mark.parametrize("count", [200, 400, 2000])
def test_chance_alone_moves_a_feature_once_in_a_thousand_looks_and_wakes_nobody(count: int) -> None:
    moved = 0
    for seed in range(20, 60):
        found = drift_readings(
            week(seed, count), REFERENCE, NAMED, end=END, days=7, before={"drift.scores": 1}
        )
        assert not [each.sentence for each in found if each.status == "alarm"]
        moved += len(found[0].details["all"])
    assert moved <= 4, f"{moved} of 800"


def test_one_feature_that_moved_is_watched_and_never_wakes_anybody_by_itself() -> None:
    for before in range(5):
        counts = {"drift.feature/habit_3": before, "drift.features": before}
        found = status(feature_drift(week(habit_3=lambda x: x * 1.5), REFERENCE, TEST, NAMED, before=counts))
        assert found == {"drift.features": "fine", "drift.feature/habit_3": "watch"}


def test_one_feature_by_a_gross_amount_is_an_alarm_at_once() -> None:
    for broken in (
        lambda x: x * 100,
        lambda x: np.ma.masked_all(len(x)),
        lambda x: np.full(len(x), np.nan),
        lambda x: np.zeros(len(x)),
    ):
        [whole, feature] = feature_drift(week(habit_3=broken), REFERENCE, TEST, NAMED)
        assert (feature.status, feature.subject, whole.status) == ("alarm", "habit_3", "fine")
        assert (
            feature.limit == pytest.approx(GROSS * NAMED["drift.feature"].limit)
            and feature.value > feature.limit
        )


def test_a_share_of_features_is_an_alarm_once_it_has_lasted() -> None:
    moved = {f"habit_{i}": lambda x: x * 1.5 for i in range(2)}
    whole, *features = feature_drift(week(**moved), REFERENCE, TEST, NAMED)
    assert (
        whole.status == "watch"
        and whole.value == pytest.approx(2 / 20)
        and {each.status for each in features} == {"watch"}
    )
    assert (
        whole.details["all"] == [each.subject for each in features] and len(whole.details["features"]) == 20
    )
    lasted = feature_drift(week(**moved), REFERENCE, TEST, NAMED, before={"drift.features": 1})
    assert lasted[0].status == "alarm" and "10%" in lasted[0].sentence


def test_a_category_and_what_is_missing_drift_as_well() -> None:
    found = status(feature_drift(week(town=lambda x: np.full(len(x), "Delft")), REFERENCE, TEST, NAMED))
    assert found["drift.feature/town"] == "alarm"
    tenth = lambda x: np.ma.masked_array(x, mask=np.arange(len(x)) % 10 == 0)  # noqa: E731
    found = feature_drift(week(habit_1=tenth), REFERENCE, TEST, NAMED)
    assert found[1].subject == "habit_1" and found[1].details["missing"] == [0.0, pytest.approx(0.1)]


def test_what_follows_a_calendar_may_be_as_far_away_as_single_weeks_were_in_the_test_slice() -> None:
    reference = made(calendar=True)
    usual = reference["features"]["habit_0"]["usual"]["psi"]
    assert usual > 1 and reference["features"]["habit_1"]["usual"]["psi"] < 0.1
    columns = members(2000, 9) | {"habit_0": 7.0 * 3 + np.arange(2000) % 2}
    now = summary_of(scale_of(reference), columns, scored(columns), {})
    baseline = baseline_of(reference, END, 7)
    assert status(feature_drift(now, reference, baseline, NAMED)) == {"drift.features": "fine"}
    broken = summary_of(
        scale_of(reference), columns | {"habit_0": np.full(2000, np.nan)}, scored(columns), {}
    )
    assert status(feature_drift(broken, reference, baseline, NAMED))["drift.feature/habit_0"] == "alarm"


def test_a_release_that_says_nothing_of_single_weeks_is_judged_all_the_same() -> None:
    older = {
        **REFERENCE,
        "features": {
            name: {key: each[key] for key in each if key != "usual"}
            for name, each in REFERENCE["features"].items()
        },
    }
    assert status(feature_drift(week(), older, TEST, NAMED)) == {"drift.features": "fine"}


def test_a_small_sample_is_not_judged_and_one_just_large_enough_is_given_room() -> None:
    assert [each.status for each in feature_drift(week(count=199), REFERENCE, TEST, NAMED)] == ["unknown"]
    shifted = feature_drift(week(count=200, habit_3=lambda x: x * 1.15), REFERENCE, TEST, NAMED)
    assert status(shifted) == {"drift.features": "fine"}


def test_a_feature_that_is_not_there_is_left_to_others() -> None:
    now = week()
    lacking = replace(now, features={name: each for name, each in now.features.items() if name != "money"})
    [whole] = feature_drift(lacking, REFERENCE, TEST, NAMED)
    assert whole.status == "fine" and "of 19 features" in whole.sentence


# Baselines -------------------------------------------------------------------------------------------------


def test_the_present_is_compared_with_the_latest_slice() -> None:
    assert TEST.name == "test" and "2024-03-04 to 2024-04-22" in TEST.sentence and TEST.units == 6000


def test_where_the_history_holds_the_same_season_it_is_compared_with_that() -> None:
    past = [
        Counted(datetime(2023, 9, 4) - timedelta(days=7 * back), "r", "rest", "host", week(50 + back, 400))
        for back in range(4)
    ]
    found = baseline_of(REFERENCE, END, 7, history=past)
    assert found.name == "a year earlier" and found.units == 1200  # of three weeks within reach
    assert baseline_of(REFERENCE, END, 7, history=past, minimum=5000).name == "test"
    other = [replace(each, summary=replace(each.summary, scale="another")) for each in past]
    assert baseline_of(REFERENCE, END, 7, history=other).name == "test"


def test_a_slice_that_covers_the_same_season_a_year_earlier_is_taken() -> None:
    found = baseline_of(REFERENCE, datetime(2025, 2, 3, 5), 7)
    assert found.name == "train" and "same season" in found.sentence
    assert baseline_of(REFERENCE, datetime(2025, 3, 24, 5), 7).name == "test"
    assert baseline_of(REFERENCE, datetime(2025, 7, 7, 5), 7).sentence.startswith(
        "the slice 'test', the latest"
    )


# Scores and actions ----------------------------------------------------------------------------------------


def test_scores_that_moved_are_an_alarm_once_it_has_lasted_and_at_once_by_a_gross_amount() -> None:
    now = week(money=lambda x: x * 1.5)
    assert score_drift(now, REFERENCE, TEST, NAMED).status == "watch"
    lasted = score_drift(
        now, REFERENCE, TEST, NAMED, before={"drift.scores": 1}, causes={"parts": {"money": -0.1}}
    )
    assert lasted.status == "alarm" and lasted.details["causes"] == {"parts": {"money": -0.1}}
    assert score_drift(week(money=lambda x: x * 5), REFERENCE, TEST, NAMED).status == "alarm"
    assert score_drift(week(), REFERENCE, TEST, NAMED).status == "fine"


def test_few_scores_are_not_judged_and_those_that_are_missing_are_no_scores() -> None:
    columns = members(2000, 9)
    half = np.ma.masked_array(scored(columns), mask=np.arange(2000) % 2 == 0)
    assert score_drift(summary_of(SCALE, columns, half, {}), REFERENCE, TEST, NAMED).status == "fine"
    few = np.ma.masked_array(scored(columns), mask=np.arange(2000) >= 100)
    assert score_drift(summary_of(SCALE, columns, few, {}), REFERENCE, TEST, NAMED).status == "unknown"


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (100, "fine"),
        (145, "fine"),
        (60, "fine"),
        (160, "watch"),
        (40, "watch"),
        (0, "watch"),
        (2000, "watch"),
    ],
)
def test_half_as_many_or_half_as_many_again_are_listed_otherwise(listed: int, expected: str) -> None:
    now = replace(week(), actions={"proposed": (listed, 2000), "none": (0, 300)})
    [found] = action_drift(now, TEST, NAMED)
    assert (found.subject, found.status) == ("proposed", expected)
    [lasted] = action_drift(now, TEST, NAMED, before={"drift.listed/proposed": 1})
    assert lasted.status == ("alarm" if expected == "watch" else "fine")


def test_of_few_listed_chance_is_given_room_and_all_policies_together_are_held_against_the_model() -> None:
    [few] = action_drift(replace(week(), actions={"proposed": (18, 240)}), TEST, NAMED)
    assert few.status == "fine" and few.limit > 0.9
    [together] = action_drift(replace(week(), actions={"": (100, 2000)}), TEST, NAMED)
    assert together.value == pytest.approx(0.0) and together.sentence.startswith("All policies together")


# All of it -------------------------------------------------------------------------------------------------


def test_without_a_reference_without_decisions_and_with_another_scale_nothing_is_said() -> None:
    for summary, reference in (
        (week(), None),
        (None, REFERENCE),
        (replace(week(), scale="another"), REFERENCE),
    ):
        found = drift_readings(summary, reference, NAMED, end=END, days=7)
        assert {each.status for each in found} == {"unknown"} and {each.check for each in found} == {
            "drift.features",
            "drift.scores",
        }


def test_a_clean_week_has_one_reading_for_each_question() -> None:
    found = drift_readings(week(), REFERENCE, NAMED, end=END, days=7)
    assert status(found) == dict.fromkeys(("drift.features", "drift.scores", "drift.listed/proposed"), "fine")
    assert found[0].details["against"] == "test"


def test_the_reference_tells_how_far_single_weeks_were_from_their_slice() -> None:
    weeks, columns = 8, members(6000, 1)
    edges = REFERENCE["features"]["money"]["edges"]
    whole = REFERENCE["features"]["money"]["test"]
    each = [
        apart(
            whole,
            numbers(
                columns["money"][columns["as_of"] == np.datetime64("2024-03-04T05:00") + i * WEEK], edges
            ),
            edges,
        ).psi
        for i in range(weeks)
    ]
    assert REFERENCE["features"]["money"]["usual"]["psi"] == pytest.approx(max(each), rel=1e-4)
    assert 0 < REFERENCE["score"]["usual"]["psi"] < 0.1


# Who moved the scores ---------------------------------------------------------------------------------------

INPUTS = Signature(
    (Input("money", "number"), Input("habit_0", "number"), Input("town", "category", ("Bath", "Arles")))
)


def matrix(columns: dict[str, np.ndarray]) -> np.ndarray:
    town = np.where(columns["town"] == "Bath", 0.0, 1.0)
    return np.column_stack([columns["money"], columns["habit_0"], town]).astype(np.float32)


def reference_for(score: Any) -> dict[str, Any]:
    columns = members(6000, 1)
    scores = score(matrix(columns))
    part = Slice(columns, scores, {"proposed": (1, 6000)})
    return reference_from(
        reference_bytes(
            reference_of(
                {"test": part}, COLUMNS, entity="member", time="as_of", label="lapsed", output="score"
            )
        )
    )


@settings(max_examples=15, deadline=None)
@given(st.tuples(*[st.floats(-2, 2)] * 3), st.floats(0.5, 2), st.integers(0, 99))
def test_of_a_linear_model_every_part_is_its_weight_times_the_difference_of_means(
    weights: tuple, factor: float, seed: int
) -> None:
    linear = lambda rows: rows.astype(np.float64) @ np.array(weights)  # noqa: E731
    reference, now = reference_for(linear), members(1000, seed)
    now["money"] *= factor
    found = shift_of(linear, matrix(now), INPUTS, reference, "test")
    for weight, name, column in zip(weights, ("money", "habit_0"), matrix(now).T):
        difference = column.astype(np.float64).mean() - reference["features"][name]["test"].mean
        assert found.parts[name] == pytest.approx(weight * difference, abs=1e-4)
    assert sum(found.parts.values()) + found.rest == pytest.approx(found.amount, abs=1e-12)
    assert (
        abs(found.rest) < 2e-3 * max(map(abs, weights)) + 1e-6
    )  # a town is all or nothing: one unit of a thousand


def test_parts_sum_up_to_the_shift_of_a_model_that_is_not_linear_as_well() -> None:
    model = lambda rows: 1 / (1 + np.exp(-(rows[:, 0] / 20 - rows[:, 1] * rows[:, 2] / 10)))  # noqa: E731
    now = members(2000, 5)
    now["money"] = now["money"] * 1.7
    found = shift_of(model, matrix(now), INPUTS, reference_for(model), "test")
    assert sum(found.parts.values()) + found.rest == pytest.approx(found.amount, abs=1e-12)
    assert next(iter(found.parts)) == "money" and found.parts["money"] > 0.8 * found.amount
    assert abs(found.rest) < 0.15 * found.amount
    told = found.as_json(most=1)
    assert told["parts"].keys() == {"money"} and told["others"] == pytest.approx(
        sum(found.parts.values()) - found.parts["money"]
    )


def test_a_column_that_has_become_empty_is_named_and_nothing_moved_is_nothing() -> None:
    model = lambda rows: np.nan_to_num(rows[:, 0].astype(np.float64), nan=0.0) / 10  # noqa: E731
    now = members(2000, 5)
    reference = reference_for(model)
    quiet = shift_of(model, matrix(now), INPUTS, reference, "test")
    now["money"] = np.full(2000, np.nan)
    found = shift_of(model, matrix(now), INPUTS, reference, "test")
    assert (
        found.parts["money"] == pytest.approx(-reference["score"]["test"].mean, rel=0.01)
        and found.parts["habit_0"] == 0.0
    )
    assert abs(quiet.parts["money"]) < 0.1


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(-50, 50), min_size=5, max_size=60),
    st.lists(st.one_of(st.floats(-50, 50), st.just(float("nan"))), min_size=1, max_size=60),
)
def test_ranks_stay_and_the_distribution_is_that_of_the_reference(
    before: list[float], now: list[float]
) -> None:
    edges, values = edges_of(np.array(before)), np.array(now)
    found = put_back(values, numbers(np.array(before), edges), edges)
    there = ~np.isnan(values)
    order = np.argsort(values[there], kind="stable")
    assert (np.diff(found[there][order]) >= -1e-9).all()
    assert np.nanmin(found) >= min(before) - 1e-4 and np.nanmax(found) <= max(before) + 1e-4


def test_missing_values_are_as_many_as_they_were() -> None:
    before = np.ma.masked_array(np.arange(100.0), mask=np.arange(100) < 30)
    then = numbers(before, edges_of(before))
    for now in (np.arange(200.0), np.full(200, np.nan), np.where(np.arange(200) < 150, np.nan, 7.0)):
        assert np.isnan(put_back(now, then, edges_of(before))).sum() == 60


def test_levels_change_only_where_there_are_too_many_of_them() -> None:
    then = categories(np.array(["Arles"] * 60 + ["Bath"] * 30 + ["Delft"] * 10), ["Arles", "Bath"])
    codes = np.array([0.0] * 50 + [1.0] * 40 + [UNSEEN] * 10)
    found = levels_back(codes, then, ["Arles", "Bath"], ["Bath", "Arles"])
    assert [(found == code).sum() for code in (1.0, 0.0, UNSEEN)] == [60, 30, 10] and (
        found != codes
    ).sum() == 20


def test_served_lists_become_what_the_model_was_fed() -> None:
    columns = [("habit_0", "number"), ("town", "category"), ("money", "number")]
    found = served_matrix(['[1.0, "Arles", 2.5]', None, "[1.0]", "[null, null, 3]"], columns, INPUTS)
    assert np.array_equal(
        found, np.array([[2.5, 1.0, 1.0], [3.0, np.nan, UNSEEN]], dtype=np.float32), equal_nan=True
    )
    assert served_matrix([], columns, INPUTS).shape == (0, 3)


def test_a_model_with_an_input_that_the_reference_lacks_and_nothing_served_are_told() -> None:
    other = Signature((Input("age", "number"),))
    with pytest.raises(MonitorError, match="nothing of 'age'"):
        shift_of(lambda rows: rows[:, 0], np.zeros((3, 1), dtype=np.float32), other, REFERENCE, "test")
    with pytest.raises(MonitorError, match="nothing was served"):
        shift_of(lambda rows: rows[:, 0], np.zeros((0, 3), dtype=np.float32), INPUTS, REFERENCE, "test")
