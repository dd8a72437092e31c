"""The one join: the same answer everywhere, every unit and event accounted for, and a stop where records contradict."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random
from subprocess import CompletedProcess

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml_workbench.database.connections import transaction
from ml_workbench.estimators.moments import moments_of
from ml_workbench.experiment.accounting import MADE
from ml_workbench.experiment.cohort import MISSING, Cohort, cohort, thirds
from ml_workbench.experiment.daily import moments_by_day
from ml_workbench.experiment.join import DIALECTS, join_sql, joined_query, micros, question, with_steps
from ml_workbench.experiment.readers import reading
from ml_workbench.plan.errors import ExperimentError, RecordError
from ml_workbench.plan.experiment import Arm, Experiment, Metric
from ml_workbench.serve.records import Records, export_records

MONDAY = datetime(2017, 11, 13, 5)
HORIZON = timedelta(days=28)
SPEND = Metric(name="spend", label="spend", kind="revenue", outcome="basket", of="sum", cap=0.99)
VISITS = Metric(name="visits", label="visits", kind="mean", outcome="basket", of="count")
CALLED = Metric(name="called", label="called us", kind="proportion", outcome="call", of="any")
RATIO = Metric(name="per_visit", label="per visit", kind="ratio", numerator="spend", denominator="visits")
TRIAL = Experiment(
    name="it's a 100% trial: one",
    namespace="offers",
    holdout=0.1,
    arms=[Arm(name="control", policy="none", weight=0.5), Arm(name="offer", policy="rule", weight=0.5)],
    control="control",
    metrics=[SPEND, VISITS, CALLED, RATIO],
    primary="spend",
    covariates=["usual", "visits_before"],
    segments=["region", "usual"],
    horizon_days=28,
    late_days=7,
)
AS_OF = datetime(2018, 1, 8, 5)
LAST = MONDAY + HORIZON + timedelta(days=1)  # the last outcome of the small experiment comes in
Rows = dict[str, list[dict]]


def claim(unit: object, arm: str, at: datetime = MONDAY, **more: object) -> dict:
    "A row of assignments."
    row = {"experiment": TRIAL.name, "unit": unit, "arm": arm, "propensity": 0.45, "assigned_at": at}
    return row | {"design_hash": "0" * 12} | more


def basket(event: str, unit: object, at: datetime, value: float | None = 10.0, **more: object) -> dict:
    "A row of outcomes, recorded the same hour."
    row = {"outcome": "basket", "event_id": event, "unit": unit, "occurred_at": at, "value": value}
    return row | {"recorded_at": at + timedelta(hours=1)} | more


def sent(unit: object, arm: str, at: datetime = MONDAY, **more: object) -> dict:
    "A row of exposures."
    row = {"experiment": TRIAL.name, "unit": unit, "as_of": at, "arm": arm, "action": "offer", "cost": 1.05}
    return row | {"propensity": 0.45} | more


def known(unit: object, name: str, number: float | None = None, level: str | None = None) -> dict:
    "A row of covariates."
    return {"experiment": TRIAL.name, "unit": unit, "name": name, "number": number, "level": level}


def dirty(seed: int = 5, units: int = 240) -> Rows:
    "Records with every kind of dirt that a database can hold."
    draw = Random(seed)
    rows: Rows = {name: [] for name in ("assignments", "covariates", "predictions", "exposures", "outcomes")}
    for unit in range(units):
        arm = draw.choice(["control", "offer", "offer", "holdout", "outside", "not ramped"])
        at = MONDAY + timedelta(days=7 * draw.randrange(9), microseconds=draw.randrange(3))
        rows["assignments"].append(claim(unit, arm, at))
        rows["covariates"].append(known(unit, "usual", draw.choice([None, 0.0, draw.uniform(0, 300)])))
        rows["covariates"].append(known(unit, "region", level=draw.choice([None, "Nord", "Süd", "東"])))
        if unit % 11:
            rows["covariates"].append(known(unit, "visits_before", float(draw.randrange(9))))
        for week in range(draw.randrange(4)):
            moment = at + timedelta(days=draw.choice([0, 3, 13, 27, 28, 31]) + 7 * week)
            row = {"experiment": TRIAL.name, "unit": unit, "as_of": moment, "policy": "rule", "score": 0.5}
            rows["predictions"].append(row | {"listed": draw.random() < 0.4, "rank": week + 1})
            if arm == "offer" and not any(
                each["unit"] == unit and each["as_of"] == moment for each in rows["exposures"]
            ):
                rows["exposures"].append(sent(unit, arm, moment, cost=draw.choice([0.1, 0.2, 0.7])))
        for event in range(draw.randrange(12)):
            after = draw.choice(
                [timedelta(0), HORIZON, HORIZON + timedelta(microseconds=1), timedelta(days=1)]
            )
            spread = timedelta(seconds=draw.uniform(-20, 60) * 86_400)
            moment = at + draw.choice([after, spread, spread])
            value = draw.choice(
                [None, draw.uniform(-5, 90), round(draw.uniform(0, 90), 2), 0.1 + 0.2, 1e-7, 98765432.1]
            )
            delay = draw.choice([timedelta(0), timedelta(days=2), timedelta(days=50)])
            name = draw.choice(["basket", "basket", "call", "newsletter"])
            stranger = draw.choice([unit] * 30 + ["nobody"])
            row = basket(f"{unit}-{event}", stranger, moment, value, outcome=name, recorded_at=moment + delay)
            rows["outcomes"].append(row)
    return rows


def filled(records: Records, rows: Rows) -> Records:
    "Records with rows in them."
    records.migrate()
    for name, some in rows.items():
        records.write(name, some)
    return records


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    "Migrated records in a file."
    with Records(f"sqlite:///{tmp_path}/records.db") as made:
        made.migrate()
        yield made


def by_hand(rows: Rows) -> dict[str, tuple[float, float, float]]:
    "Spend, visits and calls of each unit, worked out slowly."
    counted = {}
    for row in rows["assignments"]:
        if row["arm"] in ("control", "offer", "holdout") and row["assigned_at"] + HORIZON <= AS_OF:
            counted[str(row["unit"])] = [row["assigned_at"], 0.0, 0, 0]
    for row in rows["outcomes"]:
        if (unit := counted.get(str(row["unit"]))) is None or row["recorded_at"] > AS_OF:
            continue
        end = unit[0] + HORIZON
        if not unit[0] < row["occurred_at"] <= end or row["recorded_at"] > end + timedelta(days=7):
            continue
        if row["outcome"] == "basket":
            unit[1] += round((row["value"] or 0.0) * 1e6)
            unit[2] += 1
        elif row["outcome"] == "call":
            unit[3] = 1
    return {unit: (spend / 1e6, visits, called) for unit, (_, spend, visits, called) in counted.items()}


@pytest.mark.parametrize("seed", [5, 6, 7])
def test_the_join_agrees_with_one_worked_out_by_hand(seed: int, tmp_path: Path) -> None:
    rows = dirty(seed)
    with Records(f"sqlite:///{tmp_path}/records.db") as records:
        found = cohort(filled(records, rows), TRIAL, as_of=AS_OF)
    columns = [found.units[name].to_pylist() for name in ("unit", "spend", "visits", "called")]
    assert {unit: figures for unit, *figures in zip(*columns, strict=True)} == {
        unit: list(figures) for unit, figures in by_hand(rows).items()
    }
    assert len(found.units) > 60 and sum(columns[1]) > 0


def same(one: Cohort, other: Cohort) -> None:
    "Two cohorts agree in every figure and every sentence."
    assert one.units.equals(other.units)
    assert one.daily.equals(other.daily)
    assert one.accounting == other.accounting
    assert one.problems == other.problems
    assert one.levels == other.levels


def test_sqlite_and_parquet_give_identical_cohorts(records: Records, tmp_path: Path) -> None:
    rows = dirty()
    rows["assignments"] += [claim(3, "elsewhere"), claim("two", "offer"), claim("two", "control")]
    rows["exposures"] += [sent("stranger", "offer"), sent("two", "offer")]
    filled(records, rows)
    export_records(records, tmp_path / "copy", TRIAL.name)
    # A copy holds the outcomes of the experiment's units; those of others must be there as well to be counted.
    pq.write_table(records.read("outcomes"), tmp_path / "copy" / "outcomes.parquet")
    here, there = cohort(records, TRIAL, as_of=AS_OF), cohort(tmp_path / "copy", TRIAL, as_of=AS_OF)
    assert here.problems and here.daily.num_rows == 3 * 3 * 28
    same(here, there)


@pytest.mark.postgres
def test_postgresql_gives_the_same_cohort(postgres_url: str, records: Records) -> None:
    rows = dirty()
    rows["assignments"] += [claim("two", "offer"), claim("two", "control")]
    rows["exposures"] += [sent("stranger", "offer"), sent("two", "offer")]
    with Records(postgres_url) as elsewhere:
        same(
            cohort(filled(elsewhere, rows), TRIAL, as_of=AS_OF),
            cohort(filled(records, rows), TRIAL, as_of=AS_OF),
        )


def published(records: Records, dialect: str) -> dict[str, float]:
    "Spend of each unit, by the one statement."
    statement = join_sql(TRIAL, dialect=dialect, as_of=AS_OF)
    with transaction(records.engine, reading=True) as connection:
        rows = connection.exec_driver_sql(statement, execution_options={"no_parameters": True}).all()
    return {row.unit: row.m0 / 1e6 for row in rows}


def test_the_published_statement_returns_what_the_steps_do(records: Records) -> None:
    found = cohort(filled(records, dirty()), TRIAL, as_of=AS_OF)
    assert published(records, "sqlite") == dict(
        zip(found.units["unit"].to_pylist(), spent(found), strict=True)
    )


@pytest.mark.postgres
def test_the_published_statement_does_so_in_postgresql(postgres_url: str) -> None:
    with Records(postgres_url) as records:
        found = cohort(filled(records, dirty()), TRIAL, as_of=AS_OF)
        assert published(records, "postgres") == dict(
            zip(found.units["unit"].to_pylist(), spent(found), strict=True)
        )


def test_the_same_cohort_comes_from_rows_in_any_order(records: Records, tmp_path: Path) -> None:
    filled(records, dirty())
    tables = {
        name: records.read(name)
        for name in ("assignments", "covariates", "predictions", "exposures", "outcomes")
    }
    order = np.random.default_rng(1)
    mixed = {name: table.take(pa.array(order.permutation(len(table)))) for name, table in tables.items()}
    same(cohort(tables, TRIAL, as_of=AS_OF), cohort(mixed, TRIAL, as_of=AS_OF))
    same(cohort(mixed, TRIAL, as_of=AS_OF, threads=1), cohort(mixed, TRIAL, as_of=AS_OF, threads=4))


def test_every_unit_and_every_outcome_is_accounted_for(records: Records) -> None:
    rows = dirty()
    found = cohort(filled(records, rows), TRIAL, as_of=AS_OF)
    counts = {line.who: line.count for line in found.accounting}
    units = ("Compared", "Holdout", "Not matured yet", "Outside", "Not ramped")
    arms = Counter(row["arm"] for row in rows["assignments"])
    assert sum(counts[who] for who in units) + counts["Assigned later"] == sum(arms.values())
    assert counts["Outside"] + counts["Not ramped"] <= arms["outside"] + arms["not ramped"]
    assert all(
        counts[who] for who in ("Outcomes before assignment", "Late outcomes", "Outcomes of unknown units")
    )
    assert counts["Compared"] + counts["Holdout"] == len(found.units)


# What a small, clean experiment looks like, and what one fault after another does to it.


def small(**more: list[dict]) -> Rows:
    "Four units that came once each."
    rows = {
        "assignments": [claim(unit, ("control", "offer")[unit % 2]) for unit in range(4)],
        "covariates": [
            known(unit, name, float(unit)) for unit in range(4) for name in ("usual", "visits_before")
        ]
        + [known(unit, "region", level="Nord") for unit in range(4)],
        "exposures": [sent(1, "offer")],
        "outcomes": [basket(f"b{unit}", unit, MONDAY + timedelta(days=unit + 1)) for unit in range(4)]
        + [basket("call", 0, MONDAY + timedelta(days=2), None, outcome="call", recorded_at=LAST)],
    }
    return {name: rows.get(name, []) + more.get(name, []) for name in rows.keys() | more.keys()}


def line(found: Cohort, who: str) -> int:
    "A count of the accounting."
    return next(each.count for each in found.accounting if each.who == who)


def spent(found: Cohort) -> list[float]:
    "What units spent."
    return found.units["spend"].to_pylist()


def test_a_clean_experiment_has_no_problem(records: Records) -> None:
    found = cohort(filled(records, small()), TRIAL, as_of=AS_OF)
    assert found.problems == () and found.changes == ()
    assert found.by_arm == {"control": 2, "offer": 2}
    assert spent(found) == [10.0] * 4
    assert found.units.schema.names[:9] == [
        "unit", "arm", "assigned_at", "propensity", "exposed", "exposures", "cost", "first_exposed_at", "triggered",
    ]  # fmt: skip
    assert found.units["cost"].to_pylist() == [0, 1.05, 0, 0]
    assert found.units["first_exposed_at"].to_pylist() == [None, MONDAY, None, None]


@pytest.mark.parametrize(
    ("more", "kind", "said"),
    [
        ({"assignments": [claim(0, "offer")]}, "two arms", "Units in two arms at once: 1"),
        ({"assignments": [claim(9, "ofer")]}, "contract", "did you mean 'offer'"),
        ({"exposures": [sent(77, "offer")]}, "contract", "never assigned: 1"),
        ({"exposures": [sent(0, "offer")]}, "contract", "another arm than the one of their unit: 1"),
        (
            {"exposures": [sent(3, "offer", MONDAY - timedelta(days=7))]},
            "contract",
            "before their unit was assigned: 1",
        ),
        (
            {"assignments": [claim(9, "holdout")], "exposures": [sent(9, "offer")]},
            "contract",
            "holdout, which nobody may",
        ),
    ],
)
def test_records_that_contradict_each_other_are_a_stop(
    records: Records, more: dict[str, list[dict]], kind: str, said: str
) -> None:
    problems = cohort(filled(records, small(**more)), TRIAL, as_of=AS_OF).problems
    assert [problem.kind for problem in problems] == [kind]
    assert said in problems[0].sentence and problems[0].examples


def test_a_unit_in_two_arms_is_in_neither(records: Records) -> None:
    found = cohort(filled(records, small(assignments=[claim(0, "offer")])), TRIAL, as_of=AS_OF)
    assert found.units["unit"].to_pylist() == ["1", "2", "3"]
    assert found.problems[0].examples == ("0 control", "0 offer")


def test_a_unit_of_the_holdout_and_of_an_arm_is_in_two(records: Records) -> None:
    found = cohort(filled(records, small(assignments=[claim(0, "holdout")])), TRIAL, as_of=AS_OF)
    assert found.problems[0].kind == "two arms"


def test_a_unit_of_two_experiments_is_seen_once_in_each(records: Records) -> None:
    rows = small()
    rows["assignments"] += [row | {"experiment": "another", "arm": "offer"} for row in rows["assignments"]]
    rows["exposures"] += [sent(0, "offer", experiment="another")]
    found = cohort(filled(records, rows), TRIAL, as_of=AS_OF)
    assert found.problems == () and len(found.units) == 4


def test_the_window_is_open_at_its_start_and_closed_at_its_end(records: Records) -> None:
    tick = timedelta(microseconds=1)
    times = [MONDAY, MONDAY + tick, MONDAY + HORIZON, MONDAY + HORIZON + tick]
    extra = [
        basket(f"edge{i}", 0, time, 2.0**i, recorded_at=AS_OF - timedelta(days=30))
        for i, time in enumerate(times)
    ]
    found = cohort(filled(records, small(outcomes=extra)), TRIAL, as_of=AS_OF)
    assert spent(found)[0] == 10 + 2 + 4
    assert line(found, "Outcomes before assignment") == 1 and line(found, "Outcomes after the horizon") == 1
    last = found.daily.filter(
        (pa.compute.field("arm") == "control") & (pa.compute.field("metric") == "spend")
    )
    assert last["day_sum"].to_pylist()[0] == 10 + 2 and last["day_sum"].to_pylist()[27] == 4


def test_a_unit_matures_with_its_horizon_and_not_before(records: Records) -> None:
    filled(records, small(assignments=[claim(9, "offer", MONDAY + timedelta(days=1))]))
    early = cohort(records, TRIAL, as_of=MONDAY + HORIZON)
    assert early.by_arm == {"control": 2, "offer": 2} and line(early, "Not matured yet") == 1
    assert cohort(records, TRIAL, as_of=MONDAY + HORIZON + timedelta(days=1)).by_arm == {
        "control": 2,
        "offer": 3,
    }


def test_late_outcomes_are_counted_as_late_and_not_as_outcomes(records: Records) -> None:
    end = MONDAY + HORIZON + timedelta(days=TRIAL.late_days)
    extra = [
        basket("in time", 0, MONDAY + timedelta(days=3), 1.0, recorded_at=end),
        basket("late", 0, MONDAY + timedelta(days=3), 100.0, recorded_at=end + timedelta(microseconds=1)),
    ]
    found = cohort(filled(records, small(outcomes=extra)), TRIAL, as_of=AS_OF)
    assert spent(found)[0] == 11 and line(found, "Late outcomes") == 1


def test_nothing_is_seen_that_was_recorded_after_the_look(records: Records) -> None:
    tomorrow = basket(
        "tomorrow", 0, MONDAY + timedelta(days=3), 100.0, recorded_at=AS_OF + timedelta(seconds=1)
    )
    later = claim(8, "offer", AS_OF + timedelta(days=1))
    found = cohort(filled(records, small(outcomes=[tomorrow], assignments=[later])), TRIAL, as_of=AS_OF)
    assert spent(found)[0] == 10 and line(found, "Recorded later") == 1 and line(found, "Assigned later") == 1


def test_without_a_date_the_last_recorded_outcome_is_the_look(records: Records) -> None:
    found = cohort(filled(records, small()), TRIAL)
    assert found.as_of == LAST and len(found.units) == 4
    assert cohort(records, TRIAL, as_of=AS_OF.replace(tzinfo=UTC)).as_of == AS_OF


def test_an_outcome_without_a_value_counts_and_is_worth_nothing(records: Records) -> None:
    extra = [basket("unknown", 0, MONDAY + timedelta(days=1), None)]
    found = cohort(filled(records, small(outcomes=extra)), TRIAL, as_of=AS_OF)
    assert spent(found)[0] == 10 and found.units["visits"].to_pylist()[0] == 2
    assert line(found, "Outcomes without a value") == 2  # and the call


def test_a_unit_without_outcomes_has_nought_and_never_nothing(records: Records) -> None:
    found = cohort(filled(records, small(assignments=[claim(9, "offer")])), TRIAL, as_of=AS_OF)
    assert (
        found.units["spend"].null_count
        == found.units["visits"].null_count
        == found.units["called"].null_count
        == 0
    )
    assert spent(found)[-1] == 0.0


def test_unknown_covariates_are_the_mean_of_all_and_counted(records: Records) -> None:
    found = cohort(filled(records, small(assignments=[claim(9, "offer")])), TRIAL, as_of=AS_OF)
    assert found.units["usual"].to_pylist() == [0, 1, 2, 3, 1.5]
    assert line(found, "Without usual") == 1
    assert found.units["segment_region"].to_pylist()[-1] == MISSING == found.levels["region"][-1]


def test_triggered_are_those_whom_a_policy_listed_within_the_horizon(records: Records) -> None:
    base = {"experiment": TRIAL.name, "policy": "rule", "score": 0.5}
    said = [
        (0, MONDAY, True),
        (1, MONDAY, False),
        (2, MONDAY + HORIZON, True),
        (3, MONDAY - timedelta(days=7), True),
    ]
    extra = [base | {"unit": unit, "as_of": at, "listed": listed} for unit, at, listed in said]
    found = cohort(filled(records, small(predictions=extra)), TRIAL, as_of=AS_OF)
    assert found.units["triggered"].to_pylist() == [True, False, False, False]


def test_repeated_assignments_keep_the_first_time(tmp_path: Path) -> None:
    rows = small()
    again = [row | {"assigned_at": MONDAY + timedelta(days=7)} for row in rows["assignments"]]
    tables = as_tables(rows | {"assignments": again + rows["assignments"]})
    found = cohort(tables, TRIAL, as_of=AS_OF)
    assert set(found.units["assigned_at"].to_pylist()) == {MONDAY} and line(found, "Assigned again") == 4


# Dirt that only files can hold.


def as_tables(rows: Rows) -> dict[str, pa.Table]:
    "Rows as tables at hand, keys or no keys."
    return {name: pa.Table.from_pylist(some) for name, some in rows.items() if some}


def test_a_duplicate_delivery_is_counted_once(tmp_path: Path) -> None:
    rows = small()
    again = [rows["outcomes"][0] | {"recorded_at": AS_OF}] * 2
    found = cohort(as_tables(rows | {"outcomes": rows["outcomes"] + again}), TRIAL, as_of=AS_OF)
    assert spent(found) == [10.0] * 4 and line(found, "Duplicate outcomes") == 2 and not found.problems


@pytest.mark.parametrize(
    "other",
    [
        {"value": 11.0},
        {"value": None},
        {"unit": 2},
        {"unit": None},
        {"occurred_at": MONDAY + timedelta(days=4)},
    ],
)
def test_deliveries_that_disagree_are_a_stop(other: dict[str, object]) -> None:
    rows = small()
    rows["outcomes"].append(rows["outcomes"][0] | other)
    problems = cohort(as_tables(rows), TRIAL, as_of=AS_OF).problems
    assert [problem.examples for problem in problems] == [("basket b0",)]
    assert "with different units, times or amounts: 1" in problems[0].sentence


@pytest.mark.parametrize(
    ("table", "row", "said"),
    [
        ("assignments", claim(None, "offer"), "Assignments without a unit, an arm or a time: 1"),
        ("assignments", claim(9, None), "Assignments without a unit, an arm or a time: 1"),
        ("outcomes", basket(None, 0, MONDAY + HORIZON), "Outcomes without an identity or a time: 1"),
        ("outcomes", basket("x", 0, MONDAY + HORIZON, float("inf")), "infinite"),
        ("outcomes", basket("x", 0, MONDAY + HORIZON, float("-inf")), "infinite"),
        ("outcomes", basket("x", 0, MONDAY + HORIZON, float("nan")), "no number"),
        ("covariates", known(0, "usual", 17.0), "two values"),
    ],
)
def test_rows_that_lack_what_they_need_are_a_stop(table: str, row: dict, said: str) -> None:
    problems = cohort(as_tables(small(**{table: [row]})), TRIAL, as_of=AS_OF).problems
    assert len(problems) == 1 and said in problems[0].sentence


def test_an_outcome_of_nobody_is_one_of_an_unknown_unit() -> None:
    rows = small(outcomes=[basket("x", None, MONDAY + HORIZON), basket("y", 12345, MONDAY + HORIZON)])
    found = cohort(as_tables(rows), TRIAL, as_of=AS_OF)
    assert line(found, "Outcomes of unknown units") == 2 and not found.problems


def test_units_that_are_named_differently_in_the_outcomes_are_a_stop() -> None:
    rows = small()
    rows["outcomes"] = [row | {"unit": f"00{row['unit']}"} for row in rows["outcomes"]]
    problems = cohort(as_tables(rows), TRIAL, as_of=AS_OF).problems
    assert "are units named differently there?" in problems[0].sentence


def test_whole_numbers_and_texts_name_the_same_unit() -> None:
    rows = small()
    rows["outcomes"] = [row | {"unit": str(row["unit"])} for row in rows["outcomes"]]
    assert spent(cohort(as_tables(rows), TRIAL, as_of=AS_OF)) == [10.0] * 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda table: table.set_column(2, "unit", table["unit"].cast(pa.float64())),
            "outcomes.unit is DOUBLE",
        ),
        (
            lambda table: table.set_column(4, "value", pa.array(["ten"] * len(table))),
            "outcomes.value is VARCHAR",
        ),
        (lambda table: table.drop_columns("event_id"), "outcomes lacks event_id"),
        (lambda table: table.set_column(3, "occurred_at", table["unit"]), "outcomes.occurred_at is BIGINT"),
        (
            lambda table: table.set_column(
                3, "occurred_at", table["occurred_at"].cast(pa.timestamp("us", "UTC"))
            ),
            "time zones are mixed: outcomes.occurred_at with one",
        ),
    ],
)
def test_columns_of_the_wrong_kind_are_refused(change: Callable[[pa.Table], pa.Table], said: str) -> None:
    tables = as_tables(small())
    with pytest.raises(RecordError, match=said):
        cohort(tables | {"outcomes": change(tables["outcomes"])}, TRIAL, as_of=AS_OF)


def test_times_that_all_have_a_zone_are_brought_to_utc() -> None:
    tables = as_tables(small())
    zoned = {}
    for name, table in tables.items():
        for i, field in enumerate(table.schema):
            if pa.types.is_timestamp(field.type):
                zone = pa.timestamp("us", "America/New_York" if name == "outcomes" else "UTC")
                table = table.set_column(
                    i, field.name, table[field.name].cast(pa.timestamp("us", "UTC")).cast(zone)
                )
        zoned[name] = table
    same(cohort(zoned, TRIAL, as_of=AS_OF), cohort(tables, TRIAL, as_of=AS_OF))


def test_a_table_may_lie_in_parts(tmp_path: Path) -> None:
    tables = as_tables(small())
    (tmp_path / "outcomes").mkdir()
    for i in range(len(tables["outcomes"])):
        pq.write_table(tables["outcomes"].slice(i, 1), tmp_path / "outcomes" / f"part{i}.parquet")
    for name in tables.keys() - {"outcomes"}:
        pq.write_table(tables[name], tmp_path / f"{name}.parquet")
    same(cohort(tmp_path, TRIAL, as_of=AS_OF), cohort(tables, TRIAL, as_of=AS_OF))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "assignments.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(RecordError, match=str(tmp_path)):
        cohort(tmp_path, TRIAL)


def test_a_folder_without_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"has no assignments\.parquet"):
        cohort(tmp_path / "nowhere", TRIAL)


# Empty periods, changed designs, names.


def test_an_experiment_that_nobody_is_in_is_empty(records: Records) -> None:
    problems = cohort(records, TRIAL, as_of=AS_OF).problems
    assert problems[0].kind == "empty" and "No units were assigned" in problems[0].sentence


def test_a_look_before_anything_matured_is_empty_and_says_when_it_will_not_be(records: Records) -> None:
    found = cohort(filled(records, small()), TRIAL, as_of=MONDAY + timedelta(days=20), units="households")
    assert found.problems[0].kind == "empty" and len(found.units) == 0
    assert (
        "No households have matured by 3 December 2017: the first do on 11 December 2017."
        in found.problems[0].sentence
    )


def test_an_arm_without_units_is_empty(records: Records) -> None:
    rows = small()
    rows["assignments"] = [row for row in rows["assignments"] if row["arm"] == "offer"]
    assert [each.sentence for each in cohort(filled(records, rows), TRIAL, as_of=AS_OF).problems] == [
        "Arm 'control' has no units that count."
    ]


def test_units_without_any_outcome_are_an_empty_result_of_noughts() -> None:
    tables = as_tables(small())
    found = cohort(tables | {"outcomes": tables["outcomes"].slice(0, 0)}, TRIAL, as_of=AS_OF)
    assert spent(found) == [0.0] * 4


def other(**update: object) -> Experiment:
    "The trial, changed."
    return TRIAL.model_copy(update=update)


BOLDER = other(arms=[TRIAL.arms[0], Arm(name="offer", policy="xgboost", weight=0.5)])


def frozen(records: Records, *designs: Experiment) -> list[str]:
    "Freeze one design after another; their hashes."
    return [
        records.freeze(each, at=MONDAY + timedelta(days=i), actor="Ann").hash
        for i, each in enumerate(designs)
    ]


def test_a_longer_horizon_is_shown_as_a_change_and_no_stop(records: Records) -> None:
    (fingerprint,) = frozen(records, TRIAL)
    rows = small()
    rows["assignments"] = [row | {"design_hash": fingerprint} for row in rows["assignments"]]
    found = cohort(filled(records, rows), other(horizon_days=21), as_of=AS_OF)
    assert found.changes == ("horizon: 28 days → 21 days",) and not found.problems


def test_units_assigned_under_other_arms_are_a_stop(records: Records) -> None:
    hashes = frozen(records, TRIAL, BOLDER)
    rows = small()
    rows["assignments"] = [row | {"design_hash": hashes[i % 2]} for i, row in enumerate(rows["assignments"])]
    found = cohort(filled(records, rows), TRIAL, as_of=AS_OF)
    assert "designs with different arms" in found.problems[0].sentence
    assert found.changes == ("arm offer, policy: rule → xgboost",)


def test_a_ramp_is_no_other_design(records: Records) -> None:
    hashes = frozen(records, other(ramp=0.1), TRIAL)
    rows = small()
    rows["assignments"] = [row | {"design_hash": hashes[i % 2]} for i, row in enumerate(rows["assignments"])]
    found = cohort(filled(records, rows), TRIAL, as_of=AS_OF)
    assert found.problems == () and found.changes == ("ramp: 0.1 → 1",)


def test_a_plan_edited_after_the_start_is_a_stop(records: Records) -> None:
    (fingerprint,) = frozen(records, TRIAL)
    rows = small()
    rows["assignments"] = [row | {"design_hash": fingerprint} for row in rows["assignments"]]
    problem = cohort(filled(records, rows), BOLDER, as_of=AS_OF).problems[0]
    assert "not the one that units were assigned under" in problem.sentence


def test_two_designs_that_nobody_froze_are_a_stop() -> None:
    rows = small()
    rows["assignments"][0]["design_hash"] = "f" * 12
    assert (
        "designs that were never frozen: 2."
        in cohort(as_tables(rows), TRIAL, as_of=AS_OF).problems[0].sentence
    )


def test_units_assigned_under_a_design_that_was_never_frozen_are_a_stop(records: Records) -> None:
    frozen(records, TRIAL)
    found = cohort(filled(records, small()), TRIAL, as_of=AS_OF)  # whose assignments bear another hash
    assert "designs that were never frozen: 1." in found.problems[0].sentence


def test_another_replay_in_the_same_records_is_not_seen(records: Records) -> None:
    again = other(name="another: replay")
    records.freeze(again, at=MONDAY, actor="replay")
    extra = [basket(f"{again.name}:b0", 0, MONDAY + timedelta(days=1), 500.0)]
    assert spent(cohort(filled(records, small(outcomes=extra)), TRIAL, as_of=AS_OF))[0] == 10.0


@pytest.mark.parametrize(
    ("update", "said"),
    [
        ({"covariates": ["usuall"]}, "did you mean 'usual'"),
        ({"segments": ["colour"]}, "no 'colour' was recorded"),
        ({"covariates": ["region"]}, "is a text; use it as a segment"),
        ({"metrics": [SPEND.model_copy(update={"outcome": "bascet"})]}, "did you mean 'basket'"),
        ({"metrics": [SPEND.model_copy(update={"name": "cost"})]}, "rename the metric or covariate cost"),
    ],
)
def test_names_that_nobody_recorded_are_refused(
    records: Records, update: dict[str, object], said: str
) -> None:
    with pytest.raises(ExperimentError, match=said):
        cohort(filled(records, small()), other(**update), as_of=AS_OF)


def test_units_randomised_in_clusters_bear_theirs(records: Records) -> None:
    found = cohort(filled(records, small()), other(cluster="region"), as_of=AS_OF)
    assert found.units["cluster"].to_pylist() == ["Nord"] * 4 and not found.problems
    loose = cohort(
        filled(records, small(assignments=[claim(9, "offer")])), other(cluster="region"), as_of=AS_OF
    )
    assert "The region is not known of all units" in loose.problems[0].sentence


def test_records_that_were_never_migrated_say_so(tmp_path: Path) -> None:
    with (
        Records(f"sqlite:///{tmp_path}/empty.db") as empty,
        pytest.raises(RecordError, match=r"ml-workbench migrate"),
    ):
        cohort(empty, TRIAL)


def test_a_database_that_is_away_is_a_readable_error() -> None:
    with Records("postgresql://ann:s3cret@127.0.0.1:1/records") as away, pytest.raises(RecordError) as caught:
        cohort(away, TRIAL)
    assert "cannot be reached" in str(caught.value) and "s3cret" not in str(caught.value)


# Pieces.


@pytest.mark.parametrize("covariates", [(), ("usual", "visits_before")])
def test_sums_by_day_end_where_the_horizon_does(records: Records, covariates: tuple[str, ...]) -> None:
    found = cohort(filled(records, dirty()), TRIAL, as_of=AS_OF)
    for metric in found.metrics:
        last = moments_by_day(found.daily, found.units, metric, covariates=covariates)[-1]
        for arm, moments in last.items():
            mine = found.units.filter(pa.compute.equal(found.units["arm"], arm))
            whole = moments_of(
                [metric, *covariates], np.column_stack([mine[name] for name in (metric, *covariates)])
            )
            assert moments.count == whole.count
            np.testing.assert_allclose(moments.mean, whole.mean, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(moments.scatter, whole.scatter, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "time", ["1969-12-31 23:59:59.999999", "2017-02-28 00:00:00", "2018-01-01 05:00:00.5"]
)
def test_sqlite_counts_microseconds_as_python_does(time: str) -> None:
    query = f"SELECT {DIALECTS['sqlite'].time(repr(time))}"
    assert sqlite3.connect(":memory:").execute(query).fetchone()[0] == micros(datetime.fromisoformat(time))


def test_thirds_say_where_they_cut() -> None:
    values = np.random.default_rng(3).gamma(2, 50, 3000)
    parts, order = thirds(values)
    low, high = (float(cut) for cut in order[1].split(" to "))
    assert {label: (parts == label).sum() for label in order} == {
        order[0]: (values <= low).sum(),
        order[1]: ((values > low) & (values <= high)).sum(),
        order[2]: (values > high).sum(),
    }
    assert all(abs((parts == label).mean() - 1 / 3) < 0.05 for label in order)
    assert all(one != other for one, other in pairwise(order))


def test_thirds_of_one_value_are_one_part() -> None:
    assert thirds(np.full(9, 5.0))[1] == ("all",)
    assert thirds(np.full(3, np.nan))[1] == (MISSING,)


# Size.


def test_sqlite_never_looks_through_a_whole_table_for_each_row(records: Records) -> None:
    ask = question(TRIAL, dialect="sqlite", as_of=AS_OF, repeats=False)
    with reading(filled(records, small())) as reader:
        plans = []
        for i, step in enumerate(MADE):
            statement = with_steps(ask, f" SELECT * FROM {step}", made=MADE[:i])
            plans += reader.rows(f"EXPLAIN QUERY PLAN {statement}") if i else []
            reader.keep(step, statement, by=("unit", "member")[i])
        plans += reader.rows(f"EXPLAIN QUERY PLAN {with_steps(ask, joined_query(ask), made=MADE)}")
    steps = [row[3] for row in plans]
    assert any("INDEX" in step and "LEFT-JOIN" in step for step in steps)
    assert not [step for step in steps if step.startswith("SCAN") and "LEFT-JOIN" in step]


MANY = """
import resource, sys, time
from datetime import datetime
import duckdb
from ml_workbench.experiment.cohort import cohort
from ml_workbench.plan.experiment import Experiment

folder, experiment = sys.argv[1], Experiment.model_validate_json(sys.argv[2])
started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = cohort(folder, experiment)
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(f"{time.perf_counter() - started:.1f} s, {memory / 1000:.0f} MB above {before / 1000:.0f} MB", file=sys.stderr)
assert len(found.units) == 1_000_000 and not found.problems, found.problems
assert memory < 1_000_000, f"{memory} kB"
"""


@pytest.mark.slow
def test_ten_million_outcomes_of_a_million_units_need_less_than_a_gigabyte(
    run_python: Callable[..., CompletedProcess], tmp_path: Path
) -> None:
    clock = "TIMESTAMP '2017-11-13 05:00:00'"
    claims = f"'big' AS experiment, i::VARCHAR AS unit, ['control', 'offer'][i % 2 + 1] AS arm, {clock} AS assigned_at"
    events = f"""'basket' AS outcome, 'event-' || i AS event_id, (hash(i) % 1000000)::VARCHAR AS unit,
        {clock} + INTERVAL ((hash(i + 7) % 4320000)::BIGINT - 864000) SECOND AS occurred_at, (hash(i + 9) % 10000) / 100.0 AS value"""
    with duckdb.connect() as connection:
        for name, columns, count in (("assignments", claims, 10**6), ("outcomes", events, 10**7)):
            made = f"SELECT {columns} FROM range({count}) AS t(i)"
            connection.execute(f"COPY ({made}) TO '{tmp_path}/{name}.parquet'")
    plan = other(name="big", metrics=[SPEND, VISITS], covariates=[], segments=[]).model_dump_json()
    done = run_python("-c", MANY, str(tmp_path), plan)
    print(done.stderr)
    assert done.returncode == 0, done.stderr
