"""Contributions as a reader gets them: the strongest first, with values, in words and as a table."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy.special import logit

from ml_workbench.examine.explanation import Contributions, contributions
from ml_workbench.examine.reasons import Reason, explanations, reasons, told_as, usual_values
from ml_workbench.model.candidates import LADDER, Fitted
from ml_workbench.model.estimators import Calibrator
from ml_workbench.model.signature import Input, Signature, signature_of
from ml_workbench.model.snapshots import Feature, Schema, write_table

FEATURES = (
    Feature("away", "number", "recency"),
    Feature("spend", "number", "money"),
    Feature("card", "category", "loyalty"),
)
SCHEMA = Schema("member", "as_of", "slice", "left", "value", 28, "spend", FEATURES)
SIGNATURE = Signature(
    tuple(Input(*each) for each in (("away", "number"), ("card", "category", ("gold", "none"))))
)
MEANINGS = {"away": "Days since the last visit", "share": "Share of visits at the weekend"}


def fitted_on(rows: pd.DataFrame, schema: Schema = SCHEMA) -> Fitted:
    signature, candidate = signature_of(rows, schema), LADDER["logistic_regression"]
    matrix = signature.matrix(rows)
    model = candidate.build(signature, candidate.defaults, seed=1, threads=1).fit(matrix, rows["left"])
    calibrator = Calibrator().fit(model.decision_function(matrix), rows["left"])
    return Fitted(candidate, signature, model, calibrator, {})


def members(count: int = 200) -> pd.DataFrame:
    random = np.random.default_rng(5)
    rows = pd.DataFrame({"member": random.permutation(count), "away": random.gamma(2.0, 10.0, count)})
    rows = rows.assign(spend=random.gamma(2.0, 10.0, count), card=random.choice(["gold", "none"], count))
    rows["left"] = (rows["away"] + random.normal(0, 10, count) > 25).astype(int)
    rows.loc[:9, "spend"] = np.nan
    return rows


def test_the_strongest_come_first_whatever_their_sign():
    found = Contributions(0.0, np.array([[0.2, -0.9], [0.5, 0.1]]))
    rows = np.array([[31.0, 0.0], [np.nan, -1.0]], dtype=np.float32)
    first, second = reasons(found, rows, SIGNATURE)
    assert first == (Reason("card", "gold", -0.9), Reason("away", 31.0, 0.2))
    assert second == (Reason("away", None, 0.5), Reason("card", None, 0.1))
    assert [len(row) for row in reasons(found, rows, SIGNATURE, top=1)] == [1, 1]
    assert [len(row) for row in reasons(found, rows, SIGNATURE, top=None)] == [2, 2]


def test_by_default_the_strongest_eight_of_many_are_reasons():
    signature = Signature(tuple(Input(f"column_{place}", "number") for place in range(12)))
    found = Contributions(0.0, np.arange(12.0)[None])
    (row,) = reasons(found, np.zeros((1, 12), dtype=np.float32), signature)
    assert [each.contribution for each in row] == [11.0, 10.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0]


def test_usual_is_the_median_of_numbers_and_the_commonest_level():
    rows = np.array([[1, 0], [2, 1], [30, 1], [np.nan, -1]], dtype=np.float32)
    assert usual_values(rows, SIGNATURE) == {"away": 2.0, "card": "none"}
    assert usual_values(np.array([[np.nan, -1]], dtype=np.float32), SIGNATURE) == {"away": None, "card": None}


@pytest.mark.parametrize(
    ("reason", "usual", "words"),
    [
        (Reason("away", 31.0, 0.4), {"away": 5.0}, "Days since the last visit: 31 (others 5), raises the chance"),
        (Reason("away", None, -0.4), {}, "Days since the last visit: none, lowers the chance"),
        (Reason("share", 0.254, 0.1), {"share": 0.3}, "Share of visits at the weekend: 25% (others 30%), raises the chance"),
        (Reason("home_town", "Rome", 0.1), None, "home town: Rome, raises the chance"),
        (Reason("away", -1234.5, 0.1), {"away": 0.123}, "Days since the last visit: −1,234 (others 0.12), raises the chance"),
    ],
)  # fmt: skip
def test_a_reason_reads_as_a_line(reason, usual, words):
    assert told_as(reason, MEANINGS, usual) == words


def test_all_contributions_of_a_row_lead_from_the_base_to_its_probability():
    rows, others = members(), tuple(f"other_{place}" for place in range(9))
    for place, name in enumerate(others):
        rows[name] = np.random.default_rng(place).normal(size=len(rows))
    features = (*FEATURES, *(Feature(name, "number", "others") for name in others))
    schema = Schema("member", "as_of", "slice", "left", "value", 28, "spend", features)
    fitted = fitted_on(rows, schema)
    told = explanations(fitted, rows, fitted.signature.matrix(rows), schema)
    assert told["member"].tolist() == list(range(200))
    assert set(told["contributions"].map(len)) == {12}
    together = told["contributions"].map(lambda row: sum(each["contribution"] for each in row))
    assert np.allclose(told["base"] + together, logit(told["probability"]))


def test_on_request_the_table_keeps_the_strongest_only_and_is_the_same_for_rows_in_any_order():
    rows = members()
    fitted = fitted_on(rows)
    background = fitted.signature.matrix(rows)
    told = explanations(fitted, rows, background, SCHEMA, top=1)
    assert told.equals(explanations(fitted, rows[::-1], background, SCHEMA, top=1))
    assert all(len(row) == 1 for row in told["contributions"])
    sizes = np.abs(contributions(fitted, background, background).values).max(axis=1)
    by_member = pd.Series(sizes, rows["member"]).sort_index()
    assert np.allclose(told["contributions"].map(lambda row: abs(row[0]["contribution"])), by_member)


def test_it_survives_the_way_through_a_file(tmp_path):
    rows = members()
    fitted = fitted_on(rows)
    told = explanations(fitted, rows, fitted.signature.matrix(rows), SCHEMA)
    write_table(tmp_path / "explanations.parquet", told)
    read = pq.read_table(tmp_path / "explanations.parquet").to_pylist()
    member = int(rows["member"][0])
    assert {each["feature"]: each["value"] for each in read[member]["contributions"]}["spend"] is None
    assert {each["feature"]: each["level"] for each in read[member]["contributions"]}["card"] in (
        "gold",
        "none",
    )


def test_without_categories_a_reason_is_feature_value_and_contribution():
    rows, schema = members(), Schema("member", "as_of", "slice", "left", "value", 28, "spend", FEATURES[:2])
    fitted = fitted_on(rows, schema)
    told = explanations(fitted, rows, fitted.signature.matrix(rows), schema)
    assert set(told["contributions"][0][0]) == {"feature", "value", "contribution"}
