"""The programme is held against its charter; what it brought is read from the attribution, with its interval."""

from datetime import datetime

import pytest

from ml_workbench.monitor.asking import Asked
from ml_workbench.monitor.business import CHECKS, attribution_readings, offer_readings, review_reading, worth
from tests.monitor.shop import by_check
from tests.release.small import CHARTER

GUARDED = CHARTER.model_copy(update={"guardrails": [type("G", (), {"metric": "spend", "margin": 0.02})()]})
ASKED = Asked({each.name: each for each in CHECKS}, CHARTER, minimum=50)


def attribution(*, high=300.0, relative_high=0.05) -> dict:
    money = {
        "arm": "champion",
        "versus": "control",
        "units": 800,
        "weeks": 4.0,
        "sentence": "So much.",
        "per_month": {"value": 20.0, "low": -200.0, "high": high},
    }
    lift = {
        "metric": "spend",
        "label": "spend",
        "arm": "champion",
        "relative": {"value": 0.0, "low": -0.09, "high": relative_high},
    }
    return {
        "experiment": {"replayed": True},
        "decision": {"arm": "champion"},
        "money": [money],
        "lifts": [lift, lift | {"metric": "visits"}],
    }


@pytest.mark.parametrize(
    ("sent", "cost", "expected"),
    [(20, 20.0, ("fine", "fine")), (9, 9.0, ("watch", "fine")), (20, 40.0, ("fine", "alarm"))],
)
def test_capacity_must_be_used_and_the_budget_kept(sent, cost, expected):
    found = offer_readings(ASKED, CHARTER, sent, cost, 1.0, 300)
    assert tuple(each.status for each in found) == expected


def test_an_unused_capacity_is_an_alarm_in_the_second_week():
    again = Asked(ASKED.checks, CHARTER, before={"business.offers": 1})
    assert offer_readings(again, CHARTER, 3, 3.0, 1.0, 300)[0].status == "alarm"


def test_a_week_without_decisions_is_unknown():
    assert {each.status for each in offer_readings(ASKED, CHARTER, 0, 0.0, 1.0, 0)} == {"unknown"}


def test_a_gain_that_may_be_one_is_no_alarm_and_a_certain_loss_is():
    assert (
        by_check(attribution_readings(ASKED, CHARTER, attribution()))["business.incremental"].status == "fine"
    )
    assert (
        by_check(attribution_readings(ASKED, CHARTER, attribution(high=-1.0)))["business.incremental"].status
        == "alarm"
    )


def test_a_guardrail_is_broken_only_for_certain_and_only_where_the_charter_has_one():
    assert (
        by_check(attribution_readings(ASKED, GUARDED, attribution()))["business.guardrails"].status == "fine"
    )
    assert (
        by_check(attribution_readings(ASKED, GUARDED, attribution(relative_high=-0.03)))[
            "business.guardrails"
        ].status
        == "alarm"
    )
    assert (
        by_check(attribution_readings(ASKED, CHARTER, attribution(relative_high=-0.03)))[
            "business.guardrails"
        ].status
        == "unknown"
    )


def test_without_an_attribution_nothing_is_claimed():
    assert worth(None, CHARTER)["incremental_per_week"] is None
    assert {each.status for each in attribution_readings(ASKED, CHARTER, None)} == {"unknown"}
    assert worth(attribution(), CHARTER)["incremental_per_week"]["value"] == pytest.approx(20 * 12 / 52)


@pytest.mark.parametrize(("day", "status"), [("2025-01-01", "fine"), ("2025-01-02", "alarm")])
def test_a_review_is_due_on_its_day(day, status):
    assert review_reading(ASKED, CHARTER, datetime.fromisoformat(day)).status == status
