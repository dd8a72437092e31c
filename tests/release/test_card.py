"""The card says what the reports say, has a place for everything that is asked of it, and what people wrote stays text."""

import copy
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_workbench.model.session import parsed
from ml_workbench.plan.params import load_params
from ml_workbench.release.card import Sources, card_of, code, plain

SECTIONS = [
    "What it is", "What it is for", "What it was made from", "How good it is", "Where it is weak",
    "Whom it treats otherwise", "What it rests on", "Who let it pass", "How to take it back",
]  # fmt: skip


@pytest.fixture(scope="module")
def told(produced: Path, small) -> Sources:
    "The sources of the default run's card."
    reports = {
        name: json.loads((produced / f"reports/{name}.json").read_text())
        for name in ("gate", "evaluation", "diagnosis", "features", "data")
    }
    facts = parsed(
        (produced / "models" / reports["gate"]["model"] / "signature.json").read_bytes(), "signature.json"
    )
    return Sources(
        load_params(produced),
        facts,
        small.ORIGIN,
        reports["gate"],
        None,
        *(reports[name] for name in ("evaluation", "diagnosis", "features", "data")),
    )


def card(told: Sources) -> str:
    return card_of(told).decode()


def test_the_card_has_a_section_for_everything_that_is_asked_of_it(told: Sources):
    assert re.findall("^## (.*)$", card(told), re.M) == SECTIONS
    assert card(told).startswith(f"# {told.facts['label']}: {told.params.charter.title}\n")


def test_the_card_says_what_the_data_is_as_its_publishers_do(told: Sources):
    assert plain(told.data["description"]) in card(told)
    assert "simulated from real shopping patterns" in card(told) and "anonymised" in card(told)


def test_the_card_tells_the_figures_with_their_intervals(told: Sources):
    auc = told.judged["metrics"]["auc"]
    assert f"{auc['value']:.3f} (between {auc['low']:.3f} and {auc['high']:.3f})" in card(told)
    earned = told.judged["against_rule"]["per_month"]
    assert f"${earned['value']:,.0f} (between ${earned['low']:,.0f} and ${earned['high']:,.0f})" in card(told)


def test_the_card_does_not_hide_where_the_model_is_weak(told: Sources):
    flagged = [each for each in told.diagnosis["slices"] if each["flagged"]]
    assert flagged and all(plain(each["level"]) in card(told) for each in flagged)
    assert all(plain(each["sentence"]) in card(told) for each in told.diagnosis["fairness"])


def test_every_check_of_the_gate_is_on_the_card(told: Sources):
    assert all(f"| ✓ | {plain(each['title'])} |" in card(told) for each in told.verdict["checks"])


def test_what_the_card_rests_on_is_told_with_every_assumption(told: Sources):
    assert all(f"- {plain(each['text'])}" in card(told) for each in told.evaluation["assumptions"])


def test_the_same_sources_give_the_same_card(told: Sources):
    assert card_of(told) == card_of(copy.deepcopy(told))


def test_where_the_reports_say_nothing_the_card_says_that_nothing_was_looked_at(told: Sources):
    bare = replace(
        told, diagnosis={}, evaluation=told.evaluation | {"assumptions": [], "break_even_save_rate": None}
    )
    assert re.findall("^## (.*)$", card(bare), re.M) == SECTIONS
    assert "No groups of people were compared." in card(bare) and "by nothing" in card(bare)


def test_code_that_was_not_committed_is_named(told: Sources):
    dirty = replace(told, origin=replace(told.origin, dirty=("nbs/data/`x`.ipynb", "params.yaml")))
    assert "2 files differed from it: `nbs/data/'x'.ipynb`, `params.yaml`" in card(dirty)
    assert "outside any repository" in card(
        replace(told, origin=replace(told.origin, commit=None, committed_at=None))
    )


def test_a_veto_that_was_passed_over_is_on_the_card_with_who_and_why(told: Sources):
    override = {"by": "Ann", "time": "2024-07-15T06:00:00Z", "reason": "A pilot in one shop"}
    assert "Ann passed over the veto (2024-07-15T06:00:00Z): A pilot in one shop" in card(
        replace(told, override=override)
    )


HOSTILE = "# Title\n\n<script>alert(1)</script> ![x](http://evil.example/x.png) [click](javascript:alert(1)) | cell | `code` **bold** https://evil.example"


def test_what_people_wrote_is_neither_link_nor_tag_nor_heading(told: Sources):
    charter = told.params.charter.model_copy(
        update={
            name: HOSTILE for name in ("title", "decision", "action", "kpi", "owner", "unit", "unit_plural")
        }
    )
    hostile = replace(
        told, params=told.params.model_copy(update={"charter": charter}), override={"by": HOSTILE, "time": "now", "reason": HOSTILE},
        data=told.data | {"description": HOSTILE, "source": HOSTILE}, facts=told.facts | {"label": HOSTILE},
        verdict=told.verdict | {"sentence": HOSTILE},
    )  # fmt: skip
    text = re.sub(
        r"`[^`\n]*`", "", re.sub(r"\\.", "", card(hostile))
    )  # what is left when escapes and code are taken away
    assert not re.search(r"[<>]script|!\[|\]\(|\*\*bold|https?:", text.replace("> ", ""))
    assert re.findall("^#+ (.*)$", card(hostile), re.M)[1:] == SECTIONS


@settings(max_examples=300)
@given(text=st.text())
def test_escaped_text_is_one_line_without_anything_that_means_something(text: str):
    line = plain(text)
    assert "\n" not in line and "\r" not in line
    assert not re.search(r"[*_\[\]<>|#~&!`]", re.sub(r"\\.", "", line))
    assert re.sub(r"\\(.)", r"\1", line) == " ".join(text.split())


@settings(max_examples=100)
@given(text=st.text())
def test_a_name_as_code_cannot_leave_it(text: str):
    assert code(text).count("`") == 2 and "\n" not in code(text)
