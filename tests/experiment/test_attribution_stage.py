"""The attribution stage, run on the records of a shop of two thousand members whose truth is known."""

import json
import shutil
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from ml_workbench.plan.files import write_json
from ml_workbench.plan.params import validated
from ml_workbench.serve.designs import canonical, design_hash, plain_design
from ml_workbench.serve.records import REPLAY, Records

START, NAME, COUNT = datetime(2024, 1, 1, 5), "shop", 2000
SHARES = {"control": 0.36, "champion": 0.36, "challenger": 0.18, "holdout": 0.1}
POLICIES = {"control": "rule", "champion": "proposed", "challenger": "kernel_machine"}


def members(effect, *, lost=0.0, seed=3):
    "Assignments, covariates, predictions, exposures and outcomes of two weeks."
    random = np.random.default_rng(seed)
    name, arm = (
        np.array([f"{number:04}" for number in range(COUNT)]),
        random.choice([*SHARES], COUNT, p=[*SHARES.values()]),
    )
    usual = random.gamma(4.0, 12.0, COUNT)
    listed = {policy: random.random(COUNT) < 0.2 for policy in POLICIES.values()}
    mine = np.select([arm == each for each in POLICIES], [listed[each] for each in POLICIES.values()], False)
    offered = mine & (arm == "champion")  # nobody else can be affected; spread over the arm it is the effect
    spread = effect * (arm == "champion").sum() / offered.sum()
    spend = (usual + random.normal(0, 10, COUNT) + spread * offered).round(2)
    kept = ~((arm == "champion") & (random.random(COUNT) < lost))
    known = {
        "usual_weekly_spend": usual,
        "baskets_12w": random.poisson(9, COUNT) * 1.0,
        "days_since_basket": usual % 7,
    }
    each = {"experiment": NAME, "unit": name[kept]}
    some = mine & kept
    sent = {
        "experiment": NAME,
        "unit": name[some],
        "as_of": START,
        "arm": arm[some],
        "action": "offer",
        "cost": 1.0,
        "propensity": 0.36,
    }
    baskets = {"outcome": "basket", "event_id": name, "unit": name, "value": spend}
    return {
        "assignments": [each | {"arm": arm[kept], "propensity": 0.36, "assigned_at": START, "design_hash": ""}],
        "covariates": [each | {"name": what, "number": value[kept]} for what, value in known.items()],
        "predictions": [
            {"experiment": NAME, "unit": name, "as_of": START, "policy": policy, "rank": random.permutation(COUNT) + 1, "listed": on}
            for policy, on in listed.items()
        ],
        "exposures": [sent],
        "outcomes": [baskets | {"occurred_at": START + timedelta(days=9), "recorded_at": START + timedelta(days=43)}],
    }  # fmt: skip


def table(parts):
    "Columns, single values repeated, as one table."
    made = []
    for part in parts:
        size = max(len(value) for value in part.values() if isinstance(value, np.ndarray))
        columns = {
            name: value if isinstance(value, np.ndarray) else [value] * size for name, value in part.items()
        }
        made.append(pa.table(columns))
    return pa.concat_tables(made)


def reports(folder):
    promised = {"value": 90.0, "low": 20.0, "high": 160.0}
    policies = [{"name": "mlp", "label": "Neural network", "against_rule": {"per_month": promised}}]
    write_json(folder / "reports/evaluation.json", {"policies": policies, "proposal": {"policy": "mlp"}})
    write_json(folder / "reports/data.json", {"version": "0123456789ab"})
    truth = {"champion": {"spend_per_unit": 4.0, "total": 2880.0}}
    declared = {"declared": {"sentence": "Declared: four dollars."}, "truth": truth}
    write_json(folder / "reports/replay.json", {"experiment": NAME, "replayed": True} | declared)


@pytest.fixture
def project(tmp_path, root, monkeypatch):
    "A project as the stages before this one leave it; nothing happened yet."
    for name in ("params.yaml", "settings.ini"):
        shutil.copy(root / name, tmp_path)
    params = yaml.safe_load((tmp_path / "params.yaml").read_text())
    params["experiment"] |= {"name": NAME, "horizon_days": 42}
    params["attribution"]["resamples"] = 50
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    reports(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLW_DATABASE_URL", f"sqlite:///{tmp_path}/records.db")
    return tmp_path


def tables_of(project, effect=0.0, **options):
    "All tables of the records, the frozen design among them."
    experiment = validated(yaml.safe_load((project / "params.yaml").read_text())).experiment
    fingerprint = design_hash(experiment)
    parts = members(effect, **options)
    parts["assignments"][0]["design_hash"] = fingerprint
    frozen = {
        "experiment": np.array([NAME]),
        "design_hash": fingerprint,
        "design": canonical(plain_design(experiment)),
    }
    parts["experiments"] = [frozen | {"started_at": START, "actor": REPLAY}]
    return {name: table(each) for name, each in parts.items()}


def recorded(project, effect=0.0, **options):
    "Write the records as files."
    (project / "data/replay").mkdir(parents=True, exist_ok=True)
    for name, each in tables_of(project, effect, **options).items():
        pq.write_table(each, project / "data/replay" / f"{name}.parquet")


def run_stage(root, **changes):
    "Run the cells of the stage notebook in the current folder, as params.yaml there says; returns the report."
    params = yaml.safe_load(Path("params.yaml").read_text())["attribution"] | changes
    notebook = json.loads((root / "nbs/stages/attribution.ipynb").read_text())
    names = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
        if "parameters" in cell["metadata"].get("tags", []):
            names |= params
    return json.loads(Path("reports/attribution.json").read_text())


def test_a_gain_is_shipped_and_the_same_bytes_are_written_twice(project, root):
    recorded(project, effect=4.0)
    report = run_stage(root)
    first = {
        name: (project / name).read_bytes()
        for name in ("reports/attribution.json", "data/attribution/units.parquet")
    }
    assert report["decision"]["action"] == "ship" and report["decision"]["arm"] == "champion"
    assert report["truth"][0]["covered"] and report["lifts"][0]["verdict"] == "higher"
    assert report["experiment"]["replayed"] and report["experiment"]["declared"] == "Declared: four dollars."
    assert {each["what"]: each["value"] for each in report["sources"]}["Data"] == "0123456789ab"
    assert len(report["policy"]["values"]) == 9 and len(report["over_time"][0]["points"]) == 42
    assert pq.read_table(project / "data/attribution/units.parquet").num_rows == COUNT
    run_stage(root)
    assert all((project / name).read_bytes() == held for name, held in first.items())
    assert str(project) not in first["reports/attribution.json"].decode()


def test_nothing_put_in_is_not_enough_evidence(project, root):
    recorded(project)
    report = run_stage(root)
    assert report["decision"]["action"] == "not enough evidence" and report["stopped"] is None
    assert report["evidence"]["promised_per_month"]["value"] == 90.0 and report["decision"]["missing"]


def test_broken_randomisation_shows_no_lift_and_the_stage_still_ends_well(project, root, capsys):
    recorded(project, effect=4.0, lost=0.3)
    exposures = pq.read_table(project / "data/replay/exposures.parquet")
    assert len(exposures) > 0
    report = run_stage(root)
    assert report["stopped"]["kind"] == "sample ratio" and report["decision"]["action"] == "hard stop"
    assert not report["lifts"] and not report["money"] and report["policy"] is None and report["truth"] == []
    assert "no lift is shown" in capsys.readouterr().out


def test_before_anything_has_matured_the_stage_says_so(project, root):
    recorded(project, effect=4.0)
    path = project / "data/replay/outcomes.parquet"
    table = pq.read_table(path)
    soon = pa.array([START + timedelta(days=20)] * len(table))
    pq.write_table(table.set_column(table.schema.get_field_index("recorded_at"), "recorded_at", soon), path)
    report = run_stage(root)
    assert report["stopped"]["kind"] == "empty" and report["sample"] is None and not report["lifts"]


def test_the_database_gives_the_same_report_as_the_files(project, root):
    recorded(project, effect=4.0)
    from_files = run_stage(root)
    with Records(f"sqlite:///{project}/records.db") as records:
        records.migrate()
        for name, each in tables_of(project, 4.0).items():
            records.write(name, each)
    from_database = run_stage(root, records="database")
    different = {name for name in from_files if from_files[name] != from_database[name]}
    assert different <= {"sources"}
