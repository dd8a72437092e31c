"""What was written is read back as it was, and nothing else is read at all."""

import json
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from ml_workbench.model.artifact import (
    MANIFEST,
    golden_places,
    manifest_from,
    manifest_of,
    read_artifact,
    read_files,
    write_artifact,
)
from ml_workbench.model.candidates import Fitted, candidate_named, fit_candidate, rule_candidate
from ml_workbench.model.quarantine import Limits
from ml_workbench.model.session import BATCH, GOLDEN, MODEL, SIGNATURE, TREES
from ml_workbench.model.snapshots import Feature, Schema
from ml_workbench.plan.charter import Rule
from ml_workbench.plan.errors import ArtifactError, ScoringError
from ml_workbench.plan.params import TrainParams

KINDS = {"days": "number", "weekly": "number", "noise": "number", "town": "category"}
FEATURES = tuple(Feature(name, kind, name) for name, kind in KINDS.items())
SCHEMA = Schema("member", "as_of", "slice", "left", "spend", 28, "weekly", FEATURES)
PARAMS = TrainParams(
    seed=1, candidates=["xgboost"], withheld_families=[], use_tuned=False, settings={}, calibration="sigmoid",
    spend=["naive"], threads=1,
)  # fmt: skip
SETTINGS = {
    "xgboost": {"rounds": 40, "patience": 10, "learning_rate": 0.2, "max_depth": 3, "min_child_weight": 5.0}
}


def members(rows: int = 600, *, seed: int = 1) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({name: random.exponential(20, rows) for name in ("days", "weekly", "noise")})
    frame = frame.mask(random.random(frame.shape) < 0.1).astype(np.float32)
    frame["town"] = random.choice(["Arles", "Bath", "(missing)"], rows)
    chance = 1 / (1 + np.exp(2 - frame["days"].fillna(5) / 12))
    frame["left"] = (random.random(rows) < chance).astype(int)
    return frame.assign(member=np.arange(rows), as_of=pd.Timestamp("2024-01-01"), slice="train")


LATER = members(seed=2)


@cache
def fitted(name: str) -> Fitted:
    rule = Rule(feature="days", order="descending", meaning="the members longest away")
    candidate = rule_candidate(rule, SCHEMA) if name == "rule" else candidate_named(name)
    return fit_candidate(
        candidate, SCHEMA, PARAMS, train=members(), validation=LATER, settings=SETTINGS.get(name)
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    "Artefacts of three candidates; not to be changed."
    folder = tmp_path_factory.mktemp("models")
    for name in ("rule", "logistic_regression", "xgboost"):
        write_artifact(folder / name, fitted(name), SCHEMA, LATER)
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    "A copy of an artefact, to be changed."
    return Path(shutil.copytree(written / "logistic_regression", tmp_path / "model"))


@pytest.fixture(scope="module")
def linear(written: Path):
    return read_artifact(written / "logistic_regression")


def repaired(folder: Path) -> None:
    "Let the manifest vouch for whatever lies in the folder now, as somebody would who wants it to be loaded."
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != MANIFEST}
    (folder / MANIFEST).write_bytes(manifest_of("logistic_regression", files).as_bytes())


def flipped(path: Path, place: int, bit: int = 7) -> None:
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 1 << bit
    path.write_bytes(data)


def test_what_is_read_back_answers_as_the_model_did(written):
    scorer = read_artifact(written / "xgboost")
    expected = fitted("xgboost").probability(LATER)
    assert np.abs(scorer.probability(LATER) - expected).max() < 1e-6  # XGBoost's own prediction
    few = LATER.head(BATCH - 1)
    assert np.abs(scorer.probability(few) - expected[: len(few)]).max() < 1e-6  # ONNX Runtime
    row = scorer.signature.matrix(LATER.head(1))
    assert scorer.one(row) == pytest.approx(expected[0], abs=1e-6)


def test_a_row_is_scored_by_name_as_well(linear):
    row = LATER.iloc[3][list(KINDS)].to_dict()
    named = {name: None if pd.isna(value) else value for name, value in row.items()}
    assert linear.one(named) == pytest.approx(linear.probability(LATER.iloc[[3]])[0], abs=1e-6)
    assert linear.one(dict(reversed(named.items()))) == linear.one(named)


def test_the_order_of_columns_does_not_matter_and_others_are_ignored(linear):
    shuffled = LATER[[*reversed(KINDS)]].assign(unrelated="x")
    assert (linear.probability(shuffled) == linear.probability(LATER)).all()


def test_the_rule_has_scores_and_says_that_it_has_no_probability(written):
    rule = read_artifact(written / "rule")
    order = np.argsort(-rule.scores(LATER), kind="stable")
    assert LATER["days"].iloc[order[0]] == LATER["days"].max() and np.isnan(LATER["days"].iloc[order[-1]])
    with pytest.raises(ScoringError, match="only ranks, it has no probabilities"):
        rule.probability(LATER)


def test_writing_twice_gives_the_same_bytes(written, tmp_path):
    manifest = write_artifact(tmp_path / "again", fitted("xgboost"), SCHEMA, LATER)
    for each in manifest.files:
        assert (tmp_path / "again" / each.name).read_bytes() == (written / "xgboost" / each.name).read_bytes()
    assert {each.name for each in manifest.files} == {MODEL, TREES, SIGNATURE, GOLDEN}


def test_no_pickle_and_no_skops_is_in_the_folder(written):
    for path in written.rglob("*.*"):
        assert path.suffix in (".json", ".onnx") and not path.read_bytes().startswith((b"\x80", b"PK"))


def test_golden_rows_are_real_exact_and_hold_gaps(linear):
    matrix = linear.signature.matrix(LATER)
    assert all(
        (np.isclose(matrix, row, rtol=0, atol=0, equal_nan=True).all(axis=1)).any()
        for row in linear.golden.matrix
    )
    assert np.isnan(linear.golden.matrix).any() and 48 <= len(linear.golden.matrix) <= 64
    spread = linear.golden.expected
    assert spread.min() == pytest.approx(linear.probability(LATER).min(), abs=1e-6) and np.ptp(spread) > 0.5


def test_golden_rows_of_a_tiny_slice_are_all_of_it():
    assert golden_places(np.zeros((3, 1), dtype=np.float32), np.array([0.3, 0.1, 0.2])).tolist() == [0, 1, 2]


def test_the_signature_tells_what_is_predicted_and_by_what_it_was_made(linear):
    facts = linear.facts
    assert (facts["predicts"], facts["horizon_days"], facts["entity"]) == ("left", 28, "member")
    assert facts["calibration"]["method"] == "sigmoid" and "scikit-learn" in facts["versions"]
    assert linear.name == "logistic_regression" and linear.output == "probability"


@pytest.mark.parametrize("name", [MODEL, SIGNATURE, GOLDEN])
@pytest.mark.parametrize("harm", ["flipped", "truncated", "emptied", "exchanged"])
def test_a_changed_file_is_named(folder, written, name, harm):
    path = folder / name
    if harm == "flipped":
        flipped(path, 100)
    elif harm == "exchanged":
        shutil.copy(written / "rule" / name, path)
    else:
        path.write_bytes(path.read_bytes()[: -5 if harm == "truncated" else 0])
    with pytest.raises(ArtifactError, match=rf"{name} is not the file that the manifest lists"):
        read_artifact(folder)


def test_missing_extra_and_linked_files_are_refused(folder, tmp_path):
    (folder / "evil.pkl").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"holds files that no artefact has: evil\.pkl"):
        read_artifact(folder)
    (folder / "evil.pkl").unlink()
    (folder / MODEL).rename(tmp_path / MODEL)
    with pytest.raises(ArtifactError, match=r"lacks model\.onnx"):
        read_artifact(folder)
    (folder / MODEL).symlink_to(tmp_path / MODEL)
    with pytest.raises(ArtifactError, match=r"model\.onnx cannot be read"):
        read_artifact(folder)
    (folder / MANIFEST).unlink()
    with pytest.raises(ArtifactError, match=r"has no manifest\.json"):
        read_artifact(folder)
    with pytest.raises(ArtifactError, match="is no artefact"):
        read_artifact(tmp_path / "nowhere")


def test_a_file_that_the_manifest_lists_but_no_artefact_has_is_refused(folder):
    (folder / "evil.pkl").write_bytes(b"")
    repaired(folder)
    with pytest.raises(ArtifactError, match=r"holds files that no artefact has: evil\.pkl"):
        read_artifact(folder)


def test_the_manifest_of_another_artefact_does_not_fit(folder, written):
    shutil.copy(written / "rule" / MANIFEST, folder / MANIFEST)
    with pytest.raises(ArtifactError, match="is not the file that the manifest lists"):
        read_artifact(folder)


def test_another_artefact_in_the_same_place_is_noticed_by_its_name(folder, written):
    expected = read_files(folder)[0].sha256
    shutil.rmtree(folder)
    shutil.copytree(written / "rule", folder)
    with pytest.raises(ArtifactError, match=f"another artefact: .* instead of {expected[:12]}"):
        read_artifact(folder, expected=expected)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "model": "m", "files": [{"name": "x"}]}']
)
def test_a_manifest_that_is_none_is_refused(text):
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        manifest_from(text.encode())


def test_a_file_larger_than_allowed_is_not_read(folder):
    with pytest.raises(ArtifactError, match="larger than the 0 bytes"):
        read_files(folder, limits=Limits(file_mb=0))


def test_another_model_under_a_repaired_manifest_fails_the_golden_rows(folder, written):
    raw = json.loads((folder / SIGNATURE).read_bytes())
    shutil.copy(written / "xgboost" / MODEL, folder / MODEL)
    repaired(folder)
    assert raw["name"] == "logistic_regression"
    with pytest.raises(ArtifactError, match="golden rows otherwise than written"):
        read_artifact(folder)


def test_inputs_in_another_order_under_a_repaired_manifest_are_noticed_by_the_rows_themselves(folder):
    raw = json.loads((folder / SIGNATURE).read_bytes())
    raw["inputs"] = raw["inputs"][:3]
    (folder / SIGNATURE).write_text(json.dumps(raw))
    repaired(folder)
    with pytest.raises(ArtifactError, match="describes another model"):
        read_artifact(folder)


@pytest.mark.parametrize("place", range(40, 900, 95))
def test_a_flipped_bit_under_a_repaired_manifest_is_refused_or_changes_no_golden_answer(
    folder, linear, place
):
    flipped(folder / MODEL, place, bit=6)
    repaired(folder)
    try:
        scorer = read_artifact(folder)
    except ArtifactError:
        return
    assert (
        np.abs(scorer.scores_matrix(linear.golden.matrix) - linear.golden.expected).max()
        <= linear.golden.tolerance
    )


class Contrary(LogisticRegression):
    "Says the opposite of what its coefficients say."

    def decision_function(self, X):
        return -super().decision_function(X)


def test_a_model_that_does_not_answer_as_its_graph_is_not_written_and_the_old_one_stays(folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    honest = fitted("logistic_regression")
    contrary = Contrary()
    contrary.__dict__.update(honest.model["model"].__dict__)
    model = Pipeline([("prepare", honest.model["prepare"]), ("model", contrary)])
    with pytest.raises(ArtifactError, match="rows otherwise than Logistic regression itself"):
        write_artifact(folder, replace(honest, model=model), SCHEMA, LATER)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_rows_that_do_not_fit_are_refused_with_the_column(linear):
    with pytest.raises(ScoringError, match="column 'weekly' is missing"):
        linear.probability(LATER.drop(columns="weekly"))
    with pytest.raises(ScoringError, match="'days' is infinite"):
        linear.probability(LATER.assign(days=np.inf))
    with pytest.raises(ScoringError, match="rows of 4 values"):
        linear.probability_matrix(np.zeros((2, 3), dtype=np.float32))
    with pytest.raises(ScoringError, match="rows of 4 values"):
        linear.one(np.zeros((1, 5), dtype=np.float32))
    with pytest.raises(ScoringError, match="infinite"):
        linear.one(np.array([[1, 2, np.inf, 0]], dtype=np.float32))
    with pytest.raises(ScoringError, match="feature 'noise' is missing"):
        linear.one({"days": 1.0, "weekly": 2.0, "town": "Bath"})
    with pytest.raises(ScoringError, match="unknown feature 'dayz'"):
        linear.one({"days": 1.0, "weekly": 2.0, "noise": 3.0, "town": "Bath", "dayz": 1.0})


@pytest.mark.parametrize("value", [np.nan, 7.0])
def test_features_that_are_constant_or_missing_everywhere_and_unknown_categories_are_scored(
    linear, written, value
):
    rows = LATER.assign(days=np.float32(value), weekly=np.float32(value), town="Ys")
    for scorer, name in ((linear, "logistic_regression"), (read_artifact(written / "xgboost"), "xgboost")):
        assert np.abs(scorer.probability(rows) - fitted(name).probability(rows)).max() < 1e-6


def test_no_rows_give_no_answers(linear):
    assert linear.probability(LATER.head(0)).shape == (0,)


def test_a_serving_installation_needs_none_of_the_libraries_that_train(run_python, written):
    code = (
        "import sys; from ml_workbench.model.artifact import read_artifact;"
        "scorer = read_artifact(sys.argv[1]);"
        "print(sorted({'sklearn', 'xgboost', 'skl2onnx', 'onnx', 'scipy'} & set(sys.modules)))"
    )
    done = run_python("-c", code, str(written / "logistic_regression"))
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
