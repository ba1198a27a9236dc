"""A cascade of two real models: SmolLM2-135M in 4 bits on OpenVINO first, in 16 bits on transformers behind it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import pytest

from tests.services.conftest import Server
from tests.services.served import talking_weights, unpacked

pytestmark = [pytest.mark.xdist_group("language"), pytest.mark.long, pytest.mark.timeout(300)]
SURE = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "max_tokens": 6}
UNSURE = {"messages": [{"role": "user", "content": "Write down some random words."}], "max_tokens": 24}


@dataclass
class Pair:
    """A server with both, and a client of it."""

    server: Server
    client: openai.OpenAI

    def ask(self, model: str, question: dict[str, Any], **how: Any) -> Any:
        wanted = {"model": model, "temperature": 0, "seed": 7, **question, **how}
        return self.client.chat.completions.with_raw_response.create(**wanted)

    def said(self, model: str, question: dict[str, Any]) -> str:
        return str(self.ask(model, question).parse().choices[0].message.content)

    def least(self, question: dict[str, Any]) -> float:
        """Of the small model's tokens: how likely the least likely was."""
        answer = self.ask("small", question, logprobs=True).parse()
        return min(float(token.logprob) for token in answer.choices[0].logprobs.content)

    def cascade(self, test: str) -> None:
        done = self.server.cli("deploy", "large", "--cascade", f"small,{test}")
        assert done.returncode == 0, done.stderr

    def kept(self) -> dict[str, float]:
        """So many texts of each model, as the figures have it."""
        answer = httpx.get(f"{self.server.url}/metrics", headers={"Authorization": f"Bearer {self.server.token}"})
        counted = re.findall(r'modelport_cascade_texts_total\{.*endpoint="large".*kept="(\w+)".*\} (\S+)', answer.text)
        return {model: float(count) for model, count in counted}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    pytest.importorskip("openvino_genai")
    pytest.importorskip("llguidance")
    folder = unpacked(talking_weights(), tmp_path_factory.mktemp("folder") / "smollm2")
    server = Server(tmp_path_factory.mktemp("home"), ("--gateways", "1")).start()
    try:
        with server.client(timeout=120) as client:
            for name, source in (("small", talking_weights()), ("large", folder)):
                client.models.push(source, name)
                client.deploy(name)
        yield Pair(server, openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.token, timeout=120))
    finally:
        server.stop()


def check(pair: Pair, texts: dict[str, str]) -> None:
    """The sure answer is the small model's, the other one the large model's, whole and in parts."""
    before = pair.kept()
    for question, by in ((SURE, "small"), (UNSURE, "large")):
        found = pair.ask("large", question)
        answer = found.parse()
        assert (found.headers["x-modelport-model"], answer.model) == (by, by)
        assert answer.choices[0].message.content == texts[by]
        with pair.ask("large", question, stream=True).parse() as stream:
            chunks = list(stream)
        assert {chunk.model for chunk in chunks} == {by}
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == texts[by]
    after = pair.kept()
    assert {by: count - before.get(by, 0) for by, count in after.items()} == {"small": 2, "large": 2}


def test_what_the_small_model_is_sure_of_is_kept_and_the_rest_is_passed_on(pair: Pair) -> None:
    sure, unsure = pair.least(SURE), pair.least(UNSURE)
    assert unsure < sure - 0.1, "the questions tell sure from unsure"
    texts = {"small": pair.said("small", SURE), "large": pair.said("large", UNSURE)}
    assert "Paris" in texts["small"]
    assert texts["large"] != pair.said("small", UNSURE), "one sees whose it is"
    pair.cascade(f"min_logprob={(sure + unsure) / 2:.3f}")
    check(pair, texts)


def test_what_the_small_model_says_again_is_kept_and_what_it_says_otherwise_is_passed_on(pair: Pair) -> None:
    texts = {"small": pair.said("small", SURE), "large": pair.said("large", UNSURE)}
    pair.cascade("agreement=0.25,samples=8")
    check(pair, texts)
