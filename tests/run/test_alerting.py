"""The command line of alerts, in a project of its own."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from ml_workbench.database.connections import address, connected, transaction
from ml_workbench.database.schema import upgrade
from ml_workbench.database.tables import table_of
from ml_workbench.monitor.alerts import Scene
from ml_workbench.monitor.checks import Check, Reading
from ml_workbench.monitor.handling import handle, now_utc, read_alerts
from ml_workbench.monitor.notices import Post
from ml_workbench.monitor.targets import targets_in
from ml_workbench.run.cli import cli
from tests.monitor.receivers import free_port, web_server

NULLS = Check(
    "invariants.nulls",
    "Columns are as complete as in training",
    0.05,
    "data",
    "Ask the source.",
    critical=True,
)


@pytest.fixture
def engine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    engine = connected(address("sqlite:///state/workbench.db", root=tmp_path))
    Path("state").mkdir()
    with transaction(engine) as connection:
        upgrade(connection)
    yield engine
    engine.dispose()


def broken(engine, post: Post = Post()):
    reading = Reading(
        NULLS.name, "spend", "alarm", 0.2, 0.05, 1000, "spend is empty.", {"money_per_week": 41.5}
    )
    return handle(
        engine,
        [reading],
        Scene(datetime(2017, 11, 20, 5), "xgboost 77c1d2", {NULLS.name: NULLS}, {"data": "Data engineering"}),
        post=post,
    )


def call(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(cli, ["monitor", *arguments])
    assert done.exit_code == code, done.output
    return done.output


def lines(text: str) -> list[dict]:
    return [json.loads(each) for each in text.splitlines()]


def test_alerts_are_shown_for_people_and_for_programs(engine):
    assert call("alerts") == "Nothing is to be looked into.\n"
    (alert,) = broken(engine).opened
    shown = call("alerts")
    assert (
        f"{alert.alert}  critical, open: No longer so" in shown
        and "41.50 a week" in shown
        and "Data engineering: Ask the source." in shown
    )
    (told,) = json.loads(call("alerts", "--json"))
    assert told["shows"] == ["invariants.nulls/spend"] and told["first_seen"] == "2017-11-20T05:00:00"


def test_somebody_acknowledges_and_resolves_an_alert_by_its_first_digits(engine):
    (alert,) = broken(engine).opened
    assert "acknowledged by Ada: on it" in call(
        "acknowledge", alert.alert[:4], "--by", "Ada", "--note", "on it"
    )
    call("resolve", alert.alert[:4], "--by", "Ada", "--note", "mended")
    assert call("alerts") == "Nothing is to be looked into.\n" and "resolved by Ada: mended" in call(
        "alerts", "--all"
    )
    assert "is over: resolved by Ada" in call(
        "acknowledge", alert.alert[:4], "--by", "Bob", "--note", "on it", code=1
    )


def test_a_note_is_needed(engine):
    assert "--note" in call("resolve", "3f2a", code=2)
    assert "give --by and --note" in call("resolve", broken(engine).opened[0].alert, "--note", " ", code=1)


def test_what_waits_is_delivered_and_who_cannot_be_reached_makes_the_exit_code_3(engine, monkeypatch):
    with web_server() as hook:
        urls = f"json://127.0.0.1:{hook.port}/t0ken-part json://127.0.0.1:{free_port()}/t0ken-part"
        monkeypatch.setenv("MLW_ALERT_TARGETS", urls)
        broken(engine, Post(targets_in(urls)))
        told = call("notify", code=3)
    assert len(hook.bodies) == 1 and "t0ken" not in told
    assert {key: lines(told)[-1][key] for key in ("sent", "failed")} == {"sent": 1, "failed": 1}


def test_targets_can_be_tried_before_anything_happens(engine, monkeypatch):
    assert "MLW_ALERT_TARGETS names no target" in call("notify", "--test", code=1)
    with web_server() as hook:
        monkeypatch.setenv("MLW_ALERT_TARGETS", f"json://127.0.0.1:{hook.port}/")
        call("notify", "--test")
        monkeypatch.setenv("MLW_ALERT_TARGETS", f"json://127.0.0.1:{free_port()}/")
        call("notify", "--test", code=3)
    assert "This is a test" in hook.bodies[0]


def ran(engine, at: datetime) -> None:
    row = {"period": at, "release": "x", "started_at": at, "finished_at": at, "inputs": "", "report": "{}"}
    with transaction(engine) as connection:
        connection.execute(sa.insert(table_of("monitor_runs")), [row])


def test_a_monitor_that_ran_is_alive_and_one_that_did_not_is_told_of(engine, monkeypatch):
    with web_server() as hook:
        monkeypatch.setenv("MLW_ALERT_TARGETS", f"json://127.0.0.1:{hook.port}/")
        assert lines(call("alive", code=3))[-1]["event"] == "notice sent"
        call("alive", code=3)
        ran(engine, now_utc() - timedelta(hours=30))
        assert "monitor is silent" in call("alive", "--within", "26", code=3)
        assert "monitor is alive" in call("alive", "--within", "31")
    heads = [json.loads(each)["title"] for each in hook.bodies]
    assert heads[0] == "[critical] The monitor has not run" and heads[-1].startswith("[critical] Resolved")
    assert [each.state for each in read_alerts(engine, everything=True)] == ["resolved"]


def test_the_period_of_the_parameters_says_how_old_the_last_run_may_be(engine, root):
    Path("params.yaml").write_text(
        (root / "params.yaml").read_text().replace("period_days: 7", "period_days: 1")
    )
    ran(engine, now_utc() - timedelta(hours=31))
    call("alive", code=3)
    Path("params.yaml").write_text((root / "params.yaml").read_text())
    call("alive")


def test_a_database_that_is_away_is_told_to_everybody_without_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLW_DATABASE_URL", f"postgresql://ada:s3cret@127.0.0.1:{free_port()}/none")
    with web_server() as hook:
        monkeypatch.setenv("MLW_ALERT_TARGETS", f"json://127.0.0.1:{hook.port}/")
        said = call("alive", code=3)
    assert "cannot be told" in hook.bodies[0] and "s3cret" not in said + hook.bodies[0]


def test_the_help_of_every_command_has_an_example():
    for name in ("alerts", "acknowledge", "resolve", "notify", "alive"):
        assert "Example: ml-workbench monitor" in call(name, "--help")
