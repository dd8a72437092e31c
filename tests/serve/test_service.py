"""The service as processes: what was acknowledged is there, whoever is killed, and no request fails that need not."""

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import psutil
import pytest

from tests.conftest import missing
from tests.release.small import members
from tests.serve.live import TOKEN, Place, features_of, free_port, running, until
from tests.serve.load import HEADERS, Load, all_there, served
from tests.serve.server import own_server
from tests.services import postgres_programs

UNITS = [str(member) for member in members("next")["member"][:4]]


@pytest.fixture
def place(tmp_path) -> Place:
    found = Place(tmp_path / "service")
    found.fill_online()
    found.deploy()
    return found


def test_sigterm_lets_requests_end_and_empties_the_spool(place):
    with running(place) as service:
        with Load(service.url, UNITS) as load:
            load.wait_for(50)
            code = service.stop()
        assert code in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
        assert set(load.acknowledged) <= served(place).keys() and load.refused == []
        assert not [path for path in (place.root / "state/spool").glob("*.log") if path.stat().st_size]
        assert [line["event"] for line in service.lines() if line.get("service")][-1] == "stopped"


def test_a_killed_service_loses_nothing_that_it_has_acknowledged(place):
    port = free_port()
    with running(place, port=port) as service, Load(service.url, UNITS) as load:
        load.wait_for(100)
        service.kill()
        with running(place, port=port):
            load.wait_for(100)
            all_there(place, load)
    assert load.refused == []


@pytest.mark.postgres
def test_a_database_that_is_killed_and_comes_back_is_not_noticed_by_clients(tmp_path):
    if not postgres_programs():
        missing("no PostgreSQL to kill")
    with own_server() as server:
        place = Place(tmp_path / "killed", server.url)
        place.fill_online()
        place.deploy()
        with running(place) as service, Load(service.url, UNITS) as load:
            load.wait_for(100)
            server.kill()
            load.wait_for(200)
            assert until(lambda: "ledger" in httpx.get(f"{service.url}/readyz").json()["problems"], 40)
            assert httpx.get(f"{service.url}/readyz").status_code == 200, "it answers as before"
            server.start()
            load.wait_for(100)
            until(lambda: httpx.get(f"{service.url}/readyz").json()["problems"] == [], 60)
            all_there(place, load, 60)
        assert (load.refused, load.broken) == ([], [])


@pytest.mark.postgres
def test_a_service_starts_where_it_left_off_while_database_and_store_are_away(tmp_path):
    if not postgres_programs():
        missing("no PostgreSQL to kill")
    with own_server() as server:
        place = Place(tmp_path / "away", server.url)
        place.deploy()
        with running(place) as service:
            service.stop()
        server.kill()
        (place.root / "state/store").rename(place.root / "state/elsewhere")
        with running(place) as service, service.client() as client:
            body = {"unit": "someone", "features": features_of(members("next").iloc[0])}
            answer = client.post("/v1/decisions", json=body)
            assert answer.status_code == 200
            assert "ledger" in client.get("/readyz").json()["problems"]
            server.start()
            until(lambda: served(place)[answer.json()["id"]] == 1, 60)


def test_a_rollback_under_load_fails_no_request_and_takes_less_than_two_seconds(place):
    with running(place) as service:
        second = place.deploy(place.alone(place.release("xgboost")))
        until(lambda: httpx.get(f"{service.url}/readyz").json()["line"] == second)
        units = [str(number) for number in place.fill_online()[:60]]
        with Load(service.url, units) as load:
            load.wait_for(100)
            begun = time.monotonic()
            command = [sys.executable, "-m", "ml_workbench.run.cli", "rollback", "--reason", "it misbehaves"]
            done = subprocess.run(
                command, cwd=place.root, env=place.environment(), capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            back = place.ledger.latest_line()
            until(lambda: httpx.get(f"{service.url}/readyz").json()["line"] == back, 5)
            assert time.monotonic() - begun < 4
            load.wait_for(100)
        assert (load.refused, load.broken) == ([], [])
        assert place.release()[:12] in load.lines and place.release("xgboost")[:12] in load.lines


def test_several_processes_answer_as_one(place):
    with running(place, workers=2) as service:

        def ask(unit: str) -> str:  # each on a connection of its own, which either process may take
            return httpx.post(
                f"{service.url}/v1/decisions", json={"unit": unit}, headers=HEADERS, timeout=20
            ).json()["id"]

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(ask, UNITS * 40))
        assert len({name[11:21] for name in found}) == 2, "both processes answered"
        until(lambda: {*found} <= served(place).keys(), 30)
        assert {*served(place).values()} == {1}
        asked = len(found)

        def counted() -> bool:
            lines = httpx.get(f"{service.url}/metrics").text.splitlines()
            return (
                sum(float(line.split()[-1]) for line in lines if line.startswith("mlw_decisions_total"))
                >= asked
            )

        until(counted, 10, "counts of both were not added up")


def test_two_services_may_share_one_spool(place):
    with running(place) as one, running(place) as other:
        with Load(one.url, UNITS[:2]) as first, Load(other.url, UNITS[2:]) as second:
            first.wait_for(50)
            second.wait_for(50)
            one.kill()
            second.wait_for(50)
        first.acknowledged += second.acknowledged
        all_there(place, first)
    assert second.broken == [] and second.refused == []


@contextmanager
def refused_start(place: Place, **settings):
    done = subprocess.run(
        [sys.executable, "-m", "ml_workbench.run.cli", "serve"], cwd=place.root, env=place.environment(**settings),
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    yield done.stderr


def test_what_keeps_a_service_from_starting_is_said_in_a_line(place):
    port = free_port()
    with running(place, port=port), refused_start(place, api_port=port) as said:
        assert f"cannot listen on 127.0.0.1 port {port}" in said and "MLW_API_PORT" in said
    with refused_start(place, api_host="0.0.0.0", tokens="") as said:
        assert "set MLW_TOKENS or tokens_file" in said and len(said.splitlines()) == 1
    with refused_start(place, tokens="short") as said:
        assert "token number 1" in said and "short" not in said
    (place.root / "blocked").write_text("")
    with refused_start(place, api_port=free_port(), spool_dir="blocked/spool") as said:
        assert "blocked" in said and len(said.splitlines()) == 1
    with refused_start(place, database_url="mysql://x") as said:
        assert "records are not kept in 'mysql'" in said


def test_nothing_secret_stands_in_the_log(place):
    with running(place) as service, service.client() as client:
        client.post(
            "/v1/decisions", json={"unit": UNITS[0]}, headers={"authorization": "Bearer a-wrong-token-000000"}
        )
        client.post("/v1/decisions", json={"unit": UNITS[0]})
        service.stop()
        text = service.log.read_text()
    assert TOKEN not in text and "a-wrong-token" not in text and '"12"' not in text


def test_a_client_that_dribbles_or_hangs_does_not_hold_others_up(place):
    import socket

    with running(place, request_seconds=1) as service, service.client() as client:
        sockets = []
        for _ in range(20):
            slow = socket.create_connection(("127.0.0.1", service.port))
            slow.sendall(
                b"POST /v1/decisions HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n"
                + f"Authorization: Bearer {TOKEN}\r\n\r\n{{".encode()
            )
            sockets.append(slow)
        assert client.post("/v1/decisions", json={"unit": UNITS[0]}).status_code == 200
        sockets[0].settimeout(10)
        assert b"408" in sockets[0].recv(4096)
        for each in sockets:
            each.close()


def test_a_shipper_that_dies_is_started_again(place):
    with running(place) as service, Load(service.url, UNITS[:1], clients=1) as load:
        load.wait_for(20)
        shipper = until(
            lambda: [
                each
                for each in psutil.Process(service.process.pid).children()
                if "shipping" in " ".join(each.cmdline())
            ]
        )[0]
        shipper.kill()
        load.wait_for(20)
        all_there(place, load)
        assert any(line["event"] == "shipper ended" for line in service.lines())


def test_processes_whose_parent_was_killed_end_by_themselves(place):
    with running(place, workers=2) as service:
        children = psutil.Process(service.process.pid).children(recursive=True)
        assert len(children) >= 3, "two that answer, one that ships"
        service.kill()
        until(
            lambda: (
                not [each for each in children if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
            ),
            30,
        )
