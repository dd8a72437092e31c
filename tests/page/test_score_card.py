"""What the Score card page says: the weakest first, marks as words, and which card it is."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ml_workbench.monitor.evidence import Archive, Evidence
from ml_workbench.monitor.questions import SECTIONS, Question
from ml_workbench.monitor.scorecard import card_of, record
from ml_workbench.page.score_card import read_score_card, sections_of, view_of

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


def worth(weight, remedy="mend it", days=0):
    at = NOW - timedelta(days=days)
    return lambda archive: Evidence(
        "test", "tests/a.py::test_b", "b holds", weight, at, "" if weight == 1 else remedy
    )


def card(**lacking):
    "A card in which some sections lack so many tests."
    asked = [
        Question(name, n, f"Test {n} of {name}", (worth(0 if n <= lacking.get(name, 0) else 1, f"mend {n}", days=n),))
        for name in SECTIONS for n in range(1, 8)
    ]  # fmt: skip
    return card_of(Archive(Path(), NOW), asked)


def test_the_weakest_section_comes_first_and_is_named():
    view = view_of(card(monitoring=2, data=1), "Today.")
    assert [each.name for each in view.sections] == ["monitoring", "data", "model", "infrastructure"]
    assert [each.weakest for each in view.sections] == [True, False, False, False]
    assert (
        view.headline == "5 of 7, decided by Monitoring"
        and "strong" in view.meaning
        and view.since == "Today."
    )


def test_sections_of_the_same_sum_decide_together():
    assert view_of(card(model=1, data=1), "").headline == "6 of 7, decided by Data and Model"
    assert view_of(card(), "").headline == "7 of 7, decided by every section"


def test_a_section_says_in_words_what_is_not_shown():
    first, *_, last = sections_of(card(monitoring=3))
    assert first.open == "Not fully shown: test 1 of monitoring; test 2 of monitoring, and 1 more."
    assert last.open == "Everything is shown by machine." and last.told == "7 of 7"


def test_a_test_carries_mark_word_score_age_and_evidence():
    row = sections_of(card(data=1))[0].rows
    assert (row[0].mark, row[0].word, row[0].score, row[0].remedies) == (
        "none",
        "not shown",
        "0",
        ("mend 1",),
    )
    assert (row[6].mark, row[6].word, row[6].age) == ("full", "shown by machine", "7 days old")
    assert (
        row[6].shown[0].about == "automated test, 7 days old"
        and row[6].shown[0].source == "tests/a.py::test_b"
    )


def test_what_would_raise_many_stands_above_all_and_not_in_every_row():
    asked = [Question("data", n, "x", (worth(0, "run them"),)) for n in range(1, 8)]
    view = view_of(card_of(Archive(Path(), NOW), asked), "")
    assert view.common == ("7 tests: run them",)
    data = next(each for each in view.sections if each.name == "data")
    assert all(row.remedies == () for row in data.rows)


@pytest.fixture
def project(tmp_path, root):
    (tmp_path / "params.yaml").write_bytes((root / "params.yaml").read_bytes())
    return tmp_path


def test_where_no_tests_ran_the_recorded_card_is_shown_with_its_date(project):
    record(project, card(model=1))
    view = read_score_card(project, NOW + timedelta(days=3))
    assert view.headline == "6 of 7, decided by Model"
    assert (
        view.since == "As it was recorded on 2026-03-10, 3 days old: the tests have not run on this machine."
    )


def test_without_any_card_the_page_says_that_nothing_is_shown(project):
    view = read_score_card(project, NOW)
    assert view.headline.startswith("0 of 7") and "The tests have not run here." in view.since
    assert any("make test" in each for each in view.common)


def test_where_tests_ran_the_present_card_is_shown(project):
    record(project, card())
    (project / "test-artefacts").mkdir()
    (project / "test-artefacts/tests.xml").write_text(
        f'<testsuites><testsuite timestamp="{NOW.isoformat()}"/></testsuites>'
    )
    view = read_score_card(project, NOW)
    assert view.headline.startswith("0 of 7") and "The tests ran 2026-03-10, 12:00 UTC." in view.since
