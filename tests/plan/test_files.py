"""Artefacts are written whole or not at all."""

import errno
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_workbench.plan.errors import WorkbenchError
from ml_workbench.plan.files import TEMPORARY, read_json, replacing, rounded, write_json

FLOATS = st.floats(allow_nan=True, allow_infinity=True)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.text(max_size=10) | FLOATS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fill(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "part").write_text(text)


# One file -------------------------------------------------------------------------------------------------


def test_a_file_appears_whole_at_the_end_and_folders_above_it_are_made(tmp_path):
    path = tmp_path / "deep" / "er" / "a.txt"
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert names(path.parent) == ["a.txt"]


def test_an_error_while_writing_leaves_what_stood_there_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_an_interrupt_while_writing_leaves_what_stood_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_full_disk_is_one_readable_error_and_nothing_changes(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})

    def full(self, text, **_):
        with self.open("w") as file:
            file.write(text[: len(text) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(
        WorkbenchError, match=r"cannot write .*a\.json: No space left on device; nothing was ch"
    ):
        write_json(path, {"new": 2})
    monkeypatch.undo()
    assert read_json(path) == {"old": 1}
    assert names(tmp_path) == ["a.json"]


def test_a_disk_that_is_full_only_when_flushed_is_noticed_too(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_json(path, 1)

    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WorkbenchError, match="No space left"):
        write_json(path, 2)
    assert read_json(path) == 1
    assert names(tmp_path) == ["a.json"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_real_full_device_is_one_readable_error(tmp_path):
    path = tmp_path / "a.txt"
    with pytest.raises(WorkbenchError, match="No space left"), replacing(path) as temporary:
        temporary.symlink_to("/dev/full")
        temporary.write_text("x")
    assert names(tmp_path) == []


@pytest.mark.parametrize("place", ["a.txt/b.txt", "a.txt/b/c.txt"])
def test_a_folder_that_cannot_be_made_is_one_readable_error(tmp_path, place):
    (tmp_path / "a.txt").write_text("a file where a folder should be")
    with pytest.raises(WorkbenchError, match=f"cannot write .*{place}"), replacing(tmp_path / place):
        pytest.fail("nothing can be written there")


def test_what_a_killed_writer_left_is_replaced_by_the_next(tmp_path):
    path = tmp_path / "a.txt"
    killed = f"""if 1:
        import os, signal
        from ml_workbench.plan.files import replacing
        with replacing({str(path)!r}) as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)"""
    assert subprocess.run([sys.executable, "-c", killed]).returncode == -signal.SIGKILL
    assert names(tmp_path) == [f".a.txt{TEMPORARY}"]
    with replacing(path) as temporary:
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert names(tmp_path) == ["a.txt"]


# A folder -------------------------------------------------------------------------------------------------


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "tables"
    fill(path, "old")
    (path / "gone").write_text("not in the new one")
    with replacing(path) as temporary:
        fill(temporary, "new")
        assert (path / "part").read_text() == "old"
    assert names(path) == ["part"]
    assert (path / "part").read_text() == "new"
    assert names(tmp_path) == ["tables"]


def test_an_error_while_filling_a_folder_leaves_the_old_one(tmp_path):
    path = tmp_path / "tables"
    fill(path, "old")
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        fill(temporary, "half")
        raise ZeroDivisionError
    assert (path / "part").read_text() == "old"
    assert names(tmp_path) == ["tables"]


def test_folders_that_killed_writers_left_are_replaced_by_the_next(tmp_path):
    path = tmp_path / "tables"
    fill(path, "old")
    fill(tmp_path / f".tables{TEMPORARY}", "half")
    fill(tmp_path / f".tables.old{TEMPORARY}", "older")
    with replacing(path) as temporary:
        fill(temporary, "new")
    assert (path / "part").read_text() == "new"
    assert names(tmp_path) == ["tables"]


def test_a_file_can_take_the_place_of_a_folder(tmp_path):
    path = tmp_path / "thing"
    fill(path, "old")
    with replacing(path) as temporary:
        temporary.write_text("a file")
    assert path.read_text() == "a file"
    assert names(tmp_path) == ["thing"]


def test_writing_nothing_is_an_error_and_keeps_what_stood_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(WorkbenchError, match="cannot write"), replacing(path):
        pass
    assert path.read_text() == "old"


# Figures --------------------------------------------------------------------------------------------------


def plain(value: object) -> bool:
    "Whether a value is nothing but what JSON can hold."
    if isinstance(value, dict):
        return all(type(key) is str and plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(plain, value))
    return value is None or type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value))


@given(JSON)
def test_rounding_gives_plain_json_and_rounding_twice_changes_nothing(value):
    once = rounded(value)
    assert plain(once)
    assert rounded(once) == once
    assert json.loads(json.dumps(once, allow_nan=False)) == once


@given(st.floats(allow_nan=False, allow_infinity=False, width=32), st.integers(1, 9))
def test_rounding_moves_a_figure_by_less_than_one_unit_of_its_last_digit(value, digits):
    assert rounded(value, digits) == pytest.approx(value, rel=0.51 * 10.0 ** (1 - digits), abs=0)


def test_numpy_scalars_and_arrays_become_plain_values():
    value = {
        "a": np.float32(0.1),
        "b": np.arange(3),
        "c": np.array([[1.0, np.nan]]),
        4: (np.int8(5), np.bool_(True)),
    }
    assert rounded(value) == {"a": 0.1, "b": [0, 1, 2], "c": [[1.0, None]], "4": [5, True]}
    assert plain(rounded(value))


def test_differences_in_the_last_digits_of_a_float_do_not_reach_the_file(tmp_path):
    write_json(tmp_path / "a", {"x": 0.1 + 0.2})
    write_json(tmp_path / "b", {"x": 0.3})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_json_keeps_the_order_given_and_is_readable(tmp_path):
    write_json(tmp_path / "a.json", {"z": 1, "a": "grün"})
    assert (tmp_path / "a.json").read_bytes() == '{\n "z": 1,\n "a": "grün"\n}\n'.encode()


def test_what_json_cannot_hold_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(TypeError, match="set is not JSON serializable"):
        write_json(tmp_path / "a.json", {"a": {1, 2}})
    assert names(tmp_path) == []


@given(JSON)
def test_what_is_written_is_read_back(value):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        write_json(f"{folder}/a.json", value)
        assert read_json(f"{folder}/a.json") == rounded(value)


def test_a_missing_artefact_says_what_produces_it(tmp_path):
    with pytest.raises(WorkbenchError, match=r"data\.json is missing: run `dvc repro`"):
        read_json(tmp_path / "data.json")


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe\x00"])
def test_a_broken_artefact_says_how_to_rebuild_it(tmp_path, content):
    (tmp_path / "data.json").write_bytes(content)
    with pytest.raises(WorkbenchError, match=r"data\.json is not valid JSON .*`dvc repro --force`"):
        read_json(tmp_path / "data.json")
