"""The tune stage, run by the stage runner on a small population: two processes, one artefact, one run at a time."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from ml_workbench.model.snapshots import write_table
from ml_workbench.plan.errors import StageError
from ml_workbench.plan.files import write_json
from ml_workbench.run.stages import locked, run_stage

SPACES = {
    "logistic_regression": {"C": {"low": 0.001, "high": 10.0, "log": True}},
    "random_forest": {"min_samples_leaf": {"low": 5, "high": 50}},
}
SMALL = {"candidates": list(SPACES), "trials": 2, "folds": 2, "spaces": SPACES}


def population(units: int = 90) -> pd.DataFrame:
    "Units that leave when they have been away for long, in the training slice and one later week."
    random, mondays = np.random.default_rng(1), pd.date_range("2024-01-01", periods=16, freq="7D")
    rows = pd.DataFrame(
        [(who, when) for when in mondays for who in range(units)], columns=["member", "as_of"]
    )
    rows["slice"] = np.where(rows["as_of"] < mondays[15], "train", "test")
    rows["days"] = random.exponential(20, len(rows)).astype("float32")
    rows["weekly"] = random.exponential(40, len(rows)).astype("float32")
    rows["age"] = random.choice(["19-24", "25-34"], len(rows))
    left = random.random(len(rows)) < 1 / (1 + np.exp(3 - rows["days"] / 12))
    return rows.assign(left=left.astype(int), spend=rows["weekly"] * 4)


@pytest.fixture
def project(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    "A folder like the project's, with the real stage notebook and a small search."
    families = {"days": "recency", "weekly": "money", "age": "demographics"}
    kinds = {"days": "number", "weekly": "number", "age": "category"}
    schema = {
        "entity": "member", "time": "as_of", "slice": "slice", "label": "left", "value": "spend", "horizon_days": 28,
        "usual_weekly_spend": "weekly",
        "features": [{"name": name, "kind": kinds[name], "family": family} for name, family in families.items()],
    }  # fmt: skip
    write_json(tmp_path / "data/features/schema.json", schema)
    write_table(tmp_path / "data/features/snapshots.parquet", population())
    params = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    params["tune"] |= SMALL
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    (tmp_path / "nbs/stages").mkdir(parents=True)
    (tmp_path / "nbs/stages/tune.ipynb").write_bytes((root / "nbs/stages/tune.ipynb").read_bytes())
    monkeypatch.setenv(
        "DVC_EXP_BASELINE_REV", "small"
    )  # an experiment: values differ from the notebook's own
    return tmp_path


def test_the_stage_writes_what_training_reads_and_a_copy_that_is_the_same_twice(project: Path) -> None:
    kept = []
    for _ in range(2):
        run_stage("tune", root=project, engine="inprocess")
        kept.append(
            [(project / path).read_bytes() for path in ("reports/tuned.json", "reports/notebooks/tune.ipynb")]
        )
        for path in (project / "state/studies").iterdir():
            path.unlink()
    assert kept[0] == kept[1]
    tuned = json.loads(kept[0][0])
    assert set(tuned["candidates"]) == set(SPACES) and tuned["failed"] == []
    assert all(fold["units_apart"] for fold in tuned["folds"])
    assert tuned["folds"][-1]["validation"][-1] == "2024-04-08"  # the last Monday of the training slice
    assert b"log loss" in kept[0][1] and b"2/2" not in kept[0][1]  # the table, and not the progress


def test_a_second_run_in_the_same_folder_is_refused_and_nothing_is_mixed(project: Path) -> None:
    with locked(project, "tune"), pytest.raises(StageError, match="stage tune is already running in"):
        run_stage("tune", root=project, engine="inprocess")
    assert not (project / "reports").exists() and not (project / "state/studies").exists()


def test_parameters_that_do_not_fit_stop_the_stage_before_it_writes_anything(project: Path) -> None:
    params = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    params["tune"]["folds"] = 9
    (project / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    with pytest.raises(StageError, match=r"no room for 9 folds .* lower tune.folds to 5"):
        run_stage("tune", root=project, engine="inprocess")
    assert not (project / "reports/tuned.json").exists() and not (project / "state/studies").exists()
