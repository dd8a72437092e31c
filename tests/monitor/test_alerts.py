"""From readings to alerts: one for each cause, as long as it lasts, whoever looks and however often."""

import threading
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_workbench.database.connections import transaction
from ml_workbench.database.tables import table_of
from ml_workbench.monitor.alerts import Changes, Scene, after, alerts_from, in_short
from ml_workbench.monitor.causes import by_root, explained
from ml_workbench.monitor.checks import Check, Reading
from ml_workbench.monitor.handling import acknowledge, handle, read_alerts, resolve, say
from ml_workbench.plan.errors import MonitorError
from ml_workbench.serve.logs import Log

FIRST = datetime(2017, 11, 20, 5)
CHECKS = {
    each.name: each
    for each in (
        Check(
            "dependencies.schema",
            "The source has the columns it had",
            0,
            "data",
            "Ask the source.",
            critical=True,
        ),
        Check(
            "invariants.nulls",
            "Columns are as complete as in training",
            0.05,
            "data",
            "Ask the source.",
            critical=True,
            about="feature",
        ),
        Check(
            "skew.features",
            "What is served is what training computes",
            0,
            "service",
            "Compare the two.",
            about="feature",
        ),
        Check(
            "drift.features",
            "Features are distributed as in training",
            0.2,
            "model",
            "Look upstream.",
            about="feature",
        ),
        Check("drift.score", "Scores are distributed as in training", 0.2, "model", "Look at the features."),
        Check(
            "quality.auc",
            "It ranks as well as before",
            0.04,
            "model",
            "Look at the scores.",
            critical=True,
            rests_on=("drift.score",),
        ),
        Check(
            "quality.slices",
            "Every slice is ranked as well as before",
            0.1,
            "model",
            "Look at the slice.",
            about="group",
        ),
        Check("performance.latency", "Answers are as fast as before", 1.5, "service", "Profile it."),
    )
}
OWNERS = {"data": "Data engineering", "model": "Data science", "service": "ML engineering"}


def seen(
    check: str, subject: str = "", status: str = "alarm", value: float | None = 0.4, **details: object
) -> Reading:
    return Reading(
        check, subject, status, value, CHECKS[check].limit, 1000, f"{check} {subject} is {status}.", details
    )


def scene(week: int = 0, release: str = "xgboost aa", **other: object) -> Scene:
    return Scene(FIRST + timedelta(weeks=week), release, CHECKS, OWNERS, **other)


def course(*weeks: list[Reading], release: str = "xgboost aa") -> tuple:
    "What is known after some weeks."
    known: tuple = ()
    for week, readings in enumerate(weeks):
        known = after(known, alerts_from(readings, known, scene(week, release)))
    return known


def told(changes: Changes) -> dict[str, list[str]]:
    return {
        name: [each.cause for each in getattr(changes, name)]
        for name in ("opened", "worse", "seen", "resolved")
        if getattr(changes, name)
    }


# One alert for each cause ----------------------------------------------------------------------------------


def test_a_failed_check_is_an_alert_with_everything_one_needs():
    (alert,) = alerts_from(
        [seen("invariants.nulls", "spend", money_per_week=41.5)], [], scene(evidence="reports/monitor.json")
    ).opened
    assert (alert.cause, alert.severity, alert.owner) == (
        "invariants.nulls/spend",
        "critical",
        "Data engineering",
    )
    assert alert.title == "No longer so: columns are as complete as in training (spend)"
    assert alert.sentence == "invariants.nulls spend is alarm." and alert.remedy == "Ask the source."
    assert alert.evidence == "reports/monitor.json#invariants.nulls/spend" and alert.money_per_week == 41.5
    assert (alert.first_seen, alert.last_seen, alert.seen, alert.state) == (FIRST, FIRST, 1, "open")


def test_nothing_but_an_alarm_begins_an_alert():
    readings = [seen("drift.score", status=status) for status in ("fine", "watch", "unknown")]
    assert alerts_from(readings, [], scene()).all == ()


def test_a_broken_column_that_shows_as_nulls_skew_and_drift_is_one_alert_named_after_its_root():
    readings = [seen(check, "spend") for check in ("drift.features", "skew.features", "invariants.nulls")]
    (alert,) = alerts_from(readings, [], scene()).opened
    assert alert.shows == ("invariants.nulls/spend", "skew.features/spend", "drift.features/spend")
    assert alert.causes == ("invariants.nulls/spend",) and alert.effects == alert.shows[1:]
    assert alert.sentence.endswith("With it: skew.features spend is alarm. drift.features spend is alarm.")


def test_a_warning_beside_a_critical_reading_is_critical():
    (alert,) = alerts_from([seen("drift.features", "a"), seen("invariants.nulls", "a")], [], scene()).opened
    assert alert.severity == "critical"


def test_twenty_drifting_features_are_one_alert_that_lists_them_worst_first():
    readings = [seen("drift.features", f"f{place:02}", value=0.3 + place / 100) for place in range(20)]
    (alert,) = alerts_from(readings, [], scene()).opened
    assert alert.cause == "drift.features" and len(alert.shows) == 20
    assert "In all 20, the worst first: f19, f18," in alert.sentence and alert.title.endswith("(20 of them)")


def test_two_features_are_two_alerts_and_three_are_one():
    def causes(count: int) -> list[str]:
        return told(
            alerts_from([seen("drift.features", f"f{place}") for place in range(count)], [], scene())
        )["opened"]

    assert causes(2) == ["drift.features/f0", "drift.features/f1"] and causes(3) == ["drift.features"]


def test_subjects_join_a_complaint_about_the_whole():
    (alert,) = alerts_from([seen("drift.features"), seen("drift.features", "a")], [], scene()).opened
    assert alert.cause == "drift.features" and alert.shows == ("drift.features", "drift.features/a")


def test_a_slice_and_a_release_of_the_same_name_have_nothing_in_common():
    changes = alerts_from(
        [seen("quality.slices", "north"), seen("performance.latency", "north")], [], scene()
    )
    assert sorted(told(changes)["opened"]) == ["performance.latency/north", "quality.slices/north"]


def test_many_broken_columns_are_one_alert_although_each_shows_in_several_checks():
    readings = [
        seen(check, f"f{place}") for place in range(4) for check in ("drift.features", "invariants.nulls")
    ]
    (alert,) = alerts_from(readings, [], scene()).opened
    assert alert.cause == "invariants.nulls" and len(alert.shows) == 8
    assert len(alert.causes) == 4 and alert.sentence.endswith(
        "With it: No longer so for 4: features are distributed as in training (f0, f1, f2, f3)."
    )


def test_a_reading_of_an_undeclared_check_is_a_mistake():
    with pytest.raises(
        MonitorError, match=r"'invariants\.null', which nobody declared: did you mean 'invariants\.nulls'"
    ):
        alerts_from([Reading("invariants.null", "", "alarm", 1.0, 0.1, 9, "x")], [], scene())


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(CHECKS)), st.sampled_from(["", "a", "b", "c", "d"])), unique=True
    )
)
def test_every_alarm_is_in_exactly_one_group_whatever_their_order(pairs):
    readings = [seen(check, subject) for check, subject in pairs]
    groups = by_root(explained(readings, CHECKS), CHECKS)
    assert sorted(name for group in groups for name in group.names) == sorted(each.cause for each in readings)
    turned = by_root(explained(readings[::-1], CHECKS), CHECKS)
    assert {each.names for each in groups} == {each.names for each in turned}


# As long as it lasts ---------------------------------------------------------------------------------------


def test_what_is_known_is_seen_again_and_not_told_again():
    known = course(*[[seen("drift.score")]] * 3)
    assert [(each.seen, each.first_seen, each.last_seen) for each in known] == [
        (3, FIRST, FIRST + timedelta(weeks=2))
    ]


@pytest.mark.parametrize(
    ("status", "state", "count"), [("watch", "open", 2), ("unknown", "open", 1), ("fine", "resolved", 1)]
)
def test_what_the_next_period_means_for_an_open_alert(status, state, count):
    (alert,) = course([seen("drift.score")], [seen("drift.score", status=status)])
    assert (alert.state, alert.seen) == (state, count)


def test_an_alert_whose_check_was_not_made_stays_open():
    (alert,) = course([seen("drift.score")], [seen("invariants.nulls", "spend", "fine")])
    assert alert.state == "open" and alert.last_seen == FIRST


def test_a_subject_that_the_check_no_longer_names_is_fine():
    (alert,) = course([seen("drift.features", "a")], [seen("drift.features", "b", "fine")])
    assert alert.state == "resolved" and alert.changed_by == "monitor"
    (alert,) = course([seen("drift.features", "a")], [seen("drift.features", "b", "unknown")])
    assert alert.state == "open"


def test_an_alert_is_over_when_its_cause_is_and_what_stays_is_an_alert_of_its_own():
    both = [seen("invariants.nulls", "a"), seen("drift.features", "a")]
    half = [seen("invariants.nulls", "a", "fine"), seen("drift.features", "a")]
    cause, effect = course(both, half)
    assert (cause.cause, cause.state, cause.changed_by) == ("invariants.nulls/a", "resolved", "monitor")
    assert (effect.cause, effect.state, effect.first_seen) == (
        "drift.features/a",
        "open",
        FIRST + timedelta(weeks=1),
    )
    assert effect.severity == "warning", "the column was critical, its drift is not"
    fine = [replace(each, status="fine") for each in both]
    assert [each.state for each in course(both, half, fine)] == ["resolved", "resolved"]


def test_an_alert_of_which_half_of_the_causes_are_fine_goes_on_and_does_not_become_harmless():
    many = [seen("invariants.nulls", name) for name in "abc"]
    (alert,) = course(many, [many[0], *(replace(each, status="fine") for each in many[1:])])
    assert (alert.state, alert.shows, alert.severity) == ("open", ("invariants.nulls/a",), "critical")


def test_what_follows_from_something_unknown_stays_with_it():
    both = [seen("invariants.nulls", "a"), seen("drift.features", "a")]
    unsure = [seen("invariants.nulls", "", "unknown", None), seen("drift.features", "a")]
    (alert,) = course(both, unsure)
    assert alert.cause == "invariants.nulls/a" and alert.seen == 2
    assert alert.shows == ("invariants.nulls/a", "drift.features/a")
    (alert,) = course(both, unsure, [replace(each, status="unknown") for each in unsure])
    assert (alert.state, alert.seen) == ("open", 2)


def test_what_follows_may_make_an_alert_worse():
    first = [seen("drift.score")]
    known = course(first)
    changes = alerts_from([*first, seen("quality.auc")], known, scene(1))
    assert told(changes) == {"worse": ["drift.score"]} and changes.worse[0].effects == ("quality.auc",)
    unsure = [seen("drift.score", "", "unknown", None), seen("quality.auc")]
    (alert,) = course([*first, seen("quality.auc")], unsure)
    assert alert.severity == "critical" and alert.effects == ("quality.auc",)


def test_an_alert_that_turns_out_to_follow_from_another_one_ends_with_a_note():
    known = course([seen("drift.score", status="fine"), seen("quality.auc")])
    known = (*known, *course([seen("drift.score")], release="xgboost aa"))
    assert [each.cause for each in known] == ["quality.auc", "drift.score"]
    changes = alerts_from([seen("drift.score"), seen("quality.auc")], known, scene(1))
    assert told(changes) == {"worse": ["drift.score"], "resolved": ["quality.auc"]}
    assert changes.resolved[0].note == f"it follows from what alert {changes.worse[0].alert} is about"
    known = after(known, changes)
    assert alerts_from([seen("drift.score"), seen("quality.auc")], known, scene(1)).all == ()


def test_a_watched_value_explains_an_alarm_and_gives_it_its_name():
    (alert,) = course([seen("drift.score", status="watch"), seen("quality.auc")])
    assert alert.shows == ("drift.score", "quality.auc") and alert.cause == "drift.score"


def test_labels_that_come_late_add_to_the_alert_that_explains_them_also_when_it_is_over():
    shifted, fine = seen("drift.score"), seen("drift.score", status="fine")
    for weeks in ([shifted, shifted], [shifted, fine]):
        known = course(*([each] for each in weeks))
        changes = alerts_from([shifted, seen("quality.auc")], known, scene(0))
        (alert,) = changes.all
        assert alert.effects == ("quality.auc",) and alert.severity == "critical"
        assert "As is known since, in the period up to 2017-11-20: quality.auc  is alarm." in alert.sentence
        assert (alert.state, alert.last_seen) == (known[0].state, known[0].last_seen)
        assert told(changes) == ({"worse": ["drift.score"]} if alert.going_on else {"seen": ["drift.score"]})
        known = after(known, changes)
        assert alerts_from([shifted, seen("quality.auc")], known, scene(0)).all == ()


def test_what_a_person_called_over_does_not_hide_what_is_learnt_since():
    (alert,) = course([seen("drift.score")])
    over = replace(alert, state="resolved", changed_by="Ada", note="meant")
    changes = alerts_from([seen("drift.score"), seen("quality.auc")], [over], scene(0))
    assert told(changes) == {"opened": ["quality.auc"]}


def test_the_same_period_with_labels_that_were_corrected_keeps_its_one_alert():
    both = [seen("drift.score"), seen("quality.auc")]
    known = course(both)
    corrected = [seen("drift.score", status="fine"), seen("quality.auc")]
    known = after(known, alerts_from(corrected, known, scene(0)))
    assert [(each.cause, each.shows) for each in known] == [("quality.auc", ("quality.auc",))]
    assert alerts_from(corrected, known, scene(0)).all == ()


def test_the_same_period_again_without_what_was_alarming_decides_nothing():
    known = course([seen("drift.score")])
    fine = [seen("drift.score", status="fine")]
    assert alerts_from(fine, known, scene(0)).all == (), "the next period does"
    assert told(alerts_from(fine, known, scene(1))) == {"resolved": ["drift.score"]}


def test_what_follows_is_counted_check_by_check():
    effects = ["drift.features", "skew.feature/a", "skew.feature/b"]
    assert in_short(effects) == "drift.features, skew.feature (2)" and in_short([]) == ""


def test_what_was_seen_earlier_and_is_unknown_now_is_said():
    first = [seen("drift.score"), seen("quality.auc")]
    (alert,) = course(first, [seen("drift.score"), seen("quality.auc", "", "unknown", None)])
    assert alert.effects == ("quality.auc",)
    assert alert.sentence.endswith("Seen earlier, and nothing can be said now: quality.auc.")


def test_what_returns_after_it_was_fine_is_another_alert():
    bad, fine = [seen("drift.score")], [seen("drift.score", status="fine")]
    old, new = course(bad, fine, bad)
    assert (
        old.alert != new.alert
        and (old.state, new.state) == ("resolved", "open")
        and new.first_seen == FIRST + timedelta(weeks=2)
    )


def test_the_cause_is_found_nearer_to_the_root_and_the_alert_stays_the_same():
    before, now = (
        course([seen("drift.features", "a")]),
        course([seen("drift.features", "a")], [seen("drift.features", "a"), seen("invariants.nulls", "a")]),
    )
    assert [each.alert for each in before] == [each.alert for each in now]
    assert now[0].cause == "invariants.nulls/a" and now[0].severity == "critical"


def test_a_warning_that_becomes_critical_is_told_as_worse():
    known = course([seen("drift.features", "a")])
    assert told(
        alerts_from([seen("drift.features", "a"), seen("invariants.nulls", "a")], known, scene(1))
    ) == {"worse": ["invariants.nulls/a"]}


def test_further_subjects_join_the_alert_that_lists_many():
    many = [seen("drift.features", f"f{place}") for place in range(3)]
    (alert,) = course(many, [*many, seen("drift.features", "f9")])
    assert len(alert.shows) == 4 and alert.seen == 2
    (alert,) = course(many, many[:1])
    assert alert.cause == "drift.features", "it keeps its name when fewer are left"


# Whoever looks, and however often --------------------------------------------------------------------------


def test_the_same_period_again_changes_nothing():
    readings = [seen("drift.score"), seen("invariants.nulls", "a"), seen("drift.features", "a")]
    known = course(readings, readings)
    assert alerts_from(readings, known, scene(1)).all == ()


def test_an_earlier_period_looked_at_later_neither_ends_nor_repeats_anything():
    known = course([seen("drift.score")], [seen("drift.score")])
    assert alerts_from([seen("drift.score", status="fine")], known, scene(0)).all == ()
    assert alerts_from([seen("drift.score")], known, scene(0)).all == ()


def test_another_release_that_is_live_has_alerts_of_its_own():
    known = course([seen("drift.score")])
    changes = alerts_from(
        [seen("drift.score", status="fine")], known, scene(1, "mlp bb", live=frozenset({"xgboost aa"}))
    )
    assert changes.all == ()
    changes = alerts_from([seen("drift.score")], known, scene(0, "mlp bb", live=frozenset({"xgboost aa"})))
    assert told(changes) == {"opened": ["drift.score"]} and changes.opened[0].alert != known[0].alert


def test_what_a_release_that_is_gone_left_open_goes_on_or_ends_under_the_new_one():
    known = course([seen("drift.score")])
    (goes_on,) = alerts_from([seen("drift.score")], known, scene(1, "mlp bb")).seen
    assert goes_on.release == "mlp bb" and goes_on.alert == known[0].alert
    assert told(alerts_from([seen("drift.score", status="fine")], known, scene(1, "mlp bb"))) == {
        "resolved": ["drift.score"]
    }


STATUS = st.sampled_from(["fine", "watch", "alarm", "unknown"])


@settings(max_examples=60)
@given(
    st.lists(
        st.lists(
            st.tuples(
                st.sampled_from(
                    [("invariants.nulls", each) for each in "abcd"]
                    + [("drift.features", each) for each in "abcd"]
                    + [("drift.score", ""), ("quality.auc", ""), ("quality.slices", "a")]
                ),
                STATUS,
            ),
            unique_by=lambda each: each[0],
            max_size=8,
        ),
        max_size=6,
    ),
    st.lists(st.integers(0, 5), min_size=6, max_size=6),
)
def test_at_any_time_each_cause_is_in_one_open_alert_and_every_alarm_in_some(weeks, back):
    known: tuple = ()
    for week, rows in enumerate(weeks):
        rows = [(check, subject, status) for (check, subject), status in rows]
        readings = [seen(check, subject, status) for check, subject, status in rows]
        known = after(known, alerts_from(readings, known, scene(week)))
        assert alerts_from(readings, known, scene(week)).all == ()
        shown = [cause for each in known if each.going_on for cause in each.shows]
        assert len(shown) == len(set(shown))
        assert {each.cause for each in readings if each.status == "alarm"} <= set(shown)
        assert not {each.cause for each in readings if each.status == "fine"} & set(shown)
        assert all(each.causes for each in known), "an alert without a cause"
        assert len({each.alert for each in known}) == len(known)
        earlier = scene(max(0, week - back[week]))  # labels that came late
        again = after(known, alerts_from(readings, known, earlier))
        assert alerts_from(readings, again, earlier).all == (), "told twice"


# In the table ----------------------------------------------------------------------------------------------


def test_alerts_come_back_from_the_table_as_they_went_in(engine):
    opened = handle(
        engine, [seen("invariants.nulls", "a", money_per_week=12.5), seen("drift.features", "a")], scene()
    ).opened
    assert tuple(read_alerts(engine)) == opened


def test_a_course_in_the_table_is_the_course_in_memory(engine):
    weeks = [
        [seen("drift.score")],
        [seen("drift.score", status="fine")],
        [seen("drift.score"), seen("quality.slices", "b")],
    ]
    for week, readings in enumerate(weeks):
        handle(engine, readings, scene(week, at=FIRST + timedelta(weeks=week)))
    assert tuple(read_alerts(engine, everything=True)) == course(*weeks)


def test_two_monitors_at_once_write_every_alert_once(engine):
    readings = [
        seen("drift.score"),
        seen("invariants.nulls", "a"),
        *(seen("quality.slices", each) for each in "xy"),
    ]
    barrier, results = threading.Barrier(4), []

    def look() -> None:
        barrier.wait()
        results.append(handle(engine, readings, scene()))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(len(each.opened) for each in results) == [0, 0, 0, 4]
    assert [each.seen for each in read_alerts(engine)] == [1, 1, 1, 1]


def test_who_acknowledges_is_not_overwritten_by_the_next_period(engine):
    (alert,) = handle(engine, [seen("drift.score")], scene()).opened
    acknowledge(engine, alert.alert[:5], by="Ada", note="a campaign")
    handle(engine, [seen("drift.score")], scene(1))
    (found,) = read_alerts(engine)
    assert (found.state, found.changed_by, found.note, found.seen) == ("acknowledged", "Ada", "a campaign", 2)


def test_what_is_resolved_by_hand_opens_anew_when_it_still_shows_in_the_next_period(engine):
    (alert,) = handle(engine, [seen("drift.score")], scene()).opened
    resolve(engine, alert.alert, by="Ada", note="meant")
    assert handle(engine, [seen("drift.score")], scene()).all == (), "the same period again does not"
    assert [each.cause for each in handle(engine, [seen("drift.score")], scene(1)).opened] == ["drift.score"]


def test_only_one_of_two_people_resolves_an_alert_and_the_other_is_told_who(engine):
    (alert,) = handle(engine, [seen("drift.score")], scene()).opened
    barrier, said = threading.Barrier(2), []

    def end(name: str) -> None:
        barrier.wait()
        try:
            said.append(resolve(engine, alert.alert, by=name, note="done").changed_by)
        except MonitorError as error:
            said.append(str(error))

    threads = [threading.Thread(target=end, args=(name,)) for name in ("Ada", "Bob")]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    winner = next(each for each in said if each in ("Ada", "Bob"))
    assert any(f"is over: resolved by {winner}" in each for each in said)


@pytest.mark.parametrize(("by", "note"), [("", "x"), ("Ada", " ")])
def test_nobody_acknowledges_without_a_name_and_a_note(engine, by, note):
    (alert,) = handle(engine, [seen("drift.score")], scene()).opened
    with pytest.raises(MonitorError, match="give --by and --note"):
        acknowledge(engine, alert.alert, by=by, note=note)


def test_an_unknown_or_ambiguous_name_is_told_with_what_there_is(engine):
    with pytest.raises(MonitorError, match="no alert 'zz'; open: none"):
        acknowledge(engine, "zz", by="Ada", note="x")
    (alert,) = handle(engine, [seen("drift.score")], scene()).opened
    with pytest.raises(MonitorError, match=f"open: {alert.alert}"):
        resolve(engine, "zz", by="Ada", note="x")
    with transaction(engine) as connection:
        connection.execute(
            sa.insert(table_of("alerts")), [replace(alert, alert=alert.alert[:4] + "x").as_row()]
        )
    with pytest.raises(MonitorError, match="2 alerts begin with"):
        resolve(engine, alert.alert[:4], by="Ada", note="x")


def test_every_change_is_a_line_on_standard_output(capsys):
    say(Log(), alerts_from([seen("drift.score"), seen("invariants.nulls", "a")], [], scene()))
    lines = capsys.readouterr().out.splitlines()
    assert all('"effects": []' in each for each in lines)
    assert ['"level": "error"' in each for each in lines] == [True, False] and all(
        '"event": "alert opened"' in each for each in lines
    )
