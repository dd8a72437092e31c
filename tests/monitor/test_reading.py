"""A period is read whole, and says the same out of a folder and out of a database."""

from dataclasses import fields, replace
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_workbench.monitor.reading import (
    Material,
    fingerprint,
    inputs_of,
    keeping,
    main_release,
    material_of,
    period_ends,
    period_of,
)
from ml_workbench.monitor.releases import Released, released_by
from ml_workbench.plan.errors import MonitorError
from ml_workbench.release.reference import Numbers
from ml_workbench.release.store import Store
from ml_workbench.serve.designs import REPLAY
from tests.monitor.shop import LISTED, MONDAY, NAMES, RELEASE, WEEK, as_folder, as_records, released, shop
from tests.release.small import DECLARED

COLUMNS = [(each.name, each.kind) for each in DECLARED.columns]
UNTIL = MONDAY + 10 * WEEK


def looked(source, end=MONDAY + WEEK, *, known: Released | None = None, until=UNTIL, **options) -> Material:
    with keeping(source, **options) as kept:
        return material_of(kept, known or released(), end, 7, until=until)


# Periods ---------------------------------------------------------------------------------------------------


@given(
    first=st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1)),
    days=st.integers(1, 40),
    hours=st.integers(0, 9000),
)
def test_every_decision_belongs_to_one_period_and_periods_follow_each_other(first, days, hours):
    as_of = first + timedelta(hours=hours)
    end = period_of(as_of, first, days)
    assert end - timedelta(days=days) <= as_of < end
    assert end in period_ends(first, end, days)


def test_a_period_that_is_not_over_is_not_looked_at():
    assert period_ends(MONDAY, MONDAY + WEEK - timedelta(seconds=1), 7) == []
    assert period_ends(MONDAY, MONDAY + WEEK, 7) == [MONDAY + WEEK]


# The same from both ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_a_folder_and_a_database_show_the_same(where, request, tmp_path):
    tables = shop()
    url = f"sqlite:///{tmp_path}/a.db" if where == "sqlite" else request.getfixturevalue("postgres_url")
    folder = as_folder(tmp_path / "replay", tables)
    with as_records(url, tables) as records:
        for end in (MONDAY + WEEK, MONDAY + 4 * WEEK):
            one, other = looked(folder, end), looked(records, end)
            assert fingerprint(one) == fingerprint(other)
            for each in fields(Material):
                mine, theirs = getattr(one, each.name), getattr(other, each.name)
                assert mine.equals(theirs) if isinstance(mine, pa.Table) else mine == theirs, each.name


def put(table: pa.Table, column: str, value: str) -> pa.Table:
    place = table.schema.get_field_index(column)
    return table.set_column(place, table.schema.field(column), pa.array([value] * table.num_rows))


def test_a_replay_that_was_played_into_the_same_database_is_no_production(tmp_path):
    tables, url = shop(), f"sqlite:///{tmp_path}/a.db"
    with as_records(url, tables) as records:
        alone = looked(records)
        assert alone.replayed  # this shop's only experiment is one, and was served
    tables["experiments"] = put(tables["experiments"], "actor", "Ada")
    beside = dict(tables)
    for name in ("experiments", "exposures", "predictions", "assignments"):
        played = put(tables[name], "experiment", "played")
        played = put(played, "actor", REPLAY) if name == "experiments" else played
        beside[name] = pa.concat_tables([tables[name], played])
    with as_records(f"sqlite:///{tmp_path}/b.db", tables) as records:
        real = looked(records)
    with as_records(f"sqlite:///{tmp_path}/c.db", beside) as records:
        found = looked(records)
    assert not real.replayed and not found.replayed and len(real.answers) == len(alone.answers) > 0
    assert found.answers.equals(real.answers) and fingerprint(found) == fingerprint(real)


def test_what_is_older_than_asked_for_is_not_read_and_changes_nothing(tmp_path):
    with as_records(f"sqlite:///{tmp_path}/a.db", shop()) as records:
        whole, part = (
            looked(records, MONDAY + 6 * WEEK),
            looked(records, MONDAY + 6 * WEEK, since=MONDAY + WEEK),
        )
    assert part.answers.equals(whole.answers) and len(part.counts) == len(whole.counts) - 1


# What a period holds ---------------------------------------------------------------------------------------


def test_lists_belong_to_the_week_that_follows_them(tmp_path):
    folder = as_folder(tmp_path / "replay", shop(weeks=3))
    second = looked(folder, MONDAY + 2 * WEEK)
    assert {*second.served["as_of"].to_pylist()} == {MONDAY + WEEK} and second.counts == (len(second.served),)
    assert {*second.recent["as_of"].to_pylist()} == {MONDAY, MONDAY + WEEK}
    assert int(pc.sum(second.answers["listed"]).as_py()) == LISTED
    with keeping(folder) as kept:
        assert main_release(kept, MONDAY, MONDAY + WEEK) == RELEASE
        assert main_release(kept, MONDAY - WEEK, MONDAY) == ""


def test_labels_are_what_outcomes_say_and_only_when_the_horizon_is_over(tmp_path):
    tables = shop()
    folder = as_folder(tmp_path / "replay", tables)
    early = looked(folder, until=MONDAY + timedelta(days=27))
    assert not early.labelled
    there = looked(folder)
    came = {*tables["outcomes"]["unit"].to_pylist()}
    label = dict(zip(there.answers["unit"].to_pylist(), there.answers["label"].to_pylist()))
    assert label == {unit: float(unit not in came) for unit in label} and 0 < sum(label.values()) < len(label)


def test_outcomes_that_end_before_the_horizon_leave_labels_unknown(tmp_path):
    tables = shop()
    cut = pa.scalar(MONDAY + timedelta(days=20), pa.timestamp("us"))
    tables["outcomes"] = tables["outcomes"].filter(pc.less(tables["outcomes"]["occurred_at"], cut))
    assert not looked(as_folder(tmp_path / "replay", tables)).labelled


def test_treated_units_are_marked_and_the_others_make_up_for_them(tmp_path):
    material = looked(as_folder(tmp_path / "replay", shop(weeks=1)))
    answers = material.answers.to_pandas()
    offered = shop(weeks=1)["exposures"]["unit"].to_pylist()
    assert {*answers[answers["treated"]]["unit"]} == {*offered} and len(offered)
    listed, free = answers[answers["listed"]], answers[~answers["listed"]]
    # The plan follows the model in two arms: 0.36 and 0.18 of those who are listed would have got a letter.
    assert np.allclose(listed["weight"], 1 / (1 - 0.54)) and (free["weight"] == 1).all()


def test_an_empty_period_and_an_empty_folder_are_read_without_a_word(tmp_path):
    folder = as_folder(tmp_path / "replay", shop(weeks=1))
    later = looked(folder, MONDAY + 3 * WEEK)
    assert len(later.served) == len(later.answers) == later.inputs.rows == 0 and later.counts[-1] == 0
    nothing = looked(as_folder(tmp_path / "empty", {}))
    assert len(nothing.served) == 0 and nothing.online_as_of is None and not nothing.labelled


def test_a_release_that_is_gone_is_known_by_its_name(tmp_path):
    gone = released_by([Store("store", tmp_path)], "f" * 64)
    material = looked(as_folder(tmp_path / "replay", shop(weeks=1)), known=gone)
    assert material.reference is None and material.score is None and gone.problem
    assert len(material.served) > 0


def test_a_release_whose_reference_is_broken_is_known_as_far_as_it_goes():
    from ml_workbench.monitor.releases import released_in
    from tests.monitor.shop import BUNDLE

    broken = released_in(replace(BUNDLE, files={**BUNDLE.files, "reference.json": b"{}"}), RELEASE)
    assert broken.reference is None and broken.terms is not None and "reference.json" in broken.problem


def test_decisions_that_were_recorded_twice_count_once_as_answers(tmp_path):
    tables = shop(weeks=1)
    tables["predictions"] = pa.concat_tables([tables["predictions"]] * 2)
    tables["outcomes"] = pa.concat_tables([tables["outcomes"]] * 2)
    once, twice = (
        looked(as_folder(tmp_path / name, each)) for name, each in (("one", shop(weeks=1)), ("two", tables))
    )
    assert twice.answers.equals(once.answers) and twice.spend == once.spend


def test_what_is_no_folder_or_no_table_is_told_in_a_line(tmp_path):
    with pytest.raises(MonitorError, match="is no folder"), keeping(tmp_path / "nowhere"):
        pass
    lacking = as_folder(tmp_path / "replay", {"served": pa.table({"unit": ["1"]})})
    with pytest.raises(MonitorError, match="served lacks decision_id"), keeping(lacking):
        pass
    (tmp_path / "replay" / "served.parquet").write_bytes(b"nothing")
    with pytest.raises(MonitorError, match="replay"), keeping(tmp_path / "replay"):
        pass


def test_new_labels_change_the_fingerprint_and_nothing_else_does(tmp_path):
    folder = as_folder(tmp_path / "replay", shop())
    one, two = looked(folder), looked(folder)
    early = looked(folder, until=MONDAY + timedelta(days=8))
    assert fingerprint(one) == fingerprint(two) != fingerprint(early)
    assert fingerprint(one, "other limits") != fingerprint(one)


# Inputs ----------------------------------------------------------------------------------------------------


def test_columns_that_do_not_fit_the_declaration_are_named():
    reference = released().reference
    found = inputs_of(
        ['[1, 2, 3.5, "Arles", 9]', '{"days_since_visit": "x", "age": 4, "town": 7}'], reference, COLUMNS
    )
    assert found.added == ("age", "number 5") and found.retyped == ("days_since_visit", "town")
    assert inputs_of(['{"town": "Bath"}'], reference, COLUMNS).removed == tuple(NAMES[:3])


def test_numbers_that_are_no_json_are_counted_for_what_they_are():
    found = inputs_of(["[NaN, Infinity, 1.0, null]"], released().reference, COLUMNS).columns
    assert (found["days_since_visit"].nan, found["visits_4w"].infinite, found["town"].null) == (1, 1, 1)


def test_inputs_are_counted_as_the_reference_was():
    from tests.monitor.shop import features_of
    from tests.release.small import members

    reference, rows = released().reference, members("test")
    found = inputs_of(features_of(rows), reference, COLUMNS)
    for name in NAMES:
        assert (
            found.columns[name] == pytest.approx(reference["features"][name]["test"])
            if not isinstance(found.columns[name], Numbers)
            else found.columns[name].bins == reference["features"][name]["test"].bins
        )
