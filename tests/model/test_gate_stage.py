"""The gate stage, run on a shop of six hundred members with a model that was fitted, written and evaluated for real."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml

from ml_workbench.model.artifact import write_artifact
from ml_workbench.model.candidates import LADDER, fit_candidate
from ml_workbench.model.research import write_research
from ml_workbench.model.snapshots import schema_from, write_table
from ml_workbench.plan.errors import GateError
from ml_workbench.plan.files import write_json
from ml_workbench.plan.params import load_params
from ml_workbench.run.gate import release_allowed, standing
from ml_workbench.serve.parity import Agreement

FEATURES = ("days_since_basket", "weekly", "noise")
SCHEMA = {
    "entity": "member", "time": "as_of", "slice": "slice", "label": "left", "value": "spend", "horizon_days": 28,
    "usual_weekly_spend": "weekly",
    "features": [{"name": name, "kind": "number", "family": name} for name in FEATURES],
}  # fmt: skip
NAME = "logistic_regression"


def members(part, *, seed, count=600, weeks=3):
    random, rows = np.random.default_rng(seed), count * weeks
    frame = pd.DataFrame({"member": np.tile(np.arange(count), weeks)})
    frame["as_of"] = np.repeat(pd.date_range("2020-01-06", periods=weeks, freq="7D"), count)
    frame["slice"] = part
    frame["days_since_basket"] = random.integers(0, 80, rows).astype(np.float32)
    frame["weekly"] = np.tile(random.gamma(2.0, 40.0, count), weeks).astype(np.float32)
    frame["noise"] = np.where(random.random(rows) < 0.1, np.nan, random.normal(size=rows)).astype(np.float32)
    frame["left"] = random.random(rows) < 1 / (1 + np.exp(3 - frame["days_since_basket"] / 15))
    return frame.assign(spend=0.0)


def reports(artifact):
    span = {"value": 60.0, "low": 40.0, "high": 80.0}
    skill = {"value": 0.9, "low": 0.88, "high": 0.92}
    policy = {
        "name": NAME, "kind": "candidate", "metrics": {"auc": skill, "average_precision": skill},
        "at_capacity": {"profit_per_week": span}, "against_rule": {"per_week": span},
    }  # fmt: skip
    proposal = {"policy": NAME, "label": "Logistic regression", "sentence": "Send 150 offers a week."}
    group = {"slice": "age", "level": "old", "auc": skill, "expected_auc": 0.9, "flagged": False}
    leak = {"check": "overlap", "figure": 0, "verdict": "clean", "sentence": "None."}
    return {
        "evaluation": {
            "resamples": 200, "confidence": 0.95, "proposal": proposal,
            "policies": [policy, {"name": "rule", "kind": "rule"}],
        },
        "diagnosis": {
            "model": {"name": NAME}, "slices": [group], "leaks": [leak],
            "calibration": {"expected_error": 0.01, "slope": {"value": 1.0}},
            "weeks": [{"as_of": "2020-01-06", "against_rule": span}],
        },
        "train": {"candidates": [{"name": NAME, "warnings": [], "artifact": artifact}], "failed": []},
    }  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory, root):
    "A project as the stages before the gate leave it."
    folder, params = tmp_path_factory.mktemp("made"), load_params(root)
    for name in ("params.yaml", "settings.ini"):
        shutil.copy(root / name, folder)
    schema = schema_from(SCHEMA)
    parts = [members(part, seed=seed) for seed, part in enumerate(("train", "validation", "test"))]
    fitted = fit_candidate(LADDER[NAME], schema, params.train, train=parts[0], validation=parts[1])
    manifest = write_artifact(folder / "models" / NAME, fitted, schema, parts[1])
    write_research(folder / "models/research" / f"{NAME}.skops", fitted.calibrated)
    write_json(folder / "data/features/schema.json", SCHEMA)
    write_table(folder / "data/features/snapshots.parquet", pd.concat(parts, ignore_index=True))
    predicted = parts[2][["member", "as_of", "slice"]].assign(**{NAME: fitted.probability(parts[2])})
    write_table(folder / "data/predictions.parquet", predicted)
    for name, held in reports(manifest.sha256).items():
        write_json(folder / "reports" / f"{name}.json", held)
    return SimpleNamespace(root=folder, artifact=manifest.sha256)


@pytest.fixture
def project(made, tmp_path, monkeypatch):
    # These members have no tables, and features of their own: how production decides is tried on the real project.
    ways = [
        f"{way} {each}"
        for way in ("batch", "rest")
        for each in ("features", "scores", "values", "places", "actions")
    ]
    same = tuple(Agreement(way, way, 100, 0, 0, 0.0, 1e-4) for way in ways)
    monkeypatch.setattr("ml_workbench.serve.asking.decided_again", lambda *_, **__: same)
    shutil.copytree(made.root, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def run_stage(root, **changes):
    "Run the cells of the stage notebook in the current folder, as params.yaml there says; returns what they defined."
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["gate"] |= {
        "parity_rows": 500,
        "maximum_latency_ms": 100.0,
        "minimum_rows_per_second": 10.0,
    } | changes
    params["charter"]["economics"]["run_in_weeks"] = 0  # three weeks are few
    Path("params.yaml").write_text(yaml.safe_dump(params))
    notebook = json.loads((root / "nbs/stages/gate.ipynb").read_text())
    names = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
        if "parameters" in cell["metadata"].get("tags", []):
            names |= params["gate"]
    return names


def test_the_stage_blesses_a_good_model_and_writes_the_same_bytes_twice(project, root, made):
    names = run_stage(root)
    first = (project / "reports/gate.json").read_bytes()
    verdict = json.loads(first)
    assert verdict["verdict"] == "blessed" and verdict["artifact"] == made.artifact
    assert "ONNX scores as scikit-learn does | 0 of 500 rows apart" in names["as_markdown"](names["verdict"])
    assert standing(project).allowed and release_allowed(project)
    measured = json.loads((project / "state/gate_measured.json").read_text())
    assert measured["speed"]["one_row_ms"] > 0 and measured["size_bytes"] > 1000
    run_stage(root)
    assert (project / "reports/gate.json").read_bytes() == first
    assert str(measured["speed"]["one_row_ms"]) not in first.decode() and str(project) not in first.decode()


def test_a_damaged_file_is_vetoed_and_the_stage_still_ends_well(project, root, capsys):
    path = project / "models" / NAME / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    run_stage(root)
    verdict = json.loads((project / "reports/gate.json").read_text())
    assert verdict["verdict"] == "vetoed" and verdict["artifact"] is None
    assert f"models/{NAME}/model.onnx is not the file" in verdict["reasons"][0]
    with pytest.raises(GateError, match="is vetoed"):
        release_allowed(project)


def test_predictions_of_another_model_are_vetoed(project, root):
    table = pd.read_parquet(project / "data/predictions.parquet")
    write_table(project / "data/predictions.parquet", table.assign(**{NAME: 1.0 - table[NAME]}))
    verdict = run_stage(root)["verdict"]
    assert verdict.failed == ("evaluated",)


def test_without_a_proposed_model_no_file_is_asked_for(project, root):
    held = reports("")["evaluation"]
    held["proposal"] = {
        "policy": "rule",
        "label": "Rule",
        "sentence": "Keep the rule: not enough evidence yet.",
    }
    write_json(project / "reports/evaluation.json", held)
    shutil.rmtree(project / "models")
    verdict = run_stage(root)["verdict"]
    assert verdict.failed == ("proposal",) and verdict.sentence.startswith("There is no model to bless")
    assert not standing(project).allowed


def test_the_model_in_use_is_read_from_its_folder_and_its_change_voids_the_verdict(project, root):
    shutil.copytree(project / "models" / NAME, project / "used")
    verdict = run_stage(root, champion="used")["verdict"]
    check = next(each for each in verdict.checks if each.name == "champion")
    assert verdict.verdict == "blessed" and "the model in use (Logistic regression)" in check.sentence
    assert check.figure == "no change, against Logistic regression"
    shutil.rmtree(project / "used")
    with pytest.raises(GateError, match=r"the model in use \(gate\.champion\) has changed"):
        release_allowed(project)


def test_a_model_in_use_that_is_not_there_stops_the_stage(project, root):
    with pytest.raises(GateError, match=r"gate\.champion: 'used' cannot be compared with"):
        run_stage(root, champion="used")
    assert not (project / "reports/gate.json").exists()
