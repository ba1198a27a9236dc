"""Limited keys, fallback and cascade as OpenAI's client meets them: a whole server and a real model under two names."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from modelport import Client
from modelport.errors import InvalidInput
from tests.services.conftest import Server
from tests.services.served import talking_weights
from tests.services.test_openai import QUESTION

pytestmark = pytest.mark.xdist_group("language")
LIMIT = 240
"""Tokens a minute: each question has 37, and is answered with 8 at most."""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the model as ``small``, and as ``large``, which falls back on it."""
    pytest.importorskip("openvino_genai")
    found = Server(tmp_path_factory.mktemp("limits")).start()
    try:
        with found.client() as client:
            client.models.push(talking_weights(), "small")
            client.deploy("small")
            client.deploy("small", endpoint="large", fallback=["small"])
        yield found
    finally:
        found.stop()


def caller(server: Server, **limits: Any) -> openai.OpenAI:
    with server.client() as client:
        secret = client.keys.create("limited", **limits).secret
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=secret, max_retries=0)


def ask(client: openai.OpenAI, model: str = "large", **how: Any) -> Any:
    wanted = {"model": model, "messages": QUESTION, "temperature": 0, "max_tokens": 8, **how}
    return client.chat.completions.with_raw_response.create(**wanted)


def test_a_key_spends_its_tokens_and_the_other_model_answers(two: Server) -> None:
    client = caller(two, tokens_per_minute=LIMIT)
    answers = [ask(client) for _ in range(5)]
    assert [answer.headers["x-modelport-model"] for answer in answers] == ["large"] * 5
    left = [int(answer.headers["x-ratelimit-remaining-tokens"]) for answer in answers]
    assert left == sorted(left, reverse=True) and left[0] < LIMIT and left[-1] < 100
    assert answers[0].headers["x-ratelimit-limit-tokens"] == str(LIMIT)
    assert re.fullmatch(r"[0-9.]+s", answers[0].headers["x-ratelimit-reset-tokens"])
    whole = ask(client, max_tokens=20)
    assert whole.headers["x-modelport-model"] == "small" == whole.parse().model
    with ask(client, max_tokens=20, stream=True).parse() as stream:
        assert {chunk.model for chunk in stream} == {"small"}
    with pytest.raises(openai.RateLimitError) as refused:
        for _ in range(6):
            ask(client, max_tokens=20)
    assert refused.value.code == "rate_limit_exceeded"
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 60
    assert refused.value.response.headers["x-ratelimit-limit-tokens"] == str(LIMIT)


def test_a_key_has_its_models_and_its_longest_answer(two: Server) -> None:
    client = caller(two, models=["large"], max_tokens=12)
    assert [card.id for card in client.models.list().data] == ["large"]
    url, key = str(client.base_url).removesuffix("/v1/"), {"Authorization": f"Bearer {client.api_key}"}
    missing = []
    for name in ("small", "nothing"):
        with pytest.raises(openai.NotFoundError) as refused:
            ask(client, name)
        missing.append(refused.value.message.replace(name, "X"))
        body = {"text_input": "a"}
        for path in ("generate", "ready", "config"):
            answer = httpx.request(
                "POST" if path == "generate" else "GET", f"{url}/v2/models/{name}/{path}", headers=key,
                json=body if path == "generate" else None,
            )  # fmt: skip
            assert answer.status_code == 404
    assert missing[0] == missing[1]
    with pytest.raises(openai.BadRequestError, match="at most 12") as too_many:
        ask(client, max_tokens=13)
    assert too_many.value.param == "max_tokens"
    assert ask(client, max_tokens=None).parse().usage.completion_tokens <= 12


def test_a_small_model_that_is_sure_answers_for_the_large_one(two: Server) -> None:
    with two.client() as client:
        for wrong, message in (
            ({"fallback": ["nothing"]}, "no deployment 'nothing'"),
            ({"fallback": ["large"]}, "circle"),
            ({"cascade": {"first": "small"}}, "itself"),
        ):
            with pytest.raises(InvalidInput, match=message):
                client.deploy(
                    "small",
                    **wrong if "cascade" not in wrong else {"cascade": {**wrong["cascade"], "valid_json": True}},
                )
    free = caller(two)
    for test, kept in (("mean_logprob=-5", "small"), ("min_logprob=-0.001", "large"), ("valid_json", "large")):
        done = two.cli("deploy", "small", "--name", "large", "--cascade", f"small,{test}")
        assert done.returncode == 0, done.stderr
        answer = ask(free)
        assert (answer.headers["x-modelport-model"], answer.parse().model) == (kept, kept), test
        text = answer.parse().choices[0].message.content
        with ask(free, stream=True).parse() as stream:
            assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices) == text
    figures = httpx.get(f"{two.url}/metrics", headers={"Authorization": f"Bearer {two.token}"}).text
    counted = dict(re.findall(r'modelport_cascade_texts_total\{.*kept="(\w+)".*\} (\d+)\.0', figures))
    assert counted == {"small": "2", "large": "4"}


def test_while_control_is_away_every_gateway_counts_by_itself(two: Server) -> None:
    client = caller(two, tokens_per_minute=LIMIT)
    control = next(each for each in two.tree() if "modelport.api.control" in " ".join(each.cmdline()))
    control.suspend()
    try:
        began = time.monotonic()
        with pytest.raises(openai.RateLimitError):
            for _ in range(12):
                ask(client)
        assert time.monotonic() - began < 60
    finally:
        control.resume()
    assert Client(two.url, two.token).status()


def test_a_stopped_model_is_answered_for(two: Server) -> None:
    client = caller(two)
    with two.client() as admin:
        admin.deploy("small", endpoint="large", fallback=["small"])
        admin.deployments.stop("large")
        deadline = time.monotonic() + 20
        while ask(client).parse().model != "small":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        admin.deployments.start("large", wait=True)
    assert ask(client).parse().model == "large"
