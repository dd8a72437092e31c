"""What the page may say, given the figures."""

import json
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_workbench.page.catalogue import families, read_catalogue
from ml_workbench.page.story import (
    MONTH,
    Span,
    answer_from,
    as_csv,
    between,
    commit_of,
    condition,
    first_lines,
    foundations,
    point_at,
    read_answer,
    read_notebook,
    read_offers,
    telling,
    ticks,
    verdict,
)
from ml_workbench.plan.charter import Assumption, money
from ml_workbench.plan.errors import WorkbenchError


def policy(
    name: str, kind: str, profit: list, gain: list, *, spread: float = 10.0, sent: float = 400
) -> dict:
    "A policy on a grid of three, with bands as wide as `spread`."
    return {
        "name": name, "label": name.title(), "kind": kind, "metrics": None, "calibration": [],
        "curve": {
            "offers": [0, 200, 400], "profit_per_week": profit,
            "low": [value - spread for value in profit], "high": [value + spread for value in profit],
            "against_rule": gain, "against_rule_low": [value - spread for value in gain],
            "against_rule_high": [value + spread for value in gain],
        },
        "at_capacity": {"offers_per_week": sent, "precision": 0.4},
    }  # fmt: skip


def evaluation(*policies: dict, chosen: str = "model", enough: bool = True, currency: str = "USD") -> dict:
    "An evaluation around some policies; the first is proposed."
    return {
        "currency": currency, "unit": "household", "unit_plural": "households", "capacity": 400,
        "confidence": 0.95, "resamples": 1000, "weeks": 6, "units": 2400,
        "test": {"first": "2017-09-11", "last": "2017-10-16"}, "policies": list(policies),
        "proposal": {"policy": chosen, "who": "the ones at risk", "sentence": PROPOSED, "reason": "it earns most", "enough_evidence": enough},
        "sensitivity": [], "break_even_save_rate": 0.06, "assumptions": [],
        "next_list": {"as_of": "2018-01-01", "facts": [{"label": "Size", "value": "400"}]},
    }  # fmt: skip


def said(raw: dict, offers: int = 400):
    "The verdict on the proposal at a number of offers."
    answer = answer_from(raw)
    return verdict(answer, point_at(answer.proposal, offers))


PROPOSED = "Send 400 offers: expected +$260 a month, between +$217 and +$303, against the rule."


def test_the_answer_carries_the_choice_by_parsimony_where_the_evaluation_made_one():
    raw = evaluation(policy("model", "candidate", [0, 90, 120], [0, 40, 60]))
    assert answer_from(raw).parsimony == ""
    assert answer_from(raw | {"parsimony": {"sentence": "Keep it simple."}}).parsimony == "Keep it simple."
    raw["proposal"]["parsimony"] = "The simplest will do."
    assert answer_from(raw).parsimony == "The simplest will do."


def test_of_many_candidates_the_proposal_and_its_strongest_rival_are_drawn():
    names = ("model", "weak", "strong")
    candidates = [
        policy(name, "candidate", [0, 90, value], [0, 40, 60]) for name, value in zip(names, (120, 80, 130))
    ]
    rule = policy("rule", "rule", [0, 50, 60], [0, 0, 0])
    drawn = telling(answer_from(evaluation(*candidates, rule)))
    assert [line.name for line in drawn] == ["model", "strong", "rule"]
    assert [line.name for line in telling(answer_from(evaluation(candidates[0], rule)))] == ["model", "rule"]


def test_at_capacity_the_evaluations_own_sentence_is_shown():
    result = said(evaluation(policy("model", "candidate", [0, 90, 120], [0, 40, 60])))
    assert (result.state, result.mark) == ("gain", "Worth doing")
    assert (result.sentence, result.amount) == (PROPOSED, "+$260 a month")


def test_a_gain_is_one_sentence_with_amount_range_currency_and_comparison():
    result = said(evaluation(policy("model", "candidate", [0, 90, 120], [0, 40, 60])), 200)
    assert result.state == "gain"
    assert result.sentence == (
        "Send 200 offers a week to the ones at risk: expected +$173 a month, between +$130 and +$217, against the rule."
    )
    assert result.amount == "+$173 a month"


def test_a_range_that_includes_zero_is_not_enough_evidence():
    result = said(evaluation(policy("model", "candidate", [0, 90, 120], [0, 40, 60], spread=41.0)), 200)
    assert (result.state, result.mark) == ("unclear", "Not enough evidence yet")
    assert result.sentence.startswith("Do not yet count on")
    assert "between −$4 and +$351" in result.sentence


@pytest.mark.parametrize("kind", ["candidate", "rule", "nothing"])
def test_the_evaluations_doubt_is_shown_whatever_it_proposes_instead(kind):
    raw = evaluation(policy("any", kind, [0, 90, 120], [0, 40, 60]), chosen="any", enough=False)
    assert said(raw, 400).mark == "Not enough evidence yet"


def test_the_rule_is_kept_where_a_model_adds_too_little():
    raw = evaluation(policy("rule", "rule", [0, 90, 120], [0, 0, 0]), chosen="rule")
    assert said(raw).mark == "Keep the rule"


def test_a_loss_is_said_as_a_loss_even_when_the_rule_loses_more():
    result = said(evaluation(policy("model", "candidate", [0, -90, 50], [0, 40, 60])), 200)
    assert result.state == "loss"
    assert "against doing nothing" in result.sentence
    assert "−$390 a month" in result.sentence


def test_less_than_the_rule_is_said_to_be_worse():
    assert said(evaluation(policy("model", "candidate", [0, 90, 120], [0, -20, 40])), 200).state == "worse"


def test_no_offers_are_neither_gain_nor_loss():
    result = said(evaluation(policy("model", "candidate", [0, 90, 120], [0, 40, 60])), offers=0)
    assert (result.state, result.amount) == ("nothing", "")


def test_a_proposed_rule_is_compared_with_doing_nothing():
    result = said(evaluation(policy("rule", "rule", [0, 90, 120], [0, 0, 0]), chosen="rule"), 200)
    assert result.state == "gain"
    assert result.sentence.endswith("against doing nothing.")


def test_doing_nothing_can_be_the_proposal():
    result = said(evaluation(policy("none", "nothing", [0, 0, 0], [0, -5, -9], sent=0), chosen="none"))
    assert result.state == "nothing"


def test_a_capacity_that_is_not_used_up_is_a_limit():
    raw = evaluation(policy("model", "candidate", [0, 90, 120], [0, 40, 60], sent=371.5))
    assert said(raw, 200).sentence.startswith("Send up to 200 offers a week to ")


@pytest.mark.parametrize(("currency", "amount"), [("EUR", "+€173"), ("JPY", "+¥173"), ("SEK", "+SEK 173")])
def test_the_currency_is_the_charters(currency, amount):
    raw = evaluation(policy("model", "candidate", [0, 90, 120], [0, 40, 60]), currency=currency)
    assert amount in said(raw, 200).sentence
    assert "$" not in said(raw, 200).sentence


def test_amounts_are_a_month_of_fifty_two_twelfths_weeks():
    answer = answer_from(evaluation(policy("model", "candidate", [0, 90, 120], [0, 40, 60])))
    assert answer.proposal.profit[1] == Span(90.0, 80.0, 100.0).times(MONTH)
    assert pytest.approx(52 / 12) == MONTH


def test_a_point_between_two_evaluated_ones_is_never_shown():
    answer = answer_from(evaluation(policy("model", "candidate", [0, 90, 120], [0, 40, 60])))
    assert [point_at(answer.proposal, offers).offers for offers in (-5, 99, 101, 9999)] == [0, 0, 200, 400]


def test_a_range_reads_from_low_to_high():
    assert between(Span(0.0, -3.2, 4.6), "USD") == "between −$3 and $5"


@given(st.floats(-1e7, 1e7), st.floats(0.01, 1e7))
def test_marks_of_an_axis_enclose_the_range_with_zero_and_stay_few(low, width):
    marks = ticks(low, low + width)
    assert 0.0 in marks
    assert marks[0] <= min(low, 0) + 1e-6 and marks[-1] >= max(low + width, 0) - 1e-6
    assert 2 <= len(marks) <= 8


def test_an_axis_without_a_range_has_one_mark():
    assert ticks(0, 0) == [0.0]


def test_a_missing_evaluation_says_what_to_run(tmp_path):
    with pytest.raises(
        WorkbenchError, match=r"evaluation\.json is missing: run `dvc repro` \(or `make run`\)"
    ):
        read_answer(tmp_path)


@pytest.mark.parametrize("key", ["policies", "proposal", "currency", "next_list"])
def test_an_evaluation_of_another_shape_names_what_it_lacks(tmp_path, key):
    raw = evaluation(policy("model", "candidate", [0, 90, 120], [0, 40, 60]))
    del raw[key]
    write(tmp_path / "reports/evaluation.json", raw)
    with pytest.raises(WorkbenchError, match=rf"evaluation\.json lacks '{key}'; rebuild it with `dvc repro"):
        read_answer(tmp_path)


def test_a_proposal_that_was_not_judged_is_refused(tmp_path):
    raw = evaluation(policy("model", "candidate", [0, 90, 120], [0, 40, 60]), chosen="another")
    write(tmp_path / "reports/evaluation.json", raw)
    with pytest.raises(WorkbenchError, match="'another' is not among the policies"):
        read_answer(tmp_path)


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", "-C", folder, *identity, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_commit_is_the_one_that_holds_the_figures(tmp_path):
    write(tmp_path / "reports/evaluation.json", {"profit": 1})
    assert commit_of(tmp_path).note == "This folder is not under version control"
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "Figures")
    figures = git(tmp_path, "rev-parse", "--short", "HEAD")
    (tmp_path / "other.txt").write_text("later")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "Something else")
    assert commit_of(tmp_path).value == figures
    assert commit_of(tmp_path).note.startswith("Committed on ")


def test_figures_that_are_not_committed_say_so(tmp_path):
    write(tmp_path / "reports/evaluation.json", {"profit": 1})
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "Figures")
    write(tmp_path / "reports/evaluation.json", {"profit": 2})
    assert commit_of(tmp_path).value.startswith("after ")
    assert commit_of(tmp_path).note == "These figures are not committed yet"


def test_foundations_name_data_version_model_period_and_interval(tmp_path):
    table = {"rows": 1200, "last_event": "2017-12-31T20:00:00"}
    data = {
        "description": "A shop.",
        "version": "abc123",
        "checks": 7,
        "tables": [table, table | {"last_event": None}],
    }
    write(tmp_path / "reports/data.json", data)
    judged = policy("model", "candidate", [0, 90, 120], [0, 40, 60])
    judged["metrics"] = {"auc": {"value": 0.86, "low": 0.85, "high": 0.87}, "brier": None}
    answer = answer_from(evaluation(judged))
    facts = {fact.label: fact for fact in foundations(tmp_path, answer)}
    assert facts["Data"].value == "version abc123"
    assert facts["Data"].note == "A shop. 2 tables, 2,400 rows, 7 checks passed, up to 31 December 2017"
    assert facts["Model"] == (
        "Model",
        "Model",
        "AUC 0.860, between 0.850 and 0.870; 0.5 is chance, 1 is perfect",
    )
    assert facts["Judged on"].value == "11 September 2017 to 16 October 2017"
    assert facts["Ranges"].value == "95% intervals"


def offers(folder: Path) -> pa.Table:
    table = pa.table(
        {"rank": [2, 1], "household_id": [5, 9], "probability": [0.5, 0.9], "expected_profit": [1.0, 7.25]}
    )
    (folder / "data").mkdir()
    pq.write_table(table, folder / "data/offers.parquet")
    return read_offers(folder)


def test_the_list_comes_best_first_and_whole(tmp_path):
    table = offers(tmp_path)
    assert table["household_id"].to_pylist() == [9, 5]
    assert as_csv(table).startswith(b"rank,household_id,")
    assert pyarrow.csv.read_csv(pa.BufferReader(as_csv(table))).equals(table)


def test_the_first_lines_are_written_out(tmp_path):
    answer = answer_from(evaluation(policy("model", "candidate", [0, 90, 120], [0, 40, 60]), currency="EUR"))
    lines = first_lines(offers(tmp_path), answer, count=1)
    assert lines == [{"Rank": "1", "Household": "9", "Chance": "90%", "Expected profit": "€7.25"}]


@pytest.mark.parametrize("content", [None, b"not parquet"])
def test_a_list_that_cannot_be_read_says_what_to_run(tmp_path, content):
    if content:
        (tmp_path / "data").mkdir()
        (tmp_path / "data/offers.parquet").write_bytes(content)
    with pytest.raises(WorkbenchError, match=r"offers\.parquet (is missing|cannot be read).*dvc repro"):
        read_offers(tmp_path)


def catalogue(folder: Path, *, trained: bool = True):
    names = {"recency": "time", "spend": "money", "age": "people"}
    told = {"kind": "number", "meaning": "…", "source": "baskets", "window_days": None, "missing_share": 0.1}
    features = [{"name": name, "family": family} | told for name, family in names.items()]
    write(folder / "reports/features.json", {"features": features})
    if trained:
        row = {"family": "time", "sd": 0.01}
        importance = {
            "first": [{"feature": "recency", "importance": 0.2} | row],
            "second": [
                {"feature": "recency", "importance": 0.1} | row,
                {"feature": "spend", "importance": 0.3} | row,
            ],
        }
        candidates = [{"name": name, "label": name.upper()} for name in importance]
        write(folder / "reports/train.json", {"candidates": candidates, "importance": importance})
    return read_catalogue(folder)


def test_a_catalogue_before_training_is_still_a_catalogue(tmp_path):
    features, model = catalogue(tmp_path, trained=False)
    assert model is None
    assert {(row.importance, row.cost_ms) for row in features} == {(None, None)}


def test_the_catalogue_prefers_the_worth_that_the_diagnosis_found(tmp_path):
    catalogue(tmp_path)
    rows = [{"feature": "recency", "family": "recency", "importance": 0.4, "sd": 0.1}]
    diagnosed = {"model": {"name": "third", "label": "Third"}, "importance": {"permutation": rows}}
    write(tmp_path / "reports/diagnosis.json", diagnosed)
    features, model = read_catalogue(tmp_path)
    assert model == "Third"
    assert {row.name: row.importance for row in features}["recency"] == 0.4
    write(tmp_path / "reports/diagnosis.json", {"model": {}})
    with pytest.raises(WorkbenchError, match="dvc repro --force diagnose"):
        read_catalogue(tmp_path)


def test_the_catalogue_shows_worth_to_the_proposed_model(tmp_path):
    assert catalogue(tmp_path).model == "FIRST"
    write(tmp_path / "reports/evaluation.json", {"proposal": {"policy": "second"}})
    features, model = read_catalogue(tmp_path)
    assert model == "SECOND"
    assert {row.name: row.importance for row in features} == {"recency": 0.1, "spend": 0.3, "age": None}


def test_a_family_that_no_model_saw_has_no_worth_and_comes_last(tmp_path):
    write(tmp_path / "state/feature_costs.json", {"recency": 1.5, "age": 2.0})
    write(tmp_path / "reports/evaluation.json", {"proposal": {"policy": "second"}})
    rows = families(catalogue(tmp_path).features)
    assert [(row.name, row.importance, row.cost_ms) for row in rows] == [
        ("money", 0.3, None), ("time", 0.1, 1.5), ("people", None, 2.0)
    ]  # fmt: skip


def test_a_notebook_becomes_blocks_in_order_each_in_its_richest_form(tmp_path):
    rich = {"text/plain": "Figure()", "application/vnd.plotly.v1+json": {"data": []}}
    outputs = [
        {"output_type": "stream", "text": ["a\n", "b\n"]},
        {"output_type": "display_data", "data": rich},
        {"output_type": "execute_result", "data": {"text/plain": "1", "text/html": ["<b>", "1</b>"]}},
        {"output_type": "display_data", "data": {"application/unknown": "x"}},
    ]
    cells = [
        {"cell_type": "markdown", "source": ["# Title"]},
        {"cell_type": "code", "source": "", "outputs": []},
        {"cell_type": "code", "source": "show()", "outputs": outputs},
    ]
    write(tmp_path / "stage.ipynb", {"cells": cells})
    assert read_notebook(tmp_path / "stage.ipynb") == (
        ("text", "# Title"), ("code", "show()"), ("output", "a\nb\n"), ("figure", {"data": []}), ("html", "<b>1</b>")
    )  # fmt: skip


def test_the_real_answer_says_the_figures_of_the_evaluation(produced):
    raw = json.loads((produced / "reports/evaluation.json").read_text())
    answer = read_answer(produced)
    proposed = next(row for row in raw["policies"] if row["name"] == raw["proposal"]["policy"])
    point = point_at(answer.proposal, answer.capacity)
    assert point.offers == raw["capacity"]
    assert point.profit.value == pytest.approx(proposed["at_capacity"]["profit_per_month"]["value"], rel=1e-4)
    assert verdict(answer, point).sentence == raw["proposal"]["sentence"]
    if proposed["kind"] == "candidate":
        month = proposed["against_rule"]["per_month"]
        assert point.gain.low == pytest.approx(month["low"], rel=1e-3)
        assert verdict(answer, point).amount == f"{money(month['value'], answer.currency, sign=True)} a month"
    assert read_offers(produced).num_rows == raw["next_list"]["size"]
    assert len(read_catalogue(produced).features) >= 40


def test_the_condition_says_what_is_not_measured_and_where_the_answer_turns() -> None:
    raw = evaluation(policy("model", "candidate", [0, 60, 60], [0, 60, 60]))
    guess = Assumption(value=0.15, low=0.05, high=0.25, status="assumption", source="a guess")
    assert condition(answer_from(raw), guess).startswith("Assuming that an offer keeps 15% of the households")
    assert "below 6.0% the offers cost more" in condition(answer_from(raw), guess)
    measured = guess.model_copy(update={"status": "measured"})
    assert "not measured" not in condition(answer_from(raw), measured)


def test_without_offers_there_is_no_condition() -> None:
    raw = evaluation(policy("model", "candidate", [0, 0, 0], [0, 0, 0])) | {"break_even_save_rate": None}
    guess = Assumption(value=0.15, low=0.05, high=0.25, status="assumption", source="a guess")
    assert condition(answer_from(raw), guess) == ""
