"""The score card rests on tests that exist: a test that was renamed lowers the score, and here it is found at once."""

import re
import subprocess
import sys
from pathlib import Path

from ml_workbench.monitor.evidence import REPRODUCED, TESTS
from ml_workbench.monitor.questions import named_tests

ROOT = Path(__file__).parents[2]


def test_every_test_that_the_card_names_is_collected():
    names = [*named_tests(), REPRODUCED]
    assert [name for name in names if not (ROOT / name.split("::")[0]).is_file()] == []
    command = [sys.executable, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider", *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    collected = {re.sub(r"\[.*", "", line) for line in done.stdout.splitlines() if "::" in line}
    assert {name for name in names if "::" in name} <= collected
    assert {name.split("::")[0] for name in names} <= {name.split("::")[0] for name in collected}


def test_make_writes_the_report_that_the_card_reads_and_then_asks_the_card():
    text = (ROOT / "Makefile").read_text()
    assert f"TESTED     := {TESTS.as_posix()}" in text and "--junitxml=$(TESTED)" in text
    target = text.split("\ntest:")[1].split("\n\n")[0]
    assert target.index("--junitxml") < target.index("ml-workbench score-card")
    assert subprocess.run(["git", "check-ignore", "-q", str(TESTS)], cwd=ROOT).returncode == 0


def test_a_part_of_the_tests_neither_replaces_the_report_nor_is_held_against_the_card():
    shown = subprocess.run(
        ["make", "-n", "test", "ARGS=tests/plan"], cwd=ROOT, capture_output=True, text=True
    ).stdout
    assert "pytest" in shown and "--junitxml" not in shown and "score-card" not in shown
