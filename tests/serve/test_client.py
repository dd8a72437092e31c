"""A client that asks until it is answered, and not once more."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ml_workbench.plan.errors import ServiceError
from ml_workbench.serve.client import Client, Refused, checked_address, pause_after, posted


class Stub:
    "A service that answers as told, and remembers what it was asked."

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict]] = []
        self.connections: set[int] = set()
        self.answer: Callable[[int, dict], tuple[int, dict, dict] | None] = lambda number, body: (
            200,
            {"ok": True},
            {},
        )
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                stub.connections.add(self.client_address[1])
                size = int(self.headers.get("content-length", 0))
                body = json.loads(self.rfile.read(size) or "{}")
                stub.asked.append((self.path, self.headers.get("authorization", ""), body))
                if (found := stub.answer(len(stub.asked), body)) is None:
                    self.close_connection = True
                    return
                status, content, headers = found
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in {"content-length": len(data), **headers}.items():
                    self.send_header(name, str(value))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def stub() -> Iterator[Stub]:
    made = Stub()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def client(stub) -> Iterator[Client]:
    made = Client(stub.url, "a-token-of-some-length", patience=10)
    yield made
    made.close()


def test_one_connection_serves_all_questions_and_carries_the_token(stub, client):
    assert [client.post("/v1/decisions", {"unit": str(number)}) for number in range(20)] == [
        {"ok": True}
    ] * 20
    assert len(stub.connections) == 1 and client.tries == 0
    assert {sent for _, sent, _ in stub.asked} == {"Bearer a-token-of-some-length"}


def test_what_is_lost_on_the_way_is_asked_again(stub, client):
    stub.answer = lambda number, body: None if number < 4 else (200, {"taken": body["unit"]}, {})
    assert client.post("/v1/decisions", {"unit": "7"}) == {"taken": "7"}
    assert client.tries == 3 and [body for *_, body in stub.asked] == [{"unit": "7"}] * 4


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_is_away_or_too_much_is_asked_again_after_as_long_as_it_says(stub, client, status):
    stub.answer = lambda number, body: (
        (status, {"title": "Away"}, {"retry-after": 1}) if number == 1 else (200, {}, {})
    )
    begun = time.monotonic()
    assert client.get("/v1/model") == {} and time.monotonic() - begun >= 1


def test_half_an_answer_is_no_answer(stub, client):
    stub.answer = lambda number, body: (200, b'{"ok": tr', {}) if number == 1 else (200, {"ok": True}, {})
    assert client.get("/v1/model") == {"ok": True}


@pytest.mark.parametrize("status", [400, 401, 404, 409, 413, 422, 500])
def test_a_refusal_is_an_answer_and_says_why(stub, client, status):
    problem = {"type": "urn:x", "title": "It does not fit", "status": status, "detail": "unit is missing"}
    stub.answer = lambda number, body: (status, problem, {})
    with pytest.raises(Refused, match=f"{status} It does not fit: unit is missing") as caught:
        client.post("/v1/decisions", {})
    assert caught.value.status == status and len(stub.asked) == 1 and "a-token" not in str(caught.value)


@pytest.mark.parametrize("body", [b"", b"<html>gone</html>", b"[]", b'"no"', b"\xff"])
def test_a_refusal_in_any_shape_is_told_in_a_line(stub, client, body):
    stub.answer = lambda number, _: (403, body, {})
    with pytest.raises(Refused, match="403 without a word"):
        client.get("/v1/model")


def test_patience_ends_and_the_last_reason_is_told(stub):
    stub.answer = lambda number, body: (503, {"title": "Not ready", "detail": "no release is loaded yet"}, {})
    with pytest.raises(
        ServiceError, match=r"has not answered for 0.3 seconds, at last .*503 Not ready: no release"
    ):
        Client(stub.url, patience=0.3).get("/v1/model")
    assert len(stub.asked) > 1


def test_a_service_that_takes_a_connection_and_says_nothing_is_left(stub):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ServiceError, match="has not answered"):
            Client(url, patience=0.2, seconds=0.2).get("/v1/model")


def test_waiting_can_be_ended_from_outside():
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    begun = time.monotonic()
    with pytest.raises(ServiceError, match="stopped"):
        Client("http://127.0.0.1:9", patience=60, stop=stop).get("/v1/model")
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("most", [1, 2, 3, 7, 100])
def test_a_list_that_is_too_long_is_sent_in_parts_each_once(stub, client, most):
    stub.answer = lambda number, body: (
        (413, {"title": "Too large"}, {}) if len(body["units"]) > most else (200, body, {})
    )
    answers = posted(client, "/v1/decisions", "units", list(range(23)))
    assert [unit for part in answers for unit in part["units"]] == list(range(23))
    assert max(len(part["units"]) for part in answers) <= most


def test_what_is_too_large_alone_is_refused(stub, client):
    stub.answer = lambda number, body: (413, {"title": "Too large"}, {})
    with pytest.raises(Refused, match="413 Too large"):
        posted(client, "/v1/decisions", "units", [1, 2])


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8502",
        "ftp://host",
        "http://",
        "http://host:port",
        "http://host:99999",
        "http://host?x=1",
        "file:///etc",
    ],
)
def test_what_is_no_address_is_said_to_be_none(url):
    with pytest.raises(ServiceError, match="is no address of a service: write http"):
        checked_address(url)


def test_a_password_in_an_address_is_refused_without_being_told():
    with pytest.raises(ServiceError, match="--token-file") as caught:
        Client("http://secret@127.0.0.1")
    assert "secret" not in str(caught.value)


def test_pauses_grow_and_end_at_two_seconds():
    longest = [max(pause_after(tries) for _ in range(200)) for tries in (1, 2, 4, 5000)]
    assert longest == sorted(longest) and 1.5 < longest[-1] <= 2
    assert pause_after(1, "soon") <= 0.05 and pause_after(1, "-3") <= 0.05
