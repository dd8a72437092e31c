"""The service as a function: the same answers as over HTTP, on record before they are given."""

import base64
import json
import threading
import time
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from ml_workbench.database.tables import table_of
from ml_workbench.plan.errors import ServiceError
from ml_workbench.serve import function
from ml_workbench.serve.delivery import Delivery
from ml_workbench.serve.function import Instance, answered, handler, make_instance
from ml_workbench.serve.service import make_service
from tests.release.small import members
from tests.serve.live import TOKEN, Place, features_of

BEARER = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
NOWHERE = "postgresql://nobody@127.0.0.1:9/none"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    found = Place(tmp_path_factory.mktemp("function"))
    found.fill_online()
    found.deploy()
    return found


@pytest.fixture(scope="module")
def checked() -> dict:
    "Releases that an instance of these tests has loaded: each is tried in a process of its own, and once is enough."
    return {}


@pytest.fixture
def instance(place, checked) -> Instance:
    made = make_instance(place.settings(max_rows=50, max_body_kb=64))
    made.follower._releases.update(checked)
    yield made
    checked.update(made.follower._releases)


@pytest.fixture(scope="module")
def service(place) -> TestClient:
    "The same over HTTP."
    with TestClient(make_service(place.settings(max_rows=50, max_body_kb=64))) as client:
        yield client


def event(method: str, path: str, body: Any = None, headers: dict | None = None, **context: Any) -> dict:
    "An event of payload version 2.0, as a gateway makes it."
    made = {
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "", "headers": BEARER if headers is None else headers,
        "requestContext": {"http": {"method": method, "path": path}, "stage": "$default", "requestId": "a-request"} | context,
    }  # fmt: skip
    if isinstance(body, bytes):
        return made | {"body": base64.b64encode(body).decode(), "isBase64Encoded": True}
    return (
        made
        if body is None
        else made | {"body": body if isinstance(body, str) else json.dumps(body), "isBase64Encoded": False}
    )


def asked(instance: Instance, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
    "The result as a gateway would send it."
    result = json.loads(json.dumps(answered(instance, event(method, path, body, **more))))
    assert set(result) == {"statusCode", "headers", "body", "isBase64Encoded"}
    return httpx.Response(result["statusCode"], headers=result["headers"], text=result["body"])


def decide(instance: Instance, body: Any, **more: Any) -> httpx.Response:
    return asked(instance, "POST", "/v1/decisions", body, **more)


def rows(place: Place, name: str, **where: Any) -> list[dict]:
    "What is in the database."
    table = table_of(name)
    with place.ledger.engine.connect() as connection:
        query = sa.select(table).where(*(table.c[key] == value for key, value in where.items()))
        return [dict(row) for row in connection.execute(query).mappings()]


# Answers ---------------------------------------------------------------------------------------------------


def test_a_decision_is_in_the_database_when_it_is_answered(instance, place):
    answer = decide(instance, {"unit": 12})
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    (served,) = rows(place, "served", decision_id=answer.json()["id"])
    assert (served["unit"], served["action"], served["score"]) == (
        "12",
        answer.json()["action"],
        answer.json()["score"],
    )
    assert rows(place, "assignments", unit="12") and rows(place, "predictions", unit="12")
    assert instance.answering.deferred == []


def test_it_answers_what_the_service_answers(instance, service):
    def essence(answer: dict) -> dict:
        return {key: value for key, value in answer.items() if key != "id"}

    questions = [{"unit": str(unit)} for unit in members("next")["member"].head(20)]
    questions += [
        {"unit": "new", "features": features_of(row), "as_of": "2024-07-15T05:00:00"}
        for row in members("next").head(10).to_dict("records")
    ]
    over_http = service.post("/v1/decisions", json={"units": questions}, headers=BEARER).json()["decisions"]
    assert asked(instance, "GET", "/v1/model").json() == service.get("/v1/model", headers=BEARER).json()
    ours = decide(instance, {"units": questions}).json()["decisions"]
    assert list(map(essence, ours)) == list(map(essence, over_http))


def test_a_body_may_come_as_base64(instance):
    assert decide(instance, b'{"unit": "12"}').json()["unit"] == "12"
    broken = event("POST", "/v1/decisions", b"{}") | {"body": "n@t base64"}
    assert answered(instance, broken)["statusCode"] == 400


def test_the_stage_of_a_gateway_is_no_part_of_the_address(instance):
    assert asked(instance, "GET", "/live/healthz", stage="live").json() == {"status": "ok"}
    assert asked(instance, "GET", "/liverpool", stage="live").status_code == 404


def test_outcomes_are_in_the_database_when_they_are_acknowledged(instance, place):
    pytest.importorskip("ml_workbench.serve.outcomes")
    visit = {
        "outcome": "visit",
        "event_id": "f-1",
        "unit": "12",
        "occurred_at": "2024-07-17T10:00:00",
        "value": 31.5,
    }
    answer = asked(instance, "POST", "/v1/outcomes", visit)
    assert answer.status_code == 202 and answer.json() == {"accepted": 1}
    assert [row["value"] for row in rows(place, "outcomes", event_id="f-1")] == [31.5]
    assert asked(instance, "POST", "/v1/outcomes", visit | {"value": "much"}).status_code == 422


# Refusals --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body", "headers"),
    [
        ("POST", "/v1/decisions", b"", {}),
        ("POST", "/v1/decisions", b"{", {}),
        ("POST", "/v1/decisions", b'{"unit": "\xff"}', {}),
        ("POST", "/v1/decisions", b"[" * 50_000, {}),
        ("POST", "/v1/decisions", b'{"unit": null}', {}),
        ("POST", "/v1/decisions", b'{"unit": "7", "features": {"days_since_visit": 1}}', {}),
        ("POST", "/v1/decisions", b'{"units": [' + b"1," * 60 + b"1]}", {}),
        ("POST", "/v1/decisions", b'{"unit": "' + b"x" * 70_000 + b'"}', {}),
        ("POST", "/v1/decisions", b'{"unit": "nobody"}', {}),
        ("POST", "/v1/decisions", b"unit=7", {"content-type": "application/x-www-form-urlencoded"}),
        ("POST", "/v1/decisions", b'{"unit": "7"}', {"authorization": ""}),
        ("POST", "/v1/decisions", b'{"unit": "7"}', {"authorization": "Bearer of-nothing-valid-here"}),
        ("GET", "/v1/model", None, {"authorization": ""}),
        ("GET", "/v1/decisions", None, {}),
        ("POST", "/v1/model", b"{}", {}),
        ("GET", "/v2/model", None, {}),
    ],
)  # fmt: skip
def test_it_refuses_what_the_service_refuses_in_the_same_words(
    instance, service, method, path, body, headers
):
    sent = BEARER | {"x-request-id": "one-request"} | headers
    ours = asked(instance, method, path, body, headers=sent)
    theirs = service.request(method, path, content=body, headers=sent)
    assert (ours.status_code, ours.headers["content-type"]) == (
        theirs.status_code,
        theirs.headers["content-type"],
    )
    said, other = ours.json(), theirs.json()
    assert {key: said.get(key) for key in ("type", "title", "status", "detail")} == {
        key: other.get(key) for key in ("type", "title", "status", "detail")
    }
    assert ours.headers["x-request-id"] == "one-request" and said["instance"].endswith("one-request")
    assert ours.headers.get("www-authenticate") == theirs.headers.get("www-authenticate")


@pytest.mark.parametrize(
    "odd",
    [{}, [], None, "text", {"version": "1.0"}, {"version": "2.0", "requestContext": None, "headers": [1]}],
)
def test_an_event_of_another_kind_is_a_problem_and_no_traceback(place, monkeypatch, capsys, odd):
    use(monkeypatch, place)
    result = handler(odd)
    assert result["statusCode"] == 400 and "payload version 2.0" in result["body"]
    assert "Traceback" not in capsys.readouterr().out


def test_units_beyond_the_rate_are_told_when_to_come_again(place):
    slow = make_instance(place.settings(rate_limit=1))
    answers = [decide(slow, {"unit": "12"}) for _ in range(4)]
    assert [each.status_code for each in answers[:2]] == [200, 200] and answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) >= 1


def test_without_tokens_only_those_whom_the_platform_let_in_are_answered(place):
    bare = make_instance(place.settings(tokens=""))
    plain = {"content-type": "application/json"}
    refused = decide(bare, {"unit": "12"}, headers=plain)
    assert refused.status_code == 401 and "MLW_TOKENS" in refused.json()["detail"]
    for authorizer in (
        {"iam": {"userArn": "arn:aws:iam::1:user/ann"}},
        {"jwt": {"claims": {"sub": "ann"}}},
        {"lambda": {"is": "fine"}},
    ):
        assert decide(bare, {"unit": "12"}, headers=plain, authorizer=authorizer).status_code == 200
    assert asked(bare, "GET", "/healthz", headers={}).status_code == 200


def test_a_platforms_word_does_not_stand_in_for_a_token_where_tokens_are_set(instance):
    answer = decide(instance, {"unit": "12"}, headers={}, authorizer={"jwt": {"claims": {"sub": "ann"}}})
    assert answer.status_code == 401


def test_what_nobody_foresaw_is_in_the_log_and_not_in_the_answer(instance, monkeypatch, capsys):
    instance.answering.log.out = None  # the test's own standard output
    monkeypatch.setattr(instance.answering, "decide", lambda *_: 1 / 0)
    answer = decide(instance, {"unit": "12"})
    assert answer.status_code == 500 and "ZeroDivision" not in answer.text
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (
        line["event"] == "request failed"
        and line["request"] == "a-request"
        and "ZeroDivisionError" in line["traceback"]
    )


# The database ----------------------------------------------------------------------------------------------


def test_a_decision_that_cannot_be_recorded_is_not_given_and_not_remembered(instance, place):
    decide(instance, {"unit": "12"})
    good, instance.delivery = instance.delivery, Delivery(NOWHERE)
    body = {"unit": "7", "id": "campaign-46-7"}
    answer = decide(instance, body)
    assert answer.status_code == 503 and answer.json()["type"].endswith(":not-recordable")
    assert (
        int(answer.headers["retry-after"]) >= 1
        and "nobody" not in answer.text
        and "127.0.0.1" not in answer.text
    )
    assert instance.answering.deferred == [] and rows(place, "served", decision_id="campaign-46-7") == []
    instance.delivery = good
    again = decide(instance, body)
    assert again.status_code == 200 and len(rows(place, "served", decision_id="campaign-46-7")) == 1


def test_asking_again_under_the_same_id_records_once(instance, place):
    body = {"unit": "12", "id": "campaign-47-12"}
    assert decide(instance, body).json() == decide(instance, body).json()
    other = make_instance(place.settings())  # another copy of the function knows nothing of the first
    assert decide(other, body).status_code == 200
    assert len(rows(place, "served", decision_id="campaign-47-12")) == 1
    assert decide(instance, {"unit": "7", "id": "campaign-47-12"}).status_code == 409


def test_a_record_that_the_database_refuses_is_not_answered(instance, monkeypatch):
    decide(instance, {"unit": "12"})
    damaged = orjson.dumps({"served": [{"decision_id": "x"}]})
    real = type(instance.answering).decide

    def decide_badly(self, *arguments):
        response = real(self, *arguments)
        self.deferred = [damaged]
        return response

    monkeypatch.setattr(type(instance.answering), "decide", decide_badly)
    answer = decide(instance, {"unit": "12"})
    assert answer.status_code == 500 and "served" not in answer.text


def test_before_the_first_deployment_and_without_a_database_it_says_that_it_is_not_ready(tmp_path):
    settings = Place(tmp_path).settings()
    for each in (settings, replace(settings, database_url=NOWHERE)):
        lonely = make_instance(each)
        answer = decide(lonely, {"unit": "12"})
        assert (
            answer.status_code == 503
            and answer.json()["type"].endswith(":not-ready")
            and answer.headers["retry-after"]
        )
        assert asked(lonely, "GET", "/healthz").status_code == 200


@pytest.mark.postgres
def test_with_postgresql(tmp_path, postgres_url):
    place = Place(tmp_path, postgres_url)
    place.fill_online()
    place.deploy()
    instance = make_instance(place.settings())
    answer = decide(instance, {"units": ["12", "7", "nobody"]})
    assert [each.get("unit") for each in answer.json()["decisions"]] == ["12", "7", "nobody"]
    assert {row["unit"] for row in rows(place, "served")} == {"12", "7"}
    with place.ledger.engine.connect() as connection:  # the server drops every connection, as a restart does
        connection.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
            )
        )
    assert decide(instance, {"unit": "9"}).status_code == 200


# The ledger ------------------------------------------------------------------------------------------------


def test_a_change_is_followed_with_the_next_request_but_not_looked_for_more_often_than_every_few_seconds(
    tmp_path, monkeypatch
):
    place = Place(tmp_path)
    place.fill_online()
    place.deploy()
    instance, looks = make_instance(place.settings()), []
    look = instance.follower.look
    monkeypatch.setattr(instance.follower, "look", lambda: looks.append(1) or look())
    assert asked(instance, "GET", "/v1/model").json()["line"] == 1
    place.deploy(place.alone(place.release()))
    asked(instance, "GET", "/healthz")
    assert asked(instance, "GET", "/v1/model").json()["line"] == 1 and len(looks) == 1
    assert 0 < instance._next - time.monotonic() <= function.EVERY
    instance._next = time.monotonic()  # those seconds are over
    assert asked(instance, "GET", "/v1/model").json()["line"] == 2 and len(looks) == 2


# The handler -----------------------------------------------------------------------------------------------


def use(monkeypatch, place: Place, **changes: Any) -> None:
    "Let the handler find its settings, as a platform's configuration gives them."
    function._instance.cache_clear()
    monkeypatch.chdir(place.root)
    for name, value in ({"database_url": place.url, "tokens": TOKEN} | changes).items():
        monkeypatch.setenv(f"MLW_{name.upper()}", str(value))


@pytest.fixture(autouse=True)
def _no_instance_left():
    yield
    function._instance.cache_clear()


def test_the_handler_reads_its_settings_once_and_keeps_what_it_loaded(place, monkeypatch):
    use(monkeypatch, place)
    first = handler(event("POST", "/v1/decisions", {"unit": "12"}), object())
    decider = function._instance().answering.decider
    second = handler(event("POST", "/v1/decisions", {"unit": "7"}))
    assert (first["statusCode"], second["statusCode"]) == (200, 200)
    assert function._instance().answering.decider is decider


def test_a_wrong_configuration_is_in_the_log_and_tried_again(place, monkeypatch, capsys):
    use(monkeypatch, place, tokens="short")
    result = handler(event("POST", "/v1/decisions", {"unit": "12"}))
    assert result["statusCode"] == 503 and "MLW_TOKENS" not in result["body"]
    line = json.loads(capsys.readouterr().out)
    assert (
        line["event"] == "configured wrongly"
        and "MLW_TOKENS" in line["reason"]
        and "short" not in line["reason"]
    )
    use(monkeypatch, place)
    assert handler(event("POST", "/v1/decisions", {"unit": "12"}))["statusCode"] == 200
    with pytest.raises(ServiceError, match="use at least 16"):
        make_instance(place.settings(tokens="short"))


def test_several_threads_get_their_own_answers_each_on_record(place, monkeypatch):
    use(monkeypatch, place)
    units, found = [str(unit) for unit in members("next")["member"].head(12)], {}

    def ask(unit: str) -> None:
        found[unit] = json.loads(handler(event("POST", "/v1/decisions", {"unit": unit}))["body"])

    threads = [threading.Thread(target=ask, args=(unit,)) for unit in units]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for unit, answer in found.items():
        assert answer["unit"] == unit and len(rows(place, "served", decision_id=answer["id"])) == 1
