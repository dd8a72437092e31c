"""The page of the score card: four sections at a glance, 28 tests to unfold."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ml_workbench.monitor.evidence import Archive, Evidence
from ml_workbench.monitor.questions import CARD, Question
from ml_workbench.monitor.scorecard import card_of, record
from tests.app.conftest import serve, write_project
from tests.app.test_browser import SIZES, Visit

VIEW = "views/score_card.py"
LOW = {
    ("model", 1): 0,
    ("model", 2): 0.5,
    ("data", 2): 0.5,
    ("infrastructure", 6): 0.5,
    ("monitoring", 7): 0.5,
}


def recorded_in(folder: Path) -> None:
    "A card as a real project would have recorded it: the real questions, with made-up evidence."
    now = datetime.now(UTC)

    def proofs(question: Question) -> tuple:
        weight = LOW.get((question.section, question.number), 1)
        said, remedy = (
            "It was looked at, and <b>holds</b>",
            "" if weight == 1 else "run `make test`, and mend <what> fails",
        )
        tests = Evidence(
            "test",
            "tests/release/test_ledger.py::test_of_two_processes_that_write_the_same_line_exactly_one_wins_every_time",
            said,
            weight,
            now - timedelta(days=question.number),
            remedy,
        )
        report = Evidence(
            "report",
            "reports/gate.json: verdict",
            "Logistic regression is blessed: 24 of 24 checks passed.",
            1 if weight else 0,
            now,
            remedy,
        )
        return tuple(lambda archive, each=each: each for each in (tests, report))

    asked = [Question(each.section, each.number, each.text, proofs(each)) for each in CARD]
    record(folder, card_of(Archive(folder, now), asked))


def words(shown) -> str:
    "Everything the page says, without markup."
    return " ".join(re.sub("<[^>]+>", " ", " ".join(each.proto.body for each in shown.get("html"))).split())


def test_it_names_the_weakest_section_first_and_holds_every_test(made_up_project, evaluation, page):
    recorded_in(made_up_project(evaluation()))
    shown = page(VIEW)
    assert not shown.exception
    said = words(shown)
    assert "5.5 of 7, decided by Model" in said and "exceptional levels" in said
    assert [each.value.split(":")[0] for each in shown.subheader] == [
        "Model",
        "Data",
        "Infrastructure",
        "Monitoring",
    ]
    assert all(f"{each.number}. {each.text.replace(chr(39), '&#x27;')}" in said for each in CARD)
    assert "As it was recorded on" in said and "the tests have not run on this machine" in said


def test_what_evidence_says_is_never_markup(made_up_project, evaluation, page):
    recorded_in(made_up_project(evaluation()))
    raw = " ".join(each.proto.body for each in page(VIEW).get("html"))
    assert (
        "&lt;b&gt;holds&lt;/b&gt;" in raw and "<b>holds</b>" not in raw and "mend &lt;what&gt; fails" in raw
    )


def test_before_anything_was_recorded_it_says_what_is_missing(made_up_project, evaluation, page):
    made_up_project(evaluation())
    shown = page(VIEW)
    assert not shown.exception
    assert (
        "0 of 7" in words(shown)
        and "The tests have not run here." in words(shown)
        and "make test" in words(shown)
    )


def test_a_record_that_was_damaged_is_told_calmly(made_up_project, evaluation, page):
    folder = made_up_project(evaluation())
    (folder / "reports/score_card.json").write_text("[]")
    shown = page(VIEW)
    assert (
        not shown.exception
        and "No score card to show yet" in words(shown)
        and "is no score card" in words(shown)
    )


@pytest.fixture(scope="module")
def served_card(tmp_path_factory: pytest.TempPathFactory, root: Path):
    "Address of the page, with a card."
    folder = write_project(tmp_path_factory.mktemp("card"), root, None)
    recorded_in(folder)
    yield from serve(folder, root)


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_the_page_fits_its_window_and_unfolds(browser, served_card, test_artefacts, size, scheme):
    seen = Visit(browser, served_card, size, scheme)
    try:
        seen.open("/score_card")
        seen.page.locator(".mlw-seven").first.wait_for()
        assert seen.page.locator(".mlw-seven i").count() == 28
        assert seen.overflow() <= 0
        folded = seen.page.locator(".mlw-tests details").first
        assert not folded.locator("li").first.is_visible()
        folded.locator("summary").click()
        folded.locator("li").first.wait_for(state="visible")
        assert folded.locator(".mlw-raise").first.is_visible() and seen.overflow() <= 0
        seen.picture(test_artefacts / f"score-card-{size}-{scheme}.png")
        assert seen.elsewhere() == [] and seen.complaints == []
    finally:
        seen.context.close()
