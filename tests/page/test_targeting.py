"""What randomised data say of ways of choosing that nobody rolled out."""

import json
from pathlib import Path

import pytest

from ml_workbench.page.earned import report_from
from ml_workbench.page.targeting import capacities, qini, values, what_if, witnesses
from ml_workbench.plan.errors import WorkbenchError


@pytest.fixture
def raw() -> dict:
    return json.loads(Path(__file__).with_name("attribution.json").read_text())


def test_every_way_of_choosing_stands_once_by_its_leading_method_the_best_first(raw):
    found = values(report_from(raw))
    assert [value.policy for value in found] == ["logistic_regression", "kernel_machine", "rule"]
    assert {value.method for value in found} == {"doubly robust"}
    assert {value.method for value in witnesses(report_from(raw))} == {"IPS", "SNIPS"}


def test_where_the_leading_method_is_missing_the_next_one_leads(raw):
    raw["policy"]["values"] = [row for row in raw["policy"]["values"] if row["method"] != "dr"]
    assert {value.method for value in values(report_from(raw))} == {"SNIPS"}


def test_a_value_that_could_not_be_computed_is_left_out(raw):
    for row in raw["policy"]["values"]:
        row["value"] = None if row["policy"] == "rule" else row["value"]
    assert "rule" not in {value.policy for value in values(report_from(raw))}


def test_what_if_is_told_against_none_and_against_today(raw):
    curve = capacities(report_from(raw))[0]
    assert what_if(curve, 200, 100, "USD").startswith("With 200 offers a week, ")
    assert "against the 100 of today" in what_if(curve, 200, 100, "USD")
    assert "of today" not in what_if(curve, 100, 100, "USD")


def test_an_unknown_number_of_offers_gets_the_nearest_that_was_judged(raw):
    assert what_if(capacities(report_from(raw))[0], 10_000, 100, "USD").startswith("With 200 offers")


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.1, 0.3, "finds those"), (-0.1, 0.3, "cannot be told"), (-0.3, -0.1, "worse than a lottery")],
)
def test_a_ranking_is_praised_only_as_far_as_its_range_allows(raw, low, high, said):
    raw["policy"]["qini"][0]["coefficient"] = {"value": (low + high) / 2, "low": low, "high": high}
    assert said in qini(report_from(raw))[0].sentence


@pytest.mark.parametrize("part", [values, capacities, qini])
def test_without_randomised_choices_or_after_a_stop_nothing_is_judged(raw, part):
    with pytest.raises(WorkbenchError, match="judges no policy"):
        part(report_from(raw | {"policy": None}))
    with pytest.raises(WorkbenchError, match="Broken"):
        part(report_from(raw | {"stopped": {"kind": "contract", "sentence": "Broken.", "examples": []}}))


def test_a_ranking_without_a_coefficient_and_places_without_a_gain_are_told_as_unknown(raw):
    raw["policy"]["qini"][0] |= {"coefficient": None}
    raw["policy"]["qini"][0]["points"][1]["gain"] = None
    found = qini(report_from(raw))[0]
    assert (
        "too few decisions" in found.sentence
        and len(found.shares) == len(raw["policy"]["qini"][0]["points"]) - 1
    )
