"""What goes wrong outside of any route, and how it looks."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient


def test_an_unknown_route(client: TestClient) -> None:
    answer = client.get("/api/v1/nothing")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_a_slash_at_the_end_is_another_route(client: TestClient) -> None:
    assert client.get("/api/v1/models/", follow_redirects=False).status_code in (404, 422)


def test_a_method_that_is_not_possible(client: TestClient) -> None:
    answer = client.post("/api/v1/models")
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")


def test_a_defect_says_nothing_but_its_request_id(
    app: FastAPI, client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("secret detail in /some/path")

    monkeypatch.setattr(type(app.state.context.registry), "models", fail)
    answer = client.get("/api/v1/models", headers={"x-request-id": "trace-me"})
    assert answer.status_code == 500
    error = answer.json()["error"]
    assert (error["code"], error["request_id"]) == ("internal", "trace-me")
    assert "trace-me" in error["message"]
    assert "secret" not in answer.text
    assert "secret detail" in caplog.text


@pytest.mark.parametrize("given", ["abc", "a" * 128, "00-4bf9-01"])
def test_a_request_id_comes_back(client: TestClient, given: str) -> None:
    assert client.get("/api/v1/models", headers={"x-request-id": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a b", "a" * 129, b"\xff", "<script>"])
def test_a_bad_request_id_is_replaced(client: TestClient, given: str) -> None:
    made = client.get("/api/v1/models", headers={"x-request-id": given}).headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{16}", made)


@pytest.mark.parametrize("nest", [lambda n: b"[" * n, lambda n: b'{"a":' * n])
def test_deep_json_is_refused(client: TestClient, nest: Callable[[int], bytes]) -> None:
    for path in ("/api/v1/keys", "/api/v1/blobs/missing"):
        answer = client.post(path, content=nest(200_000), headers={"content-type": "application/json"})
        assert 400 <= answer.status_code < 500
