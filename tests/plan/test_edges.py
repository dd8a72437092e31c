"""Edges of the plan that a first version let through."""

import copy
import errno
import os
from pathlib import Path

import pytest
import yaml

from ml_workbench.plan.errors import ParamsError, SettingsError, WorkbenchError
from ml_workbench.plan.files import replacing
from ml_workbench.plan.params import load_params, validated
from ml_workbench.plan.settings import load_settings

COMMITTED = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("charter.economics.offer_cost", float("inf")),
        ("charter.economics.offer_cost", float("nan")),
        ("gate.maximum_size_mb", float("inf")),
        ("charter.review_date", "2018-99-99"),
        ("charter.review_date", "20180402"),
        ("features.first_as_of", "2017-03-20 05:00+02:00"),
        ("charter.title", "  "),
        ("train.candidates", ["xgboost", "xgboost"]),
    ],
)
def test_a_value_that_only_looks_valid_is_refused_with_its_path(path, value):
    raw = copy.deepcopy(COMMITTED)
    place = raw
    *parents, last = path.split(".")
    for step in parents:
        place = place[step]
    place[last] = value
    with pytest.raises(ParamsError, match=f"params.yaml: {path}: "):
        validated(raw)


def test_a_file_that_is_not_text_is_refused_in_one_line(tmp_path):
    (tmp_path / "params.yaml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(ParamsError, match=r"params\.yaml is not valid YAML"):
        load_params(tmp_path)
    (tmp_path / "settings.ini").write_bytes(b"[workbench]\nhost = \xff\n")
    with pytest.raises(SettingsError, match=r"settings\.ini cannot be read"):
        load_settings(tmp_path, {})


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"MLW_PORT": "²"}, "not a whole number"),
        ({"MLW_PORT": "0"}, "not between 1 and 65535"),
        ({"MLW_PORT": "65536"}, "not between 1 and 65535"),
        ({"MLW_THREADS": "0"}, "not between 1 and 1024"),
    ],
)
def test_a_number_that_no_machine_can_use_is_refused(tmp_path, variables, message):
    with pytest.raises(SettingsError, match=message):
        load_settings(tmp_path, variables)


def filled(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "part").write_text(text)
    return folder


def test_when_a_new_folder_cannot_be_moved_into_place_the_old_one_comes_back(tmp_path, monkeypatch):
    path = filled(tmp_path / "tables", "old")
    rename = Path.rename

    def failing(self, target):
        if self.name == ".tables.tmp":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(WorkbenchError, match="nothing was changed there"), replacing(path) as temporary:
        filled(temporary, "new")
    assert (path / "part").read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["tables"]


def test_what_a_process_killed_between_two_moves_left_aside_is_not_lost(tmp_path):
    filled(tmp_path / ".tables.old.tmp", "old")
    filled(tmp_path / ".tables.tmp", "half")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "tables"):
        raise ZeroDivisionError
    assert (tmp_path / "tables" / "part").read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["tables"]


def test_a_folder_can_take_the_place_of_a_file(tmp_path):
    (tmp_path / "thing").write_text("old")
    with replacing(tmp_path / "thing") as temporary:
        filled(temporary, "new")
    assert (tmp_path / "thing" / "part").read_text() == "new"
    assert [each.name for each in tmp_path.iterdir()] == ["thing"]
