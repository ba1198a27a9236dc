"""Errors that no adapter makes, in their API's form: a defect, a path that is not there, a method that is not taken."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelport.api.gateway import Gateway, GatewayConfig
from modelport.engine.routing import RoutingTable
from tests.api.asgi import whole
from tests.api.plane import zoo

CHAT = b'{"model": "mlp", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}'


async def ask(app: Gateway, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
    response, _ = await app.answer(app._match(method, path, b""), {}, body, None)  # type: ignore[arg-type]
    return response.status, json.loads(whole(response))


@pytest.fixture
async def app() -> Gateway:
    made = Gateway(GatewayConfig("127.0.0.1"), None, zoo())
    made.authenticate.update(RoutingTable(1))
    made.open = True
    return made


def form(answer: Any) -> str:
    if answer.get("type") == "error":
        assert answer["error"].keys() == {"type", "message"}
        return "anthropic"
    if isinstance(answer["error"], dict):
        assert answer["error"].keys() == {"message", "type", "param", "code"}
        return "openai"
    return "plain"


@pytest.mark.parametrize(
    ("method", "path", "status", "whose"),
    [
        ("POST", "/v1/nothing", 404, "openai"),
        ("GET", "/v1", 404, "openai"),
        ("GET", "/v1/chat/completions", 405, "openai"),
        ("DELETE", "/v1/models", 405, "openai"),
        ("GET", "/v1/models/mlp:predict", 405, "plain"),
        ("POST", "/v1/messages/nothing", 404, "anthropic"),
        ("GET", "/v1/messages", 405, "anthropic"),
        ("GET", "/v2/nothing", 404, "plain"),
        ("GET", "/v1nothing", 404, "plain"),
        ("GET", "/tokenize", 405, "openai"),
    ],
)
async def test_what_is_not_there(app: Gateway, method: str, path: str, status: int, whose: str) -> None:
    found, answer = await ask(app, method, path)
    assert (found, form(answer)) == (status, whose)
    if whose == "openai" and status == 404:
        assert answer["error"]["code"] == "unknown_url"


async def test_a_model_that_is_not_there_is_told_as_everywhere(app: Gateway) -> None:
    status, answer = await ask(app, "GET", "/v1/models/nope")
    asked, same = await ask(app, "POST", "/v1/chat/completions", CHAT.replace(b"mlp", b"nope"))
    assert status == asked == 404
    assert answer == same and "GET /v1/models lists yours" in answer["error"]["message"]
    assert (await ask(app, "GET", "/v1/models/mlp"))[1]["id"] == "mlp"


@pytest.mark.parametrize(
    ("path", "whose"), [("/v1/chat/completions", "openai"), ("/v1/messages", "anthropic"), ("/predict/mlp", "plain")]
)
async def test_a_defect(app: Gateway, path: str, whose: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: Any, **how: Any) -> Any:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(app.plane, "find", broken)
    status, answer = await ask(app, "POST", path, CHAT)
    assert (status, form(answer)) == (500, whose)
    assert "request id" in json.dumps(answer) and "secret" not in json.dumps(answer)
