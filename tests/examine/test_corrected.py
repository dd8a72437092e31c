"""What corrections are worth: shown where there are some, and not a byte where there are none."""

import numpy as np
import pandas as pd
import pytest

from ml_workbench.data.corrections import CORRECTED
from ml_workbench.examine.corrected import (
    as_computed,
    changed_labels,
    corrections_sentence,
    worth_of_corrections,
)
from ml_workbench.examine.refits import basis_of, recipe_of, standing_of_all
from ml_workbench.model.metrics import Interval
from ml_workbench.model.snapshots import read_schema, read_slices, slice_of, without_families, write_table
from ml_workbench.plan.files import read_json
from ml_workbench.plan.params import load_params
from tests.examine.test_diagnose_stage import make_project, members


@pytest.fixture(scope="module")
def made(tmp_path_factory, root):
    return make_project(tmp_path_factory.mktemp("corrected") / "project", root)


def worth(folder, wrong: float):
    "What it is worth to correct this share of the labels that a model learns from, which were wrong."
    params = load_params(folder)
    schema = without_families(
        read_schema(folder / "data/features/schema.json"), params.train.withheld_families
    )
    rows = members()
    spoilt = rows["slice"].isin(["train", "validation"]) & (
        np.random.default_rng(5).random(len(rows)) < wrong
    )
    rows[CORRECTED] = (1 - rows["left"]).where(spoilt)
    write_table(folder / "data/features/corrected.parquet", rows if wrong else rows.drop(columns=CORRECTED))
    known = read_slices(folder / "data/features/corrected.parquet", schema, ["train", "validation", "test"])
    train, validation, test = (slice_of(known, schema, name) for name in ("train", "validation", "test"))
    recipe = recipe_of(read_json(folder / "reports/train.json"), "logistic_regression", params.train)
    basis = basis_of(recipe, schema, params.charter, test, resamples=200)
    return worth_of_corrections(
        basis, train, validation, whole=standing_of_all(basis, train, validation)
    ), int(spoilt.sum())


def test_correcting_labels_that_were_wrong_for_the_most_part_is_worth_something(made):
    found, count = worth(made, 0.7)
    assert found.changed["train"] + found.changed["validation"] == count and found.changed["test"] == 0
    assert found.auc.value > found.auc_without.value + 0.1 and found.gain_per_week.low > 0
    said = f"{count:,} labels were corrected by people ({found.changed['train']:,} of train, "
    assert found.sentence.startswith(said)


def test_without_corrections_nothing_is_said(made):
    assert worth(made, 0.0)[0] is None


def test_what_was_computed_comes_back_whatever_was_corrected(made):
    schema = read_schema(made / "data/features/schema.json")
    rows = pd.DataFrame({"left": np.array([0, 1, 1], dtype=np.int8), CORRECTED: [1, 0, None]})
    computed = as_computed(rows, schema)
    assert (
        computed["left"].tolist() == [1, 0, 1]
        and computed["left"].dtype == np.int8
        and changed_labels(rows) == 2
    )
    assert as_computed(rows.drop(columns=CORRECTED), schema)["left"].tolist() == [0, 1, 1]


@pytest.mark.parametrize(("low", "sure"), [(-3.0, False), (1.0, True)])
def test_a_difference_within_the_interval_is_told_as_none(made, low, sure):
    said = corrections_sentence(
        {"train": 1, "validation": 0, "test": 0}, Interval(2.0, low, 7.0), load_params(made).charter
    )
    assert (
        said.startswith("1 label was corrected by people (1 of train)")
        and ("no difference" in said) is not sure
    )
