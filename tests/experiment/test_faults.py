"""Faults that are planted into a replay show as the real ones would: in what follows from them, from their list on, and nowhere else."""

from dataclasses import replace
from datetime import timedelta

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from ml_workbench.data.declarations import Attribute, Feature, FeatureSet, Relation
from ml_workbench.data.features import compute_features
from ml_workbench.experiment.faults import (
    FAULTS,
    IN_SOURCE,
    LATE_HOURS,
    LEAK,
    LEAVING,
    LOST,
    NONE,
    SLOWER,
    Origin,
    as_it_is,
    computed,
    fault_named,
    in_cents,
    known_before,
    most_complete_family,
    most_read_text,
    planted,
    planted_feeds,
    planted_operations,
    planted_outcomes,
    told,
    without_column,
)
from ml_workbench.experiment.play import make_world, microseconds
from ml_workbench.experiment.served import feeds, operations
from ml_workbench.model.snapshots import Feature as Column
from ml_workbench.model.snapshots import Schema
from ml_workbench.monitor.checks import MONITORS
from ml_workbench.plan.errors import ExperimentError
from ml_workbench.plan.params import ReplayParams
from tests.experiment import test_replay
from tests.serve.shop import SHOP

MEMBERS = 400
MONDAYS = pd.to_datetime(["2024-01-01 05:00", "2024-01-08 05:00", "2024-01-15 05:00"])
WEEKS = microseconds(MONDAYS.to_numpy())
IN_FEATURES = (
    "covariate_drift",
    "broken_column",
    "unit_change",
    "frozen_feed",
    "late_feed",
    "skewed_feature",
    "nan",
)
DECLARED = FeatureSet(
    "member",
    (
        Relation("visits", "SELECT member, bought_at AS time, spent, till FROM receipts", "Visits"),
        Relation("people", "SELECT member, town FROM people", "Members", None),
    ),
    (
        Feature("usual", "CAST(sum(spent) AS DOUBLE) / 4", "visits", 28, "Spend in a usual week", "money", 0.0),
        Feature("visits_4w", "count(*)", "visits", 28, "Visits in four weeks", "frequency", 0.0),
        Feature("visits_1w", "count(*)", "visits", 7, "Visits in a week", "frequency", 0.0),
        Feature("self_share", "avg(CASE WHEN till = 'self' THEN 1 ELSE 0 END)", "visits", 28, "Share at the machine", "habits"),
        Feature("days_away", "date_diff('day', max(time), as_of)", "visits", None, "Days since a visit", "recency"),
    ),
    attributes=(Attribute("town", "town", "people", "Where the member lives", "people"),),
)  # fmt: skip
SCHEMA = Schema("member", "as_of", "slice", "left", "spend", 28, "usual", tuple(Column(each.name, each.kind, each.family) for each in DECLARED.columns))  # fmt: skip


@pytest.fixture(scope="module")
def origin():
    random, count = np.random.default_rng(7), 9000
    receipts = pd.DataFrame(
        {"member": random.integers(0, MEMBERS, count), "till": random.choice(["self", "staffed"], count)}
    )
    receipts["bought_at"] = pd.Timestamp("2023-11-01") + pd.to_timedelta(
        random.integers(0, 75 * 1440, count), "min"
    )
    receipts["spent"] = random.gamma(2, 15, count).round(2)
    people = pd.DataFrame({"member": np.arange(MEMBERS), "town": random.choice(["Bath", "Arles"], MEMBERS)})
    with duckdb.connect() as connection:
        connection.register("raw", receipts)
        connection.register("named", people)
        connection.execute(
            "CREATE TABLE receipts AS SELECT * REPLACE (CAST(spent AS DECIMAL(12, 2)) AS spent) FROM raw"
        )
        connection.execute("CREATE TABLE people AS FROM named")
        yield Origin(connection, DECLARED)


@pytest.fixture(scope="module")
def rows(origin) -> pd.DataFrame:
    keys = pd.DataFrame({"member": np.tile(np.arange(MEMBERS), 3), "as_of": np.repeat(MONDAYS, MEMBERS)})
    late = (keys["member"] % 20 == 0) & (keys["as_of"] == MONDAYS[0])  # first seen in the second week
    return computed(origin.connection, DECLARED, keys[~late].reset_index(drop=True), SCHEMA)


def broken(name: str, rows: pd.DataFrame, origin: Origin, seed: int = 1) -> tuple[pd.DataFrame, pd.DataFrame]:
    "What is served from the fault on, and what should be."
    found = planted(FAULTS[name], rows, SCHEMA, origin, seed=seed)
    found = found[found["as_of"] > MONDAYS[0]]
    return found, rows.loc[found.index]


def others(found: pd.DataFrame, true: pd.DataFrame, *names: str) -> bool:
    "Whether everything but some columns is as it should be."
    return found.drop(columns=[*names]).equals(true.drop(columns=[*names]))


# Declared


def test_all_that_params_allow_can_be_planted_and_nothing_else() -> None:
    assert {*FAULTS} == {*ReplayParams.model_fields["fault"].annotation.__args__}
    with pytest.raises(ExperimentError, match=r"replay\.fault: unknown 'nans', did you mean 'nan'"):
        fault_named("nans")


def test_every_fault_names_the_checks_that_must_see_it() -> None:
    monitors = {*MONITORS, "drift"}
    for fault in FAULTS.values():
        assert bool(fault.raises) == (fault is not NONE)
        assert all(name.split(".")[0] in monitors for name in fault.raises), fault


@pytest.mark.parametrize("name", IN_FEATURES)
def test_what_was_before_stays_as_it_was_and_the_same_seed_plants_the_same(name, rows, origin) -> None:
    found = planted(FAULTS[name], rows, SCHEMA, origin, seed=1)
    first = rows["as_of"] == MONDAYS[0]
    assert found[found["as_of"] == MONDAYS[0]].equals(rows[first])
    assert not found[~first.loc[found.index]].equals(rows[~first])
    assert planted(FAULTS[name], rows, SCHEMA, origin, seed=1).equals(found)
    assert list(found.columns) == list(rows.columns) and (found.dtypes == rows.dtypes).all()


@pytest.mark.parametrize("name", sorted({*FAULTS} - {*IN_FEATURES}))
def test_faults_elsewhere_leave_features_alone(name, rows) -> None:
    assert planted(FAULTS[name], rows, SCHEMA).equals(rows)


def test_a_fault_that_begins_after_the_last_list_cannot_be_planted(rows) -> None:
    with pytest.raises(ExperimentError, match="begins with list 2, and 1 are played"):
        planted(FAULTS["nan"], rows[rows["as_of"] == MONDAYS[0]], SCHEMA)


# In the source


@pytest.mark.parametrize("name", IN_SOURCE)
def test_what_lies_in_the_source_needs_one(name, rows) -> None:
    with pytest.raises(ExperimentError, match="lies in the source"):
        planted(FAULTS[name], rows, SCHEMA)


def test_cents_multiply_what_is_money_and_nothing_else(rows, origin) -> None:
    found, true = broken("unit_change", rows, origin)
    np.testing.assert_allclose(found["usual"], 100 * true["usual"], rtol=1e-6)
    assert others(found, true, "usual")


def test_amounts_are_looked_for_in_the_types_of_the_source(origin) -> None:
    with pytest.raises(ExperimentError, match="no amounts"):
        in_cents(origin.connection, replace(DECLARED, relations=DECLARED.relations[1:], features=()))


def test_the_column_that_comes_empty_is_the_text_that_most_features_read(rows, origin) -> None:
    assert most_read_text(origin.connection, DECLARED) == ("visits", "till")
    found, true = broken("broken_column", rows, origin)
    assert (found["self_share"].dropna() == 0).all() and true["self_share"].mean() > 0.4
    assert others(found, true, "self_share")
    numbers = replace(
        DECLARED, features=tuple(each for each in DECLARED.features if each.name != "self_share")
    )
    with pytest.raises(ExperimentError, match="no feature reads a text column"):
        without_column(origin.connection, numbers)


def test_a_late_load_is_what_the_declaration_makes_of_a_source_that_ends_a_week_earlier(rows, origin) -> None:
    found, _ = broken("late_feed", rows, origin)
    people = origin.connection.sql("FROM people").to_arrow_table()
    for monday in MONDAYS[1:]:
        part = found[found["as_of"] == monday]
        early = f"FROM receipts WHERE bought_at <= TIMESTAMP '{monday - timedelta(days=7)}'"
        with duckdb.connect() as connection:
            connection.register("receipts", origin.connection.sql(early).to_arrow_table())
            connection.register("people", people)
            connection.register("snapshots", part[["member", "as_of"]])
            expected = compute_features(connection, DECLARED).df()
        for name in SCHEMA.names:
            np.testing.assert_array_equal(part[name].to_numpy(), expected[name].to_numpy())
    assert (found["visits_1w"] == 0).all()


def test_what_is_known_before_a_moment_leaves_what_has_no_time_alone() -> None:
    early = known_before(DECLARED, MONDAYS[0].to_pydatetime())
    assert "TIMESTAMP '2024-01-01 05:00:00'" in early.relation("visits").sql
    assert early.relation("people").sql == DECLARED.relation("people").sql


# In the features


def test_a_frozen_feed_serves_the_values_of_the_last_list_that_was_fed(rows, origin) -> None:
    found, _ = broken("frozen_feed", rows, origin)
    fed = rows[rows["as_of"] == MONDAYS[0]].set_index("member")
    assert set(found["member"]) == set(fed.index)  # whoever is new is not known
    for monday in MONDAYS[1:]:
        part = found[found["as_of"] == monday].set_index("member")
        assert part[SCHEMA.names].equals(fed[SCHEMA.names])


def test_the_population_that_remains_spends_less_and_is_the_same_in_all_weeks(rows, origin) -> None:
    found, true = broken("covariate_drift", rows, origin)
    assert found.equals(true) and 0.35 < len(found) / (rows["as_of"] > MONDAYS[0]).sum() < 0.7
    everybody = rows[rows["as_of"] > MONDAYS[0]]
    assert found["usual"].mean() < 0.85 * everybody["usual"].mean()
    second, third = (set(found[found["as_of"] == monday]["member"]) for monday in MONDAYS[1:])
    assert second == third
    assert set(broken("covariate_drift", rows, origin, seed=2)[0]["member"]) != second


def test_a_skewed_feature_is_another_definition_at_serving_only(rows, origin) -> None:
    found, true = broken("skewed_feature", rows, origin)
    np.testing.assert_allclose(found["usual"], true["usual"] * 12 / 13, rtol=1e-6)
    assert others(found, true, "usual")


def test_a_third_of_the_units_lose_the_most_complete_family(rows, origin) -> None:
    lost = most_complete_family(rows, SCHEMA, ["usual"])
    assert lost == ["visits_4w", "visits_1w"]
    found, true = broken("nan", rows, origin)
    empty = found["visits_4w"].isna()
    assert abs(empty.mean() - LOST) < 0.08 and empty.equals(found["visits_1w"].isna())
    assert others(found, true, *lost) and found[~empty].equals(true[~empty])
    with pytest.raises(ExperimentError, match="no family of features is complete"):
        most_complete_family(
            rows.assign(visits_4w=np.nan, visits_1w=np.nan, days_away=np.nan, self_share=np.nan),
            SCHEMA,
            ["usual"],
        )


def test_what_a_unit_really_spends_is_not_what_is_served_of_it() -> None:
    shop = test_replay
    rows, plan = shop.snapshots(), shop.planned()
    usual = rows["weekly"].to_numpy(np.float64)
    policies = {
        "rule": shop.ranking("rule", -usual),
        "proposed": shop.ranking("logistic", usual - 15, floor=0.0),
        "xgboost": shop.ranking("xgboost", usual),
    }
    world = make_world(
        rows,
        {"basket": shop.baskets()},
        policies,
        plan,
        charter=shop.CHARTER,
        schema=shop.SCHEMA,
        until=shop.UNTIL,
    )
    cents = replace(world, usual=100 * world.usual)
    truth, wrong, mended = (
        shop.play(each, shop.KEEPS).truth for each in (world, cents, as_it_is(cents, usual))
    )
    assert mended == truth != wrong


# In what units do


def outcomes() -> dict[str, pa.Table]:
    random, count = np.random.default_rng(9), 5000
    when = pd.Timestamp("2024-01-01 06:00") + pd.to_timedelta(random.integers(0, 40 * 1440, count), "min")
    units = random.integers(0, MEMBERS, count).astype(str)
    return {
        "visit": pa.table(
            {
                "event_id": [f"v{number}" for number in range(count)],
                "unit": units,
                "occurred_at": pa.array(when, pa.timestamp("us")),
                "value": random.gamma(2, 10, count),
            }
        )
    }


def test_a_quarter_of_the_units_stop_coming_and_the_others_do_not() -> None:
    before = outcomes()
    found = planted_outcomes(FAULTS["label_shift"], before, WEEKS, seed=1)["visit"].to_pandas()
    true = before["visit"].to_pandas()
    since = MONDAYS[FAULTS["label_shift"].since]
    stayed = set(found[found["occurred_at"] > since]["unit"])
    came = set(true[true["occurred_at"] > since]["unit"])
    assert abs(1 - len(stayed) / len(came) - LEAVING) < 0.07
    kept = true[(true["occurred_at"] <= since) | true["unit"].isin(stayed)].reset_index(drop=True)
    assert found.equals(kept)


@pytest.mark.parametrize("name", ["none", "covariate_drift", "frozen_feed"])
def test_other_faults_change_nothing_of_what_units_do(name) -> None:
    before = outcomes()
    assert planted_outcomes(FAULTS[name], before, WEEKS)["visit"].equals(before["visit"])
    empty = {"visit": before["visit"].slice(0, 0)}
    assert len(planted_outcomes(FAULTS["label_shift"], empty, WEEKS)["visit"]) == 0


# In operations and feeds


@pytest.fixture
def lines() -> pa.Table:
    return operations(WEEKS, np.array([400, 400, 400]), release="logistic 4318e50c5e4f", seed=1)


def test_a_leak_grows_by_the_hour_from_its_list_on(lines) -> None:
    found = planted_operations(FAULTS["memory_leak"], lines, WEEKS).to_pandas()
    true = lines.to_pandas()
    hours = (true["at"] - MONDAYS[1]).dt.total_seconds() / 3600
    np.testing.assert_allclose(found["memory_mb"] - true["memory_mb"], LEAK * hours.clip(lower=0), atol=0.05)
    assert found.drop(columns="memory_mb").equals(true.drop(columns="memory_mb"))


def test_a_slow_model_takes_several_times_as_long(lines) -> None:
    found, true = planted_operations(FAULTS["slow_model"], lines, WEEKS).to_pandas(), lines.to_pandas()
    later = true["at"] > MONDAYS[1]
    for name in ("p50_ms", "p99_ms"):
        np.testing.assert_allclose(found.loc[later, name], SLOWER * true.loc[later, name], atol=1e-3)
        assert found.loc[~later, name].equals(true.loc[~later, name])
    assert planted_operations(FAULTS["slow_model"], lines, WEEKS).schema == lines.schema
    assert planted_operations(FAULTS["nan"], lines, WEEKS).equals(lines)


@pytest.fixture
def known(origin) -> list[dict]:
    return feeds(origin.connection, ["people", "receipts"], SHOP, WEEKS, seed=1)


def test_a_frozen_feed_stands_still_and_arrives_no_more(known) -> None:
    found = planted_feeds(FAULTS["frozen_feed"], known, WEEKS)
    assert found[0] == known[0] and [each["period"] for each in found] == [each["period"] for each in known]
    assert found[1]["tables"] == found[2]["tables"] == known[0]["tables"] != known[1]["tables"]


def test_a_late_feed_arrives_after_its_list(known) -> None:
    found = planted_feeds(FAULTS["late_feed"], known, WEEKS)
    assert found[0] == known[0]
    for number in (1, 2):
        for name, table in found[number]["tables"].items():
            assert pd.Timestamp(table["arrived"]) == MONDAYS[number] + pd.Timedelta(LATE_HOURS, "h")
            assert table | {"arrived": None} == known[number]["tables"][name] | {"arrived": None}
    assert planted_feeds(FAULTS["slow_model"], known, WEEKS) == known


# Told


def report() -> dict:
    weeks = [{"as_of": str(monday)} for monday in MONDAYS]
    return {
        "weeks": weeks,
        "declared": {"kind": "none", "size": 0.0, "sentence": "Declared: nothing."},
        "sentence": "400 members. Declared: nothing.",
    }


def test_a_report_says_what_was_planted_wherever_its_effect_is_told() -> None:
    found = told(report(), FAULTS["unit_change"])
    planted_ = "Planted on purpose, from 2024-01-08 on: amounts come in cents instead of dollars."
    assert found["fault"] == "unit_change" and found["planted"] == {
        "name": "unit_change",
        "since": "2024-01-08 05:00:00",
        "sentence": planted_,
    }
    assert found["sentence"].endswith(f"Declared: nothing. {planted_}") and found["declared"][
        "sentence"
    ].endswith(planted_)


def test_a_report_without_a_fault_is_as_it_was_but_for_two_keys() -> None:
    found = told(report(), NONE)
    assert {name: value for name, value in found.items() if name in report()} == report()
    assert (found["fault"], found["planted"]) == ("none", None)
