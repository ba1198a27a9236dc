"""What a language model writes, on the wire of responses and of messages: parts in, items, blocks and events out."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.api import anthropic, openai
from modelport.api.anthropic.conversation import Message, Text
from modelport.api.anthropic.conversation import messages_of as blocks_to_messages
from modelport.api.anthropic.output import Output as Blocks
from modelport.api.messages import HttpResponse
from modelport.api.openai.response_input import messages_of as items_to_messages
from modelport.api.openai.response_output import Output as Items
from modelport.engine.generation import Part
from modelport.errors import InvalidInput
from tests.api.asgi import call, whole
from tests.engine.language.fake import answer_to, letters
from tests.engine.replicas import Engine, engine

CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Köln"}}</tool_call>'
WEATHER = {"type": "function", "function": {"name": "weather"}}
MODEL = "model"


def parts(text: str, cuts: list[int], finish: str = "stop") -> list[Part]:
    """The text in pieces."""
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    found = [Part(text[a:b]) for a, b in pairwise(places)]
    return [*found, Part("", finish=finish)]


@given(st.sampled_from(["", "Well. ", "a < b"]), st.integers(0, 3), st.lists(st.integers(0, 400)))
def test_items_and_blocks_are_the_same_however_the_text_is_cut(said: str, count: int, cuts: list[int]) -> None:
    given_parts = parts(said + "\n".join([CALL] * count), cuts)
    items, blocks = Items(calls=True, logprobs=False), Blocks(calls=True)
    events = [event for part in given_parts for event in items.add(part)]
    changes = [event for part in given_parts for event in blocks.add(part)]
    texts = [item["content"][0]["text"] for item in items.items if item["type"] == "message"]
    calls = [item for item in items.items if item["type"] == "function_call"]
    assert "".join(texts) == said
    assert [json.loads(call["arguments"]) for call in calls] == [{"city": "Köln"}] * count
    assert [block["input"] for block in blocks.blocks if block["type"] == "tool_use"] == [{"city": "Köln"}] * count
    assert "".join(block["text"] for block in blocks.blocks if block["type"] == "text") == said
    assert blocks.stop_reason == ("tool_use" if count else "end_turn")
    assert told_items(events) == items.items
    assert told_blocks(changes) == blocks.blocks


def told_items(events: list[dict[str, Any]]) -> list[Any]:
    """What a client makes of the events alone; they come in an order that makes sense."""
    done: list[Any] = []
    for event in events:
        match event["type"].removeprefix("response."):
            case "output_item.added":
                assert event["output_index"] == len(done)
                text = arguments = ""
            case "output_text.delta":
                text += event["delta"]
            case "output_text.done":
                assert event["text"] == text
            case "function_call_arguments.delta":
                arguments += event["delta"]
            case "function_call_arguments.done":
                assert event["arguments"] == arguments
            case "output_item.done":
                assert event["output_index"] == len(done)
                done.append(event["item"])
    return done


def told_blocks(events: list[dict[str, Any]]) -> list[Any]:
    """The same of blocks."""
    found: list[Any] = []
    for event in events:
        match event["type"], event.get("delta", {}).get("type"):
            case "content_block_start", _:
                assert event["index"] == len(found)
                found.append(event["content_block"].copy())
            case _, "text_delta":
                found[-1]["text"] += event["delta"]["text"]
            case _, "input_json_delta":
                found[-1]["input"] = json.loads(event["delta"]["partial_json"])
            case _:
                assert event == {"type": "content_block_stop", "index": len(found) - 1}
    return found


def test_what_is_cut_off_says_so() -> None:
    items, blocks = Items(calls=True, logprobs=False), Blocks(calls=True)
    for part in parts("Well. " + CALL[:30], [3, 9], "length"):
        items.add(part)
        blocks.add(part)
    (message,) = items.items
    assert (message["status"], message["content"][0]["text"], items.finish) == ("incomplete", "Well. ", "length")
    assert (blocks.blocks, blocks.stop_reason) == ([{"type": "text", "text": "Well. "}], "max_tokens")
    stopped = Blocks(calls=False)
    stopped.add(Part("a", finish="stop", stopped_by="END"))
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "END")
    empty = Items(calls=False, logprobs=False)
    empty.add(Part("", finish="stop"))
    assert empty.items[0]["content"][0]["text"] == "", "an answer of no words is one all the same"


@pytest.mark.parametrize(("finish", "told"), [("stop", "tool_calls"), ("length", "length")])
async def test_a_chat_with_calls_tells_whether_it_was_cut(finish: str, told: str) -> None:
    cut = CALL if finish == "stop" else CALL[:30]

    async def generate(*given: Any) -> AsyncGenerator[Part]:
        for part in parts(f"{CALL}\n{cut}", [7, 50, 90], finish):
            yield part

    async with engine(letters()) as (made, _):
        made.plane.generate = generate  # type: ignore[method-assign]
        wanted: dict[str, Any] = {"messages": [{"role": "user", "content": "a"}], "tools": [WEATHER]}
        (choice,) = json.loads(whole(await ask(made, "/v1/chat/completions", **wanted)))["choices"]
        answer = await ask(made, "/v1/chat/completions", **wanted, stream=True)
        assert answer.stream is not None
        chunks = b"".join([chunk async for chunk in answer.stream]).decode()
    assert choice["finish_reason"] == told
    assert len(choice["message"]["tool_calls"]) == (2 if finish == "stop" else 1)
    assert re.findall(r'"finish_reason":"(\w+)"', chunks) == [told]


async def test_the_field_that_asks_for_other_tokens_is_the_one_that_is_refused() -> None:
    async with engine(letters(lacks=["alternatives"])) as (made, _):
        asked: dict[str, dict[str, Any]] = {
            "/v1/completions": {"prompt": "a", "logprobs": 1},
            "/v1/chat/completions": {
                "messages": [{"role": "user", "content": "a"}], "logprobs": True, "top_logprobs": 1
            },
        }  # fmt: skip
        for path, field in zip(asked, ("logprobs", "top_logprobs"), strict=True):
            refused = await ask(made, path, **asked[path], max_tokens=3)
            error = json.loads(whole(refused))["error"]
            assert (refused.status, error["param"]) == (400, field)
            assert f"'{field}' can be 0" in error["message"]
            assert (await ask(made, path, **asked[path] | {field: 0}, max_tokens=3)).status == 200


@pytest.mark.parametrize("cached", [None, 0, 3])
async def test_tokens_in_the_cache_are_counted_where_the_engine_tells(cached: int | None) -> None:
    question = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 3}
    async with engine(letters(cached=cached)) as (made, _):
        chat, text, message, response = [
            json.loads(whole(await ask(made, path, **body)))["usage"]
            for path, body in {
                "/v1/chat/completions": question, "/v1/completions": {"prompt": ["a", "b"], "max_tokens": 3},
                "/v1/messages": question, "/v1/responses": {"input": "a"},
            }.items()
        ]  # fmt: skip
    if cached is None:
        assert "prompt_tokens_details" not in chat and "prompt_tokens_details" not in text
    else:
        assert chat["prompt_tokens_details"] == {"cached_tokens": cached}
        assert text["prompt_tokens_details"] == {"cached_tokens": 2 * cached}
    assert message["cache_read_input_tokens"] == cached
    assert message["input_tokens"] == chat["prompt_tokens"] - (cached or 0)
    assert response["input_tokens_details"]["cached_tokens"] == (cached or 0), "OpenAI's client wants a number"


async def test_tools_of_others_are_refused_with_what_can_be_one() -> None:
    async with engine(letters()) as (made, _):
        for path in ("/v1/chat/completions", "/v1/responses", "/v1/messages"):
            refused = await ask(made, path, tools=[{"type": "web_search", "name": "a"}])
            assert "only functions can be tools here" in json.loads(whole(refused))["error"]["message"], path


def test_calls_have_ids_of_their_protocol() -> None:
    items, blocks = Items(calls=True, logprobs=False), Blocks(calls=True)
    for part in parts(CALL, []):
        items.add(part)
        blocks.add(part)
    assert re.fullmatch("call_[0-9a-f]{24}", items.items[0]["call_id"])
    assert re.fullmatch("toolu_[0-9a-f]{24}", blocks.blocks[0]["id"])


def items(*found: Any) -> list[msgspec.Raw]:
    return [msgspec.Raw(json.dumps(item).encode()) for item in found]


def test_items_become_messages() -> None:
    found = items_to_messages(
        items(
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
            {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
             "content": [{"type": "output_text", "text": "c", "annotations": [], "logprobs": []}]},
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
            {"type": "function_call", "call_id": "2", "name": "g", "arguments": "{}", "id": "fc_2"},
            {"type": "function_call_output", "call_id": "2", "output": [{"type": "input_text", "text": "d"}]},
        ),
        "Told first.",
    )  # fmt: skip
    assert [(each["role"], each["content"]) for each in found] == [
        ("system", "Told first."), ("system", "Be brief."), ("user", "ab"), ("assistant", "c"), ("tool", "d"),
    ]  # fmt: skip
    assert [one["function"]["name"] for one in found[3]["tool_calls"]] == ["f", "g"]
    assert found[4]["tool_call_id"] == "2"


def test_blocks_become_messages() -> None:
    given_messages = msgspec.convert(
        [
            {"role": "assistant", "content": [
                {"type": "text", "text": "c"}, {"type": "tool_use", "id": "1", "name": "f", "input": {"x": "ö"}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "1", "content": "bad", "is_error": True},
                {"type": "text", "text": "and now?"}]},
        ],
        list[Message],
    )  # fmt: skip
    found = blocks_to_messages(given_messages, [Text("s1"), Text("s2")])
    assert [(each["role"], each["content"]) for each in found] == [
        ("system", "s1\n\ns2"), ("assistant", "c"), ("tool", "Error: bad"), ("user", "and now?"),
    ]  # fmt: skip
    assert found[1]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"x": "ö"}'}
    with pytest.raises(InvalidInput, match=r"messages\[0\]' is the assistant's"):
        blocks_to_messages(given_messages[:1], None)


async def ask(made: Engine, path: str, **body: Any) -> HttpResponse:
    routes = [*openai.routes(made.plane), *anthropic.routes(made.plane)]
    return await call(routes, "POST", path, json.dumps({"model": MODEL, **body}).encode())


async def events_of(response: HttpResponse) -> list[dict[str, Any]]:
    assert response.stream is not None
    blocks = b"".join([chunk async for chunk in response.stream]).decode().strip().split("\n\n")
    found = []
    for block in blocks:
        name, data = block.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


async def test_a_replica_that_dies_for_good_ends_the_stream_in_the_words_of_its_protocol() -> None:
    """Every process writes something else, so that no other can go on where one stopped."""
    async with engine(letters(pause_s=0.01, fickle=True), replicas=2) as (made, _):
        question = [{"role": "user", "content": "tale"}]
        asked: dict[str, Any] = {"temperature": 0, "stream": True}
        answers = [await ask(made, "/v1/responses", input="tale", max_output_tokens=90, **asked) for _ in range(2)]
        answers += [await ask(made, "/v1/messages", messages=question, max_tokens=90, **asked) for _ in range(2)]
        reading = [asyncio.ensure_future(events_of(answer)) for answer in answers]
        await asyncio.sleep(0.4)
        made.kill("1")
        found = await asyncio.gather(*reading)
        ends = [events[-1] for events in found]
        kinds = ["error", "message_stop", "response.failed", "response.incomplete"]
        assert sorted(end["type"] for end in ends) == kinds, "half of each were the dead one's"
        for end in ends:
            if end["type"] == "response.failed":
                assert end["response"]["status"] == "failed"
                assert end["response"]["error"]["code"] == "server_error"
            if end["type"] == "error":
                assert end["error"]["type"] == "api_error"


async def test_what_goes_wrong_before_the_first_word_is_an_answer_with_a_status() -> None:
    async with engine(letters(context=64)) as (made, _):
        long = "a" * 100
        response = await ask(made, "/v1/responses", input=long, stream=True)
        assert response.stream is not None
        with pytest.raises(InvalidInput, match="64 tokens"):
            await anext(response.stream)
        response = await ask(made, "/v1/messages", max_tokens=4, messages=[{"role": "user", "content": long}])
        assert response.status == 400
        assert json.loads(whole(response))["error"]["type"] == "invalid_request_error"
        said = json.loads(whole(await ask(made, "/v1/responses", input="hi", temperature=0, max_output_tokens=5)))
        expected = answer_to("<user>hi</><assistant>", 5)
        assert said["output"][0]["content"][0]["text"] == expected
