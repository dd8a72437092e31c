"""The guard as a process: a line of JSON for each look, an exit code that a timer can read, and a clean end when asked."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ml_workbench.release.ledger import Ledger
from ml_workbench.release.traffic import Order, deployed
from ml_workbench.run.cli import cli
from ml_workbench.run.guard import asked_to_stop
from ml_workbench.serve.records import Records
from tests.experiment.test_watching import served
from tests.release.live import APPLE, BANANA, planned

ROOT = Path(__file__).resolve().parents[2]
PLAN = planned()


class Site:
    "A site where a challenger fails as often as one likes."

    def __init__(self, url: str, root: Path) -> None:
        self.url, self.root, self.ledger = url, root, Ledger(url)
        self.ledger.migrate()
        first = deployed(Order(APPLE, PLAN), None)
        self.ledger.write("deploy", first, "Ann", "why", None)
        self.ledger.write("deploy", deployed(Order(BANANA, PLAN, role="challenger"), first), "Ann", "why", 1)

    def serve(self, *, failed: int, count: int = 250) -> None:
        now = datetime.now(UTC).replace(tzinfo=None)
        rows = [
            served(i, at=now, arm="challenger", release=BANANA, line=2, reason="fallback" if i < failed else "assigned")
            for i in range(count)
        ]  # fmt: skip
        with Records(self.url) as records:
            records.write("served", rows)

    def start(self, *arguments: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "ml_workbench.run.cli", "guard", *arguments], cwd=self.root, text=True,
            env=os.environ | {"MLW_DATABASE_URL": self.url, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def site(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    postgres = request.param == "postgres"
    url = request.getfixturevalue("postgres_url") if postgres else f"sqlite:///{tmp_path}/ledger.db"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLW_DATABASE_URL", url)
    made = Site(url, tmp_path)
    yield made
    made.ledger.close()


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLW_DATABASE_URL", f"sqlite:///{tmp_path}/ledger.db")
    made = Site(f"sqlite:///{tmp_path}/ledger.db", tmp_path)
    yield made
    made.ledger.close()


def call(*arguments: str) -> tuple[int, dict]:
    done: Result = CliRunner().invoke(cli, ["guard", *arguments])
    (line,) = done.stdout.splitlines()
    return done.exit_code, json.loads(line)


def test_a_quiet_site_ends_with_0_and_one_line_that_says_what_was_looked_at(small: Site) -> None:
    code, line = call()
    assert code == 0 and (line["level"], line["event"], line["outcome"], line["line"]) == (
        "info",
        "guard looked",
        "fine",
        2,
    )
    looked = {(each["figure"], each["release"], each["breach"]) for each in line["readings"]}
    assert looked >= {
        (figure, release, None) for figure in ("errors", "latency", "scores") for release in (APPLE, BANANA)
    }


def test_a_breach_ends_with_3_and_a_rollback_and_the_next_look_is_quiet(site: Site) -> None:
    site.serve(failed=25)
    code, line = call()
    assert code == 3 and (line["level"], line["outcome"], line["written"]) == ("error", "rolled back", 3)
    newest = site.ledger.lines(1)[0]
    assert newest.actor == "guard" and "10%, more than the limit of 1%" in newest.reason
    assert call()[0] == 0 and site.ledger.latest_line() == 3


def test_limits_and_the_dry_run_are_options(small: Site) -> None:
    small.serve(failed=25, count=100)
    assert call()[0] == 0
    assert call("--minimum", "50", "--max-errors", ".3")[0] == 0
    code, line = call("--minimum", "50", "--dry-run", "--window", "5")
    assert code == 3 and line["outcome"] == "would roll back" and "in the last 5 minutes" in line["sentence"]
    assert small.ledger.latest_line() == 2
    assert (
        call("--minimum", "50", "--max-errors", "1", "--max-latency", ".1")[1]["culprit"]["figure"]
        == "latency"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("--max-errors", "2"),
        ("--loop", "0"),
        ("--minimum", "0"),
        ("--window", "-1"),
        ("--max-psi", "none"),
        ("now",),
    ],
)
def test_limits_that_cannot_be_are_refused(small: Site, arguments: tuple[str, ...]) -> None:
    assert CliRunner().invoke(cli, ["guard", *arguments]).exit_code == 2


def test_a_database_that_is_away_is_one_line(small: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLW_DATABASE_URL", "postgresql://ann:hunter2@127.0.0.1:1/nowhere")
    done = CliRunner().invoke(cli, ["guard"])
    assert done.exit_code == 1 and "cannot be reached" in done.stderr and "hunter2" not in done.output


def line_of(process: subprocess.Popen) -> dict:
    return json.loads(process.stdout.readline())


def test_a_loop_acts_when_it_sees_something_and_ends_cleanly_when_asked(site: Site) -> None:
    guard = site.start("--loop", "0.05")
    try:
        assert line_of(guard)["outcome"] == "fine"
        site.serve(failed=250)
        deadline = time.monotonic() + 30
        while (seen := line_of(guard))["outcome"] == "fine" and time.monotonic() < deadline:
            pass
        assert seen["outcome"] == "rolled back" and line_of(guard)["outcome"] == "fine"
        guard.send_signal(signal.SIGTERM)
        rest, errors = guard.communicate(timeout=30)
        assert guard.returncode == 0 and errors == ""
        assert {json.loads(line)["outcome"] for line in rest.splitlines()} <= {"fine"}
    finally:
        guard.kill()
    assert site.ledger.latest_line() == 3


def test_a_loop_goes_on_when_a_database_is_mended(small: Site) -> None:
    broken = small.root / "broken.db"
    broken.write_bytes(b"no database" * 1000)
    small.url = f"sqlite:///{broken}"
    guard = small.start("--loop", "0.05")
    try:
        line = line_of(guard)
        assert (line["level"], line["event"]) == (
            "error",
            "guard cannot look",
        ) and "is no SQLite database" in line["reason"]
        os.truncate(broken, 0)
        deadline = time.monotonic() + 30
        while (seen := line_of(guard))["event"] == "guard cannot look" and time.monotonic() < deadline:
            pass
        assert seen["outcome"] == "nothing deployed"
        guard.send_signal(signal.SIGINT)
        assert guard.wait(30) == 0
    finally:
        guard.kill()
        guard.communicate()


def test_guards_that_look_at_the_same_time_roll_back_once(site: Site) -> None:
    site.serve(failed=250)
    guards = [site.start() for _ in range(3)]
    said = [json.loads(each.communicate(timeout=60)[0]) for each in guards]
    assert site.ledger.latest_line() == 3
    assert [line["outcome"] for line in said].count("rolled back") == 1
    assert {line["outcome"] for line in said} <= {"rolled back", "overtaken", "fine"}


def test_the_handlers_of_signals_come_back() -> None:
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    with asked_to_stop() as stop:
        threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGTERM)).start()
        assert stop.wait(30)
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == before


def test_without_what_an_analysis_needs_the_other_figures_are_looked_at(small: Site, run_python) -> None:
    code = (
        "import sys\nfor name in ('pyarrow', 'pandas', 'duckdb', 'scipy', 'sklearn'):\n    sys.modules[name] = None\n"
        "from ml_workbench.run.cli import cli\ncli(['guard'])"
    )
    small.serve(failed=250)
    done = run_python("-c", code, cwd=small.root, MLW_DATABASE_URL=small.url, PYTHONPATH=str(ROOT))
    assert done.returncode == 3 and json.loads(done.stdout)["outcome"] == "rolled back", (
        done.stdout + done.stderr
    )
