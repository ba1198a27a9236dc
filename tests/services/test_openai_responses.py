"""``/v1/responses``, asked by OpenAI's own client of a real language model (SmolLM2-135M)."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pydantic
import pytest

from tests.services.served import Served

pytestmark = pytest.mark.xdist_group("language")
MODEL = "smollm2"
QUESTION = "What is the capital of France?"
WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
LOGPROBS = "message.output_text.logprobs"


class City(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=20)
    inhabitants: int


@pytest.fixture(scope="module")
def client(talking: Served) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{talking.url}/v1", api_key="anything", max_retries=0)


def ask(client: openai.OpenAI, **how: Any) -> Any:
    return client.responses.create(
        **{"model": MODEL, "input": QUESTION, "temperature": 0, "max_output_tokens": 40, **how}
    )


def test_an_answer_and_what_it_cost(client: openai.OpenAI) -> None:
    found = ask(client, metadata={"of": "a test"})
    assert "Paris" in found.output_text
    assert (found.status, found.incomplete_details, found.error) == ("completed", None, None)
    (message,) = found.output
    assert (message.type, message.role, message.status) == ("message", "assistant", "completed")
    assert found.usage.input_tokens == 37
    assert found.usage.total_tokens == found.usage.input_tokens + found.usage.output_tokens
    assert (found.metadata, found.store, found.temperature) == ({"of": "a test"}, False, 0)
    short = ask(client, max_output_tokens=3)
    assert (short.status, short.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert short.output[0].status == "incomplete"
    assert short.usage.output_tokens == 3


def test_the_stream_tells_the_same_in_events(client: openai.OpenAI) -> None:
    whole = ask(client)
    events = list(ask(client, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type.removeprefix("response.") for event in events]
    assert kinds[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert kinds[-4:] == ["output_text.done", "content_part.done", "output_item.done", "completed"]
    assert set(kinds[4:-4]) == {"output_text.delta"}
    deltas = "".join(event.delta for event in events[4:-4])
    assert deltas == events[-4].text == events[-1].response.output_text == whole.output_text
    assert events[-1].response.usage == whole.usage.model_copy(
        update={"input_tokens_details": events[-1].response.usage.input_tokens_details}
    )
    assert list(ask(client, stream=True, max_output_tokens=2))[-1].type == "response.incomplete"


def test_the_clients_own_helper_follows_a_stream(client: openai.OpenAI) -> None:
    with client.responses.stream(model=MODEL, input=QUESTION, temperature=0, max_output_tokens=40) as stream:
        snapshots = [event.snapshot for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert snapshots[-1] == final.output_text
    assert "Paris" in final.output_text


def test_a_conversation_goes_on_with_the_items_of_its_answer(client: openai.OpenAI) -> None:
    words = [{"type": "input_text", "text": text} for text in ("My name is ", "Ada.")]
    items: list[Any] = [{"role": "user", "content": words}]
    first = ask(client, input=items, instructions="You answer briefly.")
    items += [*first.output, {"role": "user", "content": "What is my name?"}]
    second = ask(client, input=items, instructions="You answer briefly.")
    assert "Ada" in second.output_text
    assert second.usage.input_tokens > first.usage.input_tokens


def test_tools_are_called_and_answered(client: openai.OpenAI) -> None:
    named = {"type": "function", "name": "get_weather"}
    items: list[Any] = [{"role": "user", "content": "Weather in Paris?"}]
    how: dict[str, Any] = {"input": items, "tools": [WEATHER], "tool_choice": named, "max_output_tokens": 80}
    found = ask(client, **how)
    (call,) = found.output
    assert (call.type, call.name, call.status) == ("function_call", "get_weather", "completed")
    assert "Paris" in json.loads(call.arguments)["city"]
    events = list(ask(client, **how, stream=True))
    assert [event.type.removeprefix("response.") for event in events] == [
        "created", "in_progress", "output_item.added", "function_call_arguments.delta",
        "function_call_arguments.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert events[3].delta == events[4].arguments == events[5].item.arguments == call.arguments
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny, 31 degrees."}
    after = ask(client, input=[*items, *found.output, output], tools=[WEATHER], tool_choice="none")
    assert after.output[0].type == "message"


def test_a_pydantic_model_is_parsed(client: openai.OpenAI) -> None:
    how: dict[str, Any] = {"model": MODEL, "input": "Describe a city in JSON.", "temperature": 0}
    found = client.responses.parse(**how, text_format=City, max_output_tokens=200)
    assert isinstance(found.output_parsed, City)
    with client.responses.stream(**how, text_format=City, max_output_tokens=200) as stream:
        assert stream.get_final_response().output_parsed == found.output_parsed
    loose = ask(client, text={"format": {"type": "json_object"}}, max_output_tokens=200)
    if loose.status == "completed":
        assert isinstance(json.loads(loose.output_text), dict)


def test_log_probabilities_and_fields_of_others(client: openai.OpenAI) -> None:
    found = ask(client, include=[LOGPROBS], extra_body={"stop": ["Paris"], "seed": 1})
    (text,) = found.output[0].content
    assert text.text.endswith(" is ")
    assert all(entry.logprob <= 0 for entry in text.logprobs)
    deltas = [e for e in ask(client, include=[LOGPROBS], stream=True) if e.type == "response.output_text.delta"]
    told = [entry.token for event in deltas for entry in event.logprobs]
    assert "".join(told) == "".join(event.delta for event in deltas)


@pytest.mark.parametrize(
    ("how", "status", "field", "words"),
    [
        ({"foo": 1}, 400, "foo", "unknown"),
        ({"n": 2}, 400, "n", "unknown"),
        ({"max_tokens": 2}, 400, "max_tokens", "unknown"),
        ({"max_output_tokens": 0}, 400, "max_output_tokens", ">= 1"),
        ({"temperature": 9}, 400, "temperature", "<= 2"),
        ({"previous_response_id": "resp_1"}, 400, "previous_response_id", "nothing is kept"),
        ({"conversation": "conv_1"}, 400, "conversation", "nothing is kept"),
        ({"background": True}, 400, "background", "waits"),
        ({"store": True}, 400, "store", "nothing is kept"),
        ({"truncation": "auto"}, 400, "truncation", "never cut"),
        ({"reasoning": {"effort": "high"}}, 400, "reasoning", "chat_template_kwargs"),
        ({"prompt": {"id": "x"}}, 400, "prompt", "stored prompts"),
        ({"input": []}, 400, "input", "1 to 4096"),
        ({"input": [{"role": "user", "content": "x"}] * 5000}, 400, "input", "not 5000"),
        ({"input": 7}, 400, "input", "expected"),
        ({"input": [7]}, 400, "input[0]", "expected"),
        ({"input": [{"role": "boss", "content": "x"}]}, 400, "input[0].role", "boss"),
        ({"input": [{"role": "user"}]}, 400, "input[0].content", "missing"),
        ({"input": [{"role": "user", "content": "x", "foo": 1}]}, 400, "input[0].foo", "unknown"),
        ({"input": [{"type": "reasoning", "id": "x"}]}, 400, "input[0].type", "'reasoning' is not supported"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, 400, "input[0].type", "item_reference"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, 400, "input[0].call_id", "missing"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "http://10.0.0.1/x.png"}]}]},
            400, "input[0].content[0]", "nothing is fetched",
        ),
        ({"input": [{"role": "user", "content": [{"type": "x"}]}]}, 400, "input[0].content[0].type", "'x'"),
        ({"input": "word " * 9000}, 400, None, "8192 tokens, but the prompt has 90"),
        ({"model": "no"}, 404, None, "does not exist"),
        ({"include": ["file_search_call.results"]}, 400, "include[0]", "nothing but"),
        ({"top_logprobs": 2}, 400, "top_logprobs", "needs 'include'"),
        ({"top_logprobs": 2, "include": [LOGPROBS]}, 400, "top_logprobs", "engine"),
        ({"tools": [{"type": "web_search"}]}, 400, "tools[0].type", "web_search"),
        ({"tools": [WEATHER, WEATHER]}, 400, "tools", "twice"),
        ({"tools": [{**WEATHER, "parameters": {"not": {}}}]}, 400, "tools[0].parameters", "'not' cannot be kept to"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "name": "x"}}, 400, "tool_choice", "no function 'x'"),
        ({"tool_choice": "required"}, 400, "tool_choice", "needs 'tools'"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, 400, "text.format.schema", "missing"),
        ({"text": {"format": {"type": "xml"}}}, 400, "text.format.type", "xml"),
        ({"text": {"verbosity": "low"}}, 400, "text.verbosity", "low"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_refused_names_the_field(
    talking: Served, how: dict[str, Any], status: int, field: str | None, words: str
) -> None:
    body = {"model": MODEL, "input": QUESTION, "max_output_tokens": 2, **how}
    answer = httpx.post(f"{talking.url}/v1/responses", json=body, timeout=60)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, field)
    assert words in error["message"]
    assert set(error) == {"message", "type", "param", "code"}
