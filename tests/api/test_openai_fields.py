"""What the documentation says of each field that OpenAI's client knows: kept, taken, or refused by its name."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from modelport.api import openai
from tests.api.asgi import call, whole
from tests.engine.language.fake import letters
from tests.engine.replicas import Engine, engine

PAGE = Path(__file__).parents[2] / "docs" / "language-api.md"
ENDPOINTS = {"chat": "/v1/chat/completions", "completions": "/v1/completions", "responses": "/v1/responses"}
PLAIN: dict[str, dict[str, Any]] = {
    "chat": {"messages": [{"role": "user", "content": "a"}], "max_tokens": 5, "temperature": 0},
    "completions": {"prompt": "a", "max_tokens": 5, "temperature": 0},
    "responses": {"input": "a", "max_output_tokens": 5, "temperature": 0},
}
TOOLS = {
    "chat": [{"type": "function", "function": {"name": "f"}}], "responses": [{"type": "function", "name": "f"}]
}  # fmt: skip
BESIDE: dict[str, dict[str, Any]] = {
    "stream_options": {"stream": True}, "tool_choice": {"tools": TOOLS}, "parallel_tool_calls": {"tools": TOOLS},
    "top_logprobs": {"logprobs": {"chat": True}, "include": {"responses": ["message.output_text.logprobs"]}},
}  # fmt: skip
"""What a field wants beside it."""


def rows() -> list[tuple[str, Any, str, str]]:
    """Field, value, endpoint and what is said of it; empty for an endpoint that has no such field."""
    text = PAGE.read_text().split("## Fields")[1].split("\n## ")[0]
    found = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        for field, value in re.findall(r'`"(\w+)": (.*?)`', cells[0]) if cells else ():
            found += [(field, json.loads(value), *place) for place in zip(ENDPOINTS, cells[1:], strict=True)]
    return found


ROWS = rows()


async def effect(made: Engine, endpoint: str, **body: Any) -> tuple[int, Any, Any]:
    """The status, what the model was asked, and what came of it but for names, times and what is said back."""
    asked: list[Any] = []
    generate = made.plane.generate

    def listen(*given: Any) -> Any:
        asked.extend(msgspec.to_builtins(each) for each in given if type(each).__name__ == "Asked")
        return generate(*given)

    made.plane.generate = listen  # type: ignore[method-assign]
    try:
        routes = openai.routes(made.plane)
        answer = await call(routes, "POST", ENDPOINTS[endpoint], json.dumps({"model": "model", **body}).encode())
        if answer.stream is not None:
            told = b"".join([chunk async for chunk in answer.stream])
            return answer.status, asked, sorted(re.findall(rb'"usage":\{|"type":"[a-z._]+"', told))
    finally:
        made.plane.generate = generate  # type: ignore[method-assign]
    told = json.loads(whole(answer))
    if answer.status != 200:
        return answer.status, asked, told["error"]
    parts = told.get("choices") or [content for item in told["output"] for content in item.get("content", ())]
    return answer.status, asked, parts


def beside(field: str, endpoint: str) -> dict[str, Any]:
    found = {}
    for name, value in BESIDE.get(field, {}).items():
        if not isinstance(value, dict):
            found[name] = value
        elif endpoint in value:
            found[name] = value[endpoint]
    return found


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_each_field_is_treated_as_the_table_says(endpoint: str) -> None:
    async with engine(letters()) as (made, _):
        await check(made, endpoint)


async def check(made: Engine, endpoint: str) -> None:
    wrong = []
    for field, value, where, said in ROWS:
        if where == endpoint:
            base = PLAIN[endpoint] | beside(field, endpoint)
            plain, found = await effect(made, endpoint, **base), await effect(made, endpoint, **base | {field: value})
            assert plain[0] == 200, plain
            if found[0] == 400 and field in found[2]["message"]:
                named = re.split(r"[.\[]", found[2]["param"])[0] == field
                seen = "400" if named else f"400 that names {found[2]['param']}"
            else:
                seen = str(found[0]) if found[0] != 200 else "taken" if found[1:] == plain[1:] else "kept"
            if seen != {"": "400", "own": "kept"}.get(said, said):
                wrong.append((field, value, said, seen, found[2]))
            if said and field not in PLAIN[endpoint]:
                status, _, error = await effect(made, endpoint, **base | {field: None})
                assert status == 200, (field, error)
    assert not wrong


def test_the_table_has_every_field_that_the_client_knows() -> None:
    types = pytest.importorskip("openai.types")
    params = {
        "chat": types.chat.completion_create_params, "completions": types.completion_create_params,
        "responses": types.responses.response_create_params,
    }  # fmt: skip
    for endpoint, module in params.items():
        kind = getattr(module, "CompletionCreateParamsBase", None) or module.ResponseCreateParamsBase
        known = {name for each in (kind, *kind.__mro__) for name in getattr(each, "__annotations__", {})}
        told = {field for field, _, where, said in ROWS if where == endpoint and said not in ("", "own")}
        assert told == (known | {"stream"}) - {"model"}, endpoint
        assert not known & {field for field, _, where, said in ROWS if where == endpoint and said == "own"}, endpoint


def test_the_page_says_of_engines_what_they_say_of_themselves() -> None:
    pytest.importorskip("openvino_genai")
    lacks = importlib.import_module("modelport.engine.runtimes.openvino_genai")._LACKS
    text = PAGE.read_text().split("### What engines keep to")[1].split("\n## ")[0]
    refused = set()
    for line in text.splitlines():
        cells = line.split("|")
        if line.startswith("| `") and "400" in cells[2]:
            refused |= set(re.findall(r"`(\w+)`", cells[1]))
    asks = {"alternatives": {"top_logprobs", "logprobs"}}
    assert refused == {field for lack in lacks for field in asks.get(lack, {lack})}
