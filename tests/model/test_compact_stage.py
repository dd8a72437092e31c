"""The compact stage, run on a market of three hundred households."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ml_workbench.model.artifact import read_artifact, write_artifact
from ml_workbench.model.candidates import candidate_named, fit_candidate
from ml_workbench.model.research import write_research
from ml_workbench.model.snapshots import read_schema, slice_of, write_table
from ml_workbench.plan.errors import ArtifactError
from ml_workbench.plan.files import write_json
from ml_workbench.plan.params import load_params

NUMBERS = ("days_since_basket", "usual_weekly_spend", "noise")
SCHEMA = {
    "entity": "household_id", "time": "as_of", "slice": "slice", "label": "lapsed", "value": "next_spend",
    "horizon_days": 28, "usual_weekly_spend": "usual_weekly_spend",
    "features": [{"name": name, "kind": "number", "family": name} for name in NUMBERS],
}  # fmt: skip
SLICES = {"train": "2017-03-20 05:00", "validation": "2017-07-24 05:00", "test": "2017-09-11 05:00"}
QUICK = {"C": 0.1}
PARAMETERS = {"resamples": 50, "student_depth": 3, "shares": [0.5], "parity_rows": 500}


def snapshots(households: int = 300) -> pd.DataFrame:
    random, parts = np.random.default_rng(1), []
    for name, first in SLICES.items():
        for week in pd.date_range(first, periods=10 if name == "test" else 3, freq="7D"):
            part = pd.DataFrame({each: random.exponential(20, households) for each in NUMBERS}).astype(
                np.float32
            )
            chance = 1 / (1 + np.exp(3 - part["days_since_basket"] / 12))
            part["lapsed"] = (random.random(households) < chance).astype(int)
            parts.append(part.assign(household_id=range(households), as_of=week, slice=name, next_spend=0.0))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture
def project(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    "A folder like the project's, after the stages before this one."
    for name in ("params.yaml", "settings.ini"):
        (tmp_path / name).write_bytes((root / name).read_bytes())
    write_json(tmp_path / "data/features/schema.json", SCHEMA)
    rows, schema = snapshots(), read_schema(tmp_path / "data/features/schema.json")
    write_table(tmp_path / "data/features/snapshots.parquet", rows)
    train, validation = slice_of(rows, schema, "train"), slice_of(rows, schema, "validation")
    params = load_params(tmp_path).train
    fitted = fit_candidate(
        candidate_named("logistic_regression"),
        schema,
        params,
        train=train,
        validation=validation,
        settings=QUICK,
    )
    manifest = write_artifact(tmp_path / "models/logistic_regression", fitted, schema, validation)
    write_research(tmp_path / "models/research/logistic_regression.skops", fitted.calibrated)
    keys = slice_of(rows, schema, "test")[["household_id", "as_of", "slice"]]
    write_table(
        tmp_path / "data/predictions.parquet", keys.assign(logistic_regression=0.5, spend_if_kept=20.0)
    )
    told = {
        "name": "logistic_regression",
        "label": "Logistic regression",
        "settings": QUICK,
        "artifact": manifest.sha256,
    }
    write_json(tmp_path / "reports/train.json", {"candidates": [told]})
    policy = {
        "name": "logistic_regression",
        "kind": "candidate",
        "at_capacity": {"profit_per_week": {"value": 1.0}},
    }
    write_json(
        tmp_path / "reports/evaluation.json",
        {"proposal": {"policy": "logistic_regression"}, "policies": [policy]},
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLOTLY_RENDERERS", "plotly_mimetype")
    return tmp_path


def run_stage(root: Path) -> None:
    "Run the cells of the stage notebook in the current folder."
    notebook = json.loads((root / "nbs/stages/compact.ipynb").read_text())
    names: dict[str, object] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
        if "parameters" in cell["metadata"].get("tags", []):
            names |= PARAMETERS


def test_the_stage_writes_a_report_artefacts_and_speeds(project, root):
    run_stage(root)
    report = json.loads((project / "reports/compact.json").read_text())
    names = [each["name"] for each in report["variants"]]
    assert names == ["logistic_regression", "student_tree", "pruned_2_inputs", "quantised"]
    assert [each["inputs"] for each in report["variants"]] == [3, 3, 2, 3] and report["skipped"] == []
    for each in report["variants"]:
        assert each["parity"]["rows"] == 500 and each["parity"]["largest"] < (
            0.05 if each["kind"] == "quantised" else 1e-5
        )
        assert each["loss_per_week"]["low"] <= each["loss_per_week"]["value"] <= each["loss_per_week"]["high"]
    assert report["variants"][0]["loss_per_week"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    for each in report["variants"][1:]:
        scorer = read_artifact(project / "data/compact" / each["name"], expected=each["artifact"])
        assert scorer.manifest.size_of("model.onnx") == each["size_bytes"]
    speeds = json.loads((project / "state/compact_speed.json").read_text())
    assert list(speeds) == names and all(each["one_row_ms"] > 0 for each in speeds.values())


def test_running_twice_gives_the_same_bytes_and_no_speed_is_in_them(project, root):
    run_stage(root)
    paths = [*(project / "data/compact").rglob("*.*"), project / "reports/compact.json"]
    before = {path: path.read_bytes() for path in paths}
    run_stage(root)
    assert {path: path.read_bytes() for path in paths} == before
    assert b"_ms" not in before[project / "reports/compact.json"].replace(b"maximum_latency_ms", b"")


def test_a_champion_that_is_not_the_one_reported_is_refused(project, root):
    report = json.loads((project / "reports/train.json").read_text())
    report["candidates"][0]["artifact"] = "0" * 64
    (project / "reports/train.json").write_text(json.dumps(report))
    with pytest.raises(ArtifactError, match="another artefact"):
        run_stage(root)
    assert not (project / "reports/compact.json").exists()
