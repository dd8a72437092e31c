"""The command that drives: its words, what it says, and once the whole loop on the default data, by the commands of the documentation."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import click
import httpx
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from ml_workbench.plan.errors import ExperimentError, ServiceError
from ml_workbench.plan.settings import Settings
from ml_workbench.run.cli import cli
from ml_workbench.run.driving import Lines, Moving, effect_from, mondays, token_for

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("text", "kind", "size"),
    [
        ("none", "none", 0.0),
        ("constant:.05", "constant", 0.05),
        ("heterogeneous:0.15", "heterogeneous", 0.15),
        ("fading:-.1:2", "fading", -0.1),
    ],
)
def test_an_effect_is_declared_in_a_word(text, kind, size):
    found = effect_from(text)
    assert (found.kind, found.size) == (kind, size) and found.half_life_weeks == (
        2.0 if kind == "fading" else 4.0
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "strong",
        "constant",
        "constant:",
        "constant:x",
        "constant:99",
        "fading:.1:0",
        "fading:.1:2:3",
        "constant:nan",
    ],
)
def test_what_declares_nothing_is_refused_with_examples(text):
    with pytest.raises(ExperimentError, match=r"--effect: .*heterogeneous:\.15"):
        effect_from(text)


def test_the_token_comes_from_a_file_or_from_the_services_own_settings(tmp_path):
    file = tmp_path / "tokens"
    file.write_text("# the old one\n\n  first-token-of-the-file \nsecond-token\n")
    plain = Settings(root=tmp_path)
    assert token_for(plain) == "" and token_for(plain, file) == "first-token-of-the-file"
    assert token_for(Settings(root=tmp_path, tokens="one-of-the-settings, another")) == "one-of-the-settings"
    assert token_for(Settings(root=tmp_path, tokens_file="tokens")) == "first-token-of-the-file"
    file.write_text("# none\n")
    with pytest.raises(ServiceError, match="holds no token"):
        token_for(plain, file)
    with pytest.raises(ServiceError, match="cannot be read"):
        token_for(plain, tmp_path / "nothing")


def test_the_last_mondays_of_the_replay_slice_are_driven(root):
    from ml_workbench.plan.params import load_params

    params = load_params(root)
    assert mondays(params, 4) == [datetime(2017, 11, day, 5) for day in (13, 20, 27)] + [
        datetime(2017, 12, 4, 5)
    ]
    assert mondays(params, 1) == [datetime(2017, 12, 4, 5)]
    with pytest.raises(ExperimentError, match="--weeks: 5 of 4"):
        mondays(params, 5)
    nothing = params.model_copy(update={"features": params.features.model_copy(update={"replay": None})})
    with pytest.raises(ExperimentError, match="no weeks are kept for replays"):
        mondays(nothing, 1)


def test_elsewhere_than_at_a_terminal_every_step_is_a_line_of_json_and_progress_is_rare():
    out = io.StringIO()
    lines = Lines(out)
    for done in range(100):
        lines("decisions", as_of=datetime(2017, 11, 13, 5), done=done, of=100, seconds=0.1)
    lines("monday", as_of=datetime(2017, 11, 13, 5), asked=100, offers=4)
    found = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [each["event"] for each in found] == ["decisions", "monday"] and found[1]["asked"] == 100


def test_at_a_terminal_one_line_moves_and_each_monday_stays():
    out = io.StringIO()
    moving = Moving(out, "households")
    moving("features", as_of=datetime(2017, 11, 13, 5), units=2297)
    moving("decisions", as_of=datetime(2017, 11, 13, 5), done=1000, of=2297, seconds=0.5)
    moving("waiting", what="decisions", there=10, of=2297)
    moving("database away", reason="it cannot be reached")
    moving("monday", as_of=datetime(2017, 11, 13, 5), asked=2297, offers=96)
    moving("outcomes", day=datetime(2017, 11, 14), reported=10)
    moving("monday", as_of=datetime(2017, 11, 20, 5), asked=0, offers=0)
    text = out.getvalue()
    assert text.count("\n") == 2 and "1,000 of 2,297 decisions, 2,000 a second" in text
    assert [line.split("\x1b[2K")[-1] for line in text.split("\n")[:-1]] == [
        "2017-11-13  2,297 households asked, 96 offers",
        "2017-11-20  asked before",
    ]


def test_mistakes_are_a_line_and_change_nothing(tmp_path, root, monkeypatch):
    for name in ("params.yaml", "settings.ini"):
        shutil.copy(root / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    for words, said in {
        ("ftp://here",): "is no address of a service",
        ("--effect", "strong"): "declares nothing",
        ("--weeks", "9"): "nothing is compared",
        (): "nothing is compared; deploy a challenger",
    }.items():
        done = CliRunner().invoke(cli, ["drive", *words])
        assert done.exit_code in (1, 2) and said in done.stderr and done.stderr.count("\n") == 1, done.output
    assert not (tmp_path / "reports").exists()
    for words in (("--late", "2"), ("--clients", "0"), ("--weeks", "0"), ("--speed", "-1")):
        assert isinstance(
            CliRunner().invoke(cli, ["drive", *words], standalone_mode=False).exception, click.BadParameter
        )


# The whole loop, on the default data -------------------------------------------------------------------------


@dataclass
class Project:
    "A copy of the project, with a database of its own, and the commands of the documentation."

    root: Path
    port: int

    @property
    def environment(self) -> dict[str, str]:
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("MLW_") and key != "PYTHONDONTWRITEBYTECODE"
        }
        settings = {
            "DATABASE_URL": "sqlite:///state/drive.db",
            "TOKENS": "a-token-for-the-tests",
            "API_PORT": str(self.port),
        }
        return kept | {"PYTHONPATH": str(ROOT)} | {f"MLW_{name}": value for name, value in settings.items()}

    def start(self, *words: str, **options) -> subprocess.Popen:
        command = [sys.executable, "-m", "ml_workbench.run.cli", *words]
        return subprocess.Popen(command, cwd=self.root, env=self.environment, text=True, **options)

    def said(self, *words: str) -> str:
        done = self.start(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, error = done.communicate(timeout=600)
        assert done.returncode == 0, error + out
        return out

    def report(self, name: str) -> dict:
        return json.loads((self.root / "reports" / f"{name}.json").read_text())


def challenger_of(project: Path, champion: str) -> str:
    "A release of the candidate that the plan's challenger follows, with the champion's features and terms; let pass by the tests."
    from ml_workbench.model.artifact import MANIFEST, read_files
    from ml_workbench.release.bundle import FOLDER, bundle_of
    from ml_workbench.release.store import Store
    from tests.release.live import judged

    store = Store("state/store", project)
    base = store.read(store.find(champion))
    manifest, files = read_files(project / "models/kernel_machine")
    kept = {name: data for name, data in base.files.items() if not name.startswith(FOLDER)}
    model = {FOLDER + name: data for name, data in {**files, MANIFEST: manifest.as_bytes()}.items()}
    bundle = bundle_of(kept | model, origin=base.release.origin, metrics=base.release.metrics)
    override = {
        "artifact": bundle.release.artifact,
        "failed": ["auc"],
        "by": "a test",
        "reason": "to be compared",
    }
    return store.add(judged(bundle, "vetoed", override=override))


@pytest.fixture
def project(tmp_path, produced) -> Project:
    from tests.serve.live import free_port

    root = tmp_path / "project"
    root.mkdir()
    for name in ("params.yaml", "settings.ini", "requirements.lock", "dvc.yaml", "dvc.lock"):
        shutil.copy(produced / name, root)
    for name in ("reports", "models/logistic_regression", "models/kernel_machine", "nbs/stages"):
        shutil.copytree(produced / name, root / name)
    for name in ("tables", "features", "predictions.parquet"):
        (root / "data").mkdir(exist_ok=True)
        (root / "data" / name).symlink_to(produced / "data" / name)
    (root / "ml_workbench").symlink_to(produced / "ml_workbench")
    return Project(root, free_port())


@pytest.mark.slow
def test_the_whole_loop_on_the_default_data_gives_the_figures_of_the_replay_to_the_last_bit(project):
    project.said("release", "create", "--allow-dirty")
    champion = json.loads(project.said("release", "list", "--json"))[0]["id"]
    why = ("--by", "replay", "--reason", "a drive")
    project.said("deploy", champion, *why)
    project.said("deploy", challenger_of(project.root, champion), "--as", "challenger", *why)
    with (project.root / "service.log").open("w") as log:
        service = project.start("serve", stdout=log, stderr=subprocess.STDOUT)
    try:
        ready_at(f"http://127.0.0.1:{project.port}/readyz", service)
        stopped = project.start("drive", "--from-snapshots", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for line in stopped.stdout:
            if json.loads(line)["event"] == "monday":
                stopped.send_signal(signal.SIGINT)
                break
        assert stopped.communicate(timeout=60)[1].strip() == "error: stopped" and stopped.returncode == 130
        finished = json.loads(project.said("drive").splitlines()[-1])
    finally:
        service.send_signal(signal.SIGTERM)
        assert service.wait(60) in (0, -signal.SIGTERM), (project.root / "service.log").read_text()[-3000:]
    driven = project.report("replay")
    told_by = attributed(project)
    records = {name: tables_of(project, name) for name in TABLES}
    replayed = replayed_beside(project)

    assert finished["event"] == "finished" and 0 < finished["decisions"] < 9223
    assert {name: each["asked"] for name, each in finished["arms"].items()} == {
        "control": 3238,
        "champion": 3358,
        "challenger": 1599,
        "holdout": 1028,
    }
    own = project.report("replay")
    for name in ("fault", "planted"):  # a drive has nothing planted, and says nothing of it
        assert not own.pop(name) or name == "fault"
    assert driven == own, "the report of the drive is the replay's own"
    for name, rows in records.items():
        expected = pq.read_table(project.root / "data/replay" / f"{name}.parquet")
        assert without_model(rows) == without_model(expected), name
    assert (
        told_by["experiment"]["replayed"]
        and told_by["experiment"]["declared"] == driven["declared"]["sentence"]
    )
    assert (
        not told_by["stopped"]
        and not told_by["sample"]["stop"]
        and all(each["covered"] for each in told_by["truth"])
    )
    assert unlike(told_by, replayed) == {
        ".accounting[Outcomes of unknown units].count",
        ".sources[Records].value",
    }


TABLES = ("assignments", "covariates", "predictions", "exposures", "outcomes")


def ready_at(url: str, service: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert service.poll() is None
        with suppress(httpx.TransportError):
            if httpx.get(url).status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError("the service was never ready")


def attributed(project: Project) -> dict:
    "Run the attribution stage over the live tables, as params.yaml says; its report."
    params = project.root / "params.yaml"
    params.write_text(params.read_text().replace("records: data/replay", "records: database"))
    project.said("check", "--fix")
    project.said("stage", "attribution", "--engine", "inprocess")
    return project.report("attribution")


def tables_of(project: Project, name: str):
    from ml_workbench.serve.records import Records

    with Records("sqlite:///state/drive.db", root=project.root) as records:
        return records.read(name, experiment="retention-2017-11")


def replayed_beside(project: Project) -> dict:
    "Run the replay stage in a database of its own, and the attribution over what it leaves behind; its report."
    beside = Project(project.root, project.port)
    params = beside.root / "params.yaml"
    params.write_text(params.read_text().replace("records: database", "records: data/replay"))
    beside.said("check", "--fix")
    (beside.root / "settings.ini").write_text(
        (beside.root / "settings.ini").read_text().replace("state/workbench.db", "state/replay.db")
    )
    for stage in ("replay", "attribution"):
        done = subprocess.run(
            [sys.executable, "-m", "ml_workbench.run.cli", "stage", stage, "--engine", "inprocess"],
            cwd=beside.root, env={key: value for key, value in beside.environment.items() if key != "MLW_DATABASE_URL"}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr + done.stdout
    return beside.report("attribution")


def without_model(table) -> list[tuple]:
    "Rows, but for what a policy's model is called: a release here, a candidate there."
    names = [name for name in table.column_names if name != "model"]
    return sorted(zip(*(table[name].to_pylist() for name in names)), key=repr)


def unlike(one, other, place: str = "") -> set[str]:
    "Where two reports differ."
    if isinstance(one, dict) and isinstance(other, dict):
        return {
            found
            for name in {*one, *other}
            for found in unlike(one.get(name), other.get(name), f"{place}.{name}")
        }
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        names = [
            each.get("who") or each.get("what") or number if isinstance(each, dict) else number
            for number, each in enumerate(one)
        ]
        return {
            found
            for name, left, right in zip(names, one, other)
            for found in unlike(left, right, f"{place}[{name}]")
        }
    return set() if one == other else {place}
