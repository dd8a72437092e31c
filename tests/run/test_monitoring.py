"""`monitor run` and `monitor status` as commands: a look that may be repeated, exit codes for timers, one line for mistakes."""

import json

import pytest
from click.testing import CliRunner, Result

from ml_workbench.plan.errors import MonitorError
from ml_workbench.release.store import Store
from ml_workbench.run.cli import cli
from ml_workbench.run.monitoring import ends_with, moment, together
from tests.monitor.shop import BUNDLE, MONDAY, WEEK, as_records, shop


@pytest.fixture
def site(tmp_path, monkeypatch):
    "A machine without a project: a database, a store, variables."
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLW_DATABASE_URL", f"sqlite:///{tmp_path}/a.db")
    monkeypatch.setenv("MLW_STORE_URL", str(tmp_path / "store"))
    Store(str(tmp_path / "store")).add(BUNDLE)
    return tmp_path


def call(*words: str) -> Result:
    return CliRunner().invoke(cli, ["monitor", *words])


def fill(site, **options) -> None:
    as_records(f"sqlite:///{site}/a.db", shop(**options)).close()


def test_a_healthy_production_ends_with_nought_and_may_be_looked_at_again(site):
    fill(site, weeks=2)
    first, second = call("run"), call("run")
    assert first.exit_code == second.exit_code == 0, first.output
    assert "✓ invariants" in first.output and "Nothing came in since the last look." in second.output
    assert call("status").output.splitlines()[:4] == second.output.splitlines()[:4]


def test_what_is_beyond_its_limit_ends_with_three_and_is_an_alert(site):
    fill(site, weeks=3, latency=lambda week: 0.2 if week < 2 else 0.9)
    done = call("run", "--json")
    report = json.loads(done.stdout[done.stdout.index('{\n "replayed"') :])
    (alert,) = report["alerts"]
    assert done.exit_code == 3 and alert["cause"] == "performance.latency/service"
    assert alert["effects"] == ["performance.tail/service"]
    status = call("status")
    assert status.exit_code == 3 and "1 alert:" in status.output
    assert "    with it: performance.tail\n" in status.output
    assert "  with it: performance.tail\n" in call("alerts").output


def test_a_dry_run_writes_nothing_and_a_look_back_sees_what_was_known_then(site):
    fill(site, weeks=2)
    assert call("run", "--dry-run").exit_code == 0
    assert "nobody has looked yet" in call("status").output
    done = call("run", "--dry-run", "--json", "--as-of", str(MONDAY + WEEK))
    (period,) = json.loads(done.stdout)["periods"]
    assert period["end"] == str(MONDAY + WEEK)
    assert {each["check"]: each["status"] for each in period["readings"]}["quality.auc"] == "unknown"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "--period", "last week"), "is no time: write it like"),
        (("run", "--period", "2024-07-23"), "no period ends at"),
        (("run", "--records", "nowhere"), "is no folder"),
    ],
)
def test_a_mistake_is_one_readable_line(site, words, said):
    fill(site, weeks=1)
    done = call(*words)
    assert done.exit_code == 1 and said in done.output and "Traceback" not in done.output


def test_a_database_that_nobody_decided_in_or_that_has_no_tables_says_what_to_do(site):
    assert "ml-workbench migrate" in call("run").output
    as_records(f"sqlite:///{site}/a.db", {}).close()
    assert "nothing was decided yet" in call("run").output


def test_times_are_of_the_datas_own_clock():
    assert moment(None) is None and moment("2024-07-22T07:00+02:00") == moment("2024-07-22 05:00")
    with pytest.raises(MonitorError):
        moment("soon")


def test_the_newest_look_at_a_period_counts():
    from ml_workbench.monitor.running import Looked

    old, new, other = (
        Looked(MONDAY, "r", "1", ()),
        Looked(MONDAY, "r", "2", ()),
        Looked(MONDAY - WEEK, "r", "3", ()),
    )
    assert together([old, other], [new]) == [other, new]
    assert ends_with({"monitors": []}) == 0
