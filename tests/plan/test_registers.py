"""A register loses no signature and changes none."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from ml_workbench.plan.errors import GateError
from ml_workbench.plan.registers import Register


@dataclass(frozen=True)
class Oath:
    by: str


OATHS = Register(Path("reports/oaths.json"), "oath", GateError, lambda raw: Oath(raw["by"]))


def test_lines_that_are_there_stay_as_they_are(tmp_path):
    OATHS.add(tmp_path, Oath("Ada"))
    file = tmp_path / OATHS.file
    file.write_text(file.read_text().replace('"by": "Ada"', '"by":   "Ada"'))  # as somebody formatted it
    before = file.read_text().splitlines()
    OATHS.add(tmp_path, Oath("Grace ‘Amazing’"))
    after = file.read_text().splitlines()
    assert after[: len(before) - 1] == before[:-1] and len(after) == len(before) + 1
    assert OATHS.read(tmp_path) == (Oath("Ada"), Oath("Grace ‘Amazing’"))


def test_an_empty_list_is_begun(tmp_path):
    (tmp_path / "reports").mkdir()
    (tmp_path / OATHS.file).write_text("[\n]\n")
    OATHS.add(tmp_path, Oath("Ada"))
    assert OATHS.read(tmp_path) == (Oath("Ada"),)


def test_whoever_signs_at_the_same_time_is_kept(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: OATHS.add(tmp_path, Oath(str(number))), range(40)))
    assert sorted(int(each.by) for each in OATHS.read(tmp_path)) == list(range(40))


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"to": "Ada"}]', '[{"by": "Ada"}'])
def test_a_damaged_file_is_neither_read_nor_added_to(tmp_path, text):
    (tmp_path / "reports").mkdir()
    (tmp_path / OATHS.file).write_text(text)
    for act in (lambda: OATHS.read(tmp_path), lambda: OATHS.add(tmp_path, Oath("Ada"))):
        with pytest.raises(
            GateError, match=r"reports/oaths.json is damaged .*git checkout reports/oaths.json"
        ):
            act()
    assert (tmp_path / OATHS.file).read_text() == text


def test_a_lock_that_cannot_be_taken_is_told(tmp_path):
    (tmp_path / "state").write_text("in the way")
    with pytest.raises(GateError, match=r"oaths.lock cannot be written: .*; the oath was not recorded"):
        OATHS.add(tmp_path, Oath("Ada"))
    assert not (tmp_path / OATHS.file).exists()


def test_each_line_is_json(tmp_path):
    for name in ("Ada", "Grace"):
        OATHS.add(tmp_path, Oath(name))
    lines = (tmp_path / OATHS.file).read_text().splitlines()[1:-1]
    assert [json.loads(line.lstrip(", "))["by"] for line in lines] == ["Ada", "Grace"]
