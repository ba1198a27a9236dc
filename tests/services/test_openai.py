"""OpenAI's own client at a real language model (SmolLM2-135M): what it asks, what it gets, what is refused and how."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import openai
import pytest

from tests.engine.language.schemas import made
from tests.services.served import Served

pytestmark = pytest.mark.xdist_group("language")
SDK_DOC = Path(__file__).parents[2] / "docs" / "sdk.md"
MODEL = "smollm2"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
        },
    },
}


@pytest.fixture(scope="module")
def served(talking: Served) -> Served:
    return talking


@pytest.fixture(scope="module")
def client(served: Served) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key="anything", max_retries=0)


def ask(client: openai.OpenAI, **how: Any) -> Any:
    wanted = {"model": MODEL, "messages": QUESTION, "temperature": 0, "max_tokens": 20, **how}
    return client.chat.completions.create(**wanted)


def test_the_documentation_of_our_own_client_runs(served: Served, tmp_path: Path) -> None:
    part = SDK_DOC.read_text().split("## Language models\n")[1].split("\n## ")[0]
    (program,) = re.findall(r"```python\n(.*?)```", part, re.DOTALL)
    env = {**os.environ, "MODELPORT_URL": served.url, "MODELPORT_HOME": str(tmp_path)}
    env.pop("MODELPORT_KEY", None)
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    streamed, awaited = done.stdout.splitlines()
    assert "Paris" in streamed and streamed in (f"{awaited} [stop]", f"{awaited} [length]")


def test_models_are_listed_and_found_by_name(client: openai.OpenAI) -> None:
    (listed,) = client.models.list()
    found = client.models.retrieve(MODEL)
    assert (listed.id, listed.object, listed.owned_by) == (found.id, found.object, found.owned_by)
    assert (found.id, found.object, found.to_dict()["max_model_len"]) == (MODEL, "model", 8192)
    with pytest.raises(openai.NotFoundError, match="the model 'nobody' does not exist"):
        client.models.retrieve("nobody")


def test_what_is_printed_to_begin_with_is_a_talk(served: Served) -> None:
    greeting = served.log.read_text()
    assert f"modelport chat --url {served.url}" in greeting
    (call,) = (line for line in greeting.splitlines() if line.startswith(f"  curl {served.url}/v1/chat/completions"))
    environment = {name: value for name, value in os.environ.items() if name != "MODELPORT_KEY"}
    command = [sys.executable, "-m", "modelport.cli.main", "snippet", MODEL, "--url", served.url]
    snippet = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment).stdout
    for source in (call, snippet):
        short = source.replace('"max_tokens": 200', '"max_tokens": 4')
        done = subprocess.run(["bash", "-c", short], capture_output=True, text=True, timeout=60, env=environment)
        assert json.loads(done.stdout)["choices"][0]["message"]["content"], done.stderr


def test_commands_for_other_models_name_those_for_this_one(served: Served) -> None:
    command, where = [sys.executable, "-m", "modelport.cli.main"], ["--url", served.url]
    asked = subprocess.run([*command, "predict", MODEL, "Why?", *where], capture_output=True, text=True, timeout=60)
    assert asked.returncode == 1 and f"modelport chat {MODEL} 'Why?'" in asked.stderr
    load = ["--callers", "1", "--duration", "0.5", "--warmup", "0"]
    loaded = subprocess.run([*command, "bench", MODEL, *load, *where], capture_output=True, text=True, timeout=60)
    assert f"modelport bench llm {MODEL}" in loaded.stderr


def test_an_answer_and_what_it_cost(client: openai.OpenAI) -> None:
    found = ask(client, max_tokens=40)
    (choice,) = found.choices
    assert "Paris" in choice.message.content
    assert choice.finish_reason == "stop"
    assert found.usage.prompt_tokens == 37
    assert 0 < found.usage.completion_tokens < 40
    assert found.usage.total_tokens == found.usage.prompt_tokens + found.usage.completion_tokens


def test_the_same_again_is_the_same_streamed_or_not(client: openai.OpenAI) -> None:
    answer = ask(client)
    whole, usage = answer.choices[0], answer.usage
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.message.content == ask(client).choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    ends = [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
    assert ends == [whole.finish_reason]
    assert chunks[-1].usage.completion_tokens == usage.completion_tokens > 0
    assert len({chunk.id for chunk in chunks}) == 1


def test_the_stream_on_the_wire_ends_as_openais(served: Served) -> None:
    body = {"model": MODEL, "messages": QUESTION, "max_tokens": 2, "stream": True}
    answer = httpx.post(f"{served.url}/v1/chat/completions", json=body, timeout=60)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.endswith("data: [DONE]\n\n")
    assert all(block.startswith("data: ") for block in answer.text.strip().split("\n\n"))


def test_seeds_repeat_and_several_answers_differ(client: openai.OpenAI) -> None:
    for seed in (7, 8, 9):
        one, again = (ask(client, seed=seed, temperature=1, max_tokens=12) for _ in range(2))
        assert one.choices[0].message.content == again.choices[0].message.content
    several = ask(client, n=3, seed=7, temperature=1, max_tokens=12)  # of these the sums depend on who is beside whom
    assert len({choice.message.content for choice in several.choices}) == 3
    assert several.usage.prompt_tokens == 37, "the prompt counts once"


def test_stop_texts_and_log_probabilities(client: openai.OpenAI) -> None:
    (choice,) = ask(client, stop=["Paris", "London"], logprobs=True).choices
    assert choice.message.content.endswith(" is ")
    assert choice.finish_reason == "stop"
    said = choice.logprobs.content
    assert all(entry.logprob <= 0 for entry in said)
    assert "".join(entry.token for entry in said[:-1]).rstrip() == choice.message.content.rstrip()


def test_a_conversation_in_parts_with_a_developers_word(client: openai.OpenAI) -> None:
    messages = [
        {"role": "developer", "content": "You answer briefly."},
        {"role": "user", "content": [{"type": "text", "text": "My name is "}, {"type": "text", "text": "Ada."}]},
        {"role": "assistant", "content": "Hello Ada."},
        {"role": "user", "content": "What is my name?"},
    ]
    assert "Ada" in ask(client, messages=messages, max_tokens=30).choices[0].message.content


def test_tools_that_must_be_called_are(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": "Weather in Paris?"}]
    named = {"type": "function", "function": {"name": "get_weather"}}
    (choice,) = ask(client, messages=messages, tools=[WEATHER], tool_choice=named, max_tokens=80).choices
    (call,) = choice.message.tool_calls
    assert (choice.finish_reason, call.function.name) == ("tool_calls", "get_weather")
    assert "Paris" in json.loads(call.function.arguments)["city"]
    streamed = ask(client, messages=messages, tools=[WEATHER], tool_choice=named, max_tokens=80, stream=True)
    calls = [call for chunk in streamed for call in chunk.choices[0].delta.tool_calls or []]
    assert [call.function.arguments for call in calls] == [call.function.arguments]
    answered = [
        *messages,
        {"role": "assistant", "content": None, "tool_calls": [call.model_dump(include={"id", "type", "function"})]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Sunny, 31 degrees."},
    ]
    answered[1]["tool_calls"][0] |= {"id": "call_1", "type": "function"}  # type: ignore[index]
    assert ask(client, messages=answered, tools=[WEATHER], max_tokens=10).choices[0].message is not None


def valid(client: openai.OpenAI, seed: int) -> str:
    schema = made(seed)
    form = {"type": "json_schema", "json_schema": {"name": "made", "schema": schema, "strict": True}}
    (choice,) = ask(
        client, messages=[{"role": "user", "content": "Describe a person in JSON."}], max_tokens=600, seed=seed,
        temperature=seed % 2, response_format=form,
    ).choices  # fmt: skip
    if choice.finish_reason == "length":
        return "long"
    jsonschema.validate(json.loads(choice.message.content), schema, format_checker=jsonschema.FormatChecker())
    return "valid"


def test_what_a_schema_describes_is_what_comes(client: openai.OpenAI) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda seed: valid(client, seed), range(12))) == ["valid"] * 12


@pytest.mark.long
def test_two_hundred_schemas(client: openai.OpenAI) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda seed: valid(client, seed), range(200)))
    print(f"200 schemas: {found.count('valid')} valid, {found.count('long')} not finished")
    assert found.count("valid") >= 198, "a text without a bound may not come to its end"


def test_any_json_object_and_a_pattern(client: openai.OpenAI) -> None:
    said = ask(client, response_format={"type": "json_object"}, max_tokens=300, seed=1).choices[0]
    if said.finish_reason == "stop":
        assert isinstance(json.loads(said.message.content), dict)
    told = ask(client, extra_body={"guided_regex": "[A-Z]{3}-[0-9]{4}"}).choices[0].message.content
    assert re.fullmatch("[A-Z]{3}-[0-9]{4}", told)


def test_completions_of_several_prompts(client: openai.OpenAI) -> None:
    how: dict[str, Any] = {"model": MODEL, "max_tokens": 6, "temperature": 0}
    found = client.completions.create(prompt=["The capital of France is", "1, 2, 3, 4,"], **how)
    assert "Paris" in found.choices[0].text
    assert found.choices[1].text.startswith(" 5")
    assert found.usage is not None
    assert found.usage.completion_tokens == 12
    (echoed,) = client.completions.create(prompt="The capital of France is", echo=True, logprobs=0, **how).choices
    assert echoed.text == "The capital of France is" + found.choices[0].text
    assert echoed.logprobs is not None
    assert len(echoed.logprobs.token_logprobs or []) == 6
    places = echoed.logprobs.text_offset
    assert all(echoed.text.startswith(token, at) for at, token in zip(places, echoed.logprobs.tokens, strict=True))
    parts = client.completions.create(prompt="The capital of France is", echo=True, logprobs=0, stream=True, **how)
    told = [part.choices[0].logprobs for part in parts]
    assert [at for each in told if each is not None for at in each.text_offset or ()] == places
    streamed = client.completions.create(prompt="1, 2, 3, 4,", stream=True, **how)
    assert "".join(chunk.choices[0].text for chunk in streamed) == found.choices[1].text


@pytest.mark.parametrize(
    ("how", "status", "field", "words"),
    [
        ({"n": 10_000}, 400, "n", "<= 128"),
        ({"temperature": 9}, 400, "temperature", "<= 2"),
        ({"max_tokens": -1}, 400, "max_tokens", ">= 1"),
        ({"top_p": 0}, 400, "top_p", "> 0"),
        ({"foo": 1}, 400, "foo", "unknown"),
        ({"functions": []}, 400, "functions", "deprecated"),
        ({"messages": []}, 400, "messages", "1 to 4096"),
        ({"messages": [{"role": "user", "content": "x"}] * 5000}, 400, "messages", "not 5000"),
        ({"messages": [{"role": "boss", "content": "x"}]}, 400, "messages[0].role", "boss"),
        ({"messages": [{"role": "user"}]}, 400, "messages[0].content", "missing"),
        ({"messages": [{"role": "tool", "content": "x"}]}, 400, "messages[0].tool_call_id", "missing"),
        ({"messages": "hello"}, 400, "messages", "expected"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://10.0.0.1"}}]}]},
            400, "messages[0].content[0]", "nothing is fetched",
        ),
        ({"messages": [{"role": "user", "content": "word " * 9000}]}, 400, None, "8192 tokens, but the prompt has 90"),
        ({"model": "no"}, 404, None, "does not exist"),
        ({"stop": ["x"] * 100}, 400, "stop", "at most 16"),
        ({"stop": ""}, 400, "stop", "1 to 1000"),
        ({"logit_bias": {"1": 5}}, 400, "logit_bias", "engine"),
        ({"logprobs": True, "top_logprobs": 3}, 400, "top_logprobs", "engine"),
        ({"top_logprobs": 3}, 400, "top_logprobs", "needs 'logprobs'"),
        ({"stream_options": {"include_usage": True}}, 400, "stream_options", "'stream'"),
        ({"tool_choice": "required"}, 400, "tool_choice", "needs 'tools'"),
        ({"tools": [WEATHER, WEATHER]}, 400, "tools", "twice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "x"}}}, 400, "tool_choice", "x"),
        ({"response_format": {"type": "xml"}}, 400, "response_format.type", "json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"not": {}}}}},
            400, "response_format.json_schema.schema", "'not' cannot be kept to",
        ),
        ({"guided_regex": "(a{1000}){1000}"}, 400, "guided_regex", "repeating"),
        ({"guided_grammar": 'root ::= "a" | foo'}, 400, None, 'cannot read the grammar: EBNF parser error at line 1'),
        ({"guided_grammar": "root ::= foo"}, 400, "guided_grammar", "is missing or has no end"),
        ({"n": 97}, 400, "n", "takes 96 at once"),
        ({"seed": 1 << 70}, 400, "seed", "int"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_refused_names_the_field(
    served: Served, how: dict[str, Any], status: int, field: str | None, words: str
) -> None:
    body = {"model": MODEL, "messages": QUESTION, "max_tokens": 2, **how}
    answer = httpx.post(f"{served.url}/v1/chat/completions", json=body, timeout=60)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, field)
    assert words in error["message"]
    assert set(error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model": "\xff"}', b"null", b"[" * 100_000])
def test_bodies_that_are_no_requests(served: Served, body: bytes) -> None:
    answer = httpx.post(f"{served.url}/v1/chat/completions", content=body, timeout=60)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_callers_that_go_away_leave_no_text_behind(served: Served) -> None:
    """Forty go away in the middle; all slots are free for those who come next."""
    url, body = f"{served.url}/v1/chat/completions", {"model": MODEL, "messages": QUESTION, "max_tokens": 4000,
                                                      "stream": True, "ignore_eos": True}  # fmt: skip

    def leave(_: int) -> None:
        with httpx.stream("POST", url, json=body, timeout=60) as answer:
            next(answer.iter_lines())

    with ThreadPoolExecutor(40) as pool:
        list(pool.map(leave, range(40)))
    answer = httpx.post(url, json={**body, "max_tokens": 2, "stream": False}, timeout=20)
    assert answer.json()["usage"]["completion_tokens"] == 2
