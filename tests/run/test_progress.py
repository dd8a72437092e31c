"""What somebody who watches a stage sees."""

import io
import json

import pytest

from ml_workbench.run.progress import JsonLines, Terminal


def logged(log: JsonLines) -> list[dict]:
    return [json.loads(line) for line in log.out.getvalue().splitlines()]


def test_a_log_tells_stage_engine_and_seconds() -> None:
    log = JsonLines(io.StringIO())
    log.started("train", engine="kernel", cells=3)
    log.ended(error=None, seconds=1.23456)
    started, finished = logged(log)
    assert (started["event"], started["stage"], started["engine"], started["cells"]) == (
        "started",
        "train",
        "kernel",
        3,
    )
    assert (finished["event"], finished["seconds"], finished["level"]) == ("finished", 1.235, "info")


def test_printed_text_becomes_whole_lines() -> None:
    log = JsonLines(io.StringIO())
    for text in ("on", "e\ntw", "o\n", "10%\r90%"):
        log.text("stdout", text)
    log.text("stderr", "careful\n")
    log.ended(error=None, seconds=0)
    assert [(each["text"], each["stream"]) for each in logged(log)[:-1]] == [
        ("one", "stdout"), ("two", "stdout"), ("careful", "stderr"), ("90%", "stdout"),
    ]  # fmt: skip


@pytest.mark.parametrize(("level", "events"), [("debug", 4), ("info", 3), ("warning", 1), ("error", 1)])
def test_the_level_decides_what_is_logged(level: str, events: int) -> None:
    log = JsonLines(io.StringIO(), level)
    log.started("train", engine="kernel", cells=1)
    log.cell(1)
    log.text("stdout", "a\n")
    log.ended(error="broken", seconds=1)
    assert len(logged(log)) == events and logged(log)[-1]["error"] == "broken"


def test_a_terminal_shows_one_line_per_stage_and_what_is_printed_above_it() -> None:
    line = Terminal(io.StringIO())
    line.started("train", engine="kernel", cells=2)
    line.cell(2)
    line.text("stdout", "fitting\n")
    line.ended(error=None, seconds=12.34)
    lines = [part.split("\x1b[2K")[-1] for part in line.out.getvalue().split("\n")]
    assert lines == ["fitting", "train      2 cells  12.3 s  (kernel)", ""]
    assert "train      cell 2/2  0:00" in line.out.getvalue()


def test_a_terminal_says_when_a_stage_failed() -> None:
    line = Terminal(io.StringIO())
    line.started("train", engine="inprocess", cells=2)
    line.ended(error="broken", seconds=0.1)
    assert line.out.getvalue().endswith("train      failed  0.1 s  (inprocess)\n")
