"""Corrected labels in the place of computed ones; without any, not a byte is different."""

import json
from datetime import datetime

import duckdb
import pytest

from ml_workbench.data.corrections import CORRECTED, Correction, apply_corrections, corrections_in
from ml_workbench.plan.errors import FeatureError
from tests.data.test_features_stage import WRITTEN, project, run_stage  # noqa: F401

MONDAY = datetime(2020, 3, 2, 5)


def correction(unit: str, label: float = 1.0, as_of: datetime = MONDAY) -> dict:
    return {
        "unit": unit,
        "as_of": as_of.isoformat(" "),
        "label": label,
        "author": "Ada",
        "correction": f"{unit} {as_of}",
    }


def write(folder, *rows: dict) -> None:
    (folder / "reports").mkdir(exist_ok=True)
    (folder / "reports/corrections.json").write_text(json.dumps({"corrections": list(rows)}))


def snapshots(folder):
    return duckdb.read_parquet(str(folder / "data/features/snapshots.parquet")).df()


def test_without_corrections_not_a_byte_is_different(project, root):  # noqa: F811
    run_stage(root)
    first = [(project / path).read_bytes() for path in WRITTEN]
    write(project)
    run_stage(root)
    assert [(project / path).read_bytes() for path in WRITTEN] == first


def test_a_corrected_label_takes_the_place_of_the_computed_one_which_is_kept_beside_it(project, root):  # noqa: F811
    run_stage(root)
    before = snapshots(project)
    someone = before[before["as_of"] == MONDAY].iloc[0]
    other = 1.0 - float(someone["lapsed"])
    write(
        project,
        correction(str(someone["household_id"]), other),
        correction("nobody"),
        correction(str(someone["household_id"]), 1.0, datetime(2020, 6, 22, 5)),
    )
    run_stage(root)
    after = snapshots(project)
    assert after.drop(columns=[CORRECTED, "lapsed"]).equals(before.drop(columns="lapsed"))
    changed = after[after[CORRECTED].notna()]
    assert (
        len(changed) == 1
        and changed.iloc[0]["lapsed"] == other
        and changed.iloc[0][CORRECTED] == someone["lapsed"]
    )
    assert after.loc[after["slice"] == "next", "lapsed"].isna().all(), "what is not known yet stays unknown"
    assert json.loads((project / "reports/features.json").read_text())["corrections"] == {
        "given": 3,
        "matched": 1,
        "changed": 1,
    }


def test_a_correction_that_agrees_changes_nothing_but_is_counted():
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TEMP TABLE labels AS SELECT 7 AS member, TIMESTAMP '2020-03-02 05:00' AS as_of, CAST(1 AS TINYINT) AS lapsed"
        )
        applied = apply_corrections(
            connection, [Correction("7", MONDAY, 0.5, "Ada", "a")], entity="member", label="lapsed"
        )
        assert (applied.matched, applied.changed, bool(applied)) == (1, 0, True)
        assert connection.execute(f"SELECT lapsed, {CORRECTED} FROM labels").fetchall() == [(1, None)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "holds no corrections"),
        ("nonsense", "holds no corrections"),
        (json.dumps({"corrections": [correction("7", 2.0)]}), "label 2.0, which is not between 0 and 1"),
        (
            json.dumps({"corrections": [correction("7"), correction("7", 0.0)]}),
            "the same unit and time twice",
        ),
        (json.dumps({"corrections": [{"unit": "7"}]}), "holds no corrections"),
    ],
)
def test_a_file_that_is_not_what_was_exported_is_told(tmp_path, text, message):
    (tmp_path / "corrections.json").write_text(text)
    with pytest.raises(FeatureError, match=message):
        corrections_in(tmp_path / "corrections.json")


def test_the_committed_file_is_empty(root):
    assert corrections_in(root / "reports/corrections.json") == ()
