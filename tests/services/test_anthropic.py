"""``/v1/messages``, asked by Anthropic's own client of a real language model (SmolLM2-135M)."""

from __future__ import annotations

from typing import Any

import anthropic
import httpx
import pydantic
import pytest

from tests.services.served import Served

pytestmark = pytest.mark.xdist_group("language")
MODEL = "smollm2"
QUESTION: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER: dict[str, Any] = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


class City(pydantic.BaseModel):
    name: str
    inhabitants: int


@pytest.fixture(scope="module")
def client(talking: Served) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=talking.url, api_key="anything", max_retries=0)


def asked(**how: Any) -> dict[str, Any]:
    """Greedy; what this client's newest release has no parameter for goes in the body."""
    return {"model": MODEL, "messages": QUESTION, "max_tokens": 40, "extra_body": {"temperature": 0}, **how}


def test_an_answer_and_what_it_cost(client: anthropic.Anthropic) -> None:
    found = client.messages.create(**asked())
    (text,) = found.content
    assert "Paris" in text.text
    assert (found.role, found.stop_reason, found.stop_sequence, found.model) == ("assistant", "end_turn", None, MODEL)
    assert found.usage.input_tokens + (found.usage.cache_read_input_tokens or 0) == 37
    assert 0 < found.usage.output_tokens < 40
    short = client.messages.create(**asked(max_tokens=3))
    assert (short.stop_reason, short.usage.output_tokens) == ("max_tokens", 3)
    stopped = client.messages.create(**asked(stop_sequences=["London", "Paris"]))
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "Paris")
    assert stopped.content[0].text.endswith(" is ")


def test_the_stream_tells_the_same_in_events(client: anthropic.Anthropic) -> None:
    whole = client.messages.create(**asked())
    events = list(client.messages.create(**asked(stream=True)))
    kinds = [event.type for event in events if event.type != "ping"]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[2:-3]) == {"content_block_delta"}
    with client.messages.stream(**asked()) as stream:
        said = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert said == final.content[0].text == whole.content[0].text
    assert (final.stop_reason, final.usage.output_tokens) == (whole.stop_reason, whole.usage.output_tokens)


def test_a_conversation_in_blocks_with_a_system_text(client: anthropic.Anthropic) -> None:
    system: list[Any] = [{"type": "text", "text": "You answer briefly.", "cache_control": {"type": "ephemeral"}}]
    words = [{"type": "text", "text": text} for text in ("My name is ", "Ada.")]
    first = client.messages.create(**asked(system=system, messages=[{"role": "user", "content": words}]))
    messages = [
        {"role": "user", "content": words},
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": "What is my name?"},
    ]
    assert "Ada" in client.messages.create(**asked(system=system, messages=messages)).content[0].text


def test_tools_are_called_and_answered(client: anthropic.Anthropic) -> None:
    question = {"role": "user", "content": "Weather in Paris?"}
    how = asked(
        messages=[question], tools=[WEATHER], tool_choice={"type": "tool", "name": "get_weather"}, max_tokens=80
    )
    found = client.messages.create(**how)
    (call,) = found.content
    assert (found.stop_reason, call.type, call.name) == ("tool_use", "tool_use", "get_weather")
    assert "Paris" in call.input["city"]
    with client.messages.stream(**how) as stream:
        streamed = stream.get_final_message()
    assert (streamed.stop_reason, streamed.content[0].input) == ("tool_use", call.input)
    result = {
        "type": "tool_result",
        "tool_use_id": call.id,
        "content": [{"type": "text", "text": "Sunny, 31 degrees."}],
    }
    messages = [question, {"role": "assistant", "content": found.content}, {"role": "user", "content": [result]}]
    after = client.messages.create(**asked(messages=messages, tools=[WEATHER], tool_choice={"type": "none"}))
    assert after.content[0].type == "text"


def test_a_pydantic_model_is_parsed(client: anthropic.Anthropic) -> None:
    how = asked(messages=[{"role": "user", "content": "Describe a city in JSON."}], max_tokens=300)
    found = client.messages.parse(**how, output_format=City)
    if found.stop_reason == "end_turn":
        assert isinstance(found.parsed_output, City)


def test_tokens_are_counted_as_an_answer_counts_them(client: anthropic.Anthropic) -> None:
    system = "You answer briefly."
    counted = client.messages.count_tokens(model=MODEL, messages=QUESTION, system=system, tools=[WEATHER])  # type: ignore[list-item]
    usage = client.messages.create(**asked(system=system, tools=[WEATHER], max_tokens=2)).usage
    assert counted.input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0) > 100
    assert client.messages.count_tokens(model=MODEL, messages=QUESTION).input_tokens == 37


def test_models_are_listed(client: anthropic.Anthropic) -> None:
    (listed,) = client.models.list()
    found = client.models.retrieve(MODEL)
    assert (listed.id, listed.type, listed.display_name) == (found.id, "model", MODEL)
    assert found.max_input_tokens == 8192


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"foo": 1}, "'foo' is unknown"),
        ({"max_tokens": 0}, "'max_tokens': expected `int` >= 1"),
        ({"max_tokens": None}, "'max_tokens'"),
        ({"temperature": 1.5}, "'temperature'"),
        ({"top_k": -1}, "'top_k'"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "'thinking' is not"),
        ({"mcp_servers": [{"url": "http://10.0.0.1"}]}, "nothing is fetched"),
        ({"container": "x"}, "'container' is not supported"),
        ({"output_config": {"effort": "high"}}, "'output_config.effort' is unknown"),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"not": {}}}}},
            "'not' cannot be kept to",
        ),
        ({"messages": []}, "1 to 4096"),
        ({"messages": QUESTION * 5000}, "not 5000"),
        ({"messages": [{"role": "boss", "content": "x"}]}, "'messages[0].role'"),
        ({"messages": [{"role": "user"}]}, "'messages[0].content' is missing"),
        ({"messages": [*QUESTION, {"role": "assistant", "content": "It"}]}, "'messages[1]'"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "http://x"}}]}]},
            "'messages[0].content[0]' is not text",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x", "content":
                                                        [{"type": "image"}]}]}]},
            "'messages[0].content[0].content[0]' is not text",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_use", "id": "x", "name": "x", "input": {}}]}]},
            "has no place in a message of the user",
        ),
        ({"messages": [{"role": "user", "content": "word " * 9000}]}, "8192 tokens"),
        ({"stop_sequences": ["x"] * 100}, "'stop_sequences' holds at most 16"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [WEATHER, WEATHER]}, "twice"),
        ({"tools": [{**WEATHER, "input_schema": {"not": {}}}]}, "tools[0].input_schema"),
        ({"tool_choice": {"type": "any"}}, "needs 'tools'"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "x"}}, "'x'"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_refused_names_the_field(talking: Served, how: dict[str, Any], words: str) -> None:
    body = {"model": MODEL, "messages": QUESTION, "max_tokens": 2, **how}
    answer = httpx.post(f"{talking.url}/v1/messages", json=body, timeout=60)
    found = answer.json()
    assert (answer.status_code, found["type"], found["error"]["type"]) == (400, "error", "invalid_request_error")
    assert words in found["error"]["message"]


def test_the_client_raises_its_own_errors(client: anthropic.Anthropic, talking: Served) -> None:
    with pytest.raises(anthropic.NotFoundError, match="does not exist"):
        client.messages.create(**asked(model="no"))
    with pytest.raises(anthropic.BadRequestError, match="'stop_sequences'"):
        client.messages.create(**asked(stop_sequences=[""]))
    stranger = anthropic.Anthropic(base_url=talking.url, api_key="mp_unknown", max_retries=0)
    with pytest.raises(anthropic.AuthenticationError, match="unknown, expired or revoked"):
        stranger.messages.create(**asked())
