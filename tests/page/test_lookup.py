"""Looking one unit up: who can be, what is said, and what is not there."""

import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml_workbench.page.drivers import Push
from ml_workbench.page.lookup import (
    Case,
    Family,
    bars,
    by_family,
    case,
    chance,
    entries,
    guide,
    horizon,
    told,
    usual,
)
from ml_workbench.plan.errors import WorkbenchError
from ml_workbench.plan.params import load_params

NAMES = ("days_since", "spend")


def lay_out(folder, *, base: float = -1.79):
    "Three units at the next date, one of them on the list, and one row of an earlier date."
    for name in ("reports", "data/features"):
        (folder / name).mkdir(parents=True)
    features = [
        {"name": "days_since", "family": "recency", "meaning": "Days since the last visit."},
        {"name": "spend", "family": "money", "meaning": "Usual spend"},
    ]
    declared = {"entity": "member", "horizon_days": 28, "features": features}
    schema = {"entity": "member", "slice": "slice", "usual_weekly_spend": "spend"}
    schema["features"] = [{"name": name, "kind": "number"} for name in NAMES] + [
        {"name": "age", "kind": "category"}
    ]
    (folder / "reports/features.json").write_text(json.dumps(declared))
    (folder / "data/features/schema.json").write_text(json.dumps(schema))
    rows = {
        "member": [1, 2, 3, 1],
        "slice": ["next"] * 3 + ["test"],
        "days_since": [38.0, None, 2.0, 900.0],
        "spend": [29.0, 25.0, 60.0, 1.0],
    }
    pq.write_table(pa.table(rows), folder / "data/features/snapshots.parquet")
    pq.write_table(pa.table({"member": [2], "rank": [1]}), folder / "data/offers.parquet")
    reasons = [[{"feature": "spend", "value": 29.0, "contribution": 0.1}, {"feature": "days_since", "value": days, "contribution": pushed}]
               for days, pushed in ((38.0, 1.9), (None, -0.4), (2.0, -1.1))]  # fmt: skip
    explained = {
        "member": [1, 2, 3],
        "probability": [0.55, 0.11, 0.05],
        "base": [base] * 3,
        "contributions": reasons,
    }
    pq.write_table(pa.table(explained), folder / "data/explanations.parquet")
    return folder


@pytest.fixture
def project(tmp_path):
    return lay_out(tmp_path)


@pytest.fixture(scope="module")
def charter(root):
    return load_params(root).charter


def test_the_list_comes_first_then_the_others_by_their_chance(project):
    assert [(entry.entity, entry.rank) for entry in entries(project)] == [(2, 1), (1, None), (3, None)]


def test_usual_values_are_medians_of_the_same_date_without_the_missing(project):
    assert usual(project) == {"days_since": 20.0, "spend": 29.0}


def test_a_case_has_its_strongest_family_first_in_words_beside_what_is_usual(project):
    found = case(project, 1, usual(project))
    assert [family.words for family in found.families] == ["Recency", "Money"]
    (push,) = found.families[0].told
    assert (push.words, push.compared) == ("Days since the last visit", "38 (usual: 20)")
    assert (found.spend, found.rank, found.listed) == (29.0, None, 1)


def test_all_bars_lead_from_the_usual_chance_to_this_one(project):
    for entity in (1, 2, 3):
        found = case(project, entity)
        odds = -1.79 + sum(bar.amount for bar in bars(found))
        assert 1 / (1 + math.exp(-odds)) == pytest.approx(found.probability, abs=3e-4)


def lines(**contributions):
    "Lines as the explanations have them."
    return [{"feature": name, "value": 1.0, "contribution": amount} for name, amount in contributions.items()]


def families_of(**contributions):
    "By family, where a feature's family stands before its underscore."
    return by_family(lines(**contributions), {name: name.split("_")[0] for name in contributions}, {})


def test_a_family_adds_up_its_features_and_is_told_by_those_that_go_its_way():
    (found,) = families_of(money_a=-0.9, money_b=0.5, money_c=0.4, money_d=0.3)
    assert (found.words, found.amount) == ("Money", pytest.approx(0.3))
    assert [push.words for push in found.told] == ["money b", "money c"]
    assert found.effect == "multiplies the odds by 1.35"


def test_a_second_feature_is_told_only_where_it_adds_to_the_picture():
    (found,) = families_of(money_a=-0.8, money_b=-0.1)
    assert [push.words for push in found.told] == ["money a"]


def test_features_that_cancel_out_stand_for_nothing():
    (found,) = families_of(money_a=0.5, money_b=-0.5)
    assert (found.amount, found.told) == (0.0, ())


def test_features_that_no_family_knows_are_together():
    found = by_family(lines(old=0.2, older=0.3), {}, {})
    assert [(family.words, family.amount) for family in found] == [("Other", 0.5)]


def made_up(rest: float, **amounts: float) -> Case:
    "A case with families of these amounts."
    families = tuple(Family(name.capitalize(), amount) for name, amount in amounts.items())
    return Case(1, 0.3, 0.1, None, None, 5, families, rest)


def test_small_families_are_drawn_as_one_that_says_which():
    *large, rest = bars(made_up(0.0, recency=1.0, money=-0.03, habits=0.02, brands=-0.01, trend=0.005))
    assert [bar.words for bar in large] == ["Recency", "Money"]
    assert (rest.words, rest.note) == ("Everything else", "Habits, brands and trend")
    assert rest.amount == pytest.approx(0.015)


def test_one_small_family_keeps_its_name():
    assert [bar.words for bar in bars(made_up(1e-9, recency=1.0, habits=0.02))] == ["Recency", "Habits"]


def test_explanations_that_kept_the_strongest_only_leave_a_rest_that_says_so():
    rest = bars(made_up(-0.7, recency=1.0, habits=0.1))[-1]
    assert rest == Family("Everything else", -0.7, (), "Features that are not told apart here")
    rest = bars(made_up(-0.7, recency=1.0, habits=0.02, brands=0.01))[-1]
    assert rest.note == "Habits, brands and features that are not told apart here"


def test_without_any_reason_the_rest_is_all_there_is():
    assert bars(made_up(0.0)) == ()
    assert [bar.amount for bar in bars(made_up(0.4))] == [0.4]


def test_a_missing_value_is_said_to_be_none(project):
    recency = case(project, 2).families[0]
    assert [push.value for push in recency.told] == ["none"]


def test_somebody_who_is_not_there_is_nobody(project):
    assert case(project, 99) is None


def test_the_sentence_says_chance_worth_and_place(project, charter):
    assert told(case(project, 1), charter, days=28) == (
        "Household 1 has a 55% chance of lapsing within 28 days; a typical household has 14%. "
        "It usually spends $29 a week and is not on the next list of 1."
    )
    assert "is number 1 of 1 on the next list" in told(case(project, 2), charter, days=28)


@pytest.mark.parametrize(
    ("share", "said"), [(0.004, "less than 1%"), (0.234, "23%"), (0.997, "more than 99%")]
)
def test_a_chance_has_no_false_precision(share, said):
    assert chance(share) == said


def test_a_category_is_told_by_its_level(project):
    path = project / "data/explanations.parquet"
    line = {"feature": "spend", "value": None, "level": "weekly", "contribution": 0.4}
    row = {"member": [1], "probability": [0.2], "base": [-1.8], "contributions": [[line]]}
    pq.write_table(pa.table(row), path)
    assert case(project, 1).families[0].told == (Push("Usual spend", "weekly", "", 0.4),)


def test_the_guide_says_that_no_cause_is_meant(project):
    assert "need not be its cause" in guide(case(project, 1), "member", "members")
    assert horizon(project) == 28


def test_before_the_diagnosis_there_is_nobody_and_a_command(project):
    (project / "data/explanations.parquet").unlink()
    with pytest.raises(WorkbenchError, match=r"explanations\.parquet is missing: run `dvc repro diagnose`"):
        entries(project)


def test_a_damaged_or_older_file_is_named_with_what_to_run(project):
    (project / "data/explanations.parquet").write_bytes(b"PAR1 broken")
    with pytest.raises(WorkbenchError, match="cannot be read"):
        entries(project)
    pq.write_table(pa.table({"member": [1]}), project / "data/explanations.parquet")
    with pytest.raises(WorkbenchError, match="dvc repro --force diagnose"):
        entries(project)
