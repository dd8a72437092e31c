"""What a service counted while it served is taken where it is of the very decisions of a period, and gives the figures of a scan."""

from dataclasses import asdict, replace
from datetime import timedelta

import pyarrow as pa
import pytest
import sqlalchemy as sa

from ml_workbench.database.connections import transaction
from ml_workbench.database.tables import table_of
from ml_workbench.monitor.reading import fingerprint, keeping, material_of
from ml_workbench.monitor.releases import released_by
from ml_workbench.monitor.running import look_at_database
from ml_workbench.monitor.streamed import a_year_earlier, streamed
from ml_workbench.release.known import Known
from ml_workbench.release.store import Store
from ml_workbench.serve.counting import Counting, Measures
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

YEAR = timedelta(weeks=52)


@pytest.fixture
def file(tmp_path) -> str:
    return f"sqlite:///{tmp_path}/a.db"


def count(records, root, served: pa.Table, source: str = "host-1") -> None:
    "Count decisions as a shipper does that brings them in portions."
    store = Store("store", root)
    store.add(BUNDLE)
    counting = Counting(Measures(Known(store)), source)
    for first in range(0, len(served), 70):
        part = served.slice(first, 70)
        columns = [part[name].to_pylist() for name in part.column_names]
        columns[part.column_names.index("at")] = [str(each) for each in part["at"].to_pylist()]
        with transaction(records.engine) as connection:
            counting.count(connection, columns)


def looked(source, end=MONDAY + WEEK, **options):
    with keeping(source) as kept:
        return material_of(kept, released(), end, 7, **options)


def near(columns: dict) -> dict:
    "Summaries, means to the last digits but one."
    plain = {name: asdict(each) for name, each in columns.items()}
    return {name: each | {"mean": pytest.approx(each["mean"], rel=1e-12)} if each.get("mean") is not None else each for name, each in plain.items()}  # fmt: skip


def plain(columns: dict) -> dict:
    return {name: asdict(each) for name, each in columns.items()}


def change(tables: dict, **columns) -> dict:
    "Other values in the columns of what was served."
    served = tables["served"]
    for name, values in columns.items():
        place = served.schema.get_field_index(name)
        served = served.set_column(
            place, served.schema.field(name), pa.array(values, served.schema.field(name).type)
        )
    return tables | {"served": served}


# The same figures ------------------------------------------------------------------------------------------


def test_the_same_rows_streamed_and_scanned_give_the_same_summaries(url, tmp_path):
    tables = shop(weeks=2)
    with as_records(url, tables) as records:
        scanned = looked(records)
        count(records, tmp_path, tables["served"])
        found = looked(records)
        assert (scanned.inputs.counted, found.inputs.counted) == ("scanned", "streamed")
        assert plain(found.inputs.columns) == near(scanned.inputs.columns) and list(found.inputs.columns) == list(scanned.inputs.columns)  # fmt: skip
        assert replace(found.inputs, columns={}, counted="") == replace(
            scanned.inputs, columns={}, counted="", why=""
        )
        assert found.inputs.rows == len(found.served) and fingerprint(found) != fingerprint(scanned)
        folder = looked(as_folder(tmp_path / "replay", tables))
        assert folder.inputs.counted == "scanned" and folder.inputs.why == ""


def test_all_decisions_are_counted_where_a_scan_reads_some(file, tmp_path):
    tables = shop(weeks=1)
    with as_records(file, tables) as records:
        some = looked(records, sample=40)
        count(records, tmp_path, tables["served"])
        every = looked(records, sample=40)
        whole = len(tables["served"])
        assert (some.inputs.rows, every.inputs.rows, whole > 200) == (40, whole, True)
        assert some.inputs.told == f", in 40 decisions that a hash picked of {whole:,}"
        assert plain(every.inputs.columns) == near(looked(records, sample=whole).inputs.columns)


def test_what_two_machines_counted_is_added_up(file, tmp_path):
    tables = shop(weeks=1)
    with as_records(file, tables) as records:
        scanned = looked(records).inputs.columns
        count(records, tmp_path, tables["served"].slice(0, 90), "host-1")
        count(records, tmp_path, tables["served"].slice(90), "host-2")
        found = looked(records).inputs
    assert found.counted == "streamed" and plain(found.columns) == near(scanned)


def test_features_of_which_only_the_hash_is_kept_are_known_all_the_same(file, tmp_path):
    tables = shop(weeks=1)
    with as_records(file, change(tables, features=[None] * len(tables["served"]))) as records:
        assert looked(records).inputs.rows == 0
        count(records, tmp_path, tables["served"])
        found = looked(records).inputs
        (period,) = look_at_database(place(tmp_path, period_days=7), records)
    assert found.counted == "streamed" and found.columns["visits_4w"].count == len(tables["served"])
    assert by_check(period.readings)["invariants.nulls"].status == "fine"


# And said --------------------------------------------------------------------------------------------------


def test_readings_say_how_it_was_counted(file, tmp_path):
    tables = shop(weeks=1)
    with as_records(file, tables) as records:
        (before,) = look_at_database(place(tmp_path), records, write=False)
        count(records, tmp_path, tables["served"])
        (after,) = look_at_database(place(tmp_path), records)
        assert look_at_database(place(tmp_path), records) == []
    counted = by_check(before.readings)["drift.features"].details["counted"]
    assert counted["counted"] == "scanned" and counted["decisions"] == len(tables["served"])
    assert "why" not in counted  # nobody counts a batch while it is served
    drift, columns = (by_check(after.readings)[name] for name in ("drift.features", "invariants.columns"))
    assert drift.details["counted"] == {"counted": "streamed", "decisions": len(tables["served"])}
    assert "as counted while they were served" in drift.sentence and "as counted while they were served" in columns.sentence  # fmt: skip
    statuses = [{each.cause: each.status for each in one.readings} for one in (before, after)]
    assert statuses[0] == statuses[1]


# Not the same decisions ------------------------------------------------------------------------------------


def test_a_decision_that_was_not_counted_makes_it_a_scan(file, tmp_path):
    tables = shop(weeks=1)
    with as_records(file, tables) as records:
        count(records, tmp_path, tables["served"].slice(1))
        found = looked(records).inputs
    whole = len(tables["served"])
    assert found.counted == "scanned" and found.why.startswith(f"{whole - 1:,} of {whole:,} decisions of 2024-07-15 (batch)")  # fmt: skip


def test_a_day_on_which_two_periods_meet_makes_it_a_scan(file, tmp_path):
    tables = shop(weeks=2)
    at = tables["served"]["at"].to_pylist()
    meeting = change(tables, at=[MONDAY + WEEK if place % 9 == 0 else each for place, each in enumerate(at)])
    with as_records(file, meeting) as records:
        count(records, tmp_path, meeting["served"])
        first, second = looked(records).inputs, looked(records, MONDAY + 2 * WEEK).inputs
    assert first.counted == second.counted == "scanned"
    assert "belong to another period" in first.why and "belong to another period" in second.why


def test_several_releases_make_it_a_scan(file, tmp_path):
    tables = shop(weeks=1)
    names = [RELEASE if place else "f" * 64 for place in range(len(tables["served"]))]
    with as_records(file, change(tables, release=names)) as records:
        count(records, tmp_path, tables["served"])
        assert "several releases decided" in looked(records).inputs.why


def test_features_that_could_not_be_read_while_serving_make_it_a_scan_that_names_them(file, tmp_path):
    tables = shop(weeks=1)
    texts = tables["served"]["features"].to_pylist()
    tables = change(tables, features=['["x", 1, 2, "Bath"]', *texts[1:]])
    with as_records(file, tables) as records:
        count(records, tmp_path, tables["served"])
        found = looked(records).inputs
    assert found.counted == "scanned" and "was not counted in every decision" in found.why and found.retyped


def test_a_summary_that_cannot_be_read_makes_it_a_scan(file, tmp_path):
    tables = shop(weeks=1)
    with as_records(file, tables) as records:
        count(records, tmp_path, tables["served"])
        with transaction(records.engine) as connection:
            connection.execute(sa.update(table_of("summaries")).values(summary="{}"))
        found = looked(records).inputs
    assert found.counted == "scanned" and "not a summary" in found.why


def test_without_a_reference_or_decisions_there_is_nothing_to_take(file, tmp_path):
    with as_records(file, shop(weeks=1)) as records, keeping(records) as kept:
        assert streamed(kept, replace(released(), reference=None), MONDAY, MONDAY + WEEK) == (None, "")
        assert streamed(kept, released(), MONDAY - WEEK, MONDAY) == (None, "")
        assert a_year_earlier(kept, replace(released(), reference=None), MONDAY, MONDAY + WEEK) == ()


# The same season -------------------------------------------------------------------------------------------


def a_year_ago(tables: dict, **columns) -> pa.Table:
    "What was served in the same weeks a year earlier."
    return change(tables, at=[each - YEAR for each in tables["served"]["at"].to_pylist()], **columns)[
        "served"
    ]


def test_drift_is_held_against_the_same_weeks_a_year_earlier_where_they_were_counted(url, tmp_path):
    tables = shop(weeks=2)
    with as_records(url, tables) as records:
        count(records, tmp_path, tables["served"])
        (first, _) = look_at_database(place(tmp_path), records, write=False)
        assert "a year earlier" not in by_check(first.readings)["drift.features"].sentence
        count(records, tmp_path, a_year_ago(tables))
        (first, second) = look_at_database(place(tmp_path), records)
    for looked_at in (first, second):
        reading = by_check(looked_at.readings)["drift.features"]
        assert (
            reading.status == "fine"
            and "against the same weeks a year earlier (about 2023-07-" in reading.sentence
        )


def test_a_season_like_this_one_is_no_drift_and_a_change_since_is(file, tmp_path):
    busy = shop(
        weeks=1, change=lambda week, rows: rows.assign(days_since_visit=rows["days_since_visit"] + 40)
    )
    with as_records(file, busy) as records:
        moved = by_check(look_at_database(place(tmp_path), records, write=False)[0].readings)
        assert "drift.feature/days_since_visit" in moved
        count(records, tmp_path, a_year_ago(busy))
        found = by_check(look_at_database(place(tmp_path), records)[0].readings)
        assert "drift.feature/days_since_visit" not in found
    usual = tmp_path / "usual"
    usual.mkdir()
    with as_records(f"sqlite:///{usual}/a.db", busy) as records:
        count(records, tmp_path, a_year_ago(shop(weeks=1)))
        found = by_check(look_at_database(place(tmp_path), records)[0].readings)
        assert found["drift.feature/days_since_visit"].details["against"] == "a year earlier"


def test_a_year_is_taken_from_a_release_with_the_same_edges_and_from_no_other(file, tmp_path):
    tables, store = shop(weeks=1), Store("store", tmp_path)
    store.add(BUNDLE)
    with as_records(file, tables) as records:
        count(records, tmp_path, a_year_ago(tables))
        renamed = {"again": released(), "gone": released_by([store], "f" * 64), "other": other(released())}
        with keeping(records) as kept:
            assert len(a_year_earlier(kept, released(), MONDAY, MONDAY + WEEK)) > 0
            with transaction(records.engine) as connection:
                connection.execute(sa.update(table_of("summaries")).values(release="again"))
            for name, taken in (("again", True), ("gone", False), ("other", False)):
                found = a_year_earlier(
                    kept, released(), MONDAY, MONDAY + WEEK, lambda _, name=name: renamed[name]
                )
                assert bool(found) is taken, name
            assert a_year_earlier(kept, released(), MONDAY, MONDAY + WEEK) == ()


def other(known):
    "A release that counts with as many edges, which are others."
    features = dict(known.reference["features"])
    edges = features["days_since_visit"]["edges"]
    features["days_since_visit"] = features["days_since_visit"] | {"edges": [each + 1 for each in edges]}
    return replace(known, reference=known.reference | {"features": features})


def test_a_summary_of_a_year_ago_that_cannot_be_read_is_left_out(file, tmp_path):
    tables = shop(weeks=1)
    with as_records(file, tables) as records:
        count(records, tmp_path, a_year_ago(tables))
        with transaction(records.engine) as connection:
            connection.execute(sa.update(table_of("summaries")).values(summary="{}"))
        assert looked(records).history == ()
