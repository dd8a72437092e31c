"""`ml-workbench score-card` and `ml-workbench review`: what they say, what they keep, and when they fail."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from ml_workbench.monitor import scorecard
from ml_workbench.monitor.evidence import Archive, Evidence
from ml_workbench.monitor.questions import SECTIONS, Question
from ml_workbench.monitor.reviews import MODULES
from ml_workbench.monitor.scorecard import card_of
from ml_workbench.run.cli import cli
from ml_workbench.run.scorecard import age, as_markdown, as_text

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


@pytest.fixture
def project(tmp_path, monkeypatch):
    "A project in which nothing was shown yet."
    for name in ("params.yaml", "settings.ini", *MODULES):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def questions(**weights):
    "A card of made-up questions: 'a test of the section is worth so much', all others 1."

    def worth(weight):
        return lambda archive: Evidence(
            "test", "tests/a.py::test_b", "b | holds", weight, NOW, "" if weight == 1 else "mend b | c"
        )

    return tuple(
        Question(name, n, f"Test {n}", (worth(weights.get(name, 1) if n == 1 else 1),))
        for name in SECTIONS
        for n in range(1, 8)
    )


@pytest.fixture
def made_up(monkeypatch):
    "Put made-up questions in the place of the real ones."

    def put(**weights):
        asked = questions(**weights)
        monkeypatch.setattr(scorecard, "card_of", lambda archive: card_of(archive, asked))

    return put


def run(*arguments, command="score-card"):
    return CliRunner().invoke(cli, [command, *arguments])


def test_in_a_fresh_clone_it_says_what_is_missing_and_ends_well_while_nothing_was_recorded(project):
    done = run()
    assert done.exit_code == 0 and done.output.startswith("0 of 7, which is what ")
    assert "tests: the tests have not run here: run `make test`" in done.output
    assert all(f"\n{title} " in done.output for title in SECTIONS.values())


def test_everything_that_was_looked_at_is_told_on_request(project, made_up):
    made_up(data=0.5)
    assert "tests/a.py::test_b" not in run().output
    done = run("--evidence").output
    assert "◐ tests/a.py::test_b (" in done and "b | holds" in done and "→ mend b | c" in done


def test_a_recorded_card_is_held_against_and_a_fall_fails(project, made_up):
    made_up()
    assert run("--record").exit_code == 0 and (project / "reports/score_card.json").is_file()
    assert run().exit_code == 0
    made_up(model=0.5)
    fell = run()
    assert fell.exit_code == 1
    assert (
        "fell: Model 1 fell from 1 to 0.5 (Test 1): mend b | c" in fell.output
        and "The score card fell: it was 7" in fell.output
    )
    assert run("--record").exit_code == 0 and run().exit_code == 0


def test_a_minimum_is_asked_of_the_smallest_section(project, made_up):
    made_up(monitoring=0)
    assert run("--minimum", "6").exit_code == 0
    done = run("--minimum", "6.5")
    assert done.exit_code == 1 and "The score is 6, 6.5 is asked." in done.output
    assert run("--minimum", "8").exit_code == 2


def test_another_record_can_be_held_against_and_one_that_is_missing_is_told(project, made_up):
    made_up()
    run("--record")
    (project / "reports/score_card.json").rename(project / "old.json")
    made_up(data=0)
    assert run().exit_code == 0 and run("--against", "old.json").exit_code == 1
    done = run("--against", "none.json")
    assert done.exit_code == 1 and "none.json is missing: record a card" in done.output


def test_a_record_that_is_none_is_one_line(project, made_up):
    made_up()
    (project / "reports").mkdir()
    (project / "reports/score_card.json").write_text('{"tests": 3}')
    done = run()
    assert done.exit_code == 1 and "is no score card" in done.output and "Traceback" not in done.output


def test_it_is_json_for_programs_and_tables_for_summaries(project, made_up):
    made_up(data=0.5)
    raw = json.loads(run("--json").stdout)
    assert raw["score"] == 6.5 and len(raw["tests"]) == 28 and raw["sections"]["data"] == 6.5
    told = run("--markdown").output
    assert "### Data: 6.5 of 7" in told and "mend b \\| c" in told and told.count("\n| ") == 32
    assert run("--json", "--markdown").exit_code == 1


def test_a_bar_is_as_long_as_its_sum():
    card = card_of(Archive(ROOT, NOW), questions(data=0.5, model=0))
    bars = {line.split()[0]: (line.count("█"), line.count("·")) for line in as_text(card) if "█" in line}
    assert bars["Data"] == (13, 1) and bars["Model"] == (12, 2) and bars["Monitoring"] == (14, 0)
    assert len(as_markdown(card)) == 1 + 4 * (5 + 7)


def test_ages_are_told_for_people():
    days = [datetime(2026, 3, 10 - n, 12, tzinfo=UTC) for n in (0, 1, 2)]
    assert [age(each, NOW) for each in (*days, None, datetime(2027, 1, 1, tzinfo=UTC))] == [
        "today",
        "1 day",
        "2 days",
        "–",
        "today",
    ]


def test_a_review_is_recorded_and_listed_with_what_changed_since(project):
    assert "nobody has reviewed this yet" in run("list", command="review").output
    done = run("add", "--by", "Ada", "--verdict", "approved", "--note", "Read it all", command="review")
    assert done.exit_code == 0 and "sign it with `git commit -S reports/reviews.json`" in done.output
    assert "Ada approved: Read it all (nothing has changed since)" in run("list", command="review").output
    (project / MODULES[0]).write_text("x = 1\n")
    assert f"(changed since: {MODULES[0]})" in run("list", command="review").output


def test_a_review_that_nobody_signs_is_refused(project):
    done = run("add", "--verdict", "approved", command="review")
    assert done.exit_code == 1 and "add --by NAME and --note TEXT" in done.output
    assert run("add", "--by", "Ada", "--note", "x", command="review").exit_code == 2
    assert not (project / "reports/reviews.json").exists()
