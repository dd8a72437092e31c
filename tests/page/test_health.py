"""The words of the Health page: strict about what is fine, what is present, and what is estimated."""

import json
import re
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_workbench.monitor.checks import MONITORS, STATUSES
from ml_workbench.monitor.heartbeat import allowed
from ml_workbench.page.cases import cases_of
from ml_workbench.page.health import Stake, advice_of, asked_of, caution, headline, stake_of, view_of
from ml_workbench.page.looks import GRACE, Look, reported, unseen
from ml_workbench.page.monitors import SHOWN, amount, lines_of, since, trends_of
from ml_workbench.page.signs import card, cards, caution_line, course, multiples, opening, rows
from ml_workbench.plan.errors import WorkbenchError
from tests.page.watched import alert, reading, report, week

NOW = datetime(2026, 3, 2, 9, 30)
LATELY = NOW - timedelta(days=2)


def live(*weeks, at: datetime = LATELY, **more) -> Look:
    return Look(report(*weeks, replayed=False, **more), live=True, at=at, deployed=True)


def by_name(look_report: dict, **how) -> dict:
    return {line.name: line for line in lines_of(look_report, **how)}


# Is it still true ------------------------------------------------------------------------------------------


def test_while_all_is_well_one_sentence_says_so_and_nothing_is_at_stake() -> None:
    view = view_of(Look(report(week(), week())), NOW)
    assert view.tone == "fine" and view.mark == ("✓", "Still true") and view.first == ""
    assert view.sentence.startswith("It is still true") and view.sentence.endswith(
        "nothing is at stake that can be seen."
    )
    assert view.cases == () and [fact.value for fact in view.tiles] == [
        "nothing seen",
        "none",
        "not asked yet",
    ]


def test_money_at_stake_is_named_with_its_interval() -> None:
    view = view_of(Look(report(week(), week("quality.money"))), NOW)
    assert (
        view.tone == "alarm" and "$61 a week are at stake" in view.sentence and view.stressed == "$61 a week"
    )
    assert view.tiles[0].value == "$61" and view.tiles[0].note == "observed, between $34 and $88"


def test_money_that_was_not_observed_is_called_estimated() -> None:
    known = week("invariants.nulls", unknown=("quality.money",))
    guess = [*known, reading("staleness.curve", ill=True, estimate=True)]
    view = view_of(Look(report(guess)), NOW)
    assert "an estimated $61 a week" in view.sentence and view.tiles[0].note.startswith("estimated, between")
    assert any(said.estimate for line in view.lines for said in line.said)


@pytest.mark.parametrize(("tone", "value", "said"), [
    ("fine", 0.0, "It is still true: nothing"), ("watch", 0.0, "something to watch: nothing"), ("alarm", 0.0, "still true, but nothing"),
    ("alarm", None, "what is at stake cannot be said"), ("fine", None, "what is at stake cannot be said"), ("unknown", 61.0, "It cannot be said"),
])  # fmt: skip
def test_every_tone_has_its_sentence(tone, value, said) -> None:
    sentence, stressed = headline(tone, Stake(value), "USD", partly=False)
    assert said in sentence and stressed in sentence


def test_what_an_alert_costs_is_at_stake_where_no_check_knows_better() -> None:
    found = report(
        week("invariants.nulls", unknown=("quality.money",)),
        alerts=[
            alert(money_per_week=12.0),
            alert(1, money_per_week=40.0),
            alert(2, money_per_week=99.0, state="resolved"),
        ],
    )
    assert stake_of(found).value == 40.0
    assert view_of(Look(found), NOW).tiles[0].note == "the dearest of the open alerts"
    assert (
        stake_of(report(week())).value == -20.0
        and stake_of(report(week(unknown=("quality.money",)))).value is None
    )


def test_an_amount_that_chance_explains_is_shown_and_not_cried_out() -> None:
    found = report(week()) | {
        "at_stake": {"value": 9.0, "low": -5.0, "high": 23.0, "estimate": False, "currency": "USD"}
    }
    view = view_of(Look(found), NOW)
    assert view.sentence.endswith("nothing is at stake beyond what chance explains.")
    assert view.tiles[0].value == "$9" and view.tiles[0].note.endswith("it may be chance")
    ill = view_of(Look(report(week("invariants.nulls")) | {"at_stake": found["at_stake"]}), NOW)
    assert ill.sentence.endswith("$9 a week may be at stake.")


def test_where_more_was_earned_than_promised_it_says_by_how_much() -> None:
    first = view_of(Look(report(week())), NOW).tiles[0]
    assert first.value == "nothing seen" and first.note.startswith(
        "observed: $20 more than promised, between $"
    )


def test_where_nothing_newer_can_be_learnt_no_range_of_nothing_is_shown() -> None:
    nothing = {"value": 0.0, "low": 0.0, "high": 0.0, "estimate": True, "currency": "USD"}
    first = view_of(Look(report(week()) | {"at_stake": nothing}), NOW).tiles[0]
    assert first.note == "estimated: a new model would be the same one"


def test_a_release_is_shown_by_its_first_digits_and_a_command_as_one() -> None:
    found = report(week("invariants.nulls")) | {"release": "ab" * 32}
    view = view_of(Look(found), NOW)
    assert "release abababababab." in view.told and "ab" * 7 not in view.told
    said = card(replace(view.cases[0], remedy="Stop (`ml-workbench pause --all`): a.md#b"), "USD")
    assert "(<code>ml-workbench pause --all</code>): <code>a.md#b</code>" in said


def test_a_report_of_an_earlier_version_still_tells_its_amount() -> None:
    found = report(week())
    del found["at_stake"]
    assert stake_of(found | {"money_at_stake_per_week": 0.0}).value == 0.0
    assert view_of(Look(found), NOW).tiles[0].note == "lists are worth what was promised"


def test_the_last_question_about_a_new_model_is_told_with_its_day_and_what_came_of_it() -> None:
    row = {
        "at": datetime(2018, 1, 1), "release": "xgboost 77c1d2aa01ff", "decision": "retrain",
        "reason": "Retrain: it is expected to bring +$300.", "outcome": {"sentence": "Release 4f2a is ready to be tried."},
    }  # fmt: skip
    view = view_of(Look(report(week()), advice=row), NOW)
    assert (
        view.asked
        == "Decided on 1 January 2018, about xgboost 77c1d2aa01ff. Release 4f2a is ready to be tried."
    )
    assert asked_of(row | {"outcome": None}) == "Decided on 1 January 2018, about xgboost 77c1d2aa01ff."
    assert view_of(Look(report(week())), NOW).asked == "" == view_of(Look(), NOW).asked


# Never called fine -----------------------------------------------------------------------------------------


def test_monitors_that_never_looked_are_said_first_and_nothing_is_true() -> None:
    view = view_of(Look(), NOW)
    assert (view.first, view.tone, view.lines) == ("The monitors have never looked.", "unknown", ())
    assert "cannot be said" in view.sentence


def test_an_old_all_well_is_never_the_present() -> None:
    view = view_of(live(week(), week(), at=NOW - timedelta(days=9)), NOW)
    assert (
        view.first
        == "The monitors looked last on 21 February 2026, 09:30 UTC, 9 days ago; they should every 7 days."
    )
    assert view.tone == "unknown" and {line.status for line in view.lines} == {"unknown"}
    assert view.ends[-1] == "now" and all(line.course[-1] == "unknown" for line in view.lines)
    assert {line.word for line in view.lines if line.said} == {"was fine"} and view.tiles[
        0
    ].value == "unknown"
    assert "still true." in view.sentence and "It is still true" not in view.sentence


@pytest.mark.parametrize(("days", "old"), [(0, False), (7, False), (8.74, False), (8.76, True), (400, True)])
def test_a_look_is_old_after_a_period_and_a_quarter(days, old) -> None:
    assert bool(unseen(live(week(), at=NOW - timedelta(days=days)), NOW)) is old


def test_the_page_and_the_watch_over_the_monitors_agree_on_what_is_too_old() -> None:
    assert allowed(7) == GRACE * timedelta(days=7)


def test_a_replay_does_not_grow_old_but_says_nothing_of_what_is_live() -> None:
    replay = Look(report(week()))
    assert unseen(replay, NOW) == ""
    shown = view_of(Look(replay.report, deployed=True), NOW)
    assert "never looked at what is live" in shown.first and shown.tone == "unknown"


def test_records_of_a_folder_grow_old_by_their_newest_period() -> None:
    found = report(week(), replayed=False)
    assert unseen(Look(found), datetime(2017, 12, 1)) == ""
    assert "looked last" in unseen(Look(found), datetime(2018, 1, 1))


def test_a_monitor_that_did_not_look_and_labels_that_did_not_come_cannot_be_said() -> None:
    lines = by_name(report(week(unknown=("quality.money",))))
    assert lines["skew"].word == "cannot be said" and lines["skew"].sentence == "This monitor did not look."
    assert lines["quality"].word == "cannot be said" and lines["quality"].sign == "?"
    assert set(MONITORS) <= set(lines) and len(lines) == len(set(MONITORS))
    view = view_of(Look(report(week(unknown=("quality.money",)))), NOW)
    assert (
        view.tone == "fine"
        and view.sentence == "It is still true, as far as can be said; what is at stake cannot be said."
    )


@given(st.lists(st.sampled_from(STATUSES), min_size=1, max_size=30))
def test_a_status_holds_since_the_first_of_its_run(course) -> None:
    ends = [str(datetime(2017, 1, 2) + timedelta(weeks=place)) for place in range(len(course))]
    said = [
        place
        for place, end in enumerate(ends)
        if since(course, ends) == f"since {datetime.fromisoformat(end):%-d %b}"
    ]
    assert len(said) == 1 and set(course[said[0] :]) == {course[-1]}
    assert said[0] == 0 or course[said[0] - 1] != course[-1]


# Lines, figures, cases -------------------------------------------------------------------------------------


def test_a_line_says_what_is_wrong_who_answers_and_since_when() -> None:
    line = by_name(report(week(), week("invariants.nulls"), week("invariants.nulls")))["invariants"]
    assert (line.sign, line.word, line.owner, line.since) == (
        "✕",
        "alarm",
        "Data engineering",
        "since 27 Nov",
    )
    assert (
        line.course == ("fine", "alarm", "alarm") and line.said[0].status == "alarm" and line.said[0].remedy
    )
    assert "more than the limit" in line.sentence


def test_only_the_newest_periods_are_shown() -> None:
    view = view_of(Look(report(*[week()] * 20)), NOW)
    assert len(view.ends) == SHOWN and all(len(line.course) == SHOWN for line in view.lines)
    assert all(len(trend.points) <= SHOWN for trend in view.trends)


def test_while_something_is_broken_that_is_the_figure_that_is_drawn() -> None:
    found = [*week(), reading("invariants.range", ill=True)]
    trends = {trend.name: trend for trend in trends_of(report(week(), found), "USD")}
    assert trends["invariants"].title == "Numbers lie where they lay in training" and "✕" in multiples(
        [trends["invariants"]]
    )
    assert trends["business"].least and not trends["business"].bad(0.9) and trends["business"].bad(0.4)


def test_a_trend_is_that_of_the_check_that_the_report_names() -> None:
    twins = [reading("quality.auc", count=2310), reading("quality.calibration", count=2310)]  # of one value
    found = report([*week(), *twins], [*week(), *twins])
    (raw,) = (each for each in found["monitors"] if each["name"] == "quality")
    assert raw["trend_check"] == "quality.auc"
    trends = {trend.name: trend for trend in trends_of(found, "USD")}
    assert trends["quality"].title == "It ranks as well as when it was judged"
    late = report([*week(), *twins], [*week(), reading("quality.auc", count=3)])
    shown = {trend.name: trend for trend in trends_of(late, "USD")}["quality"]
    assert shown.title == "It ranks as well as when it was judged", "while labels are waited for"
    for each in found["monitors"]:  # a report that was written before trends had names
        del each["trend_check"]
    assert trends_of(found, "USD") == ()


@pytest.mark.parametrize(("value", "unit", "said"), [
    (0.4, "share", "40%"), (0.051, "share of all", "5.1%"), (61.0, "money a week", "$61"), (0.97, "times", "0.97 times"),
    (-0.034, "AUC", "−0.034 AUC"), (189.0, "days", "189 days"), (12345.0, "decisions", "12,345 decisions"), (0.0, "", "0"),
])  # fmt: skip
def test_figures_are_as_short_as_can_be(value, unit, said) -> None:
    assert amount(value, unit, "USD") == said


def test_an_alarm_without_an_alert_is_told_all_the_same_and_only_once() -> None:
    found = report(week(), week("invariants.nulls", subjects=("spend", "visits")))
    (case,) = cases_of(found)
    assert case.alert == "" and "visits" in case.sentence and case.first == case.last == "27 November 2017"
    told = alert(
        cause="invariants.nulls", shows=json.dumps(["invariants.nulls/spend", "invariants.nulls/visits"])
    )
    assert [each.alert for each in cases_of(found | {"alerts": [told]})] == [told["alert"]]
    assert len(cases_of(found | {"alerts": [told | {"state": "resolved"}]})) == 1


def test_what_follows_from_a_cause_stands_on_its_card_and_is_no_case_of_its_own():
    found = report(week("invariants.nulls", "quality.money"))
    told = alert(
        cause="invariants.nulls",
        shows=["invariants.nulls", "drift.feature/a", "drift.feature/b", "quality.money"],
    )
    (case,) = cases_of(found | {"alerts": [told]})
    assert case.with_it == "drift.feature (2), quality.money"
    assert "<b>With it:</b> drift.feature (2), quality.money" in card(case, "USD")
    (plain,) = cases_of(report(week(), alerts=[alert()]))
    assert plain.with_it == "" and "With it" not in card(plain, "USD")


def test_what_nobody_has_taken_comes_before_what_is_acknowledged() -> None:
    taken = alert(
        1,
        state="acknowledged",
        changed_by="Ada",
        changed_at="2017-12-05T09:00:00",
        note="the feed <was> renamed",
    )
    first, second, third = cases_of(report(week(), alerts=[taken, alert(2, severity="warning"), alert(3)]))
    assert (first.alert[:2], second.alert[:2], third.alert[:2]) == ("03", "02", "01")
    assert third.answered == "Acknowledged by Ada on 5 December 2017: the feed <was> renamed"
    assert first.often == "seen 2 times, from 27 November 2017 to 4 December 2017"


def test_whether_a_new_model_pays_is_said_without_its_verb_twice() -> None:
    said = advice_of({"decision": "wait", "reason": "Wait: a new model is expected to bring −$300. More."})
    assert (said.value, said.note) == ("does not pay now", "A new model is expected to bring −$300. More.")
    assert advice_of({"decision": "retrain", "reason": "because: of drift"}).note == "Because: of drift"


def test_a_planted_fault_is_named() -> None:
    assert (
        view_of(Look(report(week(), fault="unit_change")), NOW).planted == "Planted on purpose: unit change."
    )
    assert view_of(
        Look(report(week(), fault="unit_change"), planted="Planted on purpose: cents."), NOW
    ).planted.endswith("cents.")
    assert view_of(Look(report(week())), NOW).planted == ""


# Other pages -----------------------------------------------------------------------------------------------


def test_an_amount_is_cautioned_only_by_what_it_rests_on() -> None:
    def said(*ill: str) -> str:
        return caution(Look(report(week(*ill))), NOW, replayed=True)

    assert said() == "" and said("performance.failed") == ""
    assert (
        said("invariants.nulls", "quality.money")
        == "This rests on something that is no longer healthy: inputs and predictions."
    )


def test_a_replay_speaks_of_a_replay_and_production_of_production() -> None:
    ill = week("invariants.nulls")
    assert caution(live(ill), NOW, replayed=True) == "" and caution(Look(), NOW, replayed=True) == ""
    assert "Nobody has looked" in caution(Look(report(week())), NOW, replayed=False)
    assert "Nobody has looked" in caution(Look(), NOW, replayed=False)
    assert caution(live(week()), NOW, replayed=False) == "" and "inputs" in caution(
        live(ill), NOW, replayed=False
    )
    assert "looked last" in caution(live(week(), at=NOW - timedelta(days=30)), NOW, replayed=False)


# As HTML ---------------------------------------------------------------------------------------------------


def test_every_state_has_a_word_and_a_sign_beside_its_colour() -> None:
    shown = rows(view_of(Look(report(week(), week("invariants.nulls", unknown=("quality.money",)))), NOW))
    for status, sign in (("fine", "✓"), ("alarm", "✕"), ("unknown", "?")):
        assert re.search(rf'<i class="mlw-is-{status}" title="[^"]+">{re.escape(sign)}</i>', shown)
        assert f'mlw-state mlw-is-{status}"><b aria-hidden="true">{sign}</b>' in shown
    assert 'aria-label="20 Nov fine, 27 Nov alarm"' in shown


def test_whatever_comes_from_a_report_is_text() -> None:
    view = view_of(
        Look(report(week("invariants.nulls"), alerts=[alert(), alert(1, evidence="javascript:alert(1)")])),
        NOW,
    )
    shown = rows(view) + cards(view.cases, "USD", "notebooks?stage=Monitor") + opening(view, "<Offers>")
    assert (
        "<of>" not in shown
        and "&lt;of&gt;" in shown
        and "<Offers>" not in shown
        and 'href="javascript' not in shown
    )
    assert "<code>deploy/OPERATIONS.md#inputs-are-not-as-in-training</code>" in shown


def test_many_alerts_are_folded_behind_the_first() -> None:
    view = view_of(Look(report(week(), alerts=[alert(number) for number in range(11)])), NOW)
    shown = cards(view.cases, "USD")
    assert len(view.cases) == 11 and "<summary>7 more</summary>" in shown and shown.count("<article") == 11
    assert shown.index("<details") > [found.start() for found in re.finditer("<article", shown)][3]


def test_a_course_of_one_day_and_one_of_no_distance_can_be_drawn() -> None:
    (trend, *_) = trends_of(report(week()), "USD")
    assert "polygon" not in course(trend) and course(trend).count("<b ") == 1
    places = [
        float(place)
        for place in re.findall(r"top:([\d.]+)%", multiples(trends_of(report(*[week()] * 5), "USD")))
    ]
    assert places and all(0 <= place <= 100 for place in places)


def test_the_line_for_other_pages_leads_to_health() -> None:
    assert (
        caution_line("") == ""
        and 'href="health"' in caution_line("Ill <now>.")
        and "<now>" not in caution_line("Ill <now>.")
    )


# The report ------------------------------------------------------------------------------------------------


def test_a_report_of_another_shape_is_named(tmp_path) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/monitor.json").write_text('{"replayed": true, "periods": []}')
    with pytest.raises(WorkbenchError, match="monitor"):
        reported(tmp_path)
