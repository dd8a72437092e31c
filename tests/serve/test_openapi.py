"""The service holds to its own OpenAPI document, whatever is sent to it: a thousand requests that a machine made up."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from tests.serve.live import TOKEN, Place, running

# Not asked: that whatever fits the document is accepted. Which units are known no document can say.
CHECKS = [
    not_a_server_error, content_type_conformance, ignored_auth, negative_data_rejection, response_schema_conformance,
    status_code_conformance, unsupported_method,
]  # fmt: skip


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("openapi"))
    place.fill_online()
    place.deploy()
    with running(place) as found:
        yield found


@pytest.fixture(scope="module")
def document(service):
    config = schemathesis.Config()
    return schemathesis.openapi.from_url(f"{service.url}/openapi.json", config=config)


OPERATIONS = [
    ("POST", "/v1/decisions"), ("GET", "/v1/decisions/{id}"), ("POST", "/v1/outcomes"), ("GET", "/v1/model"), ("GET", "/healthz"),
    ("GET", "/readyz"), ("GET", "/metrics"),
]  # fmt: skip


def test_every_address_is_in_the_document(document):
    assert {(each.ok().method.upper(), each.ok().path) for each in document.get_all_operations()} == set(
        OPERATIONS
    )


FITTING = [(*each, GenerationMode.POSITIVE) for each in OPERATIONS]
MISFITTING = [
    (*each, GenerationMode.NEGATIVE) for each in OPERATIONS if "{" in each[1] or each[0] == "POST"
]  # that have parts


@pytest.mark.parametrize(("method", "path", "mode"), FITTING + MISFITTING, ids=str)
def test_every_answer_is_what_the_document_promises(document, method, path, mode):
    examples = 60 if "{" in path or method == "POST" else 5

    @given(case=document[path][method].as_strategy(generation_mode=mode))
    @settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
    )
    def ask(case):
        case.call_and_validate(checks=CHECKS, headers={"Authorization": f"Bearer {TOKEN}"})

    ask()


def test_the_examples_of_the_document_are_answered(service):
    with service.client() as client:
        document = client.get("/openapi.json").json()
        assert document["openapi"].startswith("3.1") and "HTTPBearer" in str(
            document["paths"]["/v1/decisions"]["post"]["security"]
        )
        for path, status in (("/v1/decisions", 200), ("/v1/outcomes", 202)):
            examples = document["paths"][path]["post"]["requestBody"]["content"]["application/json"][
                "examples"
            ]
            for example in examples.values():
                value = (
                    {**example["value"], "unit": "12"}
                    if "unit" in example["value"]
                    else {"units": ["12", "7"]}
                )
                assert client.post(path, json=value).status_code == status


def test_the_service_lives_after_all_that(service):
    with service.client() as client:
        assert client.get("/readyz").status_code == 200
    assert not [line for line in service.lines() if line["event"] == "request failed"]
