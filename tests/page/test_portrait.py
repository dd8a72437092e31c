"""What the pages say about a model: portrait, steadiness and drivers, from one diagnosis."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_workbench.page import drivers, portrait, steadiness
from ml_workbench.page.portrait import Diagnosis
from ml_workbench.page.story import Policy, Span
from ml_workbench.plan.errors import WorkbenchError


def figure(value: float, spread: float = 10.0) -> dict:
    return {"value": value, "low": value - spread, "high": value + spread}


def diagnosis(**parts) -> Diagnosis:
    "A diagnosis that holds only these parts."
    return Diagnosis(Path("reports/diagnosis.json"), parts, "xgboost", "XGBoost", "EUR", "member", "members")


def judged(**metrics: dict) -> Policy:
    "A policy with these measures."
    spans = {name: Span(**values) for name, values in metrics.items()}
    return Policy("xgboost", "XGBoost", "candidate", (0,), (), (), 1.0, 0.3, spans, ())


MONEY = {"kept": 240.0, "wasted": 114.0, "missed": 900.0, "offers_cost": 150.0, "running": 25.0}
COUNTS = {"offered_lapsed": 216, "offered_stayed": 684, "left_lapsed": 1759, "left_stayed": 11152}


def test_a_diagnosis_is_read_from_the_project_and_a_broken_one_is_named(tmp_path):
    with pytest.raises(WorkbenchError, match=r"diagnosis\.json is missing"):
        portrait.read_diagnosis(tmp_path)
    (tmp_path / "reports").mkdir()
    path = tmp_path / "reports" / "diagnosis.json"
    path.write_text(json.dumps({"currency": "EUR"}))
    with pytest.raises(WorkbenchError, match="dvc repro --force diagnose"):
        portrait.read_diagnosis(tmp_path)


def test_a_part_that_is_missing_costs_that_part_only():
    found = diagnosis(staleness=[], staleness_sentence="It does not age.")
    assert steadiness.staleness(found).sentence == "It does not age."
    with pytest.raises(WorkbenchError, match="lacks 'learning'"):
        steadiness.learning(found)


def test_ranking_is_told_with_a_reading_that_needs_no_dictionary():
    policy = judged(auc=figure(0.861, 0.012), average_precision=figure(0.476, 0.04))
    auc, precision = portrait.skills(policy, "member", share=0.143)
    assert (auc.value, auc.interval) == ("0.86", "between 0.85 and 0.87")
    assert "86% of the time" in auc.reading and "a member that lapsed" in auc.reading
    assert "random order has 14%" in precision.reading


def test_a_policy_without_measures_has_no_skills_to_tell():
    assert portrait.skills(judged(), "member") == ()


@pytest.mark.parametrize(
    ("slope", "said"),
    [(1.02, "neither too bold nor too timid"), (0.6, "small chances are too small"), (1.5, "too timid")],
)
def test_reliability_says_which_way_the_chances_err(slope, said):
    found = diagnosis(calibration={"bins": [], "expected_error": 0.0114, "slope": figure(slope, 0.1)})
    assert said in portrait.reliability(found).sentence
    assert "1.1 percentage points" in portrait.reliability(found).sentence


@given(st.lists(st.integers(0, 500), min_size=1, max_size=12), st.lists(st.integers(0, 500), min_size=12))
def test_scores_are_shares_of_each_group_even_when_one_is_empty(lapsed, stayed):
    stayed = stayed[: len(lapsed)]
    edges = [float(place) for place in range(len(lapsed) + 1)]
    found = portrait.scores(diagnosis(scores={"edges": edges, "lapsed": lapsed, "stayed": stayed}))
    assert sum(found.lapsed) == pytest.approx(1 if sum(lapsed) else 0)
    assert 0 <= found.lapse_share <= 1


def test_the_money_of_a_week_adds_up_and_what_was_missed_is_no_cost():
    found = portrait.flow(diagnosis(operating_point={"confusion": COUNTS, "money": MONEY}, weeks=[{}] * 6))
    assert [step.amount for step in found.steps] == [240.0, -36.0, -114.0, -25.0, 65.0]
    assert found.steps[-1].total and (found.reached, found.wasted) == (36, 114)
    assert "36 of 150 offers" in found.sentence and "€900" in found.sentence


def test_weeks_are_counted_and_a_sure_one_is_told_from_a_lucky_one():
    gains = [figure(70, 50), figure(-10, 50), figure(40, 50)]
    found = steadiness.weeks(
        diagnosis(
            weeks=[
                {"as_of": f"2017-10-0{2 + place}", "against_rule": gain} for place, gain in enumerate(gains)
            ]
        )
    )
    assert found.sentence == "Ahead of the rule in 2 of 3 weeks. Beyond doubt: ahead in 1, behind in 0."
    assert found.dots[0].label == "2 Oct" and "€70 a week" in found.dots[0].note


def test_no_sure_week_is_said_to_be_no_proof():
    rows = [{"as_of": "2017-10-02", "against_rule": figure(5, 50)}]
    assert steadiness.weeks(diagnosis(weeks=rows)).sentence.endswith("no week alone is proof.")


def test_groups_name_the_flagged_and_those_too_small_to_judge():
    row = {
        "slice": "household_size",
        "rows": 9,
        "units": 150,
        "auc": figure(0.8, 0.03),
        "difference": figure(-0.1, 0.03),
    }
    rows = [row | {"level": "1", "flagged": True}, row | {"level": "2", "flagged": False}]
    small = [{"slice": "age", "level": "65+", "units": 31}]
    found = steadiness.groups(diagnosis(slices=rows, too_small=small, worst_slice=None))
    assert found.flagged == ("household size 1",)
    assert found.too_small == ("age 65+ (31)",)
    assert found.worst == "" and "150 members" in found.dots[0].note


def test_what_is_not_known_of_a_group_is_said_so():
    assert steadiness.level("(missing)") == "not known" and steadiness.level(3) == "3"


def test_fairness_begins_with_the_widest_gap():
    rows = [
        {"slice": name, "offer_rate": {"a": 0.1, "b": 0.1 + gap}, "largest_gap": gap, "sentence": name}
        for name, gap in (("age", 0.01), ("income", 0.05))
    ]
    assert [row.slice for row in steadiness.fairness(diagnosis(fairness=rows))] == ["income", "age"]


def features(*families: str) -> dict:
    "Importance with one feature per family, the first the most important."
    permutation = [
        {"feature": f"{name}_1", "family": name, "importance": 0.1 / (place + 1), "sd": 0.01}
        for place, name in enumerate(families)
    ]
    shap = [
        {"feature": f"{name}_1", "family": name, "mean_absolute": 1.0 / (place + 1)}
        for place, name in enumerate(families)
    ]
    return {"permutation": permutation, "shap": shap}


def test_families_carry_worth_in_ranking_chances_money_and_milliseconds():
    ablation = [
        {"family": "recency", "features": 3, "profit_lost_per_week": figure(40, 20), "earns_its_keep": True}
    ]
    found = drivers.families(
        diagnosis(importance=features("recency", "money"), ablation=ablation), {"recency": 12.0}
    )
    first, second = found
    assert (first.family, first.features, first.cost_ms, first.verdict) == (
        "recency",
        3,
        12.0,
        "earns its keep",
    )
    assert first.moved == pytest.approx(2 / 3) and first.lost == Span(40, 20, 60)
    assert (second.lost, second.verdict, second.cost_ms) == (None, "", None)


def test_keepers_are_named_and_so_are_those_nobody_would_miss():
    ablation = [
        {"family": name, "features": 1, "profit_lost_per_week": figure(5), "earns_its_keep": earns}
        for name, earns in (("recency", True), ("money", False), ("trend", None))
    ]
    found = drivers.families(
        diagnosis(importance=features("recency", "money", "trend"), ablation=ablation), {}
    )
    assert drivers.keepers(diagnosis(), found) == "Recency earns its keep. Money could go."
    assert drivers.keepers(diagnosis(), found[1:]).startswith("No family alone earns its keep beyond doubt")


def test_what_the_diagnosis_says_of_families_is_not_said_otherwise():
    assert drivers.keepers(diagnosis(ablation_sentence="Keep them all."), ()) == "Keep them all."


def test_the_most_important_features_come_first_with_what_they_mean():
    found = drivers.features(
        diagnosis(importance=features("recency", "money")), {"money_1": "Spend"}, count=2
    )
    assert [(dot.label, dot.note) for dot in found] == [("recency 1", ""), ("money 1", "Spend")]
    assert found[0].span == pytest.approx((0.1, 0.09, 0.11))


def test_values_are_written_for_people():
    assert [drivers.written(value) for value in (None, float("nan"), 0.0, -3.0, 1234.5, 22.84, 0.3333)] == [
        "none", "none", "0", "−3", "1,234", "22.8", "0.33",
    ]  # fmt: skip
    assert drivers.written(0.254, "Share of baskets at weekends") == "25%"
    assert drivers.written("weekly") == "weekly"


def test_a_push_is_told_in_words_and_as_a_factor_on_the_odds():
    line = {"feature": "gap", "value": 38.0, "contribution": 0.6931}
    pushed = drivers.push(line, {"gap": "Days away."}, {"gap": 4.0})
    assert (pushed.words, pushed.compared) == ("Days away", "38 (usual: 4)")
    assert pushed.effect == "multiplies the odds by 2.00"
    assert drivers.push(line | {"contribution": -0.6931}, {}).effect == "divides the odds by 2.00"
    assert drivers.push(line | {"contribution": 0.0}, {}).effect == "hardly matters"


def test_misses_say_whom_when_how_much_and_what_misled():
    told = [{"feature": "spend", "value": 80.0, "contribution": -0.9}]
    miss = {
        "entity": 7,
        "as_of": "2017-10-09",
        "kind": "missed lapse",
        "probability": 0.03,
        "money_lost": 61.2,
        "told": told,
    }
    cases, common = drivers.misses(diagnosis(misses=[miss], misses_sentence="They left without a sign."), {})
    assert (cases[0].title, cases[0].chance, cases[0].lost) == ("Member 7, 9 October 2017", "3%", "€61")
    assert common == "They left without a sign."


def test_a_suspicion_comes_before_what_is_clean():
    rows = [
        {"check": name, "verdict": verdict, "sentence": name}
        for name, verdict in (
            ("overlap", "clean"),
            ("collapse", "unchecked"),
            ("single feature", "suspicious"),
        )
    ]
    assert [fact.label for fact in drivers.leaks(diagnosis(leaks=rows))] == [
        "Single feature",
        "Collapse",
        "Overlap",
    ]
