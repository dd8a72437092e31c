"""A model is kept in the same bytes and read back only when every type in it is known."""

import zipfile

import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from ml_workbench.model.artifact import read_model, write_model
from ml_workbench.model.candidates import SignedLog
from ml_workbench.plan.errors import TrainingError

ROWS = np.random.default_rng(1).normal(size=(100, 3))


def fitted():
    return make_pipeline(SignedLog(), LogisticRegression()).fit(ROWS, ROWS[:, 0] > 0)


def test_the_same_model_is_the_same_bytes_without_dates_or_addresses(tmp_path):
    write_model(tmp_path / "once", fitted())
    write_model(tmp_path / "again", fitted())
    assert (tmp_path / "once").read_bytes() == (tmp_path / "again").read_bytes()
    with zipfile.ZipFile(tmp_path / "once") as archive:
        assert {entry.date_time[0] for entry in archive.infolist()} == {1980}
        assert archive.namelist() == sorted(archive.namelist()) and "0000.npy" in archive.namelist()


def test_another_model_is_other_bytes_in_the_same_place(tmp_path):
    write_model(tmp_path / "m", fitted())
    before = (tmp_path / "m").read_bytes()
    write_model(tmp_path / "m", make_pipeline(SignedLog(), LogisticRegression(C=9)).fit(ROWS, ROWS[:, 0] > 0))
    assert (tmp_path / "m").read_bytes() != before and [each.name for each in tmp_path.iterdir()] == ["m"]


def test_what_is_read_back_predicts_the_same(tmp_path):
    model = fitted()
    write_model(tmp_path / "m", model)
    assert (read_model(tmp_path / "m").predict_proba(ROWS) == model.predict_proba(ROWS)).all()


def test_a_file_with_a_stranger_in_it_is_not_loaded(tmp_path):
    class Stranger:
        pass

    (tmp_path / "m.skops").write_bytes(skops.io.dumps(Stranger()))
    with pytest.raises(TrainingError, match=r"not trusted, refused to load: .*Stranger"):
        read_model(tmp_path / "m.skops")


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(TrainingError, match=r"m\.skops is missing"):
        read_model(tmp_path / "m.skops")
    (tmp_path / "m.skops").write_bytes(b"no zip at all")
    with pytest.raises(TrainingError, match=r"m\.skops is no skops file"):
        read_model(tmp_path / "m.skops")
    with zipfile.ZipFile(tmp_path / "empty.skops", "w") as archive:
        archive.writestr("other.txt", "…")
    with pytest.raises(TrainingError, match="is no skops file"):
        read_model(tmp_path / "empty.skops")
