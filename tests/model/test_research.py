"""A research copy is kept in the same bytes and read back only when every type in it is known."""

import zipfile

import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from ml_workbench.model.estimators import (
    Blend,
    BoostedTrees,
    Calibrated,
    Calibrator,
    Forest,
    MissingFlags,
    PatientMLP,
    RankByColumn,
    SignedLog,
)
from ml_workbench.model.research import read_research, write_research
from ml_workbench.plan.errors import ArtifactError

ROWS = np.random.default_rng(1).normal(size=(100, 3))
LABELS = (ROWS[:, 0] > 0).astype(int)


def fitted(**settings):
    return make_pipeline(SignedLog(), LogisticRegression(**settings)).fit(ROWS, LABELS)


def calibrated(*steps) -> Calibrated:
    model = Pipeline([(str(number), step) for number, step in enumerate(steps)]).fit(ROWS, LABELS)
    return Calibrated(model, Calibrator().fit(model.decision_function(ROWS), LABELS))


MODELS = {
    "rule": lambda: RankByColumn().fit(ROWS, LABELS),
    "flags": lambda: calibrated(MissingFlags(), LogisticRegression()),
    "boosted": lambda: calibrated(BoostedTrees(n_estimators=3)),
    "forest": lambda: calibrated(Forest(n_estimators=3, random_state=1)),
    "network": lambda: calibrated(StandardScaler(), PatientMLP(2, epochs=2)),
    "blend": lambda: Blend([calibrated(LogisticRegression()), calibrated(BoostedTrees(n_estimators=2))]).fit(
        ROWS, LABELS
    ),
}


@pytest.mark.parametrize("name", list(MODELS))
def test_every_kind_of_candidate_is_kept_in_the_same_bytes_and_scores_as_before(name, tmp_path):
    for copy in ("once", "again"):
        write_research(tmp_path / copy, model := MODELS[name]())
    assert (tmp_path / "once").read_bytes() == (tmp_path / "again").read_bytes()
    assert (read_research(tmp_path / "once").decision_function(ROWS) == model.decision_function(ROWS)).all()


def test_the_file_holds_no_dates_and_no_addresses(tmp_path):
    write_research(tmp_path / "m", fitted())
    with zipfile.ZipFile(tmp_path / "m") as archive:
        assert {entry.date_time[0] for entry in archive.infolist()} == {1980}
        assert archive.namelist() == sorted(archive.namelist()) and "0000.npy" in archive.namelist()


def test_another_model_is_other_bytes_in_the_same_place(tmp_path):
    write_research(tmp_path / "m", fitted())
    before = (tmp_path / "m").read_bytes()
    write_research(tmp_path / "m", fitted(C=9))
    assert (tmp_path / "m").read_bytes() != before and [each.name for each in tmp_path.iterdir()] == ["m"]


def test_a_file_with_a_stranger_in_it_is_not_loaded(tmp_path):
    class Stranger:
        pass

    (tmp_path / "m.skops").write_bytes(skops.io.dumps(Stranger()))
    with pytest.raises(ArtifactError, match=r"not trusted, refused to load: .*Stranger"):
        read_research(tmp_path / "m.skops")


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"m\.skops is missing"):
        read_research(tmp_path / "m.skops")
    (tmp_path / "m.skops").write_bytes(b"no zip at all")
    with pytest.raises(ArtifactError, match=r"m\.skops is no skops file"):
        read_research(tmp_path / "m.skops")
    with zipfile.ZipFile(tmp_path / "empty.skops", "w") as archive:
        archive.writestr("other.txt", "…")
    with pytest.raises(ArtifactError, match="is no skops file"):
        read_research(tmp_path / "empty.skops")
