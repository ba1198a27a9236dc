"""The application's own description: OpenAPI, the documentation page, and a fuzzer that believes what it says."""

from __future__ import annotations

import os
import re

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error

from tests import onnx_models
from tests.api.native.conftest import app, client  # noqa: F401
from tests.databases import migrated_sqlite, sqlite_url  # noqa: F401

EXAMPLES = 50 if os.environ.get("MODELPORT_PROVE") else 4
"""Of good requests to each operation, and as many of bad ones."""


@pytest.mark.prove
@pytest.mark.timeout(1800)
def test_no_request_is_a_server_error(app: FastAPI) -> None:  # noqa: F811
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) > 20
    with TestClient(app) as client:  # noqa: F811
        for name in ("0", "a"):  # names that a fuzzer likes
            pushed = client.post(
                f"/api/v1/models/{name}/versions?filename=0&alias=a",
                content=onnx_models.identity(),
                headers={"content-type": "application/octet-stream"},
            )
            assert pushed.status_code == 201
    for operation in operations:
        for mode in schemathesis.GenerationMode:

            @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
            @given(case=operation.as_strategy(generation_mode=mode))
            def run(case: schemathesis.Case) -> None:
                case.call_and_validate(checks=[not_a_server_error])

            run()


def test_every_operation_is_described(client: TestClient) -> None:  # noqa: F811
    document = client.get("/openapi.json").json()
    operations = [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    ids = [operation["operationId"] for _, _, operation in operations]
    assert len(ids) == len(set(ids))
    assert "push_version" in ids
    for path, method, operation in operations:
        assert re.fullmatch("[a-z]+(_[a-z]+)+", operation["operationId"]), operation["operationId"]
        assert operation["description"], (path, method)
        assert operation["security"], (path, method)
        assert {"401", "403", "422"} <= set(operation["responses"]), (path, method)
        assert operation["responses"]["422"]["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorBody")
    assert set(document["components"]["securitySchemes"]) == {"bearer", "header"}
    assert document["components"]["schemas"]["VersionPush"]["examples"]


def test_references_lead_somewhere(client: TestClient) -> None:  # noqa: F811
    text = client.get("/openapi.json").text
    known = client.get("/openapi.json").json()["components"]["schemas"]
    assert set(re.findall(r'"#/components/schemas/([^"]+)"', text)) <= set(known)


def test_the_documentation_works_offline(client: TestClient) -> None:  # noqa: F811
    page = client.get("/docs")
    assert page.status_code == 200
    links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(links) >= 3
    for link in links:
        assert link.startswith("/docs/assets/"), link
        assert client.get(link).status_code == 200
    assert not re.search(r"https?://(?!localhost)", page.text)
