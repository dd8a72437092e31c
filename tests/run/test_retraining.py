"From the question whether a new model pays to a challenger: gathered, made in a folder of its own, judged, proposed."

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import duckdb
import pytest
import yaml
from click.testing import CliRunner

import ml_workbench.run.prospects as prospects
import ml_workbench.run.remaking as remaking
import ml_workbench.run.retraining as retraining
from ml_workbench.monitor.losses import Loss
from ml_workbench.monitor.retraining import Situation, retrainings
from ml_workbench.monitor.running import place_of, stake_in
from ml_workbench.plan.errors import MonitorError, ReleaseError
from ml_workbench.plan.experiment import Arm, Split
from ml_workbench.plan.files import rounded
from ml_workbench.plan.params import load_params
from ml_workbench.plan.settings import Settings, load_settings
from ml_workbench.release.bundle import Bundle
from ml_workbench.release.deployment import Deployment
from ml_workbench.release.ledger import open_ledger
from ml_workbench.release.store import Store
from ml_workbench.run.cli import cli
from ml_workbench.run.prospects import InUse, Outlook, Reach, outlook_of, reach_of, statuses
from ml_workbench.run.remaking import folder_of, prepare, run_pipeline
from ml_workbench.run.retraining import Made, retrain, told, traffic_for
from ml_workbench.serve.records import open_records
from tests.monitor.shop import BUNDLE, MONDAY, WEEK, as_folder, as_records, shop

NOW = datetime(2026, 1, 1)


def _growing():
    spec = importlib.util.spec_from_file_location("growing", Path(__file__).with_name("growing.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def table(folder: Path, name: str, column: str, *times: str) -> None:
    rows = ", ".join(f"(TIMESTAMP '{each}')" for each in times)
    duckdb.execute(f"COPY (SELECT * FROM (VALUES {rows}) AS t({column})) TO '{folder / name}.parquet'")


# --- how far the source goes


def test_a_source_is_complete_as_far_as_its_slowest_table_has_promised(tmp_path):
    table(tmp_path, "transactions", "transaction_timestamp", "2017-12-30 10:00", "2018-01-01 04:59")
    table(tmp_path, "coupon_redemptions", "redemption_date", "2017-12-20")
    found = reach_of(str(tmp_path), root=tmp_path, now=NOW)
    assert found.newest == datetime(2018, 1, 1, 4, 59) and found.complete == datetime(2017, 12, 27)


def test_a_late_table_holds_the_whole_back(tmp_path):
    table(tmp_path, "transactions", "transaction_timestamp", "2017-12-01 10:00")
    table(tmp_path, "coupon_redemptions", "redemption_date", "2018-01-01")
    assert reach_of(str(tmp_path), root=tmp_path, now=NOW).complete == datetime(2017, 12, 2, 10)


def test_events_of_the_future_are_a_broken_clock_and_not_news(tmp_path):
    table(tmp_path, "transactions", "transaction_timestamp", "2017-12-01", "2099-01-01")
    with pytest.raises(MonitorError, match=r"2099-01-01 00:00, which is to come"):
        reach_of(str(tmp_path), root=tmp_path, now=NOW)


def test_a_source_without_events_has_nothing_to_teach(tmp_path):
    duckdb.execute(
        f"COPY (SELECT NULL::TIMESTAMP AS transaction_timestamp) TO '{tmp_path / 'transactions'}.parquet'"
    )
    with pytest.raises(MonitorError, match="no events"):
        reach_of(str(tmp_path), root=tmp_path, now=NOW)


# --- traffic


def deployment(**weights: float) -> Deployment:
    policies = {"control": "rule", "champion": "proposed", "challenger": "challenger"}
    arms = [Arm(name=name, policy=policies[name], weight=weight) for name, weight in weights.items()]
    split = Split(name="x", namespace="n", holdout=0.1, arms=arms)
    releases = {name: str(place) * 64 for place, name in enumerate(weights) if name != "control"}
    control = "control" if "control" in weights else None
    return Deployment(split, control, releases, releases["champion"], "champion")


def test_a_challenger_gets_its_share_and_the_others_keep_their_proportions():
    assert traffic_for(deployment(champion=1.0), 0.2) == {"champion": 0.8, "challenger": 0.2}
    assert traffic_for(deployment(control=0.5, champion=0.5), 0.2) == {
        "control": 0.4,
        "champion": 0.4,
        "challenger": 0.2,
    }


def test_an_earlier_challenger_gives_its_place_to_the_new_one():
    assert traffic_for(deployment(control=0.4, champion=0.4, challenger=0.2), 0.1) == {
        "control": 0.45,
        "champion": 0.45,
        "challenger": 0.1,
    }


# --- the decision, carried out


def outlook(
    root: Path, *, value: float = 500.0, newer: float = 8.0, deployed: Deployment | None = None
) -> Outlook:
    params = load_params(root)
    loss = Loss(value, value - 10, value + 10, "USD", "outcomes", "Seen.")
    used = InUse(
        "logistic_regression 4318e50c5e4f",
        "logistic_regression",
        1.0,
        params.features.model_dump(),
        deployment=deployed,
    )
    situation = Situation(datetime(2018, 3, 1), used.release, newer, {"invariants.nulls": "fine"})
    features = params.features.model_dump() | {"next_as_of": "2018-02-26 05:00"}
    return Outlook(
        params, used, Reach(datetime(2018, 2, 26, 4), datetime(2018, 2, 27, 4)), features, situation, loss
    )


@pytest.fixture
def place(tmp_path, root):
    "A project's root with parameters and settings alone."
    for name in ("params.yaml", "settings.ini"):
        (tmp_path / name).write_bytes((root / name).read_bytes())
    return tmp_path


@pytest.fixture
def quick(monkeypatch):
    "The pipeline in no time; what the gate said can be set."
    asked = {
        "made": Made(
            "proposed",
            "Release abc is ready.",
            "state/retraining/x",
            "a" * 64,
            "ml-workbench deploy aaaa",
            labels="None.",
        ),
        "runs": 0,
    }

    def pipeline(project, settings, say):
        asked["runs"] += 1
        if error := asked.get("error"):
            raise error
        say("finished", stage="gate", seconds=1.0)

    monkeypatch.setattr(retraining, "run_pipeline", pipeline)
    monkeypatch.setattr(
        retraining,
        "prepare",
        lambda root, settings, outlook, folder: (
            folder.mkdir(parents=True, exist_ok=True) or folder / "project"
        ),
    )
    monkeypatch.setattr(retraining, "made_in", lambda root, project, settings, outlook: asked["made"])
    return asked


def on_record(settings: Settings) -> list[dict]:
    with open_records(settings) as records:
        return retrainings(records.engine)


def test_where_it_does_not_pay_nothing_is_made_and_the_reason_is_on_record(place, quick):
    settings = load_settings(place, {})
    done = retrain(place, settings, outlook(place, value=1.0))
    (line,) = on_record(settings)
    assert done.made is None and quick["runs"] == 0 and line["decision"] == "wait" and line["outcome"] is None
    assert "expected to bring" in line["reason"]
    report = json.loads((place / "reports/retraining.json").read_text())
    assert report["advice"]["decision"] == "wait" and report["outcome"] is None


def test_where_it_pays_a_challenger_is_proposed_and_written_down(place, quick):
    settings, heard = load_settings(place, {}), []
    done = retrain(
        place, settings, outlook(place), say=lambda event, **facts: heard.append((event, facts.get("stage")))
    )
    (line,) = on_record(settings)
    assert (
        done.made.result == "proposed"
        and line["decision"] == "retrain"
        and line["outcome"]["release"] == "a" * 64
    )
    assert heard == [("folder", None), ("finished", "gate")]
    assert "To try it: ml-workbench deploy aaaa" in told(done)


def test_asked_again_nothing_is_made_twice(place, quick):
    settings = load_settings(place, {})
    for _ in range(2):
        retrain(place, settings, outlook(place))
    assert quick["runs"] == 1 and len(on_record(settings)) == 1


def test_what_is_forced_names_who_answers_for_it(place, quick):
    settings = load_settings(place, {})
    done = retrain(place, settings, outlook(place, value=1.0), forced={"by": "Ada", "reason": "An audit"})
    (line,) = on_record(settings)
    assert (
        line["decision"] == "wait"
        and line["outcome"]["by"] == "Ada"
        and line["outcome"]["result"] == "proposed"
    )
    assert "Made all the same, by Ada: An audit" in told(done)


def test_a_failed_pipeline_is_on_record_and_does_not_count_as_a_model(place, quick):
    settings, quick["error"] = load_settings(place, {}), MonitorError("stage train failed")
    with pytest.raises(MonitorError, match="stage train failed"):
        retrain(place, settings, outlook(place))
    assert on_record(settings)[0]["outcome"]["result"] == "failed"
    del quick["error"]
    assert retrain(place, settings, outlook(place)).made.result == "proposed"


def test_two_at_once_do_not_get_in_each_others_way(place, quick):
    from ml_workbench.plan.errors import StageError
    from ml_workbench.run.stages import locked

    with locked(place, "retrain"), pytest.raises(StageError, match="already running"):
        retrain(place, load_settings(place, {}), outlook(place))


def test_the_folder_is_the_same_for_the_same_model_and_another_for_other_times(place):
    one, other = outlook(place), outlook(place)
    assert folder_of(place, one) == folder_of(place, other)
    other.features["next_as_of"] = "2018-03-05 05:00"
    assert folder_of(place, one) != folder_of(place, other) and folder_of(place, one).name.startswith(
        "2018-02-26-"
    )


# --- the command


@pytest.fixture
def asked(place, quick, monkeypatch):
    "The command line in a project, with an outlook that a test chooses."
    chosen = {"outlook": outlook(place)}
    monkeypatch.chdir(place)
    monkeypatch.setattr(retraining, "outlook_of", lambda root, settings, as_of=None: chosen["outlook"])

    def run(*words):
        return CliRunner().invoke(cli, ["retrain", *words])

    run.chosen, run.quick = chosen, quick
    return run


def test_a_dry_run_says_everything_and_changes_nothing(asked, place):
    done = asked("--dry-run")
    assert done.exit_code == 0 and done.stdout.startswith("Retrain: it is expected to bring +$")
    assert not (place / "state").exists() and not (place / "reports").exists()


def test_a_veto_ends_with_three_and_its_reasons(asked):
    asked.quick["made"] = Made(
        "vetoed", "The gate vetoed the new model.", "state/x", gate=("AUC is too low.",), labels="None."
    )
    done = asked()
    assert done.exit_code == 3 and "✗ AUC is too low." in done.stdout


def test_waiting_rightly_ends_with_nought(asked, place):
    asked.chosen["outlook"] = outlook(place, newer=0.0)
    done = asked()
    assert done.exit_code == 0 and done.stdout.startswith("Wait: there is nothing newer")


def test_for_a_program_it_is_json(asked):
    raw = json.loads(asked("--dry-run", "--json").stdout)
    assert (
        raw["advice"]["decision"] == "retrain" and raw["advice"]["sum"]["gain"] > 0 and raw["outcome"] is None
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--force"], "--by NAME and --reason TEXT"),
        (["--force", "--by", "Ada", "--reason", "  "], "--by NAME and --reason TEXT"),
        (["--reason", "x"], "--reason belongs to --force"),
        (["--as-of", "Monday"], "'Monday' is no time"),
        (["--as-of", "2018-01-01T05:00:00+01:00"], "without a time zone"),
    ],
)
def test_what_cannot_be_asked_is_told_in_a_line(asked, words, said):
    done = asked(*words)
    assert done.exit_code == 1 and said in done.stderr and "Traceback" not in done.stderr


def test_the_default_data_hold_nothing_new_and_that_is_said(produced, tmp_path):
    settings = load_settings(produced, {"MLW_DATABASE_URL": f"sqlite:///{tmp_path}/none.db"})
    found = outlook_of(produced, settings)
    assert found.advice.decision == "wait" and found.situation.newer_weeks == 0
    assert found.loss.basis == "served" and found.loss.weeks == 4 and found.loss.low < 0 < found.loss.high
    assert (
        found.fresh.basis == "outcomes"
        and found.fresh.weeks == 4
        and found.fresh.share == found.loss.share < 1
    )
    report = json.loads((produced / "reports/monitor.json").read_text())
    assert rounded(found.loss.as_json()) == report["at_stake"]  # what the Health page shows
    assert found.features == found.params.features.model_dump() and not (tmp_path / "none.db").exists()


def test_an_earlier_day_is_asked_about_as_it_was(produced, tmp_path):
    settings = load_settings(produced, {"MLW_DATABASE_URL": f"sqlite:///{tmp_path}/none.db"})
    found = outlook_of(produced, settings, as_of=datetime(2017, 12, 1))
    assert found.situation.at == datetime(2017, 12, 1) and found.loss.basis == "staleness"


def test_what_the_monitors_said_is_read_from_the_report_or_else_from_the_database(place):
    settings = load_settings(place, {})
    assert statuses(place, settings) == {}
    row = {
        "period": datetime(2018, 1, 1), "release": "r", "check": "invariants.nulls", "subject": "x", "monitor": "invariants", "status": "alarm",
        "value": 1.0, "limit": 0.0, "count": 1, "sentence": "", "details": "{}", "at": datetime(2018, 1, 1),
    }  # fmt: skip
    with open_records(settings) as records:
        records.migrate()
        records.write("readings", [row, row | {"period": datetime(2017, 1, 1), "check": "invariants.range"}])
    assert statuses(place, settings) == {"invariants.nulls/x": "alarm"}
    (place / "reports").mkdir()
    (place / "reports/monitor.json").write_text(json.dumps({"periods": []}))
    assert statuses(place, settings) == {}


def test_what_was_done_to_units_is_read_where_it_is_and_nothing_is_made_to_look(place):
    settings = load_settings(place, {})
    assert prospects._logged(settings, "database") is None and prospects._logged(settings, "nowhere") is None
    assert not (place / "state").exists()
    at = datetime(2018, 1, 1, 5)
    row = {
        "experiment": "e",
        "unit": "1",
        "as_of": at,
        "arm": "champion",
        "action": "offer",
        "cost": 1.0,
        "propensity": 0.9,
    }
    with open_records(settings) as records:
        records.migrate()
        records.write("exposures", [row])
    assert prospects._logged(settings, "database").actions["unit"].tolist() == ["1"]


# --- what is at stake


def at_stake(root: Path, settings: Settings, *, records: str, bundle: Bundle | None = None) -> Loss:
    params = load_params(root)
    monitor = params.monitor.model_copy(update={"records": records})
    used = InUse("logistic_regression 4318e50c5e4f", "logistic_regression", 0.4, {}, bundle)
    return prospects.stake(
        settings,
        params.model_copy(update={"monitor": monitor}),
        used,
        as_of=MONDAY + 12 * WEEK,
        newer_weeks=4.0,
    )


@pytest.mark.parametrize("records", ["nowhere", "database"])
def test_without_records_it_is_estimated_from_age_and_the_reason_is_told(place, records):
    settings = load_settings(place, {})
    unknown = at_stake(place, settings, records=records)
    assert not unknown.known and "no records of anything that this model decided" in unknown.sentence
    assert "ages was not measured" in unknown.sentence and not (place / "state").exists()
    (place / "reports").mkdir()
    curve = [
        {"weeks": age, "loss_per_week": {"value": 5.0 * age, "low": 0.0, "high": 10.0 * age}}
        for age in (0, 4)
    ]
    diagnosis = {"model": {"name": "logistic_regression"}, "staleness": curve}
    (place / "reports/diagnosis.json").write_text(json.dumps(diagnosis))
    aged = at_stake(place, settings, records=records)
    assert aged.basis == "staleness" and aged.value == pytest.approx(0.4 * 20) and "no records" in aged.why


def test_weeks_that_cannot_be_played_are_named_and_do_not_stop_the_question(place):
    (place / "data/features").mkdir(parents=True)
    for name in ("snapshots.parquet", "schema.json"):
        (place / "data/features" / name).write_bytes(b"neither")
    params = load_params(place)
    used = InUse("logistic_regression 4318e50c5e4f", "logistic_regression", 1.0, {})
    found = prospects.fresh_loss(place, load_settings(place, {}), params, used, at=NOW, exposed=1.0)
    assert not found.known and "A fresh fit cannot be played: " in found.sentence


def test_records_that_cannot_be_read_are_named_and_do_not_stop_the_question(place):
    folder = as_folder(place / "replay", shop(weeks=1))
    (folder / "served.parquet").write_bytes(b"no Parquet at all")
    found = at_stake(place, load_settings(place, {}), records="replay")
    assert not found.known and "What was served cannot be read" in found.sentence


@pytest.mark.parametrize("records", ["replay", "database"])
def test_a_deployed_model_is_judged_by_what_production_served(place, records):
    "Also where the monitors of the pipeline look at a replay."
    settings = load_settings(place, {})
    Store(settings.store_url, settings.root).add(BUNDLE)
    (place / "state").mkdir(exist_ok=True)
    as_records(settings.database_url.replace("state", f"{place}/state"), shop(weeks=8)).close()
    found = at_stake(place, settings, records=records, bundle=BUNDLE)
    assert found.basis == "served" and found.units >= 100 and found.currency == "USD"
    with open_records(settings) as opened:
        assert stake_in(opened, place_of(settings), {BUNDLE.release.id}, as_of=MONDAY + 12 * WEEK) == found


def test_of_a_deployed_model_that_served_nothing_the_folder_is_asked(place):
    settings = load_settings(place, {})
    Store(settings.store_url, settings.root).add(BUNDLE)
    as_folder(place / "replay", shop(weeks=8))
    assert at_stake(place, settings, records="replay", bundle=BUNDLE).basis == "served"


# --- the folder


@pytest.fixture(scope="module")
def repository(tmp_path_factory, root):
    "A project in git with parameters, notebooks and a source beside it."
    here = tmp_path_factory.mktemp("repository")
    for name in (
        "params.yaml",
        "settings.ini",
        "dvc.yaml",
        *(f"nbs/stages/{each}.ipynb" for each in ("data", "features", "gate")),
    ):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_bytes((root / name).read_bytes())
    text = (here / "params.yaml").read_text().replace("'completejourney:'", "shop")
    (here / "params.yaml").write_text(text)
    (here / ".gitignore").write_text("/state/\n/shop/\n/models/\n")
    (here / "shop").mkdir()
    (here / "models/logistic_regression").mkdir(parents=True)
    (here / "models/logistic_regression/manifest.json").write_text("{}")
    git = ["git", "-c", "user.name=Ann", "-c", "user.email=ann@localhost"]
    for words in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "-m", "A shop"]):
        subprocess.run([*git, *words], cwd=here, check=True)
    return here


def test_the_clone_has_later_times_the_model_in_use_and_a_commit_of_its_own(repository, tmp_path):
    wanted = outlook(repository)
    project = prepare(repository, load_settings(repository, {}), wanted, tmp_path / "new")
    before, after = (yaml.safe_load((each / "params.yaml").read_text()) for each in (repository, project))
    assert (
        after["features"]["next_as_of"] == "2018-02-26 05:00"
        and after["data"]["latest"] >= "2018-02-26 05:00"
    )
    assert after["gate"]["champion"] == "champion" and (project / "champion/manifest.json").is_file()
    assert after["features"]["records"] == "" and (project / "shop").is_symlink()
    for raw in (before, after):
        raw["features"].pop("next_as_of"), raw["data"].pop("latest"), raw["gate"].pop("champion")
    assert (
        before == after
        and "# the end of the data: the list to act on" in (project / "params.yaml").read_text()
    )
    assert "2018-02-26 05:00" in (project / "nbs/stages/features.ipynb").read_text()
    log = subprocess.run(
        ["git", "log", "--format=%s"], cwd=project, capture_output=True, text=True, check=True
    ).stdout
    assert log.splitlines() == ["Times moved to 2018-02-26", "A shop"]
    state = subprocess.run(
        ["git", "status", "--porcelain"], cwd=project, capture_output=True, text=True, check=True
    ).stdout
    assert state == ""


def test_real_actions_are_taken_along_and_replayed_ones_are_not(repository, tmp_path):
    settings = load_settings(repository, {"MLW_DATABASE_URL": f"sqlite:///{tmp_path}/x.db"})
    wanted = outlook(repository)
    monitor = wanted.params.monitor.model_copy(update={"records": "database"})
    object.__setattr__(wanted, "params", wanted.params.model_copy(update={"monitor": monitor}))
    at = datetime(2018, 1, 1, 5)
    rows = {
        "experiments": {"design_hash": "d", "design": '{"arms": []}', "started_at": at},
        "exposures": {
            "unit": "1",
            "as_of": at,
            "arm": "champion",
            "action": "offer",
            "cost": 1.0,
            "propensity": 0.9,
        },
    }
    with open_records(settings) as records:
        records.migrate()
        for name, actor in (("played", "replay"), ("real", "Ann")):
            records.write("experiments", [rows["experiments"] | {"experiment": name, "actor": actor}])
            records.write("exposures", [rows["exposures"] | {"experiment": name}])
    project = prepare(repository, settings, wanted, tmp_path / "new")
    assert load_params(project).features.records == "records"
    found = duckdb.sql(f"SELECT experiment FROM '{project}/records/exposures.parquet'").fetchall()
    assert found == [("real",)]


def test_an_interrupted_clone_leaves_nothing_half_and_a_whole_one_is_kept(repository, tmp_path, monkeypatch):
    settings, wanted = load_settings(repository, {}), outlook(repository)
    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(remaking, "_set", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        prepare(repository, settings, wanted, tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []
    project = prepare(repository, settings, wanted, tmp_path / "new")
    (project / "finished").write_text("data")
    assert (
        prepare(repository, settings, wanted, tmp_path / "new") == project
        and (project / "finished").is_file()
    )


def test_what_is_not_committed_is_not_retrained(repository, tmp_path):
    stage = repository / "nbs/stages/gate.ipynb"
    before = stage.read_bytes()
    try:
        stage.write_bytes(before + b"\n")
        with pytest.raises(ReleaseError, match=r"gate\.ipynb: not as in the commit"):
            prepare(repository, load_settings(repository, {}), outlook(repository), tmp_path / "new")
    finally:
        stage.write_bytes(before)


def test_a_project_outside_git_is_told_what_to_do(place, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(place.parent))
    with pytest.raises(MonitorError, match="no git repository"):
        prepare(place, load_settings(place, {}), outlook(place), place / "state/new")


# --- the pipeline's process


def test_a_pipeline_that_fails_is_told_in_its_own_words(tmp_path, monkeypatch):
    script = 'print(\'{"event": "finished", "stage": "data", "seconds": 2.0}\'); print(\'error: stage train failed\'); raise SystemExit(1)'
    lines = remaking.lines_of
    monkeypatch.setattr(
        remaking, "lines_of", lambda command, *rest: lines([sys.executable, "-c", script], *rest)
    )
    heard, project = [], tmp_path / "new/project"
    project.mkdir(parents=True)
    with pytest.raises(MonitorError, match=r"stage train failed; the whole story is in .*log\.txt"):
        run_pipeline(project, Settings(root=tmp_path), lambda event, **facts: heard.append((event, facts)))
    assert heard == [("finished", {"stage": "data", "seconds": 2.0})]
    assert "error: stage train failed" in (tmp_path / "new/log.txt").read_text()


def test_who_is_stopped_stops_the_pipeline_as_well(tmp_path):
    script = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    lines = remaking.lines_of([sys.executable, "-c", script], tmp_path, os.environ)
    process = int(next(lines))
    with pytest.raises(KeyboardInterrupt):
        lines.throw(KeyboardInterrupt())
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return
    pytest.fail("it still runs")


def test_the_clones_own_code_comes_first_and_its_releases_go_where_the_project_keeps_them(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}/elsewhere")
    around = remaking.surroundings(tmp_path / "new", Settings(root=tmp_path, store_url="state/store"))
    assert around["PYTHONPATH"].split(os.pathsep) == [str(tmp_path / "new"), "/elsewhere"]
    assert around["MLW_STORE_URL"] == str(tmp_path / "state/store")
    assert (
        remaking.surroundings(tmp_path, Settings(root=tmp_path, store_url="s3://x"))["MLW_STORE_URL"]
        == "s3://x"
    )


# --- all of it: two runs of the real pipeline, which the tests below share


@pytest.fixture(scope="module")
def sold(tmp_path_factory):
    "A shop whose data end in week 45, with a model that is deployed."
    growing = _growing()
    shop = growing.project(tmp_path_factory.mktemp("sold") / "shop")
    growing.call(shop, "dvc", "repro", "gate")
    first = json.loads(growing.call(shop, "release", "create", "--json").stdout)["id"]
    growing.call(shop, "deploy", first, "--reason", "the first")
    return growing, shop, first


@pytest.fixture(scope="module")
def grown(sold):
    "The shop eight weeks later; a new model was wanted, interrupted, and wanted again with a trial."
    growing, shop, first = sold
    waited = outlook_of(shop, load_settings(shop, {})).advice.as_json()
    growing.grow(shop / "source", growing.END)
    growing.treat(shop, first)
    forced = ("retrain", "--force", "--by", "Ann", "--reason", "a test", "--json")
    with growing.started(shop, *forced) as process:
        log = shop / "state/retraining"
        end = time.monotonic() + 600
        while not any("Running stage 'features'" in path.read_text() for path in log.glob("*/log.txt")):
            assert process.poll() is None and time.monotonic() < end, process.communicate()
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        stopped = process.wait(120)
    (folder,) = (path for path in log.iterdir() if path.is_dir())
    done = json.loads(growing.call(shop, *forced, "--deploy").stdout)
    return {
        "shop": shop,
        "first": first,
        "folder": folder,
        "waited": waited,
        "stopped": stopped,
        "done": done,
    }


@pytest.mark.slow
def test_while_nothing_is_new_it_waits_whatever_staying_costs(grown):
    said = grown["waited"]
    assert said["decision"] == "wait" and "nothing newer" in said["sentence"]
    assert said["loss"]["basis"] == "staleness" and "no records" in said["loss"]["why"]


@pytest.mark.slow
def test_what_was_interrupted_is_gone_on_with(grown):
    assert grown["stopped"] == 143
    assert "Stage 'data' didn't change, skipping" in (grown["folder"] / "log.txt").read_text()


@pytest.mark.slow
def test_data_that_grow_bring_a_challenger_through_the_same_gate(grown):
    "Made in a folder of its own, of later weeks, with labels weighed, and judged against the model in use."
    project, raw = grown["folder"] / "project", grown["done"]
    moved = yaml.safe_load((project / "params.yaml").read_text())["features"]
    assert moved["next_as_of"] == "2018-01-01 05:00" and raw["advice"]["situation"]["newer_weeks"] == 8
    assert "may have been changed by an action" in raw["outcome"]["labels"] and raw["forced"]["by"] == "Ann"
    assert json.loads((grown["folder"] / "result.json").read_text())["result"] == "proposed"
    judged = json.loads((project / "reports/gate.json").read_text())["checks"]
    assert "champion" in {each["name"] for each in judged}


@pytest.mark.slow
def test_the_new_model_is_tried_beside_the_old_one_and_never_in_its_place(grown):
    shop, made, first = grown["shop"], grown["done"]["outcome"], grown["first"]
    settings = load_settings(shop, {})
    held = Store(settings.store_url, settings.root).ids()
    assert {*held} == {first, made["release"]} and made["release"] != first
    with open_ledger(settings) as ledger:
        live = ledger.current()
    assert made["result"] == "deployed" and made["line"] == live.line == 2
    assert live.deployment.releases == {"champion": first, "challenger": made["release"]}
    assert "is being tried" in outlook_of(shop, settings).advice.sentence
