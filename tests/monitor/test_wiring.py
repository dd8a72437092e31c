"""Drift and skew get the same material as every other monitor."""

import pyarrow as pa
import pytest

from ml_workbench.monitor.asking import Asked, Present
from ml_workbench.monitor.releases import Released
from ml_workbench.monitor.wiring import DRIFT, SKEW, causes_of, drifted, skewed, summary_in
from tests.monitor.shop import MONDAY, WEEK, as_folder, by_check, shop
from tests.monitor.test_reading import looked
from tests.release.small import members

CHECKS = {each.name: each for each in (*DRIFT.CHECKS, *SKEW.CHECKS)}


def asked(**rest) -> Asked:
    return Asked(CHECKS, minimum=50, **rest)


def snapshots(path, week=0):
    rows = members("test").drop(columns="slice").assign(as_of=MONDAY + week * WEEK)
    rows.to_parquet(path)
    return Present(snapshots=path)


def test_what_was_counted_for_all_checks_is_what_drift_compares(tmp_path):
    material = looked(as_folder(tmp_path, shop(weeks=1)))
    summary = summary_in(material)
    assert summary.decisions == len(material.served) and dict(summary.features) == dict(material.summaries)
    assert {each.status for each in drifted(material, asked())} == {"fine"}


def test_a_shift_of_scores_comes_with_its_causes(tmp_path):
    tables = shop(
        weeks=1,
        change=lambda week, rows: rows.assign(days_since_visit=rows["days_since_visit"] + 40, visits_4w=0.0),
    )
    material = looked(as_folder(tmp_path, tables))
    found = by_check(drifted(material, asked()))
    assert found["drift.scores"].status in ("watch", "alarm")
    assert next(iter(found["drift.scores"].details["causes"]["parts"])) in ("days_since_visit", "visits_4w")


def test_without_a_reference_nothing_is_compared(tmp_path):
    material = looked(as_folder(tmp_path, shop(weeks=1)), known=Released("gone", problem="it is gone"))
    assert {each.status for each in (*drifted(material, asked()), *skewed(material, asked()))} == {"unknown"}
    assert causes_of(material, "test") is None


def test_served_features_are_those_of_the_snapshots_or_named(tmp_path):
    present = snapshots(tmp_path / "snapshots.parquet")
    same = by_check(skewed(looked(as_folder(tmp_path / "same", shop(weeks=1))), asked(present=present)))
    assert (
        same["skew.features"].status == same["skew.joined"].status == "fine"
        and same["skew.features"].count > 200
    )
    wrong = shop(
        weeks=1,
        change=lambda week, rows: rows.assign(usual_weekly_spend=rows["usual_weekly_spend"] * 12 / 13),
    )
    found = by_check(skewed(looked(as_folder(tmp_path / "wrong", wrong)), asked(present=present)))
    assert found["skew.features"].status == found["skew.feature/usual_weekly_spend"].status == "alarm"


@pytest.mark.parametrize("present", [Present(), None])
def test_where_no_snapshots_are_of_these_times_nothing_is_claimed(tmp_path, present):
    present = present or snapshots(tmp_path / "snapshots.parquet", week=30)
    (found,) = skewed(looked(as_folder(tmp_path / "replay", shop(weeks=1))), asked(present=present))
    assert found.status == "unknown"


def test_columns_that_no_decision_looks_at_need_not_be_kept(tmp_path):
    tables = shop(weeks=1)
    texts = [text.rsplit(",", 1)[0] + ",null]" for text in tables["served"]["features"].to_pylist()]
    tables["served"] = tables["served"].set_column(
        tables["served"].schema.get_field_index("features"), "features", pa.array(texts)
    )
    material = looked(as_folder(tmp_path, tables))
    assert ("town" in material.summaries) == ("town" in material.released.needed)
