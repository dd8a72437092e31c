"Summaries add up in any order and any partition, every engine counts the same, and what does not fit is told."

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_workbench.database.connections import transaction
from ml_workbench.database.rows import schema_of
from ml_workbench.database.tables import table_of
from ml_workbench.monitor.counting import Misfit, Scanned, column_misfits, scan
from ml_workbench.monitor.summaries import (
    SCAN,
    Counted,
    Scale,
    Summary,
    counted_from,
    counted_rows,
    once,
    period_summary,
    scale_of,
    summary_from,
    summary_of,
    summary_text,
    together,
)
from ml_workbench.plan.errors import MonitorError
from ml_workbench.release.reference import Categories, Numbers, added, categories, numbers, reference_from
from ml_workbench.serve.records import Records
from tests.release.small import small_bundle

MARKS = {
    "spend": (-2.0, 0.0, 0.1, 5.0),
    "visits": (0.0, 1.0, 2.0),
    "town": ("Arles", "Bath", ""),
    "left": (0.0, 1.0),
}
SCALE = Scale({"spend": "number", "visits": "number", "town": "category"}, MARKS, (0.25, 0.5), "left")
MONDAY = datetime(2024, 3, 4)
NUMBER = st.one_of(
    st.none(), st.floats(-10, 10, width=32), st.sampled_from([0.0, -0.0, 0.1, 5.0, 1e30, -1e-30])
)
TOWN = st.one_of(st.none(), st.sampled_from(["Arles", "Bath", "", "Delft", "=Bath", "Ré"]))
ROWS = st.lists(st.tuples(NUMBER, NUMBER, TOWN, st.one_of(st.none(), st.floats(0, 1))), max_size=40)
FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def masked(values: list, kind: str) -> np.ma.MaskedArray:
    gone = [value is None for value in values]
    if kind == "number":
        return np.ma.masked_array(
            [0.0 if value is None else value for value in values], mask=gone, dtype=np.float64
        )
    return np.ma.masked_array(
        np.array(["" if value is None else value for value in values], dtype=object), mask=gone
    )


def truth(rows: list[tuple]) -> Summary:
    "What NumPy says of rows (spend, visits, town, score)."
    spend, visits, town, scores = zip(*rows) if rows else ([], [], [], [])
    columns = {
        "spend": masked(spend, "number"),
        "visits": masked(visits, "number"),
        "town": masked(town, "category"),
    }
    return summary_of(SCALE, columns, masked(scores, "number"), {"proposed": (0, len(rows))} if rows else {})


def same(one: Summary, other: Summary) -> None:
    "Equal counts, equal ends, and means to nine digits."
    assert (one.scale, one.decisions, {**one.actions}) == (other.scale, other.decisions, {**other.actions})
    assert one.features.keys() == other.features.keys()
    for a, b in [
        (one.score, other.score),
        *((one.features[name], other.features[name]) for name in one.features),
    ]:
        if isinstance(a, Numbers):
            assert (a.mean is None) == (b.mean is None)
            largest = max(abs(a.min), abs(a.max), 1e-6) if a.finite else 0.0
            assert a.mean is None or a.mean == pytest.approx(b.mean, rel=1e-9, abs=1e-9 * largest)
            a, b = (Numbers(**vars(each) | {"mean": None}) for each in (a, b))
        assert a == b


def decisions(rows: list[tuple], **other: Any) -> list[dict[str, Any]]:
    "Rows of table `served`."
    made = []
    for number, (spend, visits, town, score) in enumerate(rows):
        row = {
            "decision_id": f"d{number:05}", "at": MONDAY + timedelta(hours=7 * number), "unit": str(number), "as_of": MONDAY, "line": 1,
            "experiment": "e", "arm": "champion", "propensity": 0.5, "reason": "assigned", "release": "mlp 4f2a", "policy": "proposed",
            "score": score, "value": None, "action": "none", "features_hash": "", "features": json.dumps([spend, visits, town]),
            "shadows": None, "latency_ms": 0.5, "channel": "rest",
        }  # fmt: skip
        made.append(row | other)
    return made


def arrow(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=schema_of("served"))


# Adding ----------------------------------------------------------------------------------------------------


@FEW
@given(ROWS, st.data())
def test_parts_in_any_order_and_any_partition_are_the_whole(rows: list[tuple], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(rows))))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=5)))
    pieces = [[rows[place] for place in order[a:b]] for a, b in zip([0, *cuts], [*cuts, len(rows)])]
    parts = [truth(piece) for piece in pieces]
    same(together(parts), truth(rows))
    assert together(parts) == together(parts[::-1]), "to the last bit, whoever comes first"
    nested = together([together(parts[:2]), *parts[2:]])
    same(nested, truth(rows))


def test_what_was_counted_with_other_edges_is_not_added() -> None:
    other = Scale(SCALE.kinds, MARKS | {"spend": (0.0,)}, SCALE.score, "left")
    assert other.fingerprint != SCALE.fingerprint
    nothing = summary_of(other, {}, np.ma.masked_array([]), {})
    with pytest.raises(MonitorError, match="different edges"):
        together([truth([]), nothing])
    assert together([]) is None


def test_a_feature_that_came_up_later_is_counted_from_then_on() -> None:
    rows = [(1.0, 1.0, "Bath", 0.5)] * 4
    earlier = summary_of(SCALE, {"spend": masked([1.0] * 3, "number")}, masked([0.1] * 3, "number"), {})
    whole = together([earlier, truth(rows)])
    assert (whole.decisions, whole.features["spend"].count, whole.features["town"].count) == (7, 7, 4)


def test_the_scale_is_that_of_the_release_and_the_label_stands_apart() -> None:
    reference = reference_from(small_bundle().files["reference.json"])
    scale = scale_of(reference)
    assert scale.label == "lapsed" and "lapsed" not in scale.kinds and scale.kinds["town"] == "category"
    assert scale.marks["visits_4w"] == tuple(reference["features"]["visits_4w"]["edges"])


@pytest.mark.parametrize("reference", [None, {}, {"features": {}}])
def test_a_release_without_reference_is_told_with_its_name(reference: Any) -> None:
    with pytest.raises(MonitorError, match=r"release 4f2a91c07be3 has no reference\.json"):
        scale_of(reference, "4f2a91c07be37d0000")


# As text ---------------------------------------------------------------------------------------------------


@FEW
@given(ROWS)
def test_a_summary_comes_back_from_text_to_the_last_bit(rows: list[tuple]) -> None:
    assert summary_from(summary_text(truth(rows))) == truth(rows)


SPOILT = [
    ("decisions", True), ("decisions", -1), ("decisions", 2.0), ("decisions", None), ("features", []), ("format", 2), ("score", None),
    ("actions", {"proposed": {"listed": 5, "rows": 4}}), ("actions", {"proposed": [1, 2]}), ("features", {"spend": {"bins": [1, 2]}}),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), SPOILT)
def test_a_text_that_is_no_summary_is_refused(key: str, value: Any) -> None:
    raw = json.loads(summary_text(truth([(1.0, 1.0, "Bath", 0.5)] * 4)))
    with pytest.raises(MonitorError, match="not a summary"):
        summary_from(json.dumps(raw | {key: value}))


@pytest.mark.parametrize(
    "change",
    [
        {"null": 1},
        {"bins": [1, 2, 3, 4, 5]},
        {"bins": [0, 0, 0, 4.0, 0]},
        {"min": None},
        {"more": 1},
        {"mean": "1"},
    ],
)
def test_counts_that_do_not_add_up_are_refused(change: dict[str, Any]) -> None:
    raw = json.loads(summary_text(truth([(1.0, 1.0, "Bath", 0.5)] * 4)))
    raw["features"]["spend"] |= change
    with pytest.raises(MonitorError, match="not a summary"):
        summary_from(json.dumps(raw))


@pytest.mark.parametrize("text", ["", "{", "null", "[1]", '{"format": 1}', "[" * 100_000])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(MonitorError, match="not a summary"):
        summary_from(text)


def test_what_a_service_counted_is_read_with_the_scale_of_its_release() -> None:
    plain = vars(numbers(np.array([0.3, 1.0]), MARKS["spend"]))
    raw = {
        "features": {"spend": plain | {"bins": [-3, 2, -1]}},
        "score": None,
        "actions": {"none": 5, "offer": 1},
        "reasons": {},
    }
    found = summary_from(json.dumps(raw), SCALE)
    assert found.features["spend"] == numbers(np.array([0.3, 1.0]), MARKS["spend"])
    assert (found.decisions, found.actions, found.score.count) == (6, {"": (1, 6)}, 0)
    with pytest.raises(MonitorError, match="which release"):
        summary_from(json.dumps(raw))
    raw["features"]["spend"]["bins"] = [2, -1]
    with pytest.raises(MonitorError, match="other edges"):
        summary_from(json.dumps(raw), SCALE)


# Days ------------------------------------------------------------------------------------------------------


def counted(day: int, source: str, rows: int, release: str = "a", channel: str = "rest") -> Counted:
    return Counted(
        MONDAY + timedelta(days=day), release, channel, source, truth([(1.0, 1.0, "Bath", 0.5)] * rows)
    )


def test_the_same_summary_twice_counts_once_and_a_contradiction_is_told() -> None:
    days = [counted(0, "host", 3), counted(1, "host", 4)]
    assert once([*days, *days]) == days
    with pytest.raises(MonitorError, match="'host' counted 2024-03-04 of a twice and differently"):
        once([counted(0, "host", 3), counted(0, "host", 4)])


def test_a_scan_and_what_was_streamed_are_two_accounts_of_the_same_decisions() -> None:
    streamed = [counted(0, "one", 3), counted(0, "two", 4)]
    assert [each.source for each in once([*streamed, counted(0, SCAN, 7)])] == [SCAN]
    assert [each.source for each in once([*streamed, counted(0, SCAN, 6)])] == ["one", "two"]
    assert len(once([*streamed, counted(1, SCAN, 6), counted(0, SCAN, 9, channel="batch")])) == 4


def test_a_period_holds_its_days_and_no_others() -> None:
    days = [counted(day, "host", 1) for day in range(-1, 9)]
    assert period_summary(days, datetime(2024, 3, 11, 5), 7).decisions == 7
    assert period_summary(days, datetime(2024, 3, 5), 1) == days[1].summary
    assert period_summary(days, datetime(2024, 3, 11, 5), 7, release="b") is None
    assert period_summary([], datetime(2024, 3, 11, 5), 7) is None


def test_rows_of_the_table_come_back_as_they_went(tmp_path: Path) -> None:
    days = [counted(0, "host", 3), counted(1, "host", 4)]
    with Records(f"sqlite:///{tmp_path}/records.db") as records:
        records.migrate()
        records.write("summaries", counted_rows(days, MONDAY))
        records.write("summaries", counted_rows(days, MONDAY + timedelta(hours=1)))
        assert counted_from(records.read("summaries").to_pylist()) == days


# Every engine the same --------------------------------------------------------------------------------------


@FEW
@given(ROWS)
def test_one_scan_in_duckdb_counts_what_numpy_counts(rows: list[tuple]) -> None:
    table = arrow(decisions(rows))
    found = scan(table, SCALE)
    assert not found.misfits and [each.day for each in found.counted] == sorted(
        {each.day for each in found.counted}
    )
    if rows:
        same(found.whole(), truth(rows))
    else:
        assert found == Scanned((), ()) and found.whole() is None
    for each in found.counted:
        same(
            each.summary,
            truth([row for row, made in zip(rows, decisions(rows)) if made["at"].date() == each.day.date()]),
        )


@FEW
@given(ROWS.filter(bool), st.lists(st.sampled_from([np.nan, np.inf, -np.inf]), max_size=3))
def test_a_column_for_each_feature_is_read_as_well_with_nan_and_infinity(
    rows: list[tuple], odd: list[float]
) -> None:
    rows = [*rows, *((value, 1.0, "Bath", 0.5) for value in odd)]
    spend, visits, town, score = (list(column) for column in zip(*rows))
    columns = {
        "spend": pa.array(spend, pa.float64()),
        "visits": pa.array(visits, pa.float32()),
        "town": town,
        "score": pa.array(score, pa.float64()),
    }
    found = scan(pa.table(columns), SCALE, day=None)
    assert found.counted[0].summary.features["spend"].infinite == sum(np.isinf(odd))
    expected = truth([(a, None if b is None else float(np.float32(b)), c, d) for a, b, c, d in rows])
    same(Summary(**vars(found.whole()) | {"actions": {"proposed": (0, len(rows))}}), expected)


def many(count: int = 3000) -> list[tuple]:
    random = np.random.default_rng(8)
    spend, visits = random.gamma(2, 3, count).round(4), random.poisson(1, count).astype(float)
    towns, scores = random.choice(["Arles", "Bath", "Delft"], count), random.random(count)
    rows = list(zip(spend.tolist(), visits.tolist(), towns.tolist(), scores.tolist()))
    return [
        (None if i % 7 == 0 else a, b, None if i % 11 == 0 else c, None if i % 13 == 0 else d)
        for i, (a, b, c, d) in enumerate(rows)
    ]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Records]:
    "Migrated records in a database of either kind."
    postgres = request.param == "postgres"
    with Records(
        request.getfixturevalue("postgres_url") if postgres else f"sqlite:///{tmp_path}/records.db"
    ) as made:
        made.migrate()
        yield made


def mixed() -> list[dict[str, Any]]:
    "Two releases, two channels, a rule, offers, what kept no features, and what holds too few."
    rows = decisions(many(600))
    for number, row in enumerate(rows):
        row["at"] = MONDAY + timedelta(minutes=10 * number)
        row["action"] = "offer" if number % 9 == 0 else "none"
        row["channel"] = "batch" if number % 4 == 0 else "rest"
        if number % 5 == 0:
            row |= {"policy": "rule", "score": 31.0}
        if number % 50 == 0:
            row["features"] = None
        if number % 60 == 1:
            row["features"] = "[1.0, 2.0]"
        if number % 60 == 2:
            row["features"] = '[true, "3", 7]'
        row["release"] = "other" if number % 3 == 0 else "mlp 4f2a"
    return rows


def test_databases_and_duckdb_count_the_same_to_the_last_one(records: Records) -> None:
    rows = mixed()
    records.write("served", rows)
    for asked in ({}, {"release": "other"}, {"until": MONDAY + timedelta(days=2)}):
        one, other = scan(records, SCALE, **asked), scan(arrow(rows), SCALE, **asked)
        assert [(each.day, each.release, each.channel) for each in one.counted] == [
            (each.day, each.release, each.channel) for each in other.counted
        ]
        for a, b in zip(one.counted, other.counted):
            same(a.summary, b.summary)
        assert {(each.kind, each.column, each.rows) for each in one.misfits} == {
            (each.kind, each.column, each.rows) for each in other.misfits
        }
    assert {each.kind for each in scan(records, SCALE).misfits} == {"length", "retyped"}


def test_rules_do_not_count_as_scores_and_actions_are_told_by_policy() -> None:
    whole = scan(arrow(mixed()), SCALE).whole()
    assert whole.score.max < 1 and whole.score.count == 480 and whole.decisions == 600
    assert whole.actions["rule"][1] == 120 and sum(acted for acted, _ in whole.actions.values()) == 67
    assert whole.features["spend"].count == 600 - 12 - 10


def test_an_empty_database_is_an_empty_answer(records: Records) -> None:
    assert scan(records, SCALE) == Scanned((), ())


def test_numbers_in_a_database_that_are_not_finite_count_apart(records: Records) -> None:
    records.write("served", decisions([(1.0, 1.0, "Bath", 0.5)] * 6))
    served, odd = table_of("served"), {"d00001": float("inf")}
    if records.engine.dialect.name == "postgresql":
        odd["d00000"] = float("nan")  # which SQLite keeps as nothing
    with transaction(records.engine) as connection:
        for name, value in odd.items():
            connection.execute(served.update().where(served.c.decision_id == name).values(score=value))
    score = scan(records, SCALE).whole().score
    assert (score.count, score.nan, score.infinite, score.finite) == (6, len(odd) - 1, 1, 6 - len(odd))


# Means -----------------------------------------------------------------------------------------------------


def test_means_do_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    values, found = random.lognormal(0, 3, 300_000), set()
    scale = Scale(
        {"x": "number"},
        {"x": tuple(np.quantile(values, np.linspace(0, 1, 64)).tolist()), "left": ()},
        (),
        "left",
    )
    for number in range(3):
        pq.write_table(
            pa.table({"x": random.permutation(values)}), tmp_path / f"{number}.parquet", row_group_size=20_000
        )
        found.add(scan(tmp_path / f"{number}.parquet", scale, day=None).whole().features["x"].mean)
    assert len(found) == 1 and found.pop() == pytest.approx(values.mean(), rel=1e-12)


@pytest.mark.parametrize("factor", [1e12, 1e40, 1e200])
def test_values_beyond_everything_the_reference_knew_are_summed_all_the_same(factor: float) -> None:
    values = np.array([1.0, 2.0, 3.0]) * factor
    found = scan(pa.table({"spend": values}), SCALE, day=None).whole().features["spend"]
    assert found.mean == pytest.approx(2 * factor) and found.bins[-1] == 3 and found.max == 3 * factor


# What does not fit ------------------------------------------------------------------------------------------


def table(**columns: Any) -> pa.Table:
    rows = {"at": [MONDAY] * 4, "spend": [1.0] * 4, "visits": [1.0] * 4, "town": ["Bath"] * 4}
    return pa.table({name: values for name, values in (rows | columns).items() if values is not None})


def test_columns_removed_added_renamed_and_retyped_are_told_and_the_others_counted() -> None:
    found = scan(table(spend=None, visits=["one", "2", None, "3"], spend_eur=[1.0] * 4, age=[1] * 4), SCALE)
    assert {(each.kind, each.column) for each in found.misfits} == {
        ("renamed", "spend"),
        ("added", "age"),
        ("retyped", "visits"),
    }
    assert "'spend_eur'" in next(each.sentence for each in found.misfits if each.kind == "renamed")
    assert found.whole().features["town"].count == 4 and "spend" not in found.whole().features
    assert found.whole().features["visits"] == numbers(
        masked([None, 2.0, None, 3.0], "number"), MARKS["visits"]
    )
    gone = scan(table(town=None), SCALE)
    assert [(each.kind, each.column, each.rows) for each in gone.misfits] == [("missing", "town", 4)]


def test_a_name_that_only_looks_alike_but_holds_something_else_is_no_new_name() -> None:
    kinds = {"spend_": "VARCHAR", "visits": "FLOAT", "town": "VARCHAR"}
    assert {each.kind for each in column_misfits(kinds, SCALE, 1)} == {"missing", "added"}


def test_decisions_of_tomorrow_are_told_and_not_counted() -> None:
    found = scan(
        table(at=[MONDAY, MONDAY, MONDAY + timedelta(days=3), None]), SCALE, until=MONDAY + timedelta(hours=1)
    )
    assert found.whole().decisions == 3 and [(each.kind, each.rows) for each in found.misfits] == [
        ("ahead", 1)
    ]


def test_times_with_a_zone_are_counted_by_their_day_in_utc() -> None:
    late = pa.array([datetime(2024, 3, 4, 23, 30)] * 4, pa.timestamp("us")).cast(
        pa.timestamp("us", "America/New_York")
    )
    moments = pa.chunked_array([late])
    found = scan(table(at=moments), SCALE)
    utc = moments.cast(pa.timestamp("us", "UTC")).cast(pa.timestamp("us"))[0].as_py()
    assert [each.day.date() for each in found.counted] == [utc.date()]


def test_the_same_file_named_twice_is_refused(tmp_path: Path) -> None:
    pq.write_table(table(), tmp_path / "day.parquet")
    with pytest.raises(MonitorError, match="named twice"):
        scan([tmp_path / "day.parquet", tmp_path / "." / "day.parquet"], SCALE)
    with pytest.raises(MonitorError, match="named twice"):
        scan([tmp_path, tmp_path / "day.parquet"], SCALE)
    assert scan(tmp_path, SCALE).whole().decisions == 4


def test_what_cannot_be_read_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"nothing")
    for source, match in (
        (tmp_path / "broken.parquet", "cannot be read"),
        (tmp_path / "none.parquet", "cannot be read"),
        (tmp_path / "empty", "cannot be read"),
    ):
        with pytest.raises(MonitorError, match=match) as told:
            scan(source, SCALE)
        assert "\n" not in str(told.value)
    with pytest.raises(MonitorError, match="no column 'when'"):
        scan(table(), SCALE, day="when")


def test_an_empty_day_is_no_summary_and_no_error() -> None:
    assert scan(table().slice(0, 0), SCALE).counted == ()


def test_a_relation_of_another_connection_is_read_where_it_is() -> None:
    connection = duckdb.connect()
    connection.register("given", table())
    assert scan(connection.sql("SELECT * FROM given LIMIT 3"), SCALE).whole().decisions == 3


def test_outcomes_are_counted_where_they_are_given() -> None:
    assert scan(table(left=[1, 0, None, 1]), SCALE).whole().features["left"] == numbers(
        masked([1.0, 0.0, None, 1.0], "number"), MARKS["left"]
    )


def test_a_misfit_says_what_it_is_about() -> None:
    [found] = scan(arrow(decisions([(1.0, 1.0, "Bath", 0.5)] * 3, features="[1]")), SCALE).misfits
    assert found == Misfit("length", "", 3, found.sentence) and "3 decisions" in found.sentence


def test_added_of_the_reference_adds_these_as_well() -> None:
    one, other = truth([(1.0, 1.0, "Bath", 0.5)] * 3), truth([(7.0, None, "Delft", 0.1)])
    assert added(one.features["town"], other.features["town"]) == Categories(4, 0, (0, 3, 0, 1))
    assert categories(masked(["Bath"] * 3 + ["Delft"], "category"), MARKS["town"]) == Categories(
        4, 0, (0, 3, 0, 1)
    )
