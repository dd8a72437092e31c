"""Age is told in days and in money, on the data's own clock."""

from datetime import datetime, timedelta

import pytest

from ml_workbench.monitor.asking import Asked, Present
from ml_workbench.monitor.checks import with_limits
from ml_workbench.monitor.staleness import (
    CHECKS,
    cost_of_age,
    days_between,
    feed_readings,
    model_readings,
    online_readings,
    stage_readings,
    stages_seen,
)
from tests.monitor.shop import by_check
from tests.release.small import CHARTER

WORTH = CHARTER.model_copy(update={"minimum_lift_per_week": 25.0})
CHECKED, END = with_limits(CHECKS, {}, WORTH), datetime(2024, 7, 22, 5)
CURVE = [
    {"weeks": week, "loss_per_week": {"value": 4.0 * week, "low": 8.0 * week - 8, "high": 9.0 * week}}
    for week in (0, 2, 4, 6)
]


def told(learnt=END - timedelta(days=90), judged=END - timedelta(days=14), made=END, curve=CURVE, now=END):
    return by_check(model_readings(Asked(CHECKED, WORTH), learnt, judged, made, curve, END, now))


def test_a_young_model_is_fine_and_an_old_one_is_not():
    assert {each.status for each in told().values()} == {"fine"}
    old = told(learnt=END - timedelta(days=400), made=END - timedelta(days=380))
    assert (
        old["staleness.model"].status == old["staleness.release"].status == "alarm"
        and old["staleness.model"].value == 400
    )


def test_age_costs_what_the_curve_says_and_beyond_it_what_was_measured_last():
    assert cost_of_age(CURVE, 3) == {"value": 12.0, "low": 16.0, "high": 27.0, "reaches": 6.0}
    assert cost_of_age(CURVE, 52)["value"] == 24.0 and cost_of_age([], 3) is None
    dear = told(judged=END - timedelta(weeks=20))["staleness.curve"]
    assert (
        dear.status == "alarm"
        and dear.estimate
        and "older was not measured" in dear.sentence
        and dear.details["money_per_week"] == 24.0
    )


def test_how_dear_age_may_be_is_what_the_charter_says():
    sparing = CHARTER.model_copy(update={"minimum_lift_per_week": 50.0})
    asked = Asked(with_limits(CHECKS, {}, sparing), sparing)
    judged = END - timedelta(weeks=20)
    found = by_check(model_readings(asked, END, judged, END, CURVE, END, END))["staleness.curve"]
    assert (found.status, found.limit, found.value) == ("fine", 50.0, 40.0)
    unsaid = by_check(model_readings(Asked(CHECKED), END, judged, END, CURVE, END, END))["staleness.curve"]
    assert unsaid.status == "unknown" and "no charter says" in unsaid.sentence.lower()


def test_a_loss_that_chance_explains_is_no_alarm():
    wide = [{"weeks": week, "loss_per_week": {"value": 90.0, "low": -5.0, "high": 200.0}} for week in (0, 6)]
    assert told(curve=wide)["staleness.curve"].status == "fine"


def test_what_is_not_known_is_not_fine():
    nothing = told(learnt=None, judged=None, made=None, curve=())
    assert {each.status for each in nothing.values()} == {"unknown"}
    assert told(now=None)["staleness.release"].status == "unknown"


def test_stages_are_as_old_as_what_they_saw():
    seen = stages_seen(
        {"data": {"tables": [{"last_event": None}, {"last_event": "2024-07-20 00:00:00"}]}},
        END - timedelta(days=500),
        None,
    )
    assert [*seen] == ["data", "train"]
    (reading,) = stage_readings(Asked(CHECKED), seen, END)
    assert reading.cause == "staleness.stages/train" and reading.status == "alarm"
    assert [each.status for each in stage_readings(Asked(CHECKED), {}, END)] == ["unknown"]


@pytest.mark.parametrize(("days", "status"), [(0, "fine"), (8, "fine"), (9, "alarm")])
def test_features_at_hand_are_of_this_period_or_an_alarm(days, status):
    (reading,) = online_readings(Asked(CHECKED), END - timedelta(days=days), True, END)
    assert reading.status == status
    assert online_readings(Asked(CHECKED), None, False, END)[0].status == "unknown"


def test_a_feed_that_stands_still_is_found_in_the_first_period_and_a_late_one_in_its_own():
    asked, start = (
        Asked(CHECKED, present=Present(fresh_days={"receipts": 1.0, "people": 30.0})),
        END - timedelta(days=7),
    )
    feeds = {
        "receipts": {
            "latest": str(start - timedelta(hours=3)),
            "arrived": str(start + timedelta(minutes=30)),
        },
        "people": {"latest": str(start - timedelta(days=20))},
    }
    assert {each.status for each in feed_readings(asked, feeds, start)} == {"fine"}
    frozen = feeds | {
        "receipts": {
            "latest": str(start - timedelta(days=7, hours=3)),
            "arrived": str(start - timedelta(days=7)),
        }
    }
    assert by_check(feed_readings(asked, frozen, start))["staleness.feeds/receipts"].status == "alarm"
    late = feeds | {"receipts": feeds["receipts"] | {"arrived": str(start + timedelta(hours=30))}}
    assert by_check(feed_readings(asked, late, start))["staleness.arrival/receipts"].status == "alarm"
    assert {each.status for each in feed_readings(asked, {}, start)} == {"unknown"}


def noted(**feed):
    "What was noted of receipts, at a list of Wednesday in a period that began on Monday."
    start = END - timedelta(days=7)
    drawn = start + timedelta(days=2)
    told = {
        "as_of": drawn,
        "latest": drawn - timedelta(hours=3),
        "seen": drawn + timedelta(minutes=40),
    } | feed
    entry = {name: value and str(value) for name, value in told.items()}
    asked = Asked(CHECKED, present=Present(fresh_days={"receipts": 1.0}))
    return drawn, by_check(feed_readings(asked, {"receipts": entry}, start))


def test_a_noted_feed_is_held_against_the_list_that_it_was_noted_with():
    drawn, found = noted()
    assert {each.status for each in found.values()} == {"fine"}
    assert found["staleness.arrival"].value == pytest.approx(
        40 / 1440
    )  # there at the latest when it was seen
    found = noted(latest=drawn - timedelta(days=4))[1]
    assert (
        found["staleness.feeds/receipts"].status == "alarm" and found["staleness.feeds/receipts"].value == 3
    )
    late = noted(arrived=drawn + timedelta(hours=30), seen=drawn + timedelta(hours=31))[1]
    assert late["staleness.arrival/receipts"].value == 1.25


@pytest.mark.parametrize(
    "feed",
    [
        {"arrived": END + timedelta(days=900), "seen": END + timedelta(days=901)},
        {"seen": END - timedelta(days=3)},
    ],
    ids=["a list of the past", "a server that says nothing, asked too late"],
)
def test_when_a_table_came_is_not_guessed(feed):
    found = noted(**feed)[1]
    assert found["staleness.feeds"].status == "fine" and found["staleness.arrival"].status == "unknown"
    assert "is not known" in found["staleness.arrival"].sentence


def test_without_a_word_of_the_source_it_is_said_who_would_say_it():
    asked = Asked(CHECKED, present=Present(fresh_days={"receipts": 1.0}))
    assert "`ml-workbench score`" in feed_readings(asked, {}, END)[0].sentence
    assert feed_readings(asked, {}, END, unseen="it is away")[1].sentence == "It is away."
    nothing = feed_readings(Asked(CHECKED), {"receipts": {"latest": str(END)}}, END)
    assert "no table promises to be fresh" in nothing[0].sentence.lower()


def test_what_lies_in_the_future_has_no_age():
    assert days_between(END + timedelta(days=3), END) == 0.0
