"""What the page may say about what was earned and decided, given the figures."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_workbench.page.decided import ACTIONS, decision, guard_line, guards
from ml_workbench.page.drawing import bar, hill
from ml_workbench.page.earned import (
    Source,
    bills,
    called,
    exact,
    headline,
    in_hundred,
    main_bill,
    promise,
    read_report,
    replay_mark,
    report_from,
    rests_on,
    source_of,
    treated,
)
from ml_workbench.page.panels import bills_table, conclusion, opening
from ml_workbench.page.story import Fact, Span
from ml_workbench.plan.errors import WorkbenchError

SAMPLE = Path(__file__).with_name("attribution.json")
SOURCE = Source("3dce17bdf60d", "4f09511", "notebooks?stage=Attribution")


@pytest.fixture
def raw() -> dict:
    "What the stage wrote of a replay: two arms, a holdout, not enough evidence."
    return json.loads(SAMPLE.read_text())


def with_net(raw: dict, value: float, low: float, high: float, **changed: object) -> dict:
    "The same with other money."
    net = {"value": value, "low": low, "high": high}
    return raw | {"money": [row | {"net": net, **changed} for row in raw["money"]]}


def stopped(raw: dict, **kept: object) -> dict:
    "The same after a hard stop; the figures are deliberately left in."
    return (
        raw
        | {"stopped": {"kind": "two arms", "sentence": "One household is in two arms.", "examples": [7]}}
        | kept
    )


def test_the_headline_is_about_the_decisions_arm_against_the_control(raw):
    bill = main_bill(report_from(raw))
    assert (bill.arm, bill.versus, bill.than) == ("champion", "control", "the rule")
    raw["decision"]["arm"] = "challenger"
    assert main_bill(report_from(raw)).arm == "challenger"
    raw["decision"]["arm"] = None  # then the best
    assert main_bill(report_from(raw)).arm == "champion"


def test_costs_are_told_apart_and_together(raw):
    bill = main_bill(report_from(raw))
    assert [cost.label for cost in bill.costs] == ["offers", "running it", "building it"]
    assert bill.cost == pytest.approx(-9.99384 + 14.512 + 55.8155)


@given(value=st.floats(-1e6, 1e6), below=st.floats(0, 1e6), above=st.floats(0, 1e6))
def test_the_headline_claims_nothing_that_its_range_does_not_allow(value, below, above):
    raw = with_net(json.loads(SAMPLE.read_text()), value, value - below, value + above)
    said = headline(report_from(raw))
    low, high = value - below, value + above
    assert said.tone == ("gain" if low > 0 else "loss" if high < 0 else "unclear")
    assert said.sentence.startswith("It cannot be told yet") == (said.tone == "unclear")
    assert said.amount in said.sentence


def test_a_loss_is_said_as_plainly_as_a_gain(raw):
    lost = headline(report_from(with_net(raw, -900, -1500, -300)))
    assert (
        lost.sentence
        == "Logistic regression has earned $900 less than the rule so far, between $300 and $1,500, all costs paid."
    )


@given(st.floats(0, 1))
def test_no_chance_is_ever_nought_or_a_hundred(chance):
    assert not in_hundred(chance).startswith(("0 ", "100 "))


def test_amounts_have_the_digits_that_their_size_deserves():
    assert [exact(value, "USD") for value in (1234.5, 60.33, 7, 0)] == ["$1,234", "$60.33", "$7", "$0"]


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_has_a_sign_and_words_of_its_own(raw, action):
    raw["decision"]["action"] = action
    found = decision(report_from(raw))
    assert found.sign and found.mark and found.tone
    assert sum(found.mark == mark for _, mark, _ in ACTIONS.values()) == 1


def test_an_unknown_action_is_refused_by_name(raw):
    raw["decision"]["action"] = "celebrate"
    with pytest.raises(WorkbenchError, match="celebrate"):
        decision(report_from(raw))


def test_a_hard_stop_hides_every_amount_even_one_that_the_report_still_holds(raw):
    report = report_from(stopped(raw))
    assert bills(report) == () and guards(report) == () and main_bill(report) is None
    raw["decision"] |= {"sentence": "Mend it.", "missing": []}
    shown = opening(report_from(stopped(raw)), SOURCE, "Weekly offers") + conclusion(
        report_from(stopped(raw))
    )
    assert "$" not in shown and "some were drawn into more than one arm" in shown and "<li>7</li>" in shown
    assert bills_table(report, SOURCE) == ""


def test_a_hard_stop_wins_over_the_action_that_the_report_names(raw):
    assert decision(report_from(stopped(raw))).action == "hard stop"


def test_a_guardrail_that_cannot_be_told_is_not_kept_and_a_broken_one_comes_first(raw):
    raw["guardrails"] = [
        raw["guardrails"][0] | {"passed": passed, "label": label}
        for passed, label in ((True, "a"), (None, "b"), (False, "c"))
    ]
    found = guards(report_from(raw))
    assert [each.label for each in found] == ["c", "b", "a"]
    assert guard_line(found) == "Guardrails: 1 broken (c); 1 not told yet (b); 1 kept (a)."
    assert guard_line(()) == "No guardrail was declared."


def test_who_is_compared_with_whom_is_told_in_readers_words(raw):
    report = report_from(raw)
    assert treated(report) == ("champion", "challenger")
    assert [called(report, name) for name in ("control", "champion", "holdout")] == [
        "the rule",
        "Logistic regression",
        "no offers at all",
    ]


def test_the_promise_is_told_with_the_chance_to_confirm_it(raw):
    assert (
        "promised +$223 a month, between +$56 and +$396; the chance that a rollout of this size would confirm it was 5 in 100"
        in promise(report_from(raw))
    )
    assert promise(report_from(raw | {"evidence": None})) == ""


def test_only_a_replay_carries_the_mark(raw):
    assert "15% spend as usual" in replay_mark(report_from(raw))[1]
    assert "effect declared: of" not in replay_mark(report_from(raw))[1]  # the mark says so already
    raw["experiment"] |= {"replayed": False, "declared": None}
    assert replay_mark(report_from(raw)) == ("", "")


def test_sources_name_experiment_design_data_and_commit(raw, tmp_path):
    report = report_from(raw)
    source, commit = source_of(tmp_path, report)
    assert (source.data, source.commit) == ("3dce17bdf60d", "none")
    told = {fact.label: fact for fact in rests_on(report, commit)}
    assert (
        told["Experiment"].value == "retention-2017-11"
        and told["Design"].note == "Not changed since it began"
    )
    raw["experiment"]["changes"] = ["horizon: 28 days → 49 days"]
    changed = {fact.label: fact for fact in rests_on(report_from(raw), Fact("Commit", "x"))}
    assert "28 days → 49 days" in changed["Design"].note


@pytest.mark.parametrize("lacking", ["currency", "stopped", "experiment", "control"])
def test_a_report_that_lacks_what_every_part_needs_is_refused(tmp_path, raw, lacking):
    del raw[lacking]
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/attribution.json").write_text(json.dumps(raw))
    with pytest.raises(WorkbenchError, match=f"lacks '{lacking}'.*attribution"):
        read_report(tmp_path)


def test_a_missing_report_says_what_to_run(tmp_path):
    with pytest.raises(WorkbenchError, match=r"attribution\.json is missing"):
        read_report(tmp_path)


@given(
    value=st.floats(-1e5, 1e5),
    below=st.floats(0, 1e5),
    above=st.floats(0, 1e5),
    chance=st.none() | st.floats(0, 1),
)
def test_any_amount_can_be_drawn(value, below, above, chance):
    span = Span(value, value - below, value + above)
    drawn = hill(span, "EUR", chance=chance) + bar(span, (-1e6, 1e6))
    assert "nan" not in drawn.lower() and "inf%" not in drawn


def test_what_stands_in_a_report_is_never_markup(raw):
    raw["arms"][1]["label"] = "<u>Model</u>"
    raw["decision"] |= {"headline": "<i>", "sentence": "<script>", "missing": ["<b>"]}
    shown = opening(report_from(raw), SOURCE, "<em>") + conclusion(report_from(raw))
    assert not any(tag in shown for tag in ("<u>Model", "<i>", "<script>", "<li><b>", "<em>"))
