"""The decision by the charter's rule: every case has one answer, and says why."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_workbench.experiment.decision import (
    Case,
    Until,
    action_of,
    decide,
    halted,
    rule_in_words,
    together,
    worth_of,
)
from ml_workbench.experiment.outlook import Outlook
from ml_workbench.model.metrics import Interval
from ml_workbench.plan.errors import ExperimentError
from ml_workbench.plan.params import load_params

SOON = Outlook(1.0, 1000, 4000, 19.0, "2024-05-13")
NEVER = Outlook(1.0, 1000, 600_000, None, None)
WORST_FIRST = ("roll back", "stop", "not enough evidence", "keep running", "ship")


@pytest.fixture(scope="module")
def charter(root):
    return load_params(root).charter


def case(low, high, *, guards=None, over=True, view=NEVER, waiting=0):
    gain = Interval((low + high) / 2, low, high)
    return Case("champion", "The model", "the rule", gain, guards or {}, over, view, waiting)


@pytest.mark.parametrize(
    ("given_case", "action"),
    [
        (case(10, 400), "ship"),
        (case(10, 400, guards={"visits": False}), "roll back"),
        (case(10, 400, guards={"visits": None}), "ship"),
        (case(-400, -10), "roll back"),
        (case(-400, 90), "stop"),
        (case(10, 90), "stop"),
        (case(10, 150), "not enough evidence"),  # a gain, but is it worth it?
        (case(-400, 400), "not enough evidence"),
        (case(-400, 400, view=SOON), "keep running"),
        (case(-400, 400, view=SOON, over=False), "keep running"),
        (case(-400, 400, over=False), "stop"),
        (case(-400, 400, view=replace(SOON, weeks=0.0)), "not enough evidence"),  # enough took part
        (case(-400, 400, view=replace(SOON, weeks=0.0), over=False), "not enough evidence"),
        (case(-400, 400, view=replace(SOON, weeks=53.0)), "not enough evidence"),
    ],
)
def test_the_rule_has_one_answer(given_case, action):
    assert action_of(given_case, 100.0) == action


@given(
    low=st.floats(-1e6, 1e6),
    width=st.floats(0, 1e6),
    better=st.floats(0, 1e6),
    known=st.booleans(),
)
def test_a_better_figure_never_gets_a_worse_answer(low, width, better, known):
    view = SOON if known else NEVER
    before = action_of(case(low, low + width, view=view), 100.0)
    after = action_of(case(low + better, low + width + better, view=view), 100.0)
    assert WORST_FIRST.index(after) >= WORST_FIRST.index(before)


@given(low=st.floats(-1e6, 1e6), width=st.floats(0, 1e6))
def test_nothing_is_shipped_whose_interval_holds_a_loss(low, width):
    if action_of(case(low, low + width), 100.0) == "ship":
        assert low > 0


def test_not_enough_evidence_says_what_is_missing(charter):
    found = decide(case(-4000, 5000, guards={"spend": None, "visits": True}, waiting=74), charter)
    assert found.headline == "Not enough evidence yet" and found.next_date == charter.review_date
    assert found.missing == (
        "Households: about 600,000 would be needed to see what is hoped for; 1,000 took part.",
        "Time: for 74 households the horizon is not over.",
        "Proof that nothing broke: not shown yet for spend.",
    )
    assert "+$500 a month after all costs, between −$4,000 and +$5,000" in found.sentence
    assert "keep the rule until more is known" in found.sentence


def test_a_gain_that_may_be_too_small_is_not_called_a_loss(charter):
    found = decide(case(10, 5000, guards={}), charter.model_copy(update={"minimum_lift_per_week": 1000.0}))
    assert found.action == "not enough evidence" and "loss" not in found.sentence


def test_keep_running_names_the_day_and_the_sample(charter):
    found = decide(case(-4000, 5000, view=SOON), charter)
    assert found.until == Until("2024-05-13", 19.0, 4000) and found.next_date == "2024-05-13"
    assert found.headline == "Keep running until 2024-05-13" and "4,000 households" in found.sentence


def test_a_ship_says_what_it_is_worth(charter):
    found = decide(case(400, 600), charter)
    assert found.headline == "Ship The model: +$500 a month" and not found.missing


def test_a_failed_guardrail_is_named(charter):
    found = decide(case(400, 600, guards={"visits to the till": False}), charter)
    assert found.action == "roll back" and "visits to the till" in found.sentence


def test_hopeless_has_two_reasons(charter):
    assert "less than the $108 a month" in decide(case(-400, 90), charter).sentence
    assert "A year of it would not be enough" in decide(case(-400, 400, over=False), charter).sentence


def test_the_arm_that_earns_most_of_those_that_may_ship_is_shipped(charter):
    cases = [case(400, 600), replace(case(900, 950), arm="challenger", label="Another")]
    monthly = {each.arm: each.per_month.value for each in cases}
    labels = {each.arm: each.label for each in cases}
    found = together([decide(each, charter) for each in cases], monthly, labels)
    assert found.arm == "challenger" and found.sentence.endswith("The model: ship.")


def test_without_a_winner_the_champion_decides(charter):
    cases = [case(-900, 900), replace(case(-900, -10), arm="challenger", label="Another")]
    found = together([decide(each, charter) for each in cases], {}, {each.arm: each.label for each in cases})
    assert (
        found.arm == "champion"
        and found.action == "not enough evidence"
        and "Another: roll back." in found.sentence
    )


def test_without_treated_arms_there_is_nothing_to_decide():
    with pytest.raises(ExperimentError, match="no treated arm"):
        together([], {}, {})


@pytest.mark.parametrize("kind", ["sample ratio", "two arms", "contract", "empty"])
def test_a_hard_stop_shows_no_lift(charter, kind):
    found = halted(kind, "What was found.", charter)
    assert found.action == "hard stop" and found.headline.startswith("No lift is shown: ")
    assert found.sentence.startswith("What was found. ") and found.missing


def test_an_unknown_reason_to_stop_is_refused(charter):
    with pytest.raises(ExperimentError, match="unknown reason to stop 'mood'"):
        halted("mood", "What was found.", charter)


def test_the_rule_says_which_interval_decides(charter):
    looked = rule_in_words(charter, confidence=0.95, arms=2, sequential=True)
    assert "looking at any time (95%, sequential), widened because 2 arms could win" in looked
    plain = rule_in_words(charter, confidence=0.95, arms=1, sequential=False)
    assert "the ordinary 95% interval decides." in plain and "$25 a week" in plain


def test_the_minimum_is_told_by_the_month(charter):
    assert round(worth_of(charter), 2) == round(25.0 * 52 / 12, 2)
