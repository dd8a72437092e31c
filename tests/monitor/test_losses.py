"What staying with a model costs, from outcomes and from how it ages."

import math
from dataclasses import replace
from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_workbench.model.metrics import Interval, unit_counts
from ml_workbench.model.snapshots import Feature, Schema
from ml_workbench.monitor.losses import (
    Loss,
    Weeks,
    counted,
    curve_loss,
    loss_from,
    loss_of,
    observed_loss,
    served_loss,
    unknown_loss,
    weekly_profit,
)
from ml_workbench.plan.errors import MonitorError
from ml_workbench.plan.params import load_params

NAMES = ("days_since_basket", "weekly", "risk", "noise")
SCHEMA = Schema(
    "member",
    "as_of",
    "slice",
    "left",
    "spend",
    28,
    "weekly",
    tuple(Feature(name, "number", name) for name in NAMES),
)


@pytest.fixture(scope="module")
def charter(root):
    return load_params(root).charter.model_copy(update={"capacity_per_week": 20})


def weeks(*, members=400, dates=12, seed=1):
    random = np.random.default_rng(seed)
    rows = pd.DataFrame({name: random.random(members * dates) for name in NAMES}).assign(weekly=60.0)
    rows["member"] = np.tile(np.arange(members), dates)
    rows["as_of"] = np.repeat(pd.date_range("2024-01-01", periods=dates, freq="7D"), members)
    rows["left"] = (random.random(len(rows)) < rows["risk"] ** 3).astype(int)
    return Weeks(rows, rows["noise"].to_numpy() ** 3, rows["risk"].to_numpy() ** 3)


def point(age, value, half=10.0):
    return {"weeks": age, "loss_per_week": {"value": value, "low": value - half, "high": value + half}}


def test_a_model_that_ranks_by_chance_loses_what_a_fresh_one_would_earn(charter):
    found = observed_loss(weeks(), charter, SCHEMA, resamples=200)
    assert found.basis == "outcomes" and not found.estimate
    assert 0 < found.low < found.value < found.high
    assert found.units == 400 and "a fresh fit would have earned" in found.sentence


def test_the_loss_is_the_difference_of_what_the_two_lists_earn(charter):
    now = weeks()
    one = unit_counts(400, 2, seed=0)
    earned = [
        weekly_profit(now.rows, each, one, SCHEMA, charter, run_in=4)[0] for each in (now.fresh, now.champion)
    ]
    assert math.isclose(observed_loss(now, charter, SCHEMA, resamples=50).value, earned[0] - earned[1])


def test_a_model_that_is_as_good_as_a_fresh_one_loses_nothing_for_sure(charter):
    now = weeks()
    found = observed_loss(replace(now, fresh=now.champion), charter, SCHEMA, resamples=100)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)
    assert found.chance_above(0.0) == 0.0


def test_a_model_that_decides_about_a_third_loses_a_third(charter):
    whole, third = (
        observed_loss(weeks(), charter, SCHEMA, exposed=share, resamples=50) for share in (1.0, 1 / 3)
    )
    assert math.isclose(third.value, whole.value / 3) and math.isclose(third.low, whole.low / 3)
    assert "for the 33% that the model decides about" in third.sentence


def test_the_interval_knows_that_the_weeks_of_a_unit_are_alike(charter):
    "Every member four times over: no more is known, but rows that are taken as independent would say so."
    now = weeks(members=100)
    copied = pd.concat(
        [now.rows.assign(member=now.rows["member"] + 1000 * copy) for copy in range(4)], ignore_index=True
    )
    many = Weeks(copied, np.tile(now.champion, 4), np.tile(now.fresh, 4))
    larger = charter.model_copy(update={"capacity_per_week": 80})
    few, more = (
        observed_loss(now, charter, SCHEMA, minimum=1, resamples=400),
        observed_loss(many, larger, SCHEMA, minimum=1, resamples=400),
    )
    assert (
        1.4 < (more.high - more.low) / (few.high - few.low) < 2.9
    )  # four times the money, √4 times the spread


def test_too_few_units_or_no_fresh_fit_are_said_and_not_guessed(charter):
    few = observed_loss(weeks(), charter, SCHEMA, minimum=500)
    none = observed_loss(replace(weeks(), fresh=None), charter, SCHEMA)
    assert not few.known and "400 households, and 500 are needed" in few.sentence
    assert not none.known and "there is no fresh fit" in none.sentence
    assert math.isnan(few.chance_above(1.0)) and few.error == math.inf


def test_the_promise_is_held_against_as_many_weeks_as_are_known(charter):
    now, judged = weeks(dates=4), weeks(dates=10, seed=2)
    found = observed_loss(now, charter, SCHEMA, judged=judged, resamples=100)
    assert found.promise.low < 0 < found.promise.high  # a ranking by chance promised no more
    assert "than its release promised" in found.sentence
    better = observed_loss(now, charter, SCHEMA, judged=replace(judged, champion=judged.fresh), resamples=100)
    assert better.promise.high < 0 and "a week less than its release promised" in better.sentence


def test_the_first_weeks_of_a_programme_are_not_counted_where_there_are_later_ones(charter):
    short, long = (observed_loss(weeks(dates=count), charter, SCHEMA, resamples=50) for count in (4, 5))
    assert short.weeks == 4 and long.weeks == 5  # four are all run-in, and are counted for want of others
    assert short.value != long.value


def test_the_same_inputs_give_the_same_interval(charter):
    assert observed_loss(weeks(), charter, SCHEMA, seed=3) == observed_loss(weeks(), charter, SCHEMA, seed=3)


def test_weighed_labels_recover_the_earnings_that_saved_units_hide(charter):
    "Half of those at risk were treated and saved; weighed, those left alone stand for them."
    now = weeks(members=2000, dates=1)
    saved = np.random.default_rng(9).random(2000) < 0.5
    touched = now.rows.assign(left=np.where(saved, 0, now.rows["left"]))
    weighed = touched.assign(weight=np.where(saved, 0.0, 2.0))
    counts, schema = unit_counts(2000, 2, seed=0), replace(SCHEMA, weight="weight")
    large = charter.model_copy(update={"capacity_per_week": 400})
    truth, naive, mended = (
        weekly_profit(rows, now.fresh, counts, one, large)[0]
        for rows, one in ((now.rows, SCHEMA), (touched, SCHEMA), (weighed, schema))
    )
    assert naive < 0.6 * truth and abs(mended - truth) < 0.15 * truth


def test_the_curve_is_a_line_through_the_origin_and_marked_as_an_estimate(charter):
    curve = [point(0, 0.0, 0.0), point(2, 10.0), point(4, 20.0)]
    found = curve_loss(curve, 3, charter)
    assert math.isclose(found.value, 15.0) and found.estimate and found.basis == "staleness"
    assert found.sentence.startswith("Estimated")


def test_a_model_older_than_any_that_was_measured_is_taken_for_the_oldest(charter):
    curve = [point(2, 10.0), point(4, 20.0)]
    assert curve_loss(curve, 40, charter).value == curve_loss(curve, 4, charter).value
    assert "the oldest that was measured (4)" in curve_loss(curve, 40, charter).sentence


def test_where_nothing_is_newer_nothing_is_lost(charter):
    found = curve_loss([point(2, 10.0)], 0, charter)
    assert found.value == found.low == found.high == 0.0 and "would be the same one" in found.sentence


def test_without_a_curve_nothing_is_known(charter):
    assert not curve_loss([point(0, 0.0, 0.0)], 8, charter).known


@given(st.floats(0.1, 100), st.floats(1, 6), st.floats(0.01, 1))
def test_a_certain_point_weighs_more_and_the_share_scales_everything(charter, half, age, share):
    curve = [point(2, 10.0, half), point(6, 90.0, 1e6)]
    found, part = curve_loss(curve, age, charter), curve_loss(curve, age, charter, exposed=share)
    assert math.isclose(found.value, 5.0 * age, rel_tol=1e-3)
    assert math.isclose(part.value, share * found.value) and math.isclose(part.error, share * found.error)


def test_what_happened_is_believed_before_what_was_expected(charter):
    observed, curve = (
        Loss(-5.0, -9.0, -1.0, "USD", "outcomes", "Seen."),
        Loss(20.0, 10.0, 30.0, "USD", "staleness", "Expected."),
    )
    assert loss_of(observed, curve) is observed
    fallen = loss_of(unknown_loss("USD", "None matured."), curve)
    assert fallen.value == 20.0 and fallen.estimate and fallen.sentence == "None matured. Expected."
    with pytest.raises(MonitorError, match="USD and EUR"):
        loss_of(observed, replace(curve, currency="EUR"))


def test_the_chance_of_a_loss_follows_from_its_interval():
    loss = Loss(10.0, 10.0 - 1.959964, 10.0 + 1.959964, "USD", "outcomes", "")
    assert math.isclose(loss.error, 1.0, rel_tol=1e-6)
    assert math.isclose(loss.chance_above(10.0), 0.5) and math.isclose(
        loss.chance_above(9.0), 0.8413, rel_tol=1e-3
    )


# --- what was served


LISTS = {"until": datetime(2018, 3, 5), "listed": 240}
PARTS = st.floats(0, 1e4)


@given(st.floats(-1e4, 1e4), PARTS, PARTS, st.floats(-1e4, 1e4), PARTS, PARTS, st.floats(0.01, 1))
def test_both_intervals_count_and_a_share_loses_its_share(earned, below, above, promised, under, over, share):
    lists, release = (
        Interval(earned, earned - below, earned + above),
        Interval(promised, promised - under, promised + over),
    )
    whole = served_loss(lists, release, "USD", **LISTS)
    part = served_loss(lists, release, "USD", share=share, **LISTS)
    assert whole.low <= whole.value <= whole.high and not whole.estimate
    assert whole.high - whole.value >= max(below, over) * (1 - 1e-9) - 1e-9
    assert whole.value - whole.low >= max(above, under) * (1 - 1e-9) - 1e-9
    for end in ("value", "low", "high"):
        assert getattr(part, end) == pytest.approx(share * getattr(whole, end), abs=1e-6)


def test_the_interval_of_a_difference_covers_as_often_as_it_says():
    random, covered = np.random.default_rng(3), []
    for _ in range(2000):
        earned, promised = random.normal(40, 20), random.normal(100, 15)
        found = served_loss(
            Interval(earned, earned - 39.2, earned + 39.2),
            Interval(promised, promised - 29.4, promised + 29.4),
            "USD",
            **LISTS,
        )
        covered.append(found.low <= 60 <= found.high)
    assert 0.93 < np.mean(covered) < 0.97


def test_what_was_served_is_told_with_what_was_promised_and_whom_it_is_about():
    found = served_loss(Interval(40, 10, 75), Interval(100, 70, 130), "USD", share=0.4, decided=800, **LISTS)
    assert "up to 2018-03-05" in found.sentence and "240 listed and left alone" in found.sentence
    assert "worth $40 a week; the release promised $100" in found.sentence
    assert "That is $24 a week less (between" in found.sentence
    assert "for the 40% that the model decides about" in found.sentence
    assert found.per_unit == pytest.approx(24 / 800) and loss_from(found.as_json()) == found
    more = served_loss(Interval(140, 110, 175), Interval(100, 70, 130), "USD", **LISTS)
    assert "That is $40 a week more" in more.sentence and more.value == -40 and more.per_unit is None


# --- what would come back


def amount(value, basis):
    return Loss(value, value - 10, value + 10, "USD", basis, "Said.")


def test_no_more_is_counted_than_is_lost_nor_than_would_come_back():
    lost, less, more = amount(50.0, "served"), amount(20.0, "outcomes"), amount(80.0, "outcomes")
    assert counted(lost, less) is less and counted(lost, more) is lost
    assert counted(lost, None) is lost and counted(lost, unknown_loss("USD", "None.")) is lost


def test_what_was_observed_stands_before_an_estimate_and_where_nothing_else_is_known():
    fresh = amount(80.0, "outcomes")
    assert (
        counted(amount(20.0, "staleness"), fresh)
        is fresh
        is counted(unknown_loss("USD", "Nothing is known."), fresh)
    )
    with pytest.raises(MonitorError, match="USD and EUR"):
        counted(amount(1.0, "served"), replace(fresh, currency="EUR"))


def test_an_estimate_says_why_it_stands_in():
    said = loss_of(unknown_loss("USD", "Labels have not come yet."), amount(20.0, "staleness"))
    assert said.why == "Labels have not come yet." and said.sentence == "Labels have not come yet. Said."
