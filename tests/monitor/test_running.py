"""A look is taken once however often it is run; late labels replace what was said; two at once do not meet."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import sqlalchemy as sa

from ml_workbench.database.connections import transaction
from ml_workbench.database.tables import table_of
from ml_workbench.monitor.checks import MONITORS, STATUSES, Reading
from ml_workbench.monitor.losses import Loss
from ml_workbench.monitor.running import (
    ALL,
    BACK,
    CHECKS,
    LEADS,
    alerts_in,
    alone,
    at_stake,
    in_a_row,
    look_at_database,
    look_at_folder,
    looked_before,
    place_of,
    readings_table,
    report_of,
    stake_in,
    worst,
    write_looked,
)
from ml_workbench.plan.charter import MONTH, money
from ml_workbench.plan.errors import MonitorError
from ml_workbench.plan.files import rounded, write_json
from ml_workbench.plan.settings import Settings
from ml_workbench.release.bundle import bundle_of
from tests.monitor.shop import (
    BUNDLE,
    MONDAY,
    RELEASE,
    WEEK,
    as_folder,
    as_records,
    by_check,
    place,
    released,
    shop,
)
from tests.release.small import CHARTER

GUIDE = Path(__file__).resolve().parents[2] / "deploy" / "OPERATIONS.md"


def rows(records, name: str) -> list:
    with transaction(records.engine, reading=True) as connection:
        return [dict(each) for each in connection.execute(sa.select(table_of(name))).mappings()]


# Declared --------------------------------------------------------------------------------------------------


def test_every_check_is_declared_once_in_a_monitor_that_exists_by_a_role_that_answers():
    assert len({each.name for each in CHECKS}) == len(CHECKS) > 40
    assert {each.monitor for each in CHECKS} == set(MONITORS) == set(LEADS)
    assert {each.role for each in CHECKS} == {"data", "model", "service", "business"}
    assert all(name in {each.name for each in CHECKS} for names in LEADS.values() for name in names)


def test_every_line_of_the_runbook_that_a_check_names_exists():
    headings = {
        line.lstrip("# ").lower().replace(" ", "-")
        for line in GUIDE.read_text().splitlines()
        if line.startswith("#")
    }
    named = {each.remedy.split("OPERATIONS.md#")[1] for each in CHECKS if "OPERATIONS.md#" in each.remedy}
    assert len(named) == 7 and named <= headings


# A folder --------------------------------------------------------------------------------------------------


def test_a_healthy_shop_raises_nothing_and_every_monitor_answers(tmp_path):
    looked = look_at_folder(place(tmp_path), as_folder(tmp_path / "replay", shop()))
    assert [each.end for each in looked] == [MONDAY + number * WEEK for number in range(1, 7)]
    assert {each.cause for one in looked for each in one.readings if each.status == "alarm"} == set()
    assert {each.monitor for each in looked[-1].readings} == set(MONITORS)
    assert alerts_in(looked, place(tmp_path)) == ()


def test_the_same_look_is_the_same_report_byte_for_byte(tmp_path):
    folder, here = as_folder(tmp_path / "replay", shop(weeks=3)), place(tmp_path)
    for name in ("one", "two"):
        write_json(tmp_path / name, report_of(look_at_folder(here, folder), here, records="replay"))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_report_holds_what_pages_and_score_card_read(tmp_path):
    here = place(tmp_path)
    looked = look_at_folder(here, as_folder(tmp_path / "replay", shop(weeks=2)))
    report = json.loads(json.dumps(report_of(looked, here, records="replay", alerts=alerts_in(looked, here))))
    assert {
        "replayed",
        "fault",
        "release",
        "generated_from",
        "periods",
        "monitors",
        "alerts",
        "business",
        "money_at_stake_per_week",
        "at_stake",
        "sentence",
    } == set(report)
    assert report["release"] == RELEASE and report["replayed"] is True
    for reading in report["periods"][-1]["readings"]:
        assert {
            "check",
            "subject",
            "status",
            "value",
            "limit",
            "count",
            "sentence",
            "details",
            "estimate",
            "monitor",
            "title",
            "owner",
            "remedy",
            "unit",
        } <= set(reading)
        assert reading["status"] in STATUSES and reading["sentence"].endswith(".")
    for monitor in report["monitors"]:
        assert {"name", "title", "status", "sentence", "owner", "trend", "trend_check"} <= set(
            monitor
        ) and len(monitor["course"]) == 2
    assert len(readings_table(looked, here)) == sum(len(each.readings) for each in looked)


@pytest.mark.parametrize(
    ("options", "causes"),
    [
        (
            {
                "change": lambda week, rows: rows.assign(
                    usual_weekly_spend=rows["usual_weekly_spend"] * (100 if week >= 2 else 1)
                )
            },
            {"invariants.scale/usual_weekly_spend"},
        ),
        (
            {"change": lambda week, rows: rows.assign(visits_4w=rows["visits_4w"] * (week < 2))},
            {"invariants.constant/visits_4w"},
        ),
        (
            {
                "change": lambda week, rows: rows.assign(
                    usual_weekly_spend=rows["usual_weekly_spend"].where(rows["member"] * (week < 2) > 0)
                )
            },
            {"invariants.nulls/usual_weekly_spend"},
        ),
        (
            {
                "change": lambda week, rows: rows.sample(
                    frac=0.3 if week >= 2 else 1.0, random_state=1
                ).sort_values("member")
            },
            {"invariants.rows"},
        ),
        (
            {"latency": lambda week: 0.2 if week < 2 else 0.9},
            {"performance.latency/service", "performance.tail/service"},
        ),
        ({"memory": lambda days: 200 + 15 * max(0, days - 14)}, {"performance.memory/service"}),
        ({"leaving": 0.5}, {"quality.calibration", "quality.base_rate"}),
    ],
    ids=["cents", "constant", "empty", "rows", "slow", "leak", "shift"],
)
def test_a_fault_is_found_in_the_period_in_which_it_begins(tmp_path, options, causes):
    looked = look_at_folder(place(tmp_path), as_folder(tmp_path / "replay", shop(weeks=4, **options)))
    alarms = [{each.cause for each in one.readings if each.status == "alarm"} for one in looked]
    assert causes <= alarms[2]
    if "leaving" not in options:
        assert not alarms[0] and not alarms[1]


def test_an_alert_is_opened_once_and_goes_on_while_its_cause_does(tmp_path):
    here = place(tmp_path)
    looked = look_at_folder(
        here, as_folder(tmp_path / "replay", shop(weeks=4, latency=lambda week: 0.2 if week < 2 else 0.9))
    )
    (alert,) = alerts_in(looked, here)
    assert alert.shows == ("performance.latency/service", "performance.tail/service")
    assert (alert.first_seen, alert.last_seen, alert.seen, alert.owner) == (
        MONDAY + 3 * WEEK,
        MONDAY + 4 * WEEK,
        2,
        "ML engineering",
    )


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        (
            {
                "change": lambda week, rows: rows.assign(
                    usual_weekly_spend=rows["usual_weekly_spend"] * (100 if week >= 2 else 1)
                )
            },
            "invariants.scale",
        ),
        ({"leaving": 0.5}, "quality.base_rate"),
    ],
    ids=["cents", "shift"],
)
def test_whatever_follows_from_a_fault_is_told_with_it(tmp_path, options, cause):
    here = place(tmp_path)
    looked = look_at_folder(here, as_folder(tmp_path / "replay", shop(weeks=4, **options)))
    (alert,) = (each for each in alerts_in(looked, here) if each.going_on)
    assert alert.cause.partition("/")[0] == cause
    assert {each.cause for each in looked[-1].readings if each.status == "alarm"} <= {*alert.shows}


def test_one_may_look_as_one_would_have_looked_then(tmp_path):
    folder = as_folder(tmp_path / "replay", shop())
    (then,) = look_at_folder(place(tmp_path), folder, as_of=MONDAY + WEEK)
    now = look_at_folder(place(tmp_path), folder, period=MONDAY + WEEK)[0]
    known = {each.check: each.status for each in then.readings}
    assert (
        known["quality.auc"] == "unknown"
        and {each.check: each.status for each in now.readings}["quality.auc"] == "fine"
    )
    with pytest.raises(MonitorError, match="no period ends at 2024-07-23"):
        look_at_folder(place(tmp_path), folder, period=MONDAY + timedelta(days=8))


def test_a_history_of_one_day_is_looked_at_and_says_what_it_does_not_know(tmp_path):
    (only,) = look_at_folder(place(tmp_path), as_folder(tmp_path / "replay", shop(weeks=1, outcomes=False)))
    assert {each.status for each in only.readings} == {"fine", "unknown"}


def test_an_empty_period_is_an_alarm_and_no_crash(tmp_path):
    tables = shop(weeks=4)
    gap = pa.scalar(MONDAY + 2 * WEEK, pa.timestamp("us"))
    for name in ("served", "predictions", "exposures"):
        tables[name] = tables[name].filter(pc.not_equal(tables[name]["as_of"], gap))
    looked = look_at_folder(place(tmp_path), as_folder(tmp_path / "replay", tables))
    third = {each.cause: each for each in looked[2].readings}
    assert third["invariants.rows"].status == "alarm" and third["invariants.nulls"].status == "unknown"
    assert {each.cause for each in looked[3].readings if each.status == "alarm"} == set()


def test_a_release_that_is_gone_leaves_the_other_monitors_speaking(tmp_path):
    tables = shop(weeks=2)
    lost = pa.array(["f" * 64] * len(tables["served"]))
    tables["served"] = tables["served"].set_column(
        tables["served"].schema.get_field_index("release"), "release", lost
    )
    looked = look_at_folder(place(tmp_path), as_folder(tmp_path / "replay", tables))
    assert looked[-1].problem and {
        each.status for each in looked[-1].readings if each.monitor == "quality"
    } == {"unknown"}
    assert {each.check for each in looked[-1].readings if each.status == "fine"} >= {
        "invariants.rows",
        "performance.latency",
        "numbers.propensities",
    }


def test_a_folder_without_decisions_says_what_to_run(tmp_path):
    with pytest.raises(MonitorError, match="holds no decisions"):
        look_at_folder(place(tmp_path), as_folder(tmp_path / "replay", {}))


def test_a_monitor_that_cannot_answer_does_not_silence_the_others(tmp_path, monkeypatch):
    def broken(material, asked):
        raise ValueError("no such thing")

    monkeypatch.setattr(ALL[0], "readings", broken)
    looked = look_at_folder(place(tmp_path), as_folder(tmp_path / "replay", shop(weeks=1)))
    first = looked[0].readings[0]
    assert first.status == "unknown" and "no such thing" in first.sentence and len(looked[0].readings) > 20


def test_limits_of_the_project_hold_and_a_name_that_is_none_is_refused(tmp_path):
    folder = as_folder(tmp_path / "replay", shop(weeks=1))
    strict = look_at_folder(place(tmp_path, limits={"staleness.model": 1.0}), folder)
    assert {each.cause for each in strict[0].readings if each.status == "alarm"} == {"staleness.model"}
    with pytest.raises(MonitorError, match=r"no check 'staleness\.modell'"):
        look_at_folder(place(tmp_path, limits={"staleness.modell": 1.0}), folder)


def test_the_worst_answer_stands_for_a_group_and_what_is_unknown_is_no_news():
    assert (
        worst(["fine", "unknown"]) == "fine"
        and worst(["unknown"]) == worst([]) == "unknown"
        and worst(["watch", "alarm", "fine"]) == "alarm"
    )
    assert in_a_row([[("a", "watch")], [("a", "alarm"), ("b", "alarm")], [("a", "fine")]]) == {"a": 2}


# What is at stake ------------------------------------------------------------------------------------------


def promised(root: Path, *, a_week: float = 900.0, newest: str = "2024-07-01 05:00") -> tuple:
    "A place whose release promised much, and its name: the shop's own release promises little."
    metrics = {
        "profit_per_month": {
            "value": a_week * MONTH,
            "low": a_week * MONTH - 400,
            "high": a_week * MONTH + 400,
        }
    }
    params = {"features": {"next_as_of": newest}}
    files = BUNDLE.files | {"params.yaml": json.dumps(params).encode()}
    bundle = bundle_of(files, origin=BUNDLE.release.origin, metrics=BUNDLE.release.metrics | metrics)
    here = place(root)
    here.stores[0].add(bundle)
    return here, bundle.release.id


def renamed(tables: dict, release: str) -> dict:
    "What another release served."
    found = dict(tables)
    for name, column in (("served", "release"), ("predictions", "model"), ("operations", "release")):
        names = pc.replace_substring(tables[name][column], RELEASE, release)
        place_of_it = tables[name].column_names.index(column)
        found[name] = tables[name].set_column(place_of_it, tables[name].schema.field(column), names)
    return found


def aged(root: Path, model: str = "logistic_regression") -> None:
    "A diagnosis that says what age costs: €5 a week for each week."
    curve = [
        {"weeks": age, "loss_per_week": {"value": 5.0 * age, "low": 0.0, "high": 10.0 * age}}
        for age in (0, 4, 8)
    ]
    (root / "reports").mkdir()
    (root / "reports/diagnosis.json").write_text(json.dumps({"model": {"name": model}, "staleness": curve}))


def test_what_served_lists_earned_less_than_promised_is_at_stake_and_everybody_shows_that_amount(
    url, tmp_path
):
    here, name = promised(tmp_path)
    tables = renamed(shop(weeks=8), name)
    folder = as_folder(tmp_path / "replay", tables)
    looked = look_at_folder(here, folder)
    report = report_of(looked, here, records="replay", alerts=alerts_in(looked, here))
    found, reading = stake_in(folder, here, {name}), by_check(looked[-1].readings)["quality.money"]
    assert (
        rounded(found.as_json()) == report["at_stake"] and found.basis == "served" and found.currency == "EUR"
    )
    assert report["money_at_stake_per_week"] == report["at_stake"]["value"] > 0
    earned, share = reading.details["value"], found.share
    assert (
        found.value == pytest.approx(share * (900 - earned)) and share == 1.0
    )  # in this shop every row names it
    assert found.low < found.value < found.high and found.decided > 50
    assert report["money_at_stake_per_week"] == round(reading.details["money_per_week"], 3)
    [alert] = [each for each in alerts_in(looked, here) if "quality.money" in {each.cause, *each.effects}]
    assert alert.money_per_week == found.value and money(found.high, "EUR") in alert.sentence
    with as_records(url, tables) as records:
        assert stake_in(records, here, {name}) == found
        look_at_database(here, records)
        assert stake_in(records, here, {name}) == found
        back = report_of(looked_before(records), here, records="database")
    each = [
        plain["at_stake"] | {"per_unit": pytest.approx(found.per_unit, rel=1e-5)} for plain in (back, report)
    ]
    assert each[0] == report["at_stake"] and each[0] == each[1]


def test_while_outcomes_do_not_tell_it_is_estimated_from_age_and_says_why(tmp_path):
    aged(tmp_path)
    here, name = promised(tmp_path)
    folder = as_folder(tmp_path / "replay", renamed(shop(weeks=8), name))
    early = stake_in(folder, here, {name}, as_of=MONDAY + 3 * WEEK)
    assert early.basis == "staleness" and "Labels have not come yet." in early.why
    assert early.weeks == 5.0 and early.value == pytest.approx(early.share * 25.0)
    few = stake_in(folder, here, {name}, as_of=MONDAY + 5 * WEEK)
    assert few.basis == "staleness" and "Too few rows to judge" in few.why
    looked = look_at_folder(here, folder, as_of=MONDAY + 5 * WEEK)
    assert report_of(looked, here, records="replay")["at_stake"] == rounded(few.as_json())
    assert stake_in(folder, here, {name}).basis == "served"


def test_of_a_model_whose_kind_was_not_measured_nothing_is_made_up(tmp_path):
    aged(tmp_path, model="xgboost")
    here, name = promised(tmp_path)
    folder = as_folder(tmp_path / "replay", renamed(shop(weeks=2), name))
    found = stake_in(folder, here, {name}, as_of=MONDAY + 2 * WEEK)
    assert found.basis == "nothing" and "How logistic_regression ages was not measured" in found.sentence
    looked = look_at_folder(here, folder, as_of=MONDAY + 2 * WEEK)
    assert report_of(looked, here, records="replay")["money_at_stake_per_week"] is None


def test_a_release_that_does_not_say_when_it_was_made_has_no_age_in_money(tmp_path):
    aged(tmp_path)
    folder = as_folder(tmp_path / "replay", shop(weeks=2))
    found = stake_in(folder, place(tmp_path), {RELEASE}, as_of=MONDAY + 2 * WEEK)
    assert found.basis == "nothing" and "What its age costs is not known." in found.sentence


def test_only_periods_in_which_the_release_decided_count(tmp_path):
    here, name = promised(tmp_path)
    tables, other = shop(weeks=8), renamed(shop(weeks=8), name)
    late = pa.scalar(MONDAY + 7 * WEEK, tables["served"]["as_of"].type)
    for each in ("served", "predictions"):
        old = tables[each].filter(pc.less(tables[each]["as_of"], late))
        tables[each] = pa.concat_tables(
            [old, other[each].filter(pc.greater_equal(other[each]["as_of"], late))]
        )
    folder = as_folder(tmp_path / "replay", tables)
    assert stake_in(folder, here, {RELEASE}) is None  # another one decides now
    assert stake_in(folder, here, {name}).basis == "nothing"  # of it, one week is known
    assert stake_in(folder, here, {RELEASE}, as_of=MONDAY + 7 * WEEK + WEEK / 2).basis == "nothing"


def test_a_week_in_which_nobody_decided_hides_nothing(tmp_path):
    tables = shop(weeks=8)
    gap = pa.scalar(MONDAY + 6 * WEEK, tables["served"]["as_of"].type)
    for each in ("served", "predictions"):
        tables[each] = tables[each].filter(pc.not_equal(tables[each]["as_of"], gap))
    folder = as_folder(tmp_path / "replay", tables)
    found = stake_in(folder, place(tmp_path), {RELEASE}, as_of=MONDAY + 9.5 * WEEK)
    assert found.basis == "served" and f"up to {MONDAY + 5 * WEEK:%Y-%m-%d}" in found.sentence


def test_where_nothing_was_served_nothing_is_said(url, tmp_path):
    with as_records(url, {}) as records:
        assert stake_in(records, place(tmp_path), {RELEASE}) is None
    assert stake_in(as_folder(tmp_path / "empty", {}), place(tmp_path), {RELEASE}) is None


def test_what_is_older_than_a_horizon_and_some_is_no_news():
    known = Reading(
        "quality.money",
        "",
        "fine",
        1.0,
        25,
        300,
        "Known.",
        {"loss": Loss(5.0, 1.0, 9.0, "EUR", "served", "So.").as_json()},
    )
    silent = Reading("quality.money", "", "unknown", None, 25, 0, "Labels have not come yet.")
    assert at_stake([[silent]] * 7 + [[known]], "EUR").value == 5.0
    late = at_stake([[silent]] * 8 + [[known]], "EUR")
    assert late.value is None and "Labels have not come yet." in late.sentence
    assert "Nobody asked" in at_stake([[]], "EUR").sentence


# A database ------------------------------------------------------------------------------------------------


def test_a_database_says_what_a_folder_says_and_a_second_look_writes_nothing(url, tmp_path):
    tables, here = shop(weeks=3), place(tmp_path)
    told = look_at_folder(here, as_folder(tmp_path / "replay", tables))
    with as_records(url, tables) as records:
        found = look_at_database(here, records)
        assert [replace(each, inputs="") for each in found] == [replace(each, inputs="") for each in told]
        before = {name: rows(records, name) for name in ("readings", "alerts")}
        assert look_at_database(here, records) == []
        assert {name: rows(records, name) for name in ("readings", "alerts")} == before
        back = looked_before(records)
    assert [(each.end, each.release, each.inputs, len(each.readings)) for each in back] == [
        (each.end, each.release, each.inputs, len(each.readings)) for each in found
    ]
    assert [each.sentence for each in back[-1].readings] == [
        each.sentence
        for each in sorted(
            found[-1].readings,
            key=lambda each: ([check.name for check in CHECKS].index(each.check), each.subject),
        )
    ]


def test_a_look_that_finds_nothing_new_is_a_sign_of_life_all_the_same(tmp_path):
    with as_records(f"sqlite:///{tmp_path}/a.db", shop(weeks=1)) as records:
        look_at_database(place(tmp_path), records)
        (first,) = rows(records, "monitor_runs")
        look_at_database(place(tmp_path), records)
        (second,) = rows(records, "monitor_runs")
    assert second["finished_at"] > first["finished_at"] and {**first, "finished_at": 0} == {
        **second,
        "finished_at": 0,
    }


def test_labels_that_come_late_replace_what_their_period_said(url, tmp_path):
    tables, here = shop(weeks=2), place(tmp_path)
    with as_records(url, tables) as records:
        early = look_at_database(here, records, as_of=MONDAY + 2 * WEEK)
        late = look_at_database(here, records, as_of=MONDAY + 8 * WEEK)
        assert (
            [each.end for each in early] == [each.end for each in late] == [MONDAY + WEEK, MONDAY + 2 * WEEK]
        )
        said = [each for each in rows(records, "readings") if each["check"] == "quality.auc"]
    assert [each["status"] for each in said] == ["fine", "fine"] and len(said) == 2


def test_only_the_periods_that_something_came_in_for_are_looked_at_again(tmp_path):
    tables, here = shop(weeks=2), place(tmp_path)
    with as_records(f"sqlite:///{tmp_path}/a.db", tables) as records:
        look_at_database(here, records)
        more = shop(weeks=3)
        for name in ("served", "predictions", "exposures", "operations"):
            records.write(name, more[name])
        assert MONDAY + 3 * WEEK in [each.end for each in look_at_database(here, records)]
        assert look_at_database(here, records) == []


def test_a_dry_run_writes_nothing(tmp_path):
    with as_records(f"sqlite:///{tmp_path}/a.db", shop(weeks=1)) as records:
        assert look_at_database(place(tmp_path), records, write=False)
        assert rows(records, "readings") == rows(records, "monitor_runs") == rows(records, "alerts") == []


def test_of_two_looks_at_once_one_wins_and_the_other_is_told(url, tmp_path):
    with as_records(url, shop(weeks=1)) as records, as_records(url, {}) as others:
        with alone(records), pytest.raises(MonitorError, match="another look"):
            look_at_database(place(tmp_path), others)
        assert rows(records, "monitor_runs") == []
        assert look_at_database(place(tmp_path), others)  # and when it is over, it may look


def test_alerts_are_written_with_their_readings(tmp_path):
    told = []
    with as_records(
        f"sqlite:///{tmp_path}/a.db", shop(weeks=3, latency=lambda week: 0.2 if week < 2 else 0.9)
    ) as records:
        look_at_database(place(tmp_path), records, told=told.append)
        alerts = rows(records, "alerts")
    assert [json.loads(each["shows"]) for each in alerts] == [
        ["performance.latency/service", "performance.tail/service"]
    ]
    assert {each["state"] for each in alerts} == {"open"} and sum(len(each.opened) for each in told) == len(
        alerts
    )


def test_what_became_slow_longer_ago_than_is_read_again_is_still_slow(tmp_path):
    weeks = BACK + 4
    tables = shop(weeks=weeks, latency=lambda week: 0.2 if week < 2 else 0.9)
    with as_records(f"sqlite:///{tmp_path}/a.db", tables) as records:
        (looked,) = look_at_database(place(tmp_path), records, period=MONDAY + weeks * WEEK)
    (slow,) = (each for each in looked.readings if each.check == "performance.latency")
    assert slow.status == "alarm" and slow.value == pytest.approx(4.5, rel=0.1)


def test_a_production_in_which_nobody_decides_any_more_has_periods_without_decisions(tmp_path):
    tables = shop(weeks=2)
    tables["experiments"] = tables["experiments"].set_column(
        tables["experiments"].schema.get_field_index("actor"), "actor", pa.array(["Ann"])
    )
    with as_records(f"sqlite:///{tmp_path}/a.db", tables) as records:
        found = look_at_database(place(tmp_path), records, as_of=MONDAY + 4 * WEEK + timedelta(hours=9))
    assert len(found) == 4 and not found[-1].replayed
    assert {each.cause: each.status for each in found[-1].readings}["invariants.rows"] == "alarm"
    assert found[-1].release == RELEASE


def test_a_try_on_data_of_the_past_ends_with_its_last_decision_and_its_clock_is_no_fault(tmp_path):
    tables = shop(weeks=2)
    for name, column, value in (
        ("experiments", "actor", pa.array(["Ann"] * tables["experiments"].num_rows)),
        ("served", "at", pc.add(tables["served"]["at"], pa.scalar(timedelta(days=800)))),
    ):
        place_of_it = tables[name].schema.get_field_index(column)
        tables[name] = tables[name].set_column(place_of_it, tables[name].schema.field(column), value)
    with as_records(f"sqlite:///{tmp_path}/a.db", tables) as records:
        found = look_at_database(place(tmp_path), records)
    assert [each.end for each in found] == [MONDAY + WEEK, MONDAY + 2 * WEEK] and not found[-1].replayed
    assert {each.cause: each.status for each in found[-1].readings}["invariants.clock"] == "fine"


def test_a_database_without_decisions_says_what_to_run(tmp_path):
    with (
        as_records(f"sqlite:///{tmp_path}/a.db", {}) as records,
        pytest.raises(MonitorError, match="nothing was decided yet"),
    ):
        look_at_database(place(tmp_path), records)


def test_a_period_is_replaced_whole_or_not_at_all(tmp_path):
    with as_records(f"sqlite:///{tmp_path}/a.db", shop(weeks=1)) as records:
        (looked,) = look_at_database(place(tmp_path), records)
        before = rows(records, "readings")
        twice = replace(looked, readings=(*looked.readings, looked.readings[0]))
        with pytest.raises(Exception, match=r"(?i)unique|integrity|constraint"):
            write_looked(records, twice, place(tmp_path), started=MONDAY, finished=MONDAY)
        assert rows(records, "readings") == before


def test_production_needs_no_project(tmp_path):
    here = place_of(Settings(root=tmp_path))
    assert here.charter is None and here.params.period_days == 7 and here.params.records == "database"
    assert here.checks["quality.auc"].limit == 0.04


MONEY = ("quality.money", "quality.expected_money", "staleness.curve")


def test_money_is_held_against_what_the_charter_says_and_the_project_may_say_otherwise(tmp_path):
    here = place(tmp_path)
    assert {here.checks[name].limit for name in MONEY} == {0.0}, "no charter yet"
    (looked,) = look_at_folder(here, as_folder(tmp_path / "replay", shop(weeks=1)))
    limits = {each.check: each.limit for each in looked.readings}
    worth = released().terms.charter.minimum_lift_per_week
    assert worth > 0 and {limits[name] for name in MONEY} == {worth}, "the charter of the release"
    own = replace(here, charter=CHARTER.model_copy(update={"minimum_lift_per_week": 40.0}))
    assert {own.checks[name].limit for name in MONEY} == {40.0}
    (looked,) = look_at_folder(own, tmp_path / "replay")
    assert {each.limit for each in looked.readings if each.check in MONEY} == {40.0}
    stricter = replace(own, params=own.params.model_copy(update={"limits": {"quality.money": 7.0}}))
    assert [stricter.checks[name].limit for name in MONEY] == [7.0, 40.0, 40.0]
