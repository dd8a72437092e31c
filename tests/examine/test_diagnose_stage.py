"""The stage that diagnoses the proposed model, run on a project in miniature."""

import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from ml_workbench.examine.diagnosis import PARTS
from ml_workbench.model.candidates import (
    candidate_named,
    fit_ladder,
    prediction_table,
    rule_candidate,
    training_report,
)
from ml_workbench.model.evaluation import judge, policies_of, with_predictions
from ml_workbench.model.proposal import propose
from ml_workbench.model.snapshots import read_schema, slice_of, without_families, write_table
from ml_workbench.model.value import panel_of
from ml_workbench.plan.errors import StageError
from ml_workbench.plan.files import read_json, write_json
from ml_workbench.plan.params import load_params
from ml_workbench.run.stages import run_stage

FEATURES = {"days": "recency", "weekly": "money", "known": "tenure", "noise": "weather", "town": "place"}
WEEKS = {"train": range(8), "validation": range(12, 14), "test": range(18, 21), "next": range(25, 26)}
SMALL = {
    **{"resamples": 60, "learning_shares": [0.5, 1.0], "staleness_weeks": [0, 2], "staleness_window": 4},
    **{"minimum_slice": 20, "importance_repeats": 1, "misses": 4},
}


def members(units: int = 160) -> pd.DataFrame:
    "Weekly snapshots of members who leave when they have stayed away."
    random, weeks = np.random.default_rng(4), [week for span in WEEKS.values() for week in span]
    rows = pd.DataFrame({"member": np.tile(np.arange(units), len(weeks)), "week": np.repeat(weeks, units)})
    rows["as_of"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(7 * rows["week"], unit="D")
    rows["slice"] = rows["week"].map({week: name for name, span in WEEKS.items() for week in span})
    for name in ("days", "weekly", "known", "noise"):
        rows[name] = random.gamma(2, 10, len(rows)).astype(np.float32)
    rows["town"] = np.where(rows["member"] % 3, "Ulm", "Bern")
    left = random.random(len(rows)) < 1 / (1 + np.exp(1.5 - (rows["days"] - 20) / 5))
    rows["left"] = left.astype("Int8").where(rows["slice"] != "next")
    return rows.assign(spend=1.0).drop(columns="week")


def make_project(folder: Path, root: Path) -> Path:
    "Everything that the stage reads, made by the stages' own functions."
    (folder / "nbs/stages").mkdir(parents=True)
    shutil.copy(root / "settings.ini", folder)
    shutil.copy(root / "nbs/stages/diagnose.ipynb", folder / "nbs/stages")
    raw = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    raw["charter"]["baseline"]["feature"], raw["charter"]["capacity_per_week"] = "days", 25
    raw["train"] |= {
        "candidates": ["logistic_regression"],
        "withheld_families": ["place"],
        "settings": {},
        "threads": 1,
    }
    raw["charter"]["economics"]["run_in_weeks"] = 1
    raw["diagnose"] |= SMALL
    (folder / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    named = {"entity": "member", "time": "as_of", "slice": "slice", "label": "left", "value": "spend"}
    features = [
        {"name": name, "kind": "category" if name == "town" else "number", "family": family}
        for name, family in FEATURES.items()
    ]
    write_json(
        folder / "data/features/schema.json",
        {**named, "horizon_days": 28, "usual_weekly_spend": "weekly", "features": features},
    )
    meant = [{**each, "meaning": f"The {each['name']}"} for each in features]
    write_json(folder / "reports/features.json", {"features": meant})
    write_table(folder / "data/features/snapshots.parquet", members())
    train_and_evaluate(folder)
    return folder


def train_and_evaluate(folder: Path) -> None:
    "What the stages before this one would write."
    params, rows = load_params(folder), pd.read_parquet(folder / "data/features/snapshots.parquet")
    charter, known = params.charter, read_schema(folder / "data/features/schema.json")
    schema = without_families(known, params.train.withheld_families)
    rungs = [rule_candidate(charter.baseline, schema), candidate_named("logistic_regression")]
    slices = {name: slice_of(rows, schema, name) for name in ("train", "validation")}
    ladder = fit_ladder(rungs, schema, params.train, **slices)
    report = training_report(ladder, schema, slices["validation"])
    ahead = rows[rows["slice"] != "train"]
    predictions = prediction_table(ladder.fitted, ahead, schema)
    test = with_predictions(slice_of(rows, schema, "test"), predictions, schema)
    panel = panel_of(test, schema, charter.economics)
    results = judge(
        policies_of(test, report["candidates"], schema, charter), panel, charter, resamples=60, offers_max=25
    )
    _, proposal = propose(results, schema, charter)
    write_json(folder / "reports/train.json", report)
    write_table(folder / "data/predictions.parquet", predictions)
    policies = [each.as_json() for each in results]
    write_json(folder / "reports/evaluation.json", {"policies": policies, "proposal": asdict(proposal)})


@pytest.fixture(scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    return make_project(tmp_path_factory.mktemp("diagnose") / "project", root)


@pytest.fixture
def diagnose(_made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    "Run the stage in a fresh copy of the project; attribute `root` is where."
    monkeypatch.setenv(
        "DVC_EXP_BASELINE_REV", "0" * 40
    )  # parameters of an experiment differ from the notebook's

    def run() -> Path:
        run_stage("diagnose", root=run.root, engine="inprocess")
        return run.root

    run.root = Path(shutil.copytree(_made, tmp_path / "project"))
    return run


def written(root: Path) -> dict[str, bytes]:
    "What the stage wrote, without the copies for people."
    paths = [
        *root.glob("reports/plots/*"),
        root / "reports/diagnosis.json",
        root / "data/explanations.parquet",
    ]
    paths.append(root / "reports/notebooks/diagnose.ipynb")
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths if path.exists()}


def test_the_stage_writes_report_tables_and_explanations_the_same_twice(diagnose):
    first = written(diagnose())
    assert {
        f"reports/plots/{name}.csv" for name in ("learning", "staleness", "weeks", "scores", "slices")
    } < set(first)
    report = read_json(diagnose.root / "reports/diagnosis.json")
    assert set(PARTS) < set(report) and report["model"]["name"] == "logistic_regression"
    assert [point["share"] for point in report["learning"]] == [0.5, 1.0]
    assert {row["family"] for row in report["ablation"]} == {"recency", "money", "tenure", "weather"}
    assert [row["slice"] for row in report["fairness"]] == ["town"]
    assert {row["slice"] for row in report["slices"]} == {"town", "known", "weekly"}
    told = pq.read_table(diagnose.root / "data/explanations.parquet").to_pylist()
    assert len(told) == 160 and {"member", "probability", "base", "contributions"} == set(told[0])
    log_odds = told[0]["base"] + sum(each["contribution"] for each in told[0]["contributions"])
    assert 1 / (1 + np.exp(-log_odds)) == pytest.approx(told[0]["probability"])
    assert written(diagnose()) == first


def test_when_the_rule_is_proposed_the_best_candidate_is_looked_at_and_the_page_says_so(diagnose):
    path = diagnose.root / "reports/evaluation.json"
    report = read_json(path)
    report["proposal"] |= {"policy": "rule", "label": "Rule"}
    write_json(path, report)
    page = (diagnose() / "reports/notebooks/diagnose.ipynb").read_text(encoding="utf-8")
    assert "this is about the best candidate, Logistic regression." in page
    assert read_json(diagnose.root / "reports/diagnosis.json")["model"]["proposed"] is False


def test_predictions_of_another_model_stop_the_stage_before_it_writes(diagnose):
    path = diagnose.root / "data/predictions.parquet"
    predictions = pd.read_parquet(path)
    write_table(path, predictions.assign(logistic_regression=predictions["logistic_regression"] * 0.9))
    with pytest.raises(StageError, match=r"Logistic regression, fitted again, .* run the train stage again"):
        diagnose()
    assert written(diagnose.root) == {}


def test_a_candidate_that_was_not_trained_is_named(diagnose):
    path = diagnose.root / "reports/train.json"
    report = read_json(path)
    report["candidates"] = [each for each in report["candidates"] if each["name"] == "rule"]
    write_json(path, report)
    with pytest.raises(StageError, match=r"reports/train\.json has no candidate 'logistic_regression'"):
        diagnose()
