"""Names come from the schema, rows from a slice, and nothing else is read."""

import numpy as np
import pandas as pd
import pytest

from ml_workbench.model.snapshots import (
    labels_of,
    read_schema,
    read_slices,
    schema_from,
    slice_of,
    without_families,
    write_table,
)
from ml_workbench.plan.errors import TrainingError, WorkbenchError
from ml_workbench.plan.files import write_json

RAW = {
    "entity": "member",
    "time": "as_of",
    "slice": "slice",
    "label": "left",
    "value": "spend",
    "horizon_days": 28,
    "usual_weekly_spend": "weekly",
    "features": [
        {"name": "weekly", "kind": "number", "family": "money"},
        {"name": "town", "kind": "category", "family": "who"},
    ],
}
ROWS = pd.DataFrame(
    {
        "member": [1, 2, 1, 2],
        "as_of": pd.to_datetime(["2024-01-01"] * 2 + ["2024-03-01"] * 2),
        "slice": ["train", "train", "test", "test"],
        "weekly": [0.1, 2.0, 3.0, 4.0],
        "town": ["Arles", "Bath", "Arles", "(missing)"],
        "left": pd.array([0, 1, 0, None], dtype="Int8"),
    }
)


def test_the_schema_is_read_from_its_file_and_says_what_is_missing(tmp_path):
    write_json(tmp_path / "schema.json", RAW)
    assert read_schema(tmp_path / "schema.json").names == ["weekly", "town"]
    with pytest.raises(TrainingError, match=r"x\.json lacks label, horizon_days"):
        schema_from({name: RAW[name] for name in RAW if name not in ("label", "horizon_days")}, "x.json")
    with pytest.raises(TrainingError, match="did you mean 'weekly'"):
        schema_from({**RAW, "usual_weekly_spend": "weekley"})
    with pytest.raises(WorkbenchError, match="is missing"):
        read_schema(tmp_path / "nowhere.json")


def test_families_can_be_withheld_but_not_misspelt_or_all():
    schema = schema_from(RAW)
    assert without_families(schema, []).names == ["weekly", "town"]
    assert without_families(schema, ["who"]).names == ["weekly"]
    with pytest.raises(TrainingError, match="unknown 'mony', did you mean 'money'"):
        without_families(schema, ["mony"])
    with pytest.raises(TrainingError, match="leaves no feature"):
        without_families(schema, ["who", "money"])


def test_only_the_slices_asked_for_are_read_and_numbers_have_32_bits(tmp_path):
    write_table(tmp_path / "rows.parquet", ROWS)
    rows = read_slices(tmp_path / "rows.parquet", schema_from(RAW), ["train"])
    assert set(rows["slice"]) == {"train"} and rows["weekly"].dtype == np.float32
    columns = read_slices(tmp_path / "rows.parquet", schema_from(RAW), ["test"], columns=["member", "slice"])
    assert list(columns) == ["member", "slice"]


def test_a_slice_without_rows_is_named(tmp_path):
    write_table(tmp_path / "rows.parquet", ROWS)
    with pytest.raises(TrainingError, match="no rows in slice 'tests', did you mean 'test'"):
        read_slices(tmp_path / "rows.parquet", schema_from(RAW), ["train", "tests"])
    with pytest.raises(TrainingError, match="no snapshots in slice 'validation', known: test, train"):
        slice_of(ROWS, schema_from(RAW), "validation")
    with pytest.raises(WorkbenchError, match="run `dvc repro`"):
        read_slices(tmp_path / "none.parquet", schema_from(RAW), ["train"])


def test_labels_that_are_missing_or_all_the_same_are_refused_with_the_slice():
    schema = schema_from(RAW)
    assert labels_of(ROWS[:2], schema).tolist() == [0, 1]
    with pytest.raises(TrainingError, match="1 of 2 snapshots in slice 'test' have no label 'left'"):
        labels_of(ROWS[2:], schema)
    with pytest.raises(TrainingError, match="'left' is 0 in every row of slice 'train'"):
        labels_of(ROWS[:1], schema)


def test_the_same_rows_are_the_same_bytes(tmp_path):
    write_table(tmp_path / "a", ROWS)
    write_table(tmp_path / "b", ROWS.set_axis([5, 6, 7, 8]))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
