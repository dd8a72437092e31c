"""What follows from what: by what checks rest on, by what features are made of, and never twice."""

from graphlib import TopologicalSorter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_workbench.data import definitions
from ml_workbench.monitor.causes import BEYOND, Group, by_root, explained, made_of, suspects
from ml_workbench.monitor.checks import MONITORS, Check, Reading
from ml_workbench.monitor.running import CHECKS, made_for
from ml_workbench.release.declaration import declaration_bytes
from tests.monitor.shop import released

DECLARED = {each.name: each for each in CHECKS}
MADE = made_of(declaration_bytes(definitions.declare(28)))


def seen(
    check: str, subject: str = "", status: str = "alarm", value: float = 9.0, **details: object
) -> Reading:
    return Reading(check, subject, status, value, DECLARED[check].limit, 1000, f"{check} {subject}.", details)


def families(*readings: Reading) -> dict[str, set[str]]:
    "What follows from each cause."
    found = by_root(explained(readings, DECLARED, MADE), DECLARED, MADE)
    return {each.root.cause: {one.cause for one in each.effects} for each in found}


# What is declared ------------------------------------------------------------------------------------------


def test_checks_rest_on_checks_and_monitors_that_there_are_and_never_on_themselves():
    known = {*DECLARED, *MONITORS}
    assert {name for each in CHECKS for name in each.rests_on} <= known
    graph = {
        each.name: {one for one in DECLARED if {one, one.partition(".")[0]} & {*each.rests_on}}
        for each in CHECKS
    }
    assert len([*TopologicalSorter(graph).static_order()]) == len(CHECKS)


def test_features_are_made_of_the_columns_that_their_declaration_reads():
    assert MADE["spend_4w"] == {"lines.sales_value"}
    assert MADE["overdue_ratio"] == {"baskets.time", "visits.gap"}, "of what its parts are made of"
    assert MADE["baskets_4w"] == set(), "rows that are counted are no column"
    assert made_of(b"{}") == {}


def test_a_release_tells_what_the_features_that_it_needs_are_made_of():
    found = made_for(released())
    assert {*found} <= released().needed and any(found.values())


def test_a_column_is_suspect_when_more_than_half_of_its_features_are_broken():
    made = {name: frozenset(["lines.amount"]) for name in "abcd"}
    assert suspects(made, frozenset("ab")) == set() and suspects(made, frozenset("abc")) == {"lines.amount"}


# Chains ----------------------------------------------------------------------------------------------------


def test_a_broken_column_explains_what_follows_link_by_link():
    week = [
        seen("invariants.scale", "spend_4w"),
        seen("drift.feature", "spend_4w"),
        seen("drift.features", all=["spend_4w"]),
        seen("drift.scores", status="watch"),
        seen("quality.auc"),
        seen("quality.money"),
        seen("business.incremental"),
    ]
    assert families(*week) == {"invariants.scale/spend_4w": {each.cause for each in week[1:]}}


def test_without_its_link_money_is_a_cause_itself():
    assert {*families(seen("invariants.scale", "spend_4w"), seen("quality.money"))} == {
        "invariants.scale/spend_4w",
        "quality.money",
    }


def test_what_is_only_watched_begins_no_family():
    assert families(seen("drift.scores", status="watch"), seen("drift.listed", "proposed", "watch")) == {}


def test_labels_do_not_follow_from_how_features_were_computed():
    drift = seen("drift.features", all=["spend_4w"])
    rate = seen("quality.base_rate")
    assert {*families(seen("invariants.scale", "spend_4w"), drift, rate)} == {
        "invariants.scale/spend_4w",
        "quality.base_rate",
    }
    assert families(drift, rate) == {"drift.features": {"quality.base_rate"}}, "but from who is asked about"


def test_two_processes_have_nothing_in_common_and_one_is_slow_in_two_ways():
    found = families(
        seen("performance.latency", "service"),
        seen("performance.tail", "service"),
        seen("performance.tail", "function"),
    )
    assert found == {
        "performance.latency/service": {"performance.tail/service"},
        "performance.tail/function": set(),
    }


def test_the_tables_of_one_load_are_one_cause_and_two_stages_are_not():
    assert len(families(seen("staleness.feeds", "a"), seen("staleness.feeds", "b"))) == 1
    assert len(families(seen("staleness.stages", "a"), seen("staleness.stages", "b"))) == 2


# Features --------------------------------------------------------------------------------------------------


def test_features_of_one_suspect_column_belong_together_and_others_do_not():
    broken = [seen("invariants.nulls", f"stores_{weeks}w") for weeks in (4, 12)]
    assert families(*broken) == {"invariants.nulls/stores_12w": set()}, "two, and of one column"
    cents = seen("invariants.scale", "largest_basket_4w", all=[
        "largest_basket_4w", "largest_basket_12w", "mean_basket_4w", "mean_basket_12w", "sd_basket_12w",
    ])  # fmt: skip
    found = families(*broken, cents, seen("drift.feature", "days_since_large_basket"))
    assert found["invariants.scale/largest_basket_4w"] == {"drift.feature/days_since_large_basket"}


def test_a_column_that_is_listed_without_a_reading_of_its_own_explains_its_drift():
    cents = seen("invariants.scale", "spend_1w", all=["spend_1w", "visits"])
    assert families(cents, seen("invariants.range", "visits")) == {
        "invariants.scale/spend_1w": {"invariants.range/visits"}
    }


def test_another_population_explains_columns_that_are_emptier_but_not_one_that_never_was_empty():
    drift = seen("drift.features", all=[f"habit_{place}" for place in range(20)])
    emptier, hole = seen("invariants.nulls", "gap_trend"), seen("invariants.nulls", "products_4w", new=True)
    assert families(drift, emptier, hole) == {
        "drift.features": {"invariants.nulls/gap_trend"},
        "invariants.nulls/products_4w": set(),
    }


def test_a_late_load_does_not_explain_a_hole_where_there_never_was_one():
    late = seen("staleness.arrival", "transactions")
    known, hole = seen("invariants.nulls", "gap_trend"), seen("invariants.nulls", "products_4w", new=True)
    assert families(late, known, hole) == {
        "staleness.arrival/transactions": {"invariants.nulls/gap_trend"},
        "invariants.nulls/products_4w": set(),
    }


def test_drift_of_few_features_follows_from_columns_only_where_they_cover_it():
    nulls = seen("invariants.nulls", "spend_4w", new=True)
    assert families(nulls, seen("drift.features", all=["spend_4w", "lines_4w"])) == {
        "invariants.nulls/spend_4w": {"drift.features"}
    }
    assert {*families(nulls, seen("drift.features", all=["spend_4w", "lines_4w", "campaigns"]))} == {
        "invariants.nulls/spend_4w",
        "drift.features",
    }


def test_one_skewed_feature_among_holes_is_told_beside_them():
    holes = [seen("invariants.nulls", name, new=True) for name in ("products_4w", "products_12w")]
    skewed = [seen("skew.feature", name) for name in ("products_4w", "products_12w", "spend_4w")]
    whole = seen("skew.features", all=["products_4w", "products_12w", "spend_4w"])
    assert families(*holes, *skewed, whole)["skew.feature/spend_4w"] == set()
    assert families(skewed[-1], seen("skew.features", all=["spend_4w"])) == {
        "skew.features": {"skew.feature/spend_4w"}
    }


def test_skew_of_one_feature_does_not_explain_the_drift_of_others():
    found = families(
        seen("skew.features", all=["spend_4w"]), seen("drift.features", all=["gap_trend", "campaigns"])
    )
    assert {*found} == {"skew.features", "drift.features"}


# Any week --------------------------------------------------------------------------------------------------

NAMES = ["spend_1w", "spend_4w", "stores_4w", "stores_12w", "products_4w"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(CHECKS),
            st.sampled_from(["", *NAMES]),
            st.sampled_from(["fine", "watch", "alarm", "unknown"]),
            st.lists(st.sampled_from(NAMES), unique=True),
        ),
        unique_by=lambda each: each[:2],
        max_size=25,
    )
)
def test_each_alarm_is_in_one_family_in_whatever_order_they_come(rows):
    readings = [seen(each.name, subject, status, all=listed) for each, subject, status, listed in rows]
    found = explained(readings, DECLARED, MADE)
    names = [one.cause for group in found for one in group.readings if one.status == "alarm"]
    assert sorted(names) == sorted(each.cause for each in readings if each.status == "alarm")
    assert {one.status for group in found for one in group.readings} <= {*BEYOND}
    turned = explained(readings[::-1], DECLARED, MADE)
    assert {(each.root.cause, each.names) for each in found} == {
        (each.root.cause, each.names) for each in turned
    }


def test_circles_of_what_one_declares_are_cut():
    one = Check("numbers.one", "One", 0, "model", "Ask.", rests_on=("numbers.other",))
    other = Check("numbers.other", "Other", 0, "model", "Ask.", rests_on=("numbers.one",))
    checks = {each.name: each for each in (one, other)}
    readings = [Reading(name, "", "alarm", 1.0, 0, 9, name) for name in checks]
    (group,) = explained(readings, checks)
    assert isinstance(group, Group) and group.names == {*checks}


@pytest.mark.parametrize("value", [None, 0.0])
def test_a_value_that_is_missing_or_at_its_limit_is_not_far_beyond(value):
    found = families(
        seen("invariants.nulls", "spend_4w", value=value), seen("invariants.constant", "spend_4w", value=1.0)
    )
    assert found == {"invariants.constant/spend_4w": {"invariants.nulls/spend_4w"}}
