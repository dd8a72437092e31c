"""People are told, by real servers of this machine: once, again, later, or not at all; and never a password."""

import json
import logging
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import datetime, timedelta
from io import StringIO

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from ml_workbench.database.connections import transaction
from ml_workbench.database.tables import table_of
from ml_workbench.monitor.alerts import Scene
from ml_workbench.monitor.checks import Check, Reading
from ml_workbench.monitor.handling import acknowledge, handle, remind, resolve
from ml_workbench.monitor.heartbeat import allowed, ping, watch
from ml_workbench.monitor.notices import PAUSES, TRIES, Post, deliver
from ml_workbench.monitor.targets import Target, name_of, scrubbed, send, targets_in
from ml_workbench.serve.logs import Log
from tests.monitor.receivers import free_port, mail_server, web_server

NULLS = Check("invariants.nulls", "Columns are as complete as in training", 0.05, "data", "Ask the source.")
LOSS = Check("quality.money", "The model earns what it did", 10, "model", "Retrain.", critical=True)
CHECKS = {each.name: each for each in (NULLS, LOSS)}
NOW = datetime(2026, 11, 23, 6)
HOUR = timedelta(hours=1)


def look(
    engine, post: Post, status: str = "alarm", *, week: int = 0, check: Check = NULLS, now: datetime = NOW
):
    reading = Reading(check.name, "spend", status, 0.2, check.limit, 1000, f"spend is {status}.")
    scene = Scene(
        datetime(2017, 11, 20, 5) + timedelta(weeks=week),
        "xgboost 77c1d2",
        CHECKS,
        {"data": "Data engineering"},
    )
    return handle(engine, [reading], scene, post=post, now=now)


class Told:
    "A sender that only remembers."

    def __init__(self, *down: str) -> None:
        self.down, self.sent, self.lock = {*down}, [], threading.Lock()

    def __call__(self, target: Target, title: str, body: str, kind: str) -> str:
        with self.lock:
            self.sent.append((target.name, title, body))
        return "it is down" if target.name in self.down else ""

    def heads(self) -> list[str]:
        return [title.split("] ")[1].split(":")[0] for _, title, _ in self.sent]


def rows(engine) -> list[dict]:
    with transaction(engine, reading=True) as connection:
        return [
            dict(each)
            for each in connection.execute(
                sa.select(table_of("notices")).order_by(table_of("notices").c.notice)
            ).mappings()
        ]


def run(engine, post: Post, sender, now: datetime = NOW) -> tuple:
    log = Log(out=StringIO())
    done = deliver(engine, post, log, clock=lambda: now, sender=sender)
    return done, [json.loads(each) for each in log.out.getvalue().splitlines()]


ONE = Post(targets_in("json://example.org/hook"))
TWO = Post(targets_in("json://one.example.org json://two.example.org"))


# Who is told of what ---------------------------------------------------------------------------------------


def test_an_alert_is_told_once_and_its_end_as_well(engine):
    told = Told()
    for week, status in enumerate(("alarm", "alarm", "fine", "fine")):
        look(engine, ONE, status, week=week)
        run(engine, ONE, told)
    assert told.heads() == ["No longer so", "Resolved"]


def test_without_anybody_to_tell_nothing_waits(engine):
    look(engine, Post())
    assert rows(engine) == [] and run(engine, Post(), Told())[0].sent == 0


def test_only_what_is_critical_is_told_when_nothing_else_is_asked_for(engine):
    post, told = replace(ONE, level="critical"), Told()
    look(engine, post)
    look(engine, post, check=LOSS)
    run(engine, post, told)
    assert [title for _, title, _ in told.sent] == [
        "[critical] No longer so: the model earns what it did (spend)"
    ]


def test_who_is_reminded_is_reminded_after_the_pause_and_not_before(engine):
    told = Told()
    look(engine, ONE)
    run(engine, ONE, told)
    for hours in (1, 23, 24, 25, 47, 48):
        remind(engine, ONE, now=NOW + hours * HOUR)
        run(engine, ONE, told, NOW + hours * HOUR)
    assert told.heads() == ["No longer so", "Still", "Still"]


def test_nobody_is_reminded_of_what_somebody_looks_into_but_everybody_hears_when_it_gets_worse(engine):
    told = Told()
    (alert,) = look(engine, ONE).opened
    run(engine, ONE, told)
    acknowledge(engine, alert.alert, by="Ada", note="on it")
    remind(engine, ONE, now=NOW + 30 * HOUR)
    readings = [Reading(each.name, "spend", "alarm", 99.0, each.limit, 9, "x.") for each in (NULLS,)]
    worse = {**CHECKS, NULLS.name: replace(NULLS, critical=True)}
    handle(
        engine,
        readings,
        Scene(datetime(2017, 11, 27, 5), "xgboost 77c1d2", worse, {}),
        post=ONE,
        now=NOW + 31 * HOUR,
    )
    run(engine, ONE, told, NOW + 31 * HOUR)
    assert told.heads() == ["No longer so", "Worse"]


def test_a_cause_that_comes_and_goes_does_not_tell_each_time(engine):
    told = Told()
    for week in range(8):
        look(engine, ONE, "fine" if week % 2 else "alarm", week=week, now=NOW + week * HOUR)
        run(engine, ONE, told, NOW + week * HOUR)
    assert told.heads() == ["No longer so", "Resolved"]
    look(engine, ONE, week=8, now=NOW + 25 * HOUR)
    run(engine, ONE, told, NOW + 25 * HOUR)
    assert told.heads() == ["No longer so", "Resolved", "No longer so"]


def test_an_end_that_a_person_declared_is_told_with_name_and_note(engine):
    told = Told()
    (alert,) = look(engine, ONE).opened
    run(engine, ONE, told)
    resolve(engine, alert.alert, by="Ada", note="meant", post=ONE, now=NOW)
    run(engine, ONE, told)
    assert "Resolved by Ada: meant" in told.sent[-1][2]


# What becomes of the outbox --------------------------------------------------------------------------------


def test_one_that_is_down_is_tried_again_with_growing_pauses_and_the_other_is_told_at_once(engine):
    look(engine, TWO)
    told = Told(TWO.targets[0].name)
    done, lines = run(engine, TWO, told)
    assert (done.sent, done.failed) == (1, 1) and {each["event"] for each in lines} == {
        "notice sent",
        "notice not sent",
    }
    moments, now = [], NOW
    while waiting := [each for each in rows(engine) if each["state"] == "waiting"]:
        assert run(engine, TWO, told, waiting[0]["next_try"] - timedelta(seconds=1))[0].failed == 0, (
            "not before its time"
        )
        moments.append((waiting[0]["next_try"] - now).total_seconds())
        now = waiting[0]["next_try"]
        last = run(engine, TWO, told, now)
    assert moments == [*PAUSES] and last[0].given_up == 1 and last[1][-1]["event"] == "notice given up"
    assert sorted((each["state"], each["tries"]) for each in rows(engine)) == [
        ("given up", TRIES),
        ("sent", 1),
    ]


def test_every_try_bears_the_same_key(engine):
    look(engine, ONE)
    told = Told(ONE.targets[0].name)
    run(engine, ONE, told)
    run(engine, ONE, told, NOW + HOUR)
    keys = {body.rsplit("notice ", 1)[1] for _, _, body in told.sent}
    assert len(told.sent) == 2 and keys == {rows(engine)[0]["notice"]}


def test_after_a_failure_the_other_notices_of_the_same_target_wait(engine):
    for check in (NULLS, LOSS):
        look(engine, ONE, check=check)
    told = Told(ONE.targets[0].name)
    run(engine, ONE, told)
    assert len(told.sent) == 1 and sorted(each["tries"] for each in rows(engine)) == [0, 1]
    run(engine, ONE, Told())
    assert sorted(each["state"] for each in rows(engine)) == ["sent", "waiting"]


def test_two_who_deliver_at_once_send_everything_once(engine):
    for check in (NULLS, LOSS):
        look(engine, TWO, check=check)
    told, barrier = Told(), threading.Barrier(3)

    def work() -> None:
        barrier.wait()
        run(engine, TWO, told)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(told.sent) == 4 and len({each[2] for each in told.sent}) == 4


def test_what_a_process_that_died_had_claimed_is_sent_later(engine):
    look(engine, ONE)

    def dies(*_: object) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        from ml_workbench.monitor.notices import _claimed

        assert _claimed(engine, [each.name for each in ONE.targets], NOW)
        dies()
    assert run(engine, ONE, Told())[0].sent == 0, "somebody may be sending it"
    assert run(engine, ONE, Told(), NOW + HOUR)[0].sent == 1


def test_a_target_that_is_no_longer_named_is_counted_and_given_up_after_a_week(engine):
    look(engine, TWO)
    other = Post(TWO.targets[:1])
    assert run(engine, other, Told())[0] == run(engine, other, Told())[0].__class__(sent=1, nameless=1)
    assert run(engine, Post(), Told(), NOW + 200 * HOUR)[0].nameless == 1, (
        "where nobody is named, nothing is given up"
    )
    assert run(engine, other, Told(), NOW + 200 * HOUR)[0].given_up == 1


def test_alert_and_notice_are_written_together_or_not_at_all(engine, monkeypatch):
    from ml_workbench.monitor import handling

    def breaks(*_: object, **__: object) -> None:
        raise RuntimeError("the power is gone")

    monkeypatch.setattr(handling, "put", breaks)
    with pytest.raises(RuntimeError):
        look(engine, ONE)
    assert handling.read_alerts(engine, everything=True) == []


# Real servers ----------------------------------------------------------------------------------------------


def test_a_mail_arrives_with_everything_one_needs(engine):
    with mail_server(user="monitor", password="pa55-w0rd") as box:
        post = Post(
            targets_in(
                f"mailto://monitor:pa55-w0rd@127.0.0.1:{box.port}/?to=ada@example.org&from=monitor@example.org"
            )
        )
        look(engine, post)
        done, _ = run(engine, post, send)
    assert done.sent == 1 and box.subjects == [
        "[warning] No longer so: columns are as complete as in training (spend)"
    ]
    (text,) = box.texts()
    assert (
        "What to do: Ask the source." in text
        and "ml-workbench monitor acknowledge" in text
        and "pa55" not in text
    )


def test_a_webhook_is_called_with_the_same(engine):
    with web_server() as hook:
        post = Post(targets_in(f"json://127.0.0.1:{hook.port}/hook/t0ken-of-mine"))
        look(engine, post, check=LOSS)
        done, lines = run(engine, post, send)
    told = json.loads(hook.bodies[0])
    assert done.sent == 1 and told["title"].startswith("[critical]") and "Retrain." in told["message"]
    assert "t0ken" not in json.dumps([lines, *rows(engine)], default=str)


def test_a_mail_server_that_turns_the_first_message_away_gets_it_again(engine):
    with mail_server(user="monitor", password="pa55-w0rd", refuse=1) as box:
        post = Post(
            targets_in(
                f"mailto://monitor:pa55-w0rd@127.0.0.1:{box.port}/?to=ada@example.org&from=monitor@example.org"
            )
        )
        look(engine, post)
        first, lines = run(engine, post, send)
        kept = json.dumps([lines, *rows(engine)], default=str)
        second, _ = run(engine, post, send, NOW + HOUR)
    assert (first.failed, second.sent, len(box.mails)) == (1, 1, 1)
    assert "pa55" not in kept and rows(engine)[0]["error"] is None


def test_a_server_that_is_not_there_and_one_that_fails_halfway_keep_nobody_else_waiting(engine):
    with web_server(cut=1) as torn, web_server(answers=[500]) as failing, web_server() as good:
        urls = [f"json://127.0.0.1:{port}/" for port in (free_port(), torn.port, failing.port, good.port)]
        post = Post(targets_in(" ".join(urls)))
        look(engine, post)
        first, _ = run(engine, post, send)
        assert (first.sent, first.failed, len(good.bodies)) == (1, 3, 1)
        second, _ = run(engine, post, send, NOW + HOUR)
    assert (second.sent, second.failed, len(good.bodies)) == (2, 1, 1)


def test_a_server_that_never_answers_is_left_after_a_while_and_others_are_not_kept():
    with web_server(slow=True) as slow:
        said = send(Target("slow", f"json://127.0.0.1:{slow.port}/?rto=20"), "a", "b", seconds=0.3)
    assert said == "no answer within 0.3 seconds" and slow.paths == ["/"]


def test_who_hangs_does_not_keep_the_process_from_ending(run_python):
    code = """
import sys
from ml_workbench.monitor.targets import Target, send
print(send(Target("slow", f"json://127.0.0.1:{sys.argv[1]}/?rto=20"), "a", "b", seconds=0.5))
"""
    with web_server(slow=True) as slow:
        done = subprocess.run(
            [sys.executable, "-c", code, str(slow.port)], capture_output=True, text=True, timeout=15
        )
    assert done.stdout == "no answer within 0.5 seconds\n", done.stderr


def test_a_mail_server_that_wants_another_password_is_told_without_either():
    with mail_server(user="monitor", password="right-0ne") as box:
        url = f"mailto://monitor:wr0ng-one@127.0.0.1:{box.port}/?to=ada@example.org&from=monitor@example.org"
        said = send(Target("mail", url), "a", "b")
    assert "127.0.0.1" in said and "wr0ng" not in said and box.mails == []


def test_the_library_writes_nothing_of_a_target_to_the_log(capfd, caplog):
    with caplog.at_level(logging.DEBUG, "ml_workbench"):
        said = send(Target("down", f"json://ada:s3cret-word@127.0.0.1:{free_port()}/t0ken-part"), "a", "b")
    out, err = capfd.readouterr()
    assert said and "s3cret" not in said + out + err and "t0ken" not in said + out + err


def test_an_address_that_is_none_is_a_failure_like_any_other():
    assert send(Target("x", "nowhere://s3cret-word/"), "a", "b") == "this is no address that apprise knows"
    said = send(Target("x", "mailto://monitor:s3cret-word@127.0.0.1/?to=ada@example.org"), "a", "b")
    assert "Invalid" in said and "s3cret" not in said and "s...d" not in said, (
        "it says why, and quotes nothing"
    )


def test_without_the_library_it_is_said_how_to_get_it(run_python):
    code = "import sys; sys.modules['apprise'] = None\nfrom ml_workbench.monitor.targets import Target, send\nsend(Target('x', 'json://x'), 'a', 'b')"
    assert "pip install 'ml-workbench[monitor]'" in run_python("-c", code).stderr


def test_the_library_is_imported_only_when_there_is_somebody_to_tell(run_python):
    code = "import sys, ml_workbench.monitor.handling, ml_workbench.monitor.heartbeat, ml_workbench.run.cli; print('apprise' in sys.modules)"
    assert run_python("-c", code).stdout == "False\n"


# Nothing secret --------------------------------------------------------------------------------------------

SECRET = st.text("abcdefXYZ0123456789._~-", min_size=6, max_size=20)


WORDS = "target(name=refused with example.org json:// mailto:// slack:// tgram:// xyz://"


@given(
    SECRET,
    SECRET,
    SECRET,
    st.sampled_from(
        [
            "mailto://{0}:{1}@example.org/{2}?key={2}",
            "json://{0}:{1}@example.org/{2}",
            "slack://{0}/{1}/{2}",
            "tgram://{2}:{1}/{0}",
            "xyz://{0}:{1}@{2}",
        ]
    ),
)
def test_no_part_of_an_address_but_a_host_is_in_its_name_or_in_what_is_said_of_it(
    user, password, token, shape
):
    url = shape.format(user, password, token)
    said = (
        name_of(url)
        + repr(targets_in(url))
        + scrubbed(f"refused {user} with {password}: {url} ({token.upper()})", url)
    )
    for secret in (user.lower(), password.lower(), token.lower()):
        assert secret not in said.lower() or secret in WORDS


@pytest.mark.parametrize(
    "url",
    [
        "mailto://ada:pa/ss@example.org", "mailto://ada:pa#ss@example.org", "mailto://ada:1?ss@example.org", "mailto://ada.lovelace:12?ss@example.org",
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", "tgram://123456789:abcdefghijklmnop/12315544/",
    ],
)  # fmt: skip
def test_a_host_that_may_be_something_else_is_not_shown(url):
    assert name_of(url).split(" (")[0] == url.partition("://")[0] + "://"


def test_a_new_password_makes_no_new_target_and_another_recipient_does():
    old = "mailtos://monitor:old-word@example.org?to=ada@example.org&pass=x1"
    assert (
        name_of(old)
        == name_of(old.replace("old-word", "new").replace("x1", "y2"))
        != name_of(old.replace("to=ada", "to=bob"))
    )


# The heartbeat ---------------------------------------------------------------------------------------------


def ran(engine, at: datetime) -> None:
    row = {"period": at, "release": "x", "started_at": at, "finished_at": at, "inputs": "", "report": "{}"}
    with transaction(engine) as connection:
        connection.execute(sa.insert(table_of("monitor_runs")), [row])


def test_a_monitor_that_never_ran_is_silent_and_one_that_just_did_is_not(engine):
    assert watch(engine, now=NOW, within=allowed(7), post=ONE).said == "The monitor has never run here."
    ran(engine, NOW)
    life = watch(engine, now=NOW + HOUR, within=allowed(7), post=ONE)
    assert life.said == "" and [each.state for each in life.changes.resolved] == ["resolved"]


@pytest.mark.parametrize(("days", "silent"), [(8.74, False), (8.76, True)])
def test_a_run_may_be_late_by_a_quarter_of_its_period(engine, days, silent):
    ran(engine, NOW)
    assert bool(watch(engine, now=NOW + timedelta(days=days), within=allowed(7)).said) is silent


def test_a_silence_is_told_once_then_reminded_and_its_end_told(engine):
    told = Told()
    ran(engine, NOW)
    for day in (8, 9, 9.5, 10, 10.5, 11):
        now = NOW + timedelta(days=day)
        if day == 11:
            ran(engine, NOW + timedelta(days=10.9))
        watch(engine, now=now, within=allowed(7), post=ONE)
        run(engine, ONE, told, now)
    assert [title for _, title, _ in told.sent] == [
        f"[critical] {head}The monitor has not run" for head in ("", "Still: ", "Resolved: ")
    ]


def test_a_period_of_the_monitor_does_not_touch_the_alert_about_its_silence(engine):
    watch(engine, now=NOW, within=allowed(7))
    assert look(engine, Post(), "fine").all == ()


@pytest.mark.parametrize(("answers", "said"), [([], ""), ([503], "the heartbeat's service answered 503")])
def test_a_service_outside_is_asked_after_a_run(answers, said):
    with web_server(answers=answers) as hook:
        assert ping(f"http://127.0.0.1:{hook.port}/ping/3f2a-91") == said
    assert hook.paths == ["/ping/3f2a-91"]


def test_a_ping_that_cannot_be_sent_names_no_part_of_its_address():
    said = ping(f"http://127.0.0.1:{free_port()}/ping/3f2a-91?key=s3cret")
    assert "cannot be asked" in said and "3f2a" not in said and "s3cret" not in said
    with web_server(slow=True) as hook:
        assert "timed out" in ping(f"http://127.0.0.1:{hook.port}/3f2a-91", seconds=0.2)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org", "example.org/x"])
def test_nothing_but_http_is_asked(url):
    assert ping(url) == "MLW_HEARTBEAT_URL is no address that begins with http:// or https://"
