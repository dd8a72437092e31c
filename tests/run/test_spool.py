"""What waits and what was set aside is told, and given another chance by name or all at once."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ml_workbench.run.cli import cli
from ml_workbench.serve.backlog import REJECTED, set_aside
from ml_workbench.serve.segments import segments
from ml_workbench.serve.spool import Spool


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLW_SPOOL_DIR", "own/spool")
    return tmp_path / "own" / "spool"


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["spool", *arguments])


def filled(folder: Path) -> list[str]:
    "A spool in which two records wait, two were set aside, and some bytes."
    with Spool(folder, limit_bytes=1 << 24, fsync_ms=20) as spool:
        for _ in range(2):
            spool.append(b"{}")
    for number in (1, 2):
        set_aside(
            folder, "0123456789ab-00000001.log", number, b"{}", reason=f"reason {number}", kind="record"
        )
    set_aside(folder, "0123456789ab-00000001.log", 3, b"x\n" * 9, reason="no whole record", kind="damaged")
    return sorted(path.name for path in (folder / REJECTED).iterdir())


def test_what_waits_and_what_was_set_aside_is_told_with_the_reason(folder: Path) -> None:
    names = filled(folder)
    shown = call("list")
    assert shown.exit_code == 0
    lines = shown.output.splitlines()
    assert lines[0].startswith("2 records wait for the database, the oldest for")
    assert lines[1] == "2 records and 1 damaged stretches are set aside"
    assert [line.split()[0] for line in lines[2:]] == names and "reason 2" in shown.output
    told = json.loads(call("list", "--json").output)
    assert told["waiting"] == 2 and [each["kind"] for each in told["aside"]] == [
        "record",
        "record",
        "damaged",
    ]


def test_all_are_given_back_or_those_that_are_named(folder: Path) -> None:
    names = filled(folder)
    assert call("readmit", names[1]).output == "1 records are on their way again\n"
    assert json.loads(call("list", "--json").output)["waiting"] == 3
    assert call("readmit").output == "1 records are on their way again\n"
    assert [path.suffix for path in (folder / REJECTED).iterdir()] == [".damaged"] and len(
        segments(folder)
    ) == 3
    assert call("readmit").output == "no record is set aside\n"


def test_a_name_that_is_none_gives_nothing_back(folder: Path) -> None:
    names = filled(folder)
    shown = call("readmit", names[0], names[1][:-1])
    assert shown.exit_code == 1 and f"did you mean '{names[1]}'" in shown.stderr
    assert len([*(folder / REJECTED).glob("*.record")]) == 2
    damaged = next(name for name in names if name.endswith("damaged"))
    assert call("readmit", damaged).exit_code == 1, "damaged bytes are no record"


def test_where_there_is_no_spool_it_is_said_where_it_was_looked_for(folder: Path) -> None:
    for command in ("list", "readmit"):
        shown = call(command)
        assert shown.exit_code == 1 and "own/spool: there is no spool" in shown.stderr


def test_a_file_that_says_no_reason_is_told_all_the_same(folder: Path) -> None:
    filled(folder)
    (folder / REJECTED / "strange.record").write_bytes(b"\xff")
    assert "strange.record  0 bytes  nobody knows why" in call("list").output
