"""The replay stage, run on a shop of four hundred members: what it writes, what it refuses, and that it goes on."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from ml_workbench.experiment.cohort import cohort
from ml_workbench.model.artifact import read_artifact, write_artifact
from ml_workbench.model.candidates import candidate_named, fit_candidate
from ml_workbench.model.snapshots import schema_from, write_table
from ml_workbench.plan.errors import (
    ArtifactError,
    ExperimentError,
    RecordError,
    SettingsError,
    WorkbenchError,
)
from ml_workbench.plan.files import read_json, write_json
from ml_workbench.plan.params import TrainParams, load_params
from ml_workbench.serve.records import Records
from tests.release.small import TRAINING

MEMBERS, NAME = 400, "logistic_regression"
SCHEMA = {
    "entity": "household_id", "time": "as_of", "slice": "slice", "label": "lapsed", "value": "next_spend", "horizon_days": 28,
    "usual_weekly_spend": "usual_weekly_spend",
    "features": [
        {"name": name, "kind": "number", "family": name} for name in ("usual_weekly_spend", "baskets_12w", "days_since_basket")
    ],
}  # fmt: skip
MONDAYS = pd.date_range("2017-11-13 05:00", periods=4, freq="7D")
END = pd.Timestamp("2018-01-01 05:00")


def snapshots() -> pd.DataFrame:
    random = np.random.default_rng(11)
    times = [*MONDAYS, END]
    frame = pd.DataFrame(
        {"household_id": np.tile(np.arange(1, MEMBERS + 1), 5), "as_of": np.repeat(times, MEMBERS)}
    )
    frame["slice"] = np.where(frame["as_of"] == END, "next", "replay")
    frame["usual_weekly_spend"] = np.tile(random.gamma(2, 20, MEMBERS), 5).astype(np.float32)
    frame["baskets_12w"] = np.tile(random.integers(1, 30, MEMBERS), 5).astype(np.float32)
    frame["days_since_basket"] = random.integers(0, 80, len(frame)).astype(np.float32)
    return frame.assign(lapsed=0, next_spend=0.0)


def lines() -> pd.DataFrame:
    random, count = np.random.default_rng(12), 3000
    days = random.uniform(0.1, 48.9, count)
    frame = pd.DataFrame({"household_id": random.integers(1, 300, count), "basket_id": np.arange(count)})
    frame["transaction_timestamp"] = (MONDAYS[0] + pd.to_timedelta(days, "D")).floor("s")
    return frame.assign(sales_value=random.gamma(2, 15, count).round(2))


def fitted_artefact(folder: Path, rows: pd.DataFrame) -> str:
    "A candidate fitted to nothing in particular, written as the train stage does; its hash."
    schema, random = schema_from(SCHEMA), np.random.default_rng(14)
    parts = [rows.head(MEMBERS).assign(lapsed=random.integers(0, 2, MEMBERS)) for _ in range(2)]
    training = TrainParams(seed=1, candidates=[folder.name], threads=1, **TRAINING)
    fitted = fit_candidate(
        candidate_named(folder.name), schema, training, train=parts[0], validation=parts[1]
    )
    return write_artifact(folder, fitted, schema, parts[1]).sha256


@pytest.fixture(scope="module")
def made(tmp_path_factory, root) -> Path:
    "A project as the stages before the replay leave it."
    folder = tmp_path_factory.mktemp("made")
    for name in ("params.yaml", "settings.ini"):
        shutil.copy(root / name, folder)
    rows, random = snapshots(), np.random.default_rng(13)
    write_json(folder / "data/features/schema.json", SCHEMA)
    write_table(folder / "data/features/snapshots.parquet", rows)
    write_table(folder / "data/tables/transactions.parquet", lines())
    keys = rows[["household_id", "as_of", "slice"]]
    names = sorted(
        {NAME} | {arm.policy for arm in load_params(root).experiment.arms} - {"rule", "proposed", "none"}
    )
    write_table(
        folder / "data/predictions.parquet", keys.assign(**{name: random.random(len(rows)) for name in names})
    )
    artefacts = {name: fitted_artefact(folder / "models" / name, rows) for name in names}
    ladder = [
        {"name": name, "label": name, "complexity": 2, "artifact": hash} for name, hash in artefacts.items()
    ]
    write_json(folder / "reports/train.json", {"candidates": ladder})
    write_json(folder / "reports/evaluation.json", {"proposal": {"policy": NAME}})
    return folder


@pytest.fixture
def project(made, tmp_path, monkeypatch) -> Path:
    shutil.copytree(made, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def run_stage(root: Path, **changes) -> dict:
    "Run the cells of the stage notebook in the current folder, as params.yaml there says; returns what they defined."
    params = yaml.safe_load((root / "params.yaml").read_text())
    section = params["replay"] | changes
    notebook = json.loads((root / "nbs/stages/replay.ipynb").read_text())
    names: dict = {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"]).replace(
            "count=200", "count=5"
        )  # two hundred tosses are tested elsewhere
        if cell["cell_type"] == "code":
            exec(source, names)
        if "parameters" in cell["metadata"].get("tags", []):
            names |= section
    return names


def fingerprints(project: Path) -> dict[str, str]:
    files = [*sorted((project / "data/replay").iterdir()), project / "reports/replay.json"]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def plan(root):
    return load_params(root).experiment


def test_the_stage_fills_records_tables_and_report_and_does_so_once(project, root, plan) -> None:
    run_stage(root)
    first, report = fingerprints(project), read_json(project / "reports/replay.json")
    assert (
        report["experiment"] == plan.name and report["replayed"] and sum(report["units"].values()) == MEMBERS
    )
    assert report["rows"]["assignments"] == MEMBERS and report["rows"]["exposures"] == sum(
        sum(week["offered"].values()) for week in report["weeks"]
    )
    found = cohort(project / "data/replay", plan)
    assert not found.problems and found.units.num_rows == MEMBERS
    run_stage(root)
    assert fingerprints(project) == first


def test_resumed_after_an_interruption_the_files_are_those_of_an_undisturbed_run(
    project, root, monkeypatch
) -> None:
    run_stage(root)
    undisturbed = fingerprints(project)
    (project / "state/workbench.db").unlink()
    shutil.rmtree(project / "data/replay")
    write, left = Records.write, [9]

    def until_it_goes(self, *arguments, **options):
        left[0] -= 1
        if left[0] < 0:
            raise RecordError("the database is away")
        return write(self, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Records, "write", until_it_goes)
        with pytest.raises(RecordError):
            run_stage(root)
    assert not (project / "data/replay").exists()
    run_stage(root)
    assert fingerprints(project) == undisturbed


def test_another_effect_replaces_what_was_played_before(project, root) -> None:
    run_stage(root, effect={"kind": "constant", "size": 1.0})
    raised = read_json(project / "reports/replay.json")
    run_stage(root, effect={"kind": "none", "size": 0.0})
    plain = read_json(project / "reports/replay.json")
    assert raised["truth"]["champion"]["against_nothing"] > 0 == plain["truth"]["champion"]["against_nothing"]
    assert "changes nothing" in plain["sentence"] and plain["rows"]["assignments"] == MEMBERS


def test_a_broken_randomisation_is_written_as_it_would_be_found(project, root, plan) -> None:
    run_stage(root, mode="broken")
    report = read_json(project / "reports/replay.json")
    assert report["mode"] == "broken" and report["lost"] > 0
    assert sum(report["units"].values()) == MEMBERS - report["lost"]
    assert report["units"]["champion"] < 0.8 * report["units"]["control"]  # both should hold two in five


def test_which_model_stood_behind_a_policy_is_on_record(project, root) -> None:
    run_stage(root)
    models = set(pd.read_parquet(project / "data/replay/predictions.parquet")["model"])
    artifact = read_json(project / "reports/train.json")["candidates"][-1]
    assert f"{artifact['name']} {artifact['artifact'][:12]}" in models and "rule" in models


def test_the_files_score_not_what_the_training_predicted(project, root) -> None:
    run_stage(root)
    found = pd.read_parquet(project / "data/replay/predictions.parquet").query("policy == 'proposed'")
    rows = snapshots().query("slice == 'replay'")
    scores = read_artifact(project / "models" / NAME).scores(rows)
    expected = dict(zip(zip(rows["household_id"].astype(str), rows["as_of"]), scores.astype(float)))
    assert [expected[key] for key in zip(found["unit"], found["as_of"])] == found["score"].tolist()
    shutil.rmtree(project / "models" / NAME)
    with pytest.raises(ArtifactError):
        run_stage(root)


def test_what_was_served_stands_beside_the_records_and_is_what_the_snapshots_hold(project, root) -> None:
    run_stage(root)
    served = pd.read_parquet(project / "data/replay/served.parquet")
    rows = snapshots().query("slice == 'replay'")
    features = [json.loads(each) for each in served["features"]]
    expected = rows.sort_values(["as_of", "household_id"])[
        [each["name"] for each in SCHEMA["features"]]
    ].to_numpy()
    assert np.array_equal(np.array(features, dtype=np.float32), expected) and len(served) == 4 * MEMBERS
    exposures = pd.read_parquet(project / "data/replay/exposures.parquet")
    offered = served[served["action"] == "offer"]
    assert set(zip(offered["unit"], offered["as_of"])) == set(zip(exposures["unit"], exposures["as_of"]))
    lines = pd.read_parquet(project / "data/replay/operations.parquet")
    assert lines["decisions"].sum() == len(served) and set(lines["release"]) < set(served["release"])
    feeds = read_json(project / "data/replay/feeds.json")
    assert [each["period"] for each in feeds] == [str(day + pd.Timedelta("7D")) for day in MONDAYS]
    report = read_json(project / "reports/replay.json")
    assert (report["fault"], report["planted"]) == ("none", None)


def test_a_planted_fault_is_scored_by_the_files_told_and_leaves_what_units_spend_alone(project, root) -> None:
    run_stage(root)
    healthy = {
        name: pd.read_parquet(project / f"data/replay/{name}.parquet") for name in ("served", "predictions")
    }
    run_stage(root, fault="skewed_feature")
    served, predictions = (
        pd.read_parquet(project / f"data/replay/{name}.parquet") for name in ("served", "predictions")
    )
    report, later = read_json(project / "reports/replay.json"), (served["as_of"] > MONDAYS[0]).to_numpy()
    assert report["fault"] == "skewed_feature" and report["planted"]["sentence"] in report["sentence"]
    assert served["features"][~later].equals(healthy["served"]["features"][~later])
    rows = (
        snapshots().query("slice == 'replay'").sort_values(["as_of", "household_id"]).reset_index(drop=True)
    )
    rows["usual_weekly_spend"] = rows["usual_weekly_spend"].where(
        ~later, (rows["usual_weekly_spend"] * np.float32(12 / 13)).astype(np.float32)
    )
    kept = np.array([json.loads(each) for each in served["features"]], dtype=np.float32)
    assert np.array_equal(kept[:, 0], rows["usual_weekly_spend"].to_numpy())
    scores = read_artifact(project / "models" / NAME).scores(rows).astype(float)
    told = dict(zip(zip(rows["household_id"].astype(str), rows["as_of"]), scores))
    mine = predictions.query("policy == 'proposed'")
    assert [told[key] for key in zip(mine["unit"], mine["as_of"])] == mine["score"].tolist()
    assert not mine["score"].equals(healthy["predictions"].query("policy == 'proposed'")["score"])


def test_a_fault_that_the_tables_do_not_allow_stops_the_stage_before_anything_is_written(
    project, root
) -> None:
    with pytest.raises(ExperimentError, match=r"replay\.fault: unknown 'frozen'"):
        run_stage(root, fault="frozen")
    with pytest.raises(
        ExperimentError, match="cannot be computed again"
    ):  # the shop has no table that the declaration reads
        run_stage(root, fault="unit_change")
    assert not Path("data/replay").exists() and not Path("reports/replay.json").exists()


def test_a_mistake_stops_the_stage_before_anything_is_written(project, root) -> None:
    with pytest.raises(ExperimentError, match="between 0 and 1"):
        run_stage(root, effect={"kind": "heterogeneous", "size": 3.0})
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["experiment"]["arms"][2]["policy"] = "xgbost"
    Path("params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(ExperimentError, match="arm 'challenger' follows the unknown policy 'xgbost'"):
        run_stage(root)
    Path("reports/evaluation.json").unlink()
    with pytest.raises(WorkbenchError, match=r"evaluation\.json is missing"):
        run_stage(root)
    assert not Path("data/replay").exists() and not Path("reports/replay.json").exists()


def test_a_database_that_cannot_be_reached_is_named_without_its_password(project, root, monkeypatch) -> None:
    monkeypatch.setenv("MLW_DATABASE_URL", "postgresql://me:secret@127.0.0.1:1/none")
    with pytest.raises((RecordError, SettingsError)) as caught:
        run_stage(root)
    assert "secret" not in str(caught.value) and not Path("data/replay").exists()
