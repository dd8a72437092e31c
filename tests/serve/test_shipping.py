"""Every acknowledged decision is in the database exactly once; whatever is killed, whenever, and however often."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import orjson
import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_workbench.database.connections import address, connected, transaction
from ml_workbench.database.schema import upgrade
from ml_workbench.serve import shipping as module
from ml_workbench.serve.backlog import REJECTED, readmit
from ml_workbench.serve.delivery import DatabaseAway, Delivery
from ml_workbench.serve.segments import POSITIONS, framed, name_of, read_positions, segments
from ml_workbench.serve.shipping import Shipper, Stop, failed, read_status, run, tell
from ml_workbench.serve.spool import Spool

MB = 1 << 20
AT = "2026-11-23T05:00:00"
ROOT = Path(__file__).parents[2]


def rows(name: str, unit: str = "7") -> dict[str, list[dict]]:
    "What is written down of one decision."
    trial = {"experiment": "trial", "unit": unit}
    answer = {"score": 0.25, "value": 1.5}
    decision = {"decision_id": name, "at": AT, "as_of": AT, "line": 3, "arm": "offer", "propensity": 0.5}
    said = {
        "reason": "assigned",
        "release": "a" * 64,
        "policy": "proposed",
        "action": "offer",
        "channel": "rest",
    }
    return {
        "served": [trial | answer | decision | said | {"features_hash": "b" * 16, "latency_ms": 0.4}],
        "assignments": [
            trial | {"arm": "offer", "propensity": 0.5, "assigned_at": AT, "design_hash": "c" * 12}
        ],
        "predictions": [trial | answer | {"as_of": AT, "policy": "proposed", "rank": 17, "listed": True}],
        "exposures": [
            trial | {"as_of": AT, "arm": "offer", "action": "offer", "cost": 0.5, "propensity": 0.5}
        ],
    }


def record(name: str, unit: str = "7", **wrong: object) -> bytes:
    found = rows(name, unit)
    found["served"][0] |= wrong
    return orjson.dumps(found)


def until(true: Callable[[], object], seconds: float = 20) -> None:
    "Wait for something to become true."
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never became true"
        time.sleep(0.01)


def migrated(url: str) -> str:
    engine = connected(address(url))
    with transaction(engine) as connection:
        upgrade(connection)
    engine.dispose()
    return url


def asked(url: str, query: str) -> list:
    "What a database answers."
    engine = connected(address(url))
    with transaction(engine, reading=True) as connection:
        found = connection.execute(sa.text(query)).all()
    engine.dispose()
    return found


def served(url: str) -> list[str]:
    "The decisions in a database."
    return [each[0] for each in asked(url, "SELECT decision_id FROM served ORDER BY 1")]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    "A migrated database of either kind."
    postgres = request.param == "postgres"
    return migrated(
        request.getfixturevalue("postgres_url") if postgres else f"sqlite:///{tmp_path}/records.db"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    "A spool."
    made = tmp_path / "spool"
    made.mkdir()
    return made


def spooled(folder: Path, *records: bytes) -> None:
    "Records of a process that came to its end."
    with Spool(folder, limit_bytes=64 * MB, fsync_ms=20) as spool:
        for each in records:
            spool.append(each)


class Ears:
    "Hears what a shipper says."

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict]] = []

    def __call__(self, event: str, *, level: str = "info", **facts: object) -> None:
        self.lines.append((event, facts))

    @property
    def events(self) -> list[str]:
        return [event for event, _ in self.lines]


@contextmanager
def shipper(folder: Path, url: str, **options: object) -> Iterator[Shipper]:
    "A shipper in this process, alone with its folder."
    made = Shipper(folder, url, say=Ears(), **options)
    assert made.alone()
    yield made
    made.release()


def drained(ship: Shipper) -> None:
    "Ship everything."
    while ship.step():
        pass


# Processes.


def started(folder: Path, url: str, *arguments: str, code: str = "", **more: str) -> subprocess.Popen:
    "A shipping process, or a program that becomes one."
    command = [sys.executable, *(["-c", code] if code else ["-m", "ml_workbench.serve.shipping"]), *arguments]
    variables = {"MLW_DATABASE_URL": url, "MLW_SPOOL_DIR": str(folder), "PYTHONPATH": str(ROOT)} | more
    return subprocess.Popen(
        command, env=os.environ | variables, cwd=folder.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@contextmanager
def shipping(folder: Path, url: str, *arguments: str, **more: str) -> Iterator[subprocess.Popen]:
    "A shipping process, ended in the end."
    process = started(folder, url, *arguments, **more)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen) -> list[dict]:
    "Ask a process to end; what it said."
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err.decode()
    return [json.loads(line) for line in out.splitlines()]


WRITER = """
import os, sys, time
import orjson
from ml_workbench.serve.spool import Spool

folder, name, pace = sys.argv[1], sys.argv[2], float(sys.argv[3])
given = orjson.loads(sys.stdin.buffer.read())
with Spool(folder, limit_bytes=64 << 20, fsync_ms=20) as spool:
    for number in range(10**9):
        given["served"][0]["decision_id"] = f"{name}-{number:08}"
        for table in given.values():
            table[0]["unit"] = str(number % 97)
        spool.append(orjson.dumps(given))
        os.write(1, b"%08d\\n" % number)  # the answer
        time.sleep(pace)
"""


class Service:
    "A process that decides, and remembers what was acknowledged."

    def __init__(self, folder: Path, name: str, pace: float = 0.0005) -> None:
        self.name = name
        command = [sys.executable, "-c", WRITER, folder, name, str(pace)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
        self.process.stdin.write(orjson.dumps(rows("")))
        self.process.stdin.close()
        self.heard: list[bytes] = []

    def answers(self, count: int) -> None:
        "Wait for some more answers."
        self.heard += [self.process.stdout.readline() for _ in range(count)]

    def killed(self) -> list[str]:
        "Kill it; the decisions that it acknowledged."
        self.process.kill()
        self.heard += self.process.stdout.readlines()
        self.process.wait()
        self.process.stdout.close()
        return [f"{self.name}-{int(each):08}" for each in self.heard if each.endswith(b"\n")]


def accounted(url: str, acknowledged: list[str]) -> None:
    "Every acknowledged decision is there; of each service at most one more, that it could not answer any more."
    there = served(url)
    assert not {*acknowledged} - {*there}
    assert len(there) - len(acknowledged) <= len({each.split("-")[0] for each in acknowledged})
    units = asked(url, "SELECT count(DISTINCT unit) FROM served")[0][0]
    for table in ("assignments", "predictions", "exposures"):
        assert asked(url, f"SELECT count(*) FROM {table}")[0][0] == units


# What arrives.


def test_every_table_of_a_record_is_filled_in_one_transaction(folder: Path, url: str) -> None:
    spooled(folder, *(record(f"d{number}", str(number)) for number in range(20)))
    with shipper(folder, url, most=7) as ship:
        drained(ship)
        assert (ship.status.shipped, ship.status.rejected, segments(folder)) == (20, 0, [])
    assert served(url) == sorted(f"d{number}" for number in range(20))
    for table in ("assignments", "predictions", "exposures"):
        assert asked(url, f"SELECT count(*) FROM {table}") == [(20,)]
    engine = connected(address(url))
    with engine.connect() as connection:
        from ml_workbench.database.tables import table_of

        row = connection.execute(
            sa.select(table_of("served")).where(table_of("served").c.decision_id == "d3")
        ).one()
        assert row.as_of == row.at and f"{row.at:%Y-%m-%dT%H:%M:%S}" == AT
        assert (row.unit, row.score, row.line, row.features) == ("3", 0.25, 3, None)
        assert connection.execute(sa.select(table_of("predictions").c.listed).distinct()).scalars().all() == [
            True
        ]
    engine.dispose()


def test_a_batch_sent_again_doubles_nothing(folder: Path, url: str) -> None:
    spooled(folder, *(record(f"d{number}") for number in range(9)))
    copy = folder.parent / "copy"
    shutil.copytree(folder, copy)
    for each in (folder, copy):
        with shipper(each, url) as ship:
            drained(ship)
    assert served(url) == [f"d{number}" for number in range(9)]


def test_records_of_one_process_arrive_in_their_order(folder: Path, url: str) -> None:
    "The first row of a key stands, so the order shows in what stands."
    first = orjson.dumps({"outcomes": [outcome("b1", value=1.0)]})
    spooled(folder, first, *(orjson.dumps({"outcomes": [outcome("b1", value=2.0 + n)]}) for n in range(9)))
    with shipper(folder, url, most=3) as ship:
        drained(ship)
    assert asked(url, "SELECT value FROM outcomes") == [(1.0,)]


def outcome(event: str, **more: object) -> dict:
    row = {
        "outcome": "basket",
        "event_id": event,
        "unit": "7",
        "occurred_at": AT,
        "recorded_at": AT,
        "value": 1.0,
    }
    return row | more


def test_a_live_process_is_shipped_and_its_file_stays(folder: Path, url: str) -> None:
    with Spool(folder, limit_bytes=64 * MB, fsync_ms=20) as spool, shipper(folder, url) as ship:
        for number in range(3):
            spool.append(record(f"d{number}"))
            drained(ship)
            assert len(served(url)) == number + 1
        assert len(segments(folder)) == 1
    with shipper(folder, url) as ship:
        drained(ship)
    assert segments(folder) == []


def test_a_busy_process_does_not_keep_another_waiting(folder: Path, url: str) -> None:
    spooled(folder, *(record(f"busy-{number:03}") for number in range(100)))
    spooled(folder, record("other-1"), record("other-2"))
    with shipper(folder, url, most=10) as ship:
        assert ship.step()
    assert {"other-1", "other-2"} < {*served(url)}


# What does not fit.

UNFIT = {
    "no JSON": (b'{"served":', "a record is no JSON"),
    "no object": (b"[1]", "an object of lists"),
    "no rows": (b'{"served":{}}', "an object of lists"),
    "no row": (b'{"served":[7]}', "a row is an object"),
    "an unknown table": (b'{"servd":[]}', "did you mean 'served'"),
    "the ledger": (b'{"ledger":[]}', "a record names a table 'ledger'"),
    "an unknown column": (record("x", actoin="offer"), "did you mean 'action'"),
    "an empty column": (record("x", action=None), "served.action is empty"),
    "a wrong type": (record("x", score="high"), "served.score holds 'high': a number is needed"),
    "a truth for a number": (record("x", score=True), "served.score holds True"),
    "a large number": (record("x", line=2**31), "served.line holds 2147483648"),
    "a time with a zone": (record("x", at="2026-11-23T05:00:00+00:00"), "without a zone"),
    "no time": (record("x", at="yesterday"), "served.at holds 'yesterday'"),
    "the character NUL": (record("x", reason="a\0b"), "without the character NUL"),
    "an empty name": (record("x", unit=""), "unit is an empty text"),
}  # fmt: skip


@pytest.mark.parametrize("what", UNFIT)
def test_a_record_that_does_not_fit_is_set_aside_and_the_others_arrive(
    folder: Path, url: str, what: str
) -> None:
    poison, said = UNFIT[what]
    spooled(folder, record("d1"), poison, record("d2"), record("d3"))
    with shipper(folder, url) as ship:
        drained(ship)
        assert (ship.status.shipped, ship.status.rejected) == (3, 1)
        assert ship.say.events.count("a record was set aside") == 1
    assert served(url) == ["d1", "d2", "d3"] and segments(folder) == []
    (aside,) = (folder / REJECTED).iterdir()
    reason, kept = aside.read_bytes().split(b"\n", 1)
    assert said in json.loads(reason)["reason"] and kept == poison


@pytest.mark.postgres
def test_what_only_the_database_can_refuse_is_set_aside_too(folder: Path, postgres_url: str) -> None:
    endless = record("d2", unit=os.urandom(4000).hex())  # no index takes it
    unit = orjson.loads(endless)["served"][0]["unit"]
    poison = orjson.dumps({"assignments": [rows("x", unit)["assignments"][0]]})
    spooled(folder, *(record(f"d{number:03}") for number in range(50)), poison, record("e1"))
    migrated(postgres_url)
    with shipper(folder, postgres_url) as ship:
        drained(ship)
        assert (ship.status.shipped, ship.status.rejected) == (51, 1)
    assert len(served(postgres_url)) == 51
    assert b"index row" in next((folder / REJECTED).iterdir()).read_bytes()


def test_many_records_that_do_not_fit_keep_nobody_out(folder: Path, url: str) -> None:
    sent = [UNFIT["a wrong type"][0] if number % 3 else record(f"d{number:03}") for number in range(90)]
    spooled(folder, *sent)
    with shipper(folder, url) as ship:
        drained(ship)
    assert len(served(url)) == 30 and len(list((folder / REJECTED).iterdir())) == 60


def test_a_torn_tail_goes_aside_and_damage_in_the_middle_keeps_nobody_out(folder: Path, url: str) -> None:
    lines = [framed(record(f"d{number}"), 0) for number in range(4)]
    lines[1] = lines[1].replace(b"d1", b"d\0")
    (folder / name_of("a" * 12, 1)).write_bytes(b"".join(lines)[:-9])
    (folder / name_of("a" * 12, 2)).write_bytes(framed(record("d9"), 0))
    with shipper(folder, url) as ship:
        drained(ship)
        drained(ship)
        assert ship.say.events.count("damaged bytes were set aside") == 2
    assert served(url) == ["d0", "d2", "d9"] and segments(folder) == []
    kept = sorted(each.read_bytes().split(b"\n", 1)[1] for each in (folder / REJECTED).iterdir())
    assert kept == sorted([lines[1], lines[3][:-9]])


def test_records_set_aside_are_given_another_chance_when_the_mistake_is_mended(
    folder: Path, url: str
) -> None:
    spooled(folder, record("d1"), record("d2", action=None), b"poison")
    with shipper(folder, url) as ship:
        drained(ship)
        assert len(served(url)) == 1
        (mended,) = [each for each in (folder / REJECTED).iterdir() if b'"d2"' in each.read_bytes()]
        mended.write_bytes(mended.read_bytes().replace(b'"action":null', b'"action":"offer"'))
        assert readmit(folder) == 2 and readmit(folder) == 0
        drained(ship)
    assert served(url) == ["d1", "d2"] and segments(folder) == []
    assert len(list((folder / REJECTED).iterdir())) == 1


def test_large_records_are_shipped_a_few_at_a_time(
    folder: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml_workbench.serve.backlog.BYTES", 100_000)
    monkeypatch.setattr("ml_workbench.serve.segments.PIECE", 50_000)
    spooled(folder, *(record(f"d{number}", features="x" * 40_000) for number in range(9)))
    steps = 1
    with shipper(folder, url) as ship:
        while ship.step():
            steps += 1
    assert steps > 2 and len(served(url)) == 9


def test_what_died_before_it_got_its_name_is_removed(folder: Path, url: str) -> None:
    for name, age in ((".old.log.new", 100), (".fresh.log.new", 0)):
        (folder / name).touch()
        os.utime(folder / name, (time.time() - age,) * 2)
    with shipper(folder, url):
        assert {each.name for each in folder.iterdir()} == {".fresh.log.new", module.LOCK}


# Who is killed.


def test_a_service_killed_under_load_loses_nothing(folder: Path, url: str) -> None:
    acknowledged = []
    with shipping(folder, url, "--parent", str(os.getpid())) as process:
        for name in ("one", "two"):
            service = Service(folder, name)
            service.answers(400)
            acknowledged += service.killed()
        until(lambda: not segments(folder))
        said = ended(process)
    accounted(url, acknowledged)
    assert [each["event"] for each in said] == ["shipping", "stopped"]


BETWEEN = """
import os, signal, sys
from ml_workbench.serve import shipping as module

def dies(*_):
    os.kill(os.getpid(), signal.SIGKILL)  # the rows are in the database, and nobody knows

module.write_positions = dies
sys.exit(module.main([]))
"""


def test_a_shipper_killed_between_commit_and_position_doubles_nothing(folder: Path, url: str) -> None:
    spooled(folder, *(record(f"d{number}") for number in range(50)))
    with shipping(folder, url, code=BETWEEN) as process:
        process.wait(timeout=30)
        assert process.returncode == -signal.SIGKILL
    assert len(served(url)) == 50 and not read_positions(folder)
    with shipper(folder, url) as ship:
        drained(ship)
        assert (ship.delivery.given, ship.delivery.new) == (200, 0)
    assert len(served(url)) == 50 and segments(folder) == []


def test_shippers_killed_one_after_the_other_under_load_lose_and_double_nothing(
    folder: Path, url: str
) -> None:
    service = Service(folder, "one")
    for _ in range(3):
        with shipping(folder, url) as process:
            before = len(served(url))
            until(lambda before=before: len(served(url)) > before)
            service.answers(50)
            process.kill()
    acknowledged = service.killed()
    with shipper(folder, url) as ship:
        drained(ship)
    accounted(url, acknowledged)


def test_two_services_and_two_shippers_in_one_folder(folder: Path, url: str) -> None:
    services = [Service(folder, name) for name in ("one", "two")]
    with shipping(folder, url) as first:
        assert json.loads(first.stdout.readline())["event"] == "shipping"
        with shipping(folder, url) as second:
            assert "waiting for its end" in json.loads(second.stdout.readline())["event"]
            assert read_status(folder) is None or read_status(folder).pid == first.pid
            for each in services:
                each.answers(200)
            first.kill()
            assert json.loads(second.stdout.readline())["event"] == "shipping"
            until(lambda: (said := read_status(folder)) is not None and said.pid == second.pid)
            acknowledged = [name for each in services for name in each.killed()]
            until(lambda: not segments(folder))
            ended(second)
    accounted(url, acknowledged)


class Postgres:
    "A PostgreSQL server of a test's own, that can be killed and started again."

    def __init__(self, folder: Path) -> None:
        sys.path.insert(0, str(ROOT / "tests"))
        import services

        self.services, self.who, self.port = services, services.unprivileged(), services.free_port()
        self.programs, self.folder = services.postgres_programs(), folder
        self.cluster, self.log = folder / "cluster", folder / "log"
        if self.who:
            os.chown(folder, self.who["user"], self.who["group"])
        command = ["initdb", "-D", self.cluster, "-U", "mlw", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
        made = subprocess.run(
            [self.programs / command[0], *command[1:]], cwd=folder, capture_output=True, **self.who
        )
        assert made.returncode == 0, made.stderr
        self.url = f"postgresql://mlw@127.0.0.1:{self.port}/postgres"
        self.server: subprocess.Popen | None = None

    def start(self) -> None:
        with suppress(FileNotFoundError):
            (self.cluster / "postmaster.pid").unlink()  # of the one that was killed
        command = ["-D", self.cluster, "-h", "127.0.0.1", "-p", str(self.port), "-k", self.folder, "-F"]
        self.server = subprocess.Popen(
            [self.programs / "postgres", *command], cwd=self.folder, stdin=subprocess.DEVNULL,
            stdout=self.log.open("w"), stderr=subprocess.STDOUT, start_new_session=True, **self.who,
        )  # fmt: skip
        self.services.wait_for(self.server, self.cluster / "postmaster.pid", self.log)

    def kill(self) -> None:
        "At once, as if the power had gone: PostgreSQL's immediate shutdown."
        if self.server:
            self.server.send_signal(signal.SIGQUIT)
            self.server.wait()


@pytest.fixture
def mortal(postgres_server: str) -> Iterator[Postgres]:
    "A PostgreSQL server that can be killed."
    folder = Path("/tmp") / f"mlw-mortal-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    server = Postgres(folder)
    server.start()
    yield server
    server.kill()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.postgres
def test_a_database_killed_in_the_middle_gets_everything_when_it_is_back(
    folder: Path, mortal: Postgres
) -> None:
    migrated(mortal.url)
    service = Service(folder, "one")
    with shipping(folder, mortal.url) as process:
        until(lambda: len(served(mortal.url)) > 100)
        for _ in range(2):
            mortal.kill()
            service.answers(300)  # the service does not notice
            until(lambda: not read_status(folder).reachable)
            mortal.start()
            until(lambda: read_status(folder).reachable)
        acknowledged = service.killed()
        until(lambda: not segments(folder))
        said = [each["event"] for each in ended(process)]
    accounted(mortal.url, acknowledged)
    assert said == ["shipping", *["the database is away", "shipping again"] * 2, "stopped"]


@pytest.mark.postgres
def test_everybody_is_killed_and_nothing_is_lost(folder: Path, mortal: Postgres) -> None:
    migrated(mortal.url)
    services, acknowledged = [Service(folder, "one"), Service(folder, "two")], []
    with shipping(folder, mortal.url) as process:
        until(lambda: len(served(mortal.url)) > 50)
        services[0].answers(100)
        acknowledged += services[0].killed()
        mortal.kill()
        services[1].answers(100)
        process.kill()
    with shipping(folder, mortal.url) as process:
        assert json.loads(process.stdout.readline())["event"] == "shipping"
        acknowledged += services[1].killed()
        mortal.start()
        until(lambda: not segments(folder))
        ended(process)
    accounted(mortal.url, acknowledged)


@pytest.mark.postgres
def test_a_connection_cut_in_the_middle_of_a_batch_is_made_again(folder: Path, postgres_url: str) -> None:
    migrated(postgres_url)
    spooled(folder, *(record(f"d{number:04}", str(number)) for number in range(900)))
    with shipper(folder, postgres_url, most=300) as ship:
        ship.step()
        kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ml-workbench shipping'"
        assert asked(postgres_url, kill) == [(True,)]
        with suppress(DatabaseAway):
            ship.step()
        drained(ship)
    assert len(served(postgres_url)) == 900


# When the database is not there.


def test_a_database_without_tables_takes_everything_once_it_has_them(folder: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/later.db"
    spooled(folder, record("d1"))
    with shipper(folder, url) as ship:
        for _ in range(3):
            with pytest.raises(DatabaseAway, match="lacks tables of this version") as caught:
                ship.step()
            failed(ship, caught.value)
        assert read_status(folder).reachable is False and "lacks tables" in read_status(folder).error
        assert read_status(folder).waiting == 1
        migrated(url)
        drained(ship)
        assert ship.say.events == ["shipping", "the database is away", "shipping again"]
        assert ship.say.lines[-1][1]["waited"] == 1
        assert read_status(folder).reachable and not read_status(folder).error
    assert served(url) == ["d1"]


def test_the_pauses_grow_to_two_seconds_and_no_further(folder: Path, tmp_path: Path) -> None:
    with shipper(folder, f"sqlite:///{tmp_path}/later.db") as ship:
        pauses = [failed(ship, DatabaseAway("away")) for _ in range(40)]
    assert 0.05 <= pauses[0] <= 0.1 and 0.1 <= pauses[1] <= 0.2
    assert all(1 <= each <= 2 for each in pauses[5:])


def test_an_absent_database_is_told_without_its_password(folder: Path) -> None:
    spooled(folder, record("d1"))
    with shipper(folder, "postgresql://ann:s3cret@127.0.0.1:1/records") as ship:
        with pytest.raises(DatabaseAway, match="cannot be reached") as caught:
            ship.step()
        failed(ship, caught.value)
        assert "s3cret" not in repr(ship.say.lines) + (folder / module.STATUS).read_text() + repr(
            ship.delivery
        )
        assert "ann@127.0.0.1:1" in read_status(folder).error
    assert len(segments(folder)) == 1


def test_a_database_that_goes_while_nothing_is_sent_is_noticed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = migrated(f"sqlite:///{tmp_path}/records.db")
    monkeypatch.setattr(module, "PING", 0.0)
    with shipper(folder, url) as ship:
        ship.step()
        assert ship.status.reachable
        ship.delivery.engine.dispose()
        (tmp_path / "records.db").write_text("no database at all, " * 99)
        with pytest.raises(DatabaseAway, match="no SQLite database"):
            ship.step()


def test_another_writer_is_waited_for(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = migrated(f"sqlite:///{tmp_path}/records.db")
    spooled(folder, record("d1"))
    other = connected(address(url))
    with shipper(folder, url) as ship:
        with transaction(other), monkeypatch.context() as patch:
            patch.setattr("ml_workbench.serve.delivery._OURS", ("PRAGMA busy_timeout=50",))
            with pytest.raises(DatabaseAway, match="database is locked"):
                ship.step()
        drained(ship)
    assert served(url) == ["d1"]


# When the folder is not there.


def test_a_folder_that_goes_and_comes_back_is_shipped_again(folder: Path, url: str) -> None:
    with shipper(folder, url) as ship:
        ship.step()
        folder.rename(folder.with_name("away"))
        with pytest.raises(OSError) as caught:
            ship.alone()
        failed(ship, caught.value)
        assert ship.say.events[-1] == "the spool cannot be read"
        spooled(folder, record("d1"))
        assert ship.alone()  # in the new one
        drained(ship)
    assert served(url) == ["d1"]


def test_positions_that_are_lost_or_lie_cost_work_and_nothing_else(folder: Path, url: str) -> None:
    with Spool(folder, limit_bytes=64 * MB, fsync_ms=20) as spool, shipper(folder, url) as ship:
        for number in range(5):
            spool.append(record(f"d{number}"))
        drained(ship)
        for text in ("", "{}", "[", '{"x": [1, 2]}'):
            (folder / POSITIONS).write_text(text)
            ship.release()
            assert ship.alone()
            drained(ship)
    assert len(served(url)) == 5


# Coming to an end.


def test_when_asked_to_end_it_ships_what_is_there_and_says_goodbye(folder: Path, url: str) -> None:
    service = Service(folder, "one")
    with shipping(folder, url) as process:
        assert json.loads(process.stdout.readline())["event"] == "shipping"
        service.answers(200)
        acknowledged = service.killed()
        said = ended(process)
    accounted(url, acknowledged)
    assert said[-1]["event"] == "stopped" and said[-1]["shipped"] >= len(acknowledged)
    assert read_status(folder).waiting == 0 and segments(folder) == []


def test_it_waits_for_a_service_that_comes_to_its_end_but_not_for_ever(folder: Path, tmp_path: Path) -> None:
    url, stop = migrated(f"sqlite:///{tmp_path}/records.db"), Stop(0.3)
    with Spool(folder, limit_bytes=MB, fsync_ms=20) as spool:
        spool.append(record("d1"))
        with shipper(folder, url) as ship:
            stop.ask()
            begun = time.monotonic()
            run(ship, stop)
            assert 0.3 <= time.monotonic() - begun < 3
    assert served(url) == ["d1"]


def test_with_the_database_away_it_ends_in_time_and_leaves_everything(folder: Path) -> None:
    spooled(folder, record("d1"))
    away = "postgresql://mlw@127.0.0.1:1/records"
    with shipping(folder, away, MLW_DRAIN_SECONDS="1") as process:
        until(lambda: read_status(folder) is not None)
        begun = time.monotonic()
        said = ended(process)
        assert time.monotonic() - begun < 4
    assert [each["event"] for each in said] == ["shipping", "the database is away", "stopped"]
    assert len(segments(folder)) == 1


def test_a_database_that_does_not_answer_does_not_keep_it_alive(folder: Path) -> None:
    import socket

    spooled(folder, record("d1"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://mlw@127.0.0.1:{silent.getsockname()[1]}/records"
        with shipping(folder, url, MLW_DRAIN_SECONDS="0") as process:
            silent.accept()
            begun = time.monotonic()
            ended(process)
            assert time.monotonic() - begun < 4
    assert len(segments(folder)) == 1


PARENT = """
import os, subprocess, sys
from ml_workbench.serve.shipping import command

child = subprocess.Popen(command())
print(child.pid, flush=True)
sys.stdin.read()
"""


def test_it_ends_when_the_process_that_started_it_dies(folder: Path, tmp_path: Path) -> None:
    url = migrated(f"sqlite:///{tmp_path}/records.db")
    variables = {"MLW_DATABASE_URL": url, "MLW_SPOOL_DIR": str(folder), "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], env=os.environ | variables, cwd=tmp_path,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    child = int(parent.stdout.readline())
    until(lambda: read_status(folder) is not None and read_status(folder).pid == child)
    parent.kill()
    parent.communicate()

    def gone() -> bool:
        with suppress(FileNotFoundError):
            return Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        return True

    until(gone, 15)


def test_a_mistake_in_the_settings_is_a_line(folder: Path) -> None:
    process = started(folder, "mysql://ann:s3cret@host/db")
    out, err = process.communicate(timeout=30)
    said = json.loads(out)
    assert process.returncode == 1 and not err
    assert said["event"] == "shipping cannot start" and "'mysql'" in said["reason"] and b"s3cret" not in out


# What the service reads.


def test_the_status_says_how_it_stands(folder: Path, url: str) -> None:
    assert read_status(folder) is None
    spooled(folder, *(record(f"d{number}") for number in range(5)), b"poison")
    with shipper(folder, url, most=4) as ship:
        tell(ship)
        assert (read_status(folder).reachable, read_status(folder).waiting) == (False, 6)
        ship.step()
        tell(ship)
        said = read_status(folder)
        assert (said.shipped, said.waiting, said.reachable, said.pid) == (4, 2, True, os.getpid())
        assert 0 <= time.time() - said.committed_at < 60 and 0 <= said.age < 60
        drained(ship)
        tell(ship)
        said = read_status(folder)
        assert (said.shipped, said.rejected, said.waiting, said.oldest_seconds) == (5, 1, 0, 0)


def test_lines_are_json_and_those_that_matter_less_can_be_left_out(capsys: pytest.CaptureFixture) -> None:
    say = module.Lines("warning")
    say("shipping")
    say("a record was set aside", level="error", reason="because")
    (line,) = capsys.readouterr().out.splitlines()
    told = json.loads(line)
    assert (told["level"], told["event"], told["reason"]) == ("error", "a record was set aside", "because")
    assert told["service"] == "shipper" and told["time"].endswith("+00:00")


def test_the_process_stays_lean(run_python: Callable) -> None:
    heavy = ("pandas", "pyarrow", "duckdb", "numpy", "alembic", "pydantic")
    code = (
        f"import sys, ml_workbench.serve.shipping; print([each for each in {heavy} if each in sys.modules])"
    )
    assert run_python("-c", code).stdout == "[]\n"


# Delivery by itself.


def test_only_errors_about_records_throw_records_out() -> None:
    from ml_workbench.serve.delivery import about_records

    class Driver(Exception):
        def __init__(self, sqlstate: str | None) -> None:
            self.sqlstate = sqlstate

    assert all(about_records(Driver(code)) for code in ("22P05", "23502", "22003", "54000"))
    away = (None, "08006", "57P01", "53100", "40P01", "40001", "42P01", "42501", "25006", "XX000")
    assert not any(about_records(Driver(code)) for code in away)
    assert about_records(UnicodeEncodeError("utf-8", "\ud800", 0, 1, "")) and not about_records(MemoryError())


def test_a_batch_of_nothing_is_nothing(url: str) -> None:
    delivery = Delivery(url)
    assert delivery.deliver([]) == delivery.deliver([b"{}"]) == []
    assert [each.index for each in delivery.deliver([b"{}", b"poison"])] == [1]
    delivery.ping()
    delivery.close()


@pytest.mark.postgres
def test_shippers_of_two_machines_do_not_block_each_other(tmp_path: Path, postgres_url: str) -> None:
    "Both bring rows of the same units, in opposite orders: a lock taken in the order of arrival would be deadly."
    from concurrent.futures import ThreadPoolExecutor

    migrated(postgres_url)
    folders = [tmp_path / name for name in ("one", "two")]
    for number, each in enumerate(folders):
        units = range(400) if number else reversed(range(400))
        spooled(each, *(record(f"{each.name}-{unit:03}", str(unit)) for unit in units))

    def ship(each: Path) -> None:
        with shipper(each, postgres_url, most=100) as own:
            drained(own)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(ship, folders))
    assert len(served(postgres_url)) == 800
    assert asked(postgres_url, "SELECT count(*) FROM assignments") == [(400,)]
    assert psycopg.__version__


# Any order of anything.

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 4)),
        st.tuples(st.just("tear"), st.integers(1, 60)),
        st.tuples(st.sampled_from(["die", "ship", "ship and die", "lose positions", "poison", "away"]), st.just(0)),
    ),
    min_size=3, max_size=14,
)  # fmt: skip


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> str:
    return migrated(f"sqlite:///{tmp_path_factory.mktemp('shared')}/records.db")


class Killed(BaseException):
    "A process dies here."


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_whatever_happens_in_whatever_order_nothing_is_lost_and_nothing_doubled(
    steps: list[tuple[str, int]], shared: str, tmp_path: Path
) -> None:
    folder = tmp_path / uuid.uuid4().hex
    run_name, sent, spool, refused = uuid.uuid4().hex[:8], [], None, 0
    for what, count in [*steps, ("die", 0)]:
        spool = spool or Spool(folder, limit_bytes=300_000, fsync_ms=60_000)
        if what == "append":
            for _ in range(count):
                sent.append(f"{run_name}-{len(sent):03}")
                spool.append(record(sent[-1], unit=run_name))
        elif what == "poison":
            spool.append(b'{"served":[{"decision_id":null}]}')
            refused += 1
        elif what == "tear":  # a line that was not finished when the process died
            line = framed(record(f"{run_name}-torn"), 0)
            os.write(spool._writer._file, line[: count * len(line) // 100])
            spool = abandoned(spool)
        elif what == "die":
            spool = abandoned(spool)
        elif what == "lose positions":
            (folder / POSITIONS).unlink(missing_ok=True)
        else:
            stepped(folder, shared, what)
    with shipper(folder, shared) as ship:
        drained(ship)
        drained(ship)  # a tail that is torn shows when nothing comes after it
    assert [each for each in served(shared) if each.startswith(run_name)] == sent
    assert segments(folder) == []
    aside = list((folder / REJECTED).glob("*.record")) if refused else []
    assert len(aside) == refused


def abandoned(spool: Spool) -> None:
    "What is left of a spool when its process is killed: its files, without their lock."
    spool._closing.set()
    spool._wake.set()
    spool._thread.join()
    os.close(spool._writer._file)
    for each in spool._writer._left:
        os.close(each)


def stepped(folder: Path, url: str, what: str) -> None:
    "A shipper that does a step, and perhaps dies at the worst moment."
    with pytest.MonkeyPatch.context() as patch:
        if what == "ship and die":

            def dies(*_: object) -> None:
                raise Killed

            patch.setattr(module, "write_positions", dies)
        if what == "away":

            def away(*_: object, **__: object) -> None:
                raise DatabaseAway("away")

            patch.setattr(Delivery, "_transact", away)
        ship = Shipper(folder, url, most=3, say=Ears())
        assert ship.alone()
        with suppress(Killed, DatabaseAway):
            ship.step()
        ship.release()
