"""How the processes fare is written down once a minute by whoever ships, and by every batch."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ml_workbench.serve import shipping, vitals
from ml_workbench.serve.delivery import DatabaseAway
from ml_workbench.serve.shipping import Shipper, Stop, fared, read_status, run
from ml_workbench.serve.vitals import family, memory, of_all, resident
from tests.serve.live import Place, running, until
from tests.serve.load import Load, all_there
from tests.serve.test_counting import migrated, record, row, spooled, table


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "spool"
    made.mkdir()
    return made


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    "A migrated database of either kind."
    postgres = request.param == "postgres"
    return migrated(
        request.getfixturevalue("postgres_url") if postgres else f"sqlite:///{tmp_path}/records.db"
    )


def ready(folder: Path, url: str, **options: object) -> Shipper:
    made = Shipper(folder, url, say=lambda *_, **__: None, **options)
    assert made.alone()
    return made


def test_a_minute_is_a_line_for_the_service_and_one_for_the_shipper(folder: Path, url: str) -> None:
    rows = [
        row(f"d{n}", latency_ms=n / 10, reason="fallback" if n < 3 else "assigned") for n in range(1, 101)
    ]
    spooled(folder, *map(record, rows), record(row("e", release="b" * 64, latency_ms=None)), b"poison")
    ship = ready(folder, url)
    ship.step()
    fared(ship)
    spooled(folder, record(row("f", latency_ms=3.0)))
    ship.step()
    fared(ship)
    ship.release()
    lines = sorted(table(url, "operations"), key=lambda each: (each["kind"], each["at"]))
    service, shipper = lines[:2], lines[2:]
    assert [each["kind"] for each in lines] == ["service"] * 2 + ["shipper"] * 2
    assert [(each["decisions"], each["failed"]) for each in service] == [(101, 2), (1, 0)]
    assert [(each["p50_ms"], each["p99_ms"]) for each in service] == [(5.0, 9.9), (3.0, 3.0)]
    assert {each["release"] for each in lines} == {"a" * 64}, "the one that answered most"
    assert [each["failed"] for each in shipper] == [1, 0], "records that were set aside"
    assert {each["process"] for each in service} == {ship.name} and all(each["seconds"] > 0 for each in lines)
    assert all(each["memory_mb"] is None for each in service), "nobody has said whose decisions these are"


def test_nothing_is_written_before_the_minute_is_over(
    folder: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ship = ready(folder, url)
    spooled(folder, record(row("d1")))
    ship.step()
    assert table(url, "operations") == []
    monkeypatch.setattr(shipping, "MINUTE", 0.0)
    ship.step()
    assert [each["decisions"] for each in table(url, "operations")] == [1, 1]
    ship.release()


def test_while_the_database_is_away_the_time_goes_on(folder: Path, tmp_path: Path) -> None:
    url = migrated(f"sqlite:///{tmp_path}/records.db")
    ship = ready(folder, url)
    spooled(folder, record(row("d1")))
    ship.step()
    (tmp_path / "records.db").rename(tmp_path / "elsewhere.db")
    ship.delivery.engine.dispose()
    with pytest.raises(DatabaseAway):
        fared(ship)
    (tmp_path / "elsewhere.db").replace(tmp_path / "records.db")
    ship.delivery.engine.dispose()
    fared(ship)
    assert [each["decisions"] for each in table(url, "operations")] == [1, 1]
    ship.release()


def test_what_was_shipped_last_is_told_at_the_end(folder: Path, url: str) -> None:
    spooled(folder, record(row("d1")))
    ship, stop = ready(folder, url), Stop(5)
    stop.ask()
    run(ship, stop)
    ship.release()
    assert {each["decisions"] for each in table(url, "operations")} == {1}


def test_a_share_of_values_is_one_of_them() -> None:
    assert of_all([], 0.5) is None and of_all([7.0], 0.5) == of_all([7.0], 0.99) == 7.0
    values = [float(n) for n in range(1, 1001)]
    assert (of_all(values, 0.5), of_all(values, 0.99), of_all(values, 1.0)) == (500.0, 990.0, 1000.0)


def test_the_memory_of_a_family_is_that_of_all_its_processes() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        until(lambda: len(family(process.pid)) == 2, 20)
        child = family(process.pid)[1]
        assert family(process.pid, without=child) == [process.pid]
        both = [each for each in (resident(process.pid), resident(child)) if each]
        assert memory([process.pid, child]) == pytest.approx(sum(both), rel=0.2)
        process.communicate(b"\n")
    assert memory([process.pid]) is None and memory([]) is None


def test_without_proc_nobody_knows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(vitals, "PROC", tmp_path)
    assert resident(os.getpid()) is None and memory(family(os.getpid())) is None


def test_a_service_with_all_its_processes_is_one_line(tmp_path: Path) -> None:
    place = Place(tmp_path / "service")
    units = place.fill_online()[:20]
    place.deploy()
    with running(place, workers=2) as service, Load(service.url, units) as load:
        load.wait_for(50)
        all_there(place, load)
        began = time.monotonic()
        pid = until(lambda: read_status(place.root / "state/spool").pid)
        sizes = [resident(each) for each in family(service.process.pid, without=pid)]
        os.kill(pid, signal.SIGTERM)  # asked to end, it tells what it has seen
        url = f"sqlite:///{place.root}/state/workbench.db"
        (line,) = until(lambda: [each for each in table(url, "operations") if each["kind"] == "service"])
    assert line["decisions"] >= 50 and line["p50_ms"] > 0 and line["seconds"] < time.monotonic() - began + 120
    assert line["process"].endswith(f":{service.process.pid}") and len(sizes) >= 3
    assert line["memory_mb"] == pytest.approx(sum(filter(None, sizes)), rel=0.2)
