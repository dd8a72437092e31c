"""Terms come back as they were, rank as the evaluation does, and cannot be meddled with unnoticed."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_workbench.plan.errors import ReleaseError
from ml_workbench.release.bundle import Bundle
from ml_workbench.release.loading import loaded
from ml_workbench.release.policy import POLICY, Terms, terms_for, terms_from


@pytest.fixture(scope="module")
def bundle(small) -> Bundle:
    return small.small_bundle()


@pytest.fixture(scope="module")
def terms(bundle: Bundle) -> Terms:
    return terms_from(bundle.files[POLICY])


def test_terms_come_back_as_they_were(small, terms: Terms):
    assert terms_from(terms.as_bytes()) == terms
    assert (terms.charter, terms.experiment) == (small.CHARTER, small.EXPERIMENT)
    assert terms.names == [each.name for each in small.DECLARED.columns]


def test_as_many_units_reach_the_cutoff_as_the_list_has_places(small, bundle: Bundle, terms: Terms):
    latest, economics = small.members(), terms.charter.economics
    probability = loaded(bundle).scorer.scores(latest)
    stake = np.nan_to_num(latest[terms.usual_weekly_spend]) * economics.gross_margin * economics.value_weeks
    profit = economics.save_rate.value * probability * stake - economics.offer_cost
    assert np.sum(profit >= terms.cutoffs["proposed"] - 1e-4) == terms.charter.capacity_per_week
    assert np.sum(latest["days_since_visit"] >= terms.cutoffs["rule"]) >= terms.charter.capacity_per_week


def test_ranked_by_probability_everybody_is_worth_the_same(small):
    terms = terms_from(small.small_bundle(rank_by="probability").files[POLICY])
    assert terms.rank_by == "probability"
    assert terms.mean_weekly_spend == pytest.approx(small.members()["usual_weekly_spend"].fillna(0).mean())


def make(small, **changed):
    rows = small.members()
    given = {
        "charter": small.CHARTER, "experiment": small.EXPERIMENT, "schema": small.SCHEMA,
        "columns": [(each.name, each.kind) for each in small.DECLARED.columns], "feature_set": "0" * 16,
        "rows": rows, "probability": np.full(len(rows), 0.5), "activity": "visits", "active_days": 84,
    }  # fmt: skip
    return terms_for(**given | changed)


def test_a_model_that_would_list_nobody_has_no_cutoff(small):
    rows = small.members()
    made = make(small, probability=np.zeros(len(rows)))
    assert set(made.cutoffs) == {"rule"} and terms_from(made.as_bytes()) == made


def test_with_nobody_to_list_there_are_no_cutoffs_at_all(small):
    made = make(small, rows=small.members().head(0), probability=np.zeros(0))
    assert made.cutoffs == {} and made.mean_weekly_spend == 0.0


def test_a_ranking_by_expected_spend_is_refused_when_it_is_built(small):
    with pytest.raises(
        ReleaseError, match="'expected_spend' needs a model of spend, which a release does not hold"
    ):
        make(small, rank_by="expected_spend")


CHANGES = {
    "format": 2, "rank_by": "expected_spend", "horizon_days": "28", "active_days": 0, "entity": "", "activity": None,
    "usual_weekly_spend": "town", "columns": [["a", "number"]], "feature_set": "../../etc", "mean_weekly_spend": None,
    "cutoffs": {"proposed": "much"}, "charter": {}, "experiment": [], "notes": 1,
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_terms_that_were_meddled_with_are_refused_in_one_line(terms: Terms, name: str):
    raw = json.loads(terms.as_bytes()) | {name: CHANGES[name]}
    with pytest.raises(ReleaseError, match=r"policy\.json") as told:
        terms_from(json.dumps(raw).encode())
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "cutoffs", ['{"proposed": NaN}', '{"proposed": 1e999}', '{"other": 1.0}', "[]", "[1]"]
)
def test_cutoffs_must_be_finite_numbers_of_known_policies(terms: Terms, cutoffs: str):
    text = terms.as_bytes().decode()
    start = text.index('"cutoffs": ') + len('"cutoffs": ')
    with pytest.raises(ReleaseError):
        terms_from((text[:start] + cutoffs + "}\n").encode())


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"format": 1}'])
def test_what_are_no_terms_is_refused(data: bytes):
    with pytest.raises(ReleaseError, match=r"policy\.json"):
        terms_from(data)


@settings(max_examples=60, deadline=None)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
@pytest.mark.parametrize("name", ["charter", "columns", "cutoffs", "mean_weekly_spend", "entity"])
def test_whatever_stands_in_a_place_nothing_but_a_release_error_comes(terms: Terms, name: str, value: object):
    raw = json.loads(terms.as_bytes()) | {name: value}
    try:
        terms_from(json.dumps(raw).encode())
    except ReleaseError:
        return
