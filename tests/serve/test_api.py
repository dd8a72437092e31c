"""The service as a client meets it, inside the test's own process."""

import asyncio
import json
import time

import orjson
import pytest
from starlette.testclient import TestClient

from ml_workbench.plan.errors import GateError, ServiceError, SpoolError
from ml_workbench.serve.answering import Recent
from ml_workbench.serve.asking import post
from ml_workbench.serve.delivery import Delivery
from ml_workbench.serve.segments import read, segments
from ml_workbench.serve.service import check_settings, make_service
from tests.release.small import members
from tests.serve.live import TOKEN, Place, features_of, until

HEADERS = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    found = Place(tmp_path_factory.mktemp("api"))
    found.fill_online()
    found.deploy()
    return found


@pytest.fixture(scope="module")
def service(place):
    with TestClient(make_service(place.settings(max_rows=50, max_body_kb=64)), headers=HEADERS) as client:
        yield client


@pytest.fixture(scope="module")
def member() -> dict:
    return members("next").to_dict("records")[3]


def waiting(place: Place) -> list[dict]:
    "What stands in the spool, record by record."
    found = []
    for segment in segments(place.root / "state/spool"):
        with segment.path.open("rb") as file:
            found += [orjson.loads(frame.record) for frame in read(file.fileno())]
    return found


def test_a_known_unit_is_decided_recorded_and_found_again(service, place):
    answer = service.post("/v1/decisions", json={"unit": 12}).json()
    assert answer["unit"] == "12" and answer["action"] in ("offer", "none") and answer["rank"] >= 1
    found = service.get(f"/v1/decisions/{answer['id']}").json()
    assert found["decision_id"] == answer["id"] and found["recorded"] is False
    assert (found["score"], found["action"], found["arm"]) == (
        answer["score"],
        answer["action"],
        answer["arm"],
    )
    assert len(found["features"]) == 4 and found["latency_ms"] > 0


def test_what_the_database_has_is_told_as_what_waits_for_it(service, place):
    answer = service.post("/v1/decisions", json={"unit": 12}).json()
    waits = service.get(f"/v1/decisions/{answer['id']}").json()
    Delivery(place.url, root=place.root).deliver(
        [orjson.dumps(record) for record in waiting(place) if "served" in record]
    )
    found = service.get(f"/v1/decisions/{answer['id']}").json()
    assert found["recorded"] is True and found["features"] == waits["features"]
    assert {**found, "recorded": 0, "at": 0, "as_of": 0} == {**waits, "recorded": 0, "at": 0, "as_of": 0}


def test_features_may_come_along(service, member):
    body = {"unit": "new-here", "features": features_of(member), "as_of": "2024-07-15T05:00:00"}
    answer = service.post("/v1/decisions", json=body)
    assert answer.status_code == 200 and answer.json()["as_of"] == "2024-07-15T05:00:00"


def test_many_units_are_answered_in_order_each_with_an_answer_or_a_problem(service):
    answer = service.post("/v1/decisions", json={"units": ["12", "nobody", {"unit": 7}]})
    one, other, third = answer.json()["decisions"]
    assert answer.status_code == 200 and (one["unit"], third["unit"]) == ("12", "7")
    assert other == {"unit": "nobody", "error": other["error"]} and other["error"]["status"] == 404
    assert service.post("/v1/decisions", json={"units": ["nobody"]}).status_code == 422


def test_asking_again_under_the_same_id_gives_the_same_answer_once(service):
    body = {"unit": "12", "id": "campaign-46-12"}
    one, other = service.post("/v1/decisions", json=body), service.post("/v1/decisions", json=body)
    assert one.json() == other.json() and one.json()["id"] == "campaign-46-12"
    problem = service.post("/v1/decisions", json={"unit": "7", "id": "campaign-46-12"})
    assert problem.status_code == 409 and "another question" in problem.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (b"", 400, "malformed"),
        (b"{", 400, "malformed"),
        (b'{"unit": NaN}', 400, "malformed"),
        (b'{"unit": "\xff"}', 400, "malformed"),
        (b"[" * 50_000, 400, "malformed"),
        (b"[]", 422, "invalid"),
        (b"null", 422, "invalid"),
        (b'{"unit": null}', 422, "invalid"),
        (b'{"unit": "a\\u0000b"}', 422, "invalid"),
        (b'{"unit": "7", "as_of": "soon"}', 422, "invalid"),
        (b'{"unit": "7", "as_of": 20240715}', 422, "invalid"),
        (b'{"unit": "7", "features": {}}', 422, "invalid"),
        (b'{"unit": "7", "features": {"days_since_visit": 1}}', 422, "invalid"),
        (b'{"unit": "7", "id": "../../etc"}', 422, "invalid"),
        (b'{"units": []}', 422, "invalid"),
        (b'{"units": ["7"], "unit": "7"}', 422, "invalid"),
        (b'{"units": [' + b"1," * 60 + b"1]}", 422, "invalid"),
        (b'{"unit": "' + b"x" * 70_000 + b'"}', 413, "too-large"),
        (b'{"unit": "nobody"}', 404, "unknown-unit"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_a_problem_that_says_why(service, body, status, kind):
    answer = service.post("/v1/decisions", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["type"].endswith(f":{kind}") and problem["status"] == status and problem["title"]
    assert "Traceback" not in answer.text and "/" not in problem.get("detail", "").replace(
        "application/json", ""
    ).replace("../../etc", "")


def test_only_json_is_read(service):
    answer = service.post(
        "/v1/decisions", content=b"unit=7", headers={"content-type": "application/x-www-form-urlencoded"}
    )
    assert answer.status_code == 415


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer wrong-token-of-some-length",
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
    ],
)
def test_without_a_valid_token_nothing_is_told(place, service, header):
    for method, path in (
        ("post", "/v1/decisions"),
        ("get", "/v1/model"),
        ("post", "/v1/outcomes"),
        ("get", "/v1/decisions/x"),
    ):
        headers = {} if header is None else {"authorization": header}
        answer = getattr(TestClient(service.app), method)(path, headers=headers)
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        assert TOKEN not in answer.text


def test_operations_need_no_token_and_tell_nothing_of_any_unit(service):
    plain = TestClient(service.app)
    assert plain.get("/healthz").json() == {"status": "ok"}
    assert plain.get("/readyz").json() == {"ready": True, "line": 1, "spool": "ok", "problems": []}
    text = plain.get("/metrics").text
    assert 'mlw_requests_total{path="/v1/decisions",status="200"}' in text and "mlw_spool_bytes" in text
    assert "mlw_decision_seconds_count" in text and '"12"' not in text


def test_what_is_in_force_is_told_with_model_cards(service, place):
    found = service.get("/v1/model").json()
    assert [(each["arm"], each["share"]) for each in found["arms"]] == [
        ("control", 0.36),
        ("champion", 0.36),
        ("challenger", 0.18),
    ]
    assert {each["id"] for each in found["releases"]} == set(place.deployment().needed)
    assert all(each["card"].startswith("#") for each in found["releases"]) and found["units_known"] > 100


def test_outcomes_are_on_record_before_they_are_acknowledged(service, place):
    visit = {
        "outcome": "visit",
        "event_id": "v-1",
        "unit": "12",
        "occurred_at": "2024-07-17T10:00:00",
        "value": 31.5,
    }
    assert service.post("/v1/outcomes", json=visit).json() == {"accepted": 1}
    assert service.post("/v1/outcomes", json={"outcomes": [visit | {"event_id": "v-2"}] * 2}).json() == {
        "accepted": 2
    }
    assert [row["event_id"] for record in waiting(place) for row in record.get("outcomes", [])] == [
        "v-1",
        "v-2",
        "v-2",
    ]
    refused = service.post("/v1/outcomes", json=visit | {"value": "much"})
    assert refused.status_code == 422 and "value" in refused.json()["detail"]


def test_unknown_addresses_and_methods_are_problems_too(service):
    assert service.get("/v2/decisions").json()["type"].endswith(":not-found")
    answer = service.get("/v1/decisions")
    assert answer.status_code == 405 and answer.json()["type"].endswith(":wrong-method")
    assert service.get("/v1/decisions/0000000000").json()["type"].endswith(":unknown-decision")
    assert TestClient(service.app).get("/docs").status_code == 401 or service.get("/docs").status_code == 404


def test_a_request_keeps_a_harmless_id_of_its_own(service):
    assert service.get("/healthz", headers={"x-request-id": "abc-123"}).headers["x-request-id"] == "abc-123"
    for harmful in ("a b", "x" * 65, 'a"b'):
        assert len(service.get("/healthz", headers={"x-request-id": harmful}).headers["x-request-id"]) == 16


def test_browsers_of_other_sites_are_told_nothing(service):
    answer = service.options(
        "/v1/decisions",
        headers={"origin": "https://elsewhere.example", "access-control-request-method": "POST"},
    )
    assert "access-control-allow-origin" not in answer.headers


def test_a_mistake_of_ours_goes_to_the_log_and_not_to_the_client(place, capsys):
    entrance = make_service(place.settings())
    with TestClient(entrance, headers=HEADERS) as client:
        entrance.answering.decider.router = None  # somebody broke it
        answer = client.post(
            "/v1/decisions", json={"unit": "12", "features": features_of(members("next").iloc[0])}
        )
        assert answer.status_code == 500 and answer.json()["title"] == "Something went wrong here"
        assert "NoneType" not in answer.text
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    failed = next(line for line in told if line["event"] == "request failed")
    assert "NoneType" in failed["error"] and "Traceback" in failed["traceback"]
    assert failed["request"] in answer.json()["instance"]


def test_a_token_may_only_ask_for_so_much(place):
    with TestClient(make_service(place.settings(rate_limit=5)), headers=HEADERS) as client:
        codes = [client.post("/v1/decisions", json={"unit": "12"}).status_code for _ in range(15)]
        assert codes[:10] == [200] * 10 and 429 in codes
        refused = client.post("/v1/decisions", json={"units": ["12"] * 9})
        assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1


def test_tokens_change_without_a_restart(place, tmp_path):
    file = tmp_path / "tokens"
    file.write_text("# the old one\nold-token-0123456789\n")
    settings = place.settings(tokens="", tokens_file=str(file), poll_ms=10)

    def status(client, token: str) -> int:
        return client.post(
            "/v1/decisions", json={"unit": "12"}, headers={"authorization": f"Bearer {token}"}
        ).status_code

    with TestClient(make_service(settings)) as client:
        assert (status(client, "old-token-0123456789"), status(client, "new-token-0123456789")) == (200, 401)
        file.write_text("old-token-0123456789\nnew-token-0123456789\n")
        until(lambda: status(client, "new-token-0123456789") == 200)
        assert status(client, "old-token-0123456789") == 200
        file.write_text("new-token-0123456789\n")
        until(lambda: status(client, "old-token-0123456789") == 401)
        file.unlink()
        until(
            lambda: (
                "tokens" in json.dumps(client.get("/readyz").json()["problems"])
                or client.app.answering.tokens.problem
            )
        )
        assert status(client, "new-token-0123456789") == 200, "what was valid stays valid"
        file.write_text("")  # as a program leaves it that opens it and has not written yet
        until(lambda: "empty" in (client.app.answering.tokens.problem or ""))
        assert status(client, "new-token-0123456789") == 200, "nobody is shut out half-way"
        file.write_text("#\n")
        until(lambda: status(client, "new-token-0123456789") == 401)
        assert client.app.answering.tokens.problem is None


def test_before_anything_is_deployed_the_service_is_not_ready(tmp_path):
    empty = Place(tmp_path / "empty")
    with TestClient(make_service(empty.settings(poll_ms=20)), headers=HEADERS) as client:
        assert client.get("/readyz").status_code == 503
        problem = client.post("/v1/decisions", json={"unit": "12"})
        assert problem.status_code == 503 and problem.json()["type"].endswith(":not-ready")
        empty.deploy()
        until(lambda: client.get("/readyz").status_code == 200)


def test_a_change_of_the_ledger_is_followed_within_two_seconds(tmp_path):
    place = Place(tmp_path / "follow")
    place.fill_online()
    place.deploy()
    with TestClient(make_service(place.settings(poll_ms=500)), headers=HEADERS) as client:
        taken = []
        for note in ("first", "second", "third"):  # the best of three: others use the machine too
            line = place.deploy(place.alone(release := place.release("xgboost", note=note)))
            begun = time.monotonic()
            until(lambda line=line: client.get("/readyz").json()["line"] == line)
            taken.append(time.monotonic() - begun)
        assert min(taken) < 2, taken
        answers = [
            client.post("/v1/decisions", json={"unit": str(unit)}) for unit in place.fill_online()[:20]
        ]
        assert {each.json()["release"] for each in answers} == {release[:12]}


@pytest.mark.parametrize("damage", ["missing", "flipped", "unreadable line"])
def test_a_line_that_cannot_be_followed_changes_nothing_and_is_told(tmp_path, damage):
    place = Place(tmp_path / "stay")
    place.fill_online()
    place.deploy()
    with TestClient(make_service(place.settings(poll_ms=20)), headers=HEADERS) as client:
        before = client.post("/v1/decisions", json={"unit": "12"}).json()
        if damage == "unreadable line":
            with place.ledger.engine.begin() as connection:
                connection.exec_driver_sql(
                    "INSERT INTO ledger (line, at, actor, action, state, reason, previous) VALUES (2, '2026-01-01 00:00:00.000000', 'x', 'deploy', '{', 'x', 1)"
                )
        else:
            name = place.release("random_forest")
            if damage == "missing":
                name = "f" * 64
            else:
                file = next((place.root / "state/store").rglob(f"*{name}*/**/model.onnx"))
                data = bytearray(file.read_bytes())
                data[len(data) // 2] ^= 1
                file.chmod(0o600)
                file.write_bytes(data)
            place.deploy(place.alone(name))
        until(lambda: client.get("/readyz").json()["problems"])
        told = client.get("/readyz")
        assert told.status_code == 200 and told.json()["line"] == 1
        after = client.post("/v1/decisions", json={"unit": "12"}).json()
        assert {**before, "id": ""} == {**after, "id": ""}
        good = place.deploy(place.alone(place.release("xgboost")))
        until(lambda: client.get("/readyz").json()["line"] == good)
        until(lambda: not client.get("/readyz").json()["problems"])


def test_where_decisions_must_be_on_disk_first_they_are(place):
    with TestClient(make_service(place.settings(fsync_ms=0)), headers=HEADERS) as client:
        answer = client.post("/v1/decisions", json={"unit": "12"}).json()
        assert client.get(f"/v1/decisions/{answer['id']}").json()["decision_id"] == answer["id"]


@pytest.mark.parametrize("policy", ["refuse", "drop"])
def test_a_full_spool_refuses_or_drops_as_configured_and_says_so(tmp_path, policy):
    place = Place(tmp_path / "full")
    place.fill_online()
    place.deploy()
    with TestClient(make_service(place.settings(spool_mb=1, spool_full=policy)), headers=HEADERS) as client:
        codes = set()
        for _ in range(900):
            codes.add(client.post("/v1/decisions", json={"units": ["12", "7"]}).status_code)
        metrics = client.get("/metrics").text
        if policy == "refuse":
            assert codes == {200, 503} and until(lambda: client.get("/readyz").status_code == 503)
            assert "mlw_ready 0.0" in client.get("/metrics").text
        else:
            assert codes == {200} and client.get("/readyz").status_code == 200
            dropped = next(line for line in metrics.splitlines() if line.startswith("mlw_spool_dropped"))
            assert float(dropped.split()[1]) > 0
        assert client.get("/readyz").json()["spool"] in ("full", "filling")


def test_a_service_that_others_reach_needs_a_token(place):
    with pytest.raises(ServiceError, match=r"set MLW_TOKENS or tokens_file, or listen on 127\.0\.0\.1"):
        check_settings(place.settings(tokens="", api_host="0.0.0.0"))
    with pytest.raises(ServiceError, match="use at least 16"):
        check_settings(place.settings(tokens="short"))


def test_requests_of_one_moment_are_answered_together_where_that_pays(place, awaited):
    entrance = make_service(place.settings(tokens=""))
    with TestClient(entrance) as client:
        entrance.answering.decider.gathers = True
        rows = members("next").to_dict("records")[:24]
        bodies = [
            {"unit": str(row["member"]), "features": features_of(row), "id": f"together-{row['member']}"}
            for row in rows
        ]
        bodies.append({"unit": "nobody"})
        asked = [orjson.dumps(body) for body in bodies]

        async def ask() -> list:
            return await asyncio.gather(
                *(post(entrance, "/v1/decisions", body) for body in asked), return_exceptions=True
            )

        before = entrance.answering.statistics.requests.copy()
        *found, refused = awaited(ask())
        entrance.answering.decider.gathers = False
        entrance.answering.recent = Recent()
        alone = [client.post("/v1/decisions", json=body).json() for body in bodies[:-1]]
    assert [each["unit"] for each in found] == [body["unit"] for body in bodies[:-1]]
    for one, other in zip(found, alone):
        assert one["score"] == (
            other["score"] if other["score"] is None else pytest.approx(other["score"], rel=1e-6)
        )
        assert (one["arm"], one["action"], one["id"]) == (other["arm"], other["action"], other["id"])
    assert isinstance(refused, GateError) and "404" in str(refused)
    assert entrance.answering.statistics.requests["/v1/decisions", 200] - before[
        "/v1/decisions", 200
    ] == 2 * len(found)
    records = [record for record in waiting(place) if len(record.get("served", ())) == len(found)]
    assert len(records) == 1, "one stroke for all of them"


def test_a_cheap_model_is_not_kept_waiting(place):
    with TestClient(make_service(place.settings(tokens=""))) as client:
        assert client.app.answering.decider.gathers is False


def test_what_did_not_reach_the_disk_is_not_answered_to_whoever_asks_again(place, monkeypatch):
    with TestClient(make_service(place.settings(tokens="", fsync_ms=0))) as client:
        spool = client.app.answering.spool

        async def fails(_record: bytes) -> bool:
            raise SpoolError("the disk is full")

        with monkeypatch.context() as patched:
            patched.setattr(spool, "durable", fails)
            body = {"unit": "12", "id": "asked-twice-12"}
            assert client.post("/v1/decisions", json=body).status_code == 503
        answer = client.post("/v1/decisions", json=body)
        assert answer.status_code == 200
        assert client.get("/v1/decisions/asked-twice-12").json()["decision_id"] == answer.json()["id"]
