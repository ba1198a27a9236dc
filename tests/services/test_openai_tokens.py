"""Texts as a real language model's tokens (SmolLM2-135M), and back: in vLLM's form, over a real server."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.services.served import Served

pytestmark = pytest.mark.xdist_group("language")
MODEL = "smollm2"
TEXT = "Grüße aus Köln: 東京 🙂 – 1, 2, 3"


@pytest.fixture(scope="module")
def served(talking: Served) -> Served:
    return talking


def post(served: Served, path: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{served.url}{path}", json={"model": MODEL, **body}, timeout=30)


@pytest.mark.parametrize("text", [TEXT, "", " ", "a " * 20_000])
def test_tokens_read_as_the_text_that_they_are_of(served: Served, text: str) -> None:
    told = post(served, "/tokenize", prompt=text, add_special_tokens=False).json()
    assert told["count"] == len(told["tokens"])
    assert told["max_model_len"] == 8192
    if told["count"] <= 8192:
        assert post(served, "/detokenize", tokens=told["tokens"]).json() == {"prompt": text}
    else:
        assert told["count"] >= 20_000, "a text longer than the context is counted all the same"


def test_each_token_has_its_own_text(served: Served) -> None:
    told = post(served, "/tokenize", prompt="1, 2, 3", return_token_strs=True).json()
    assert len(told["token_strs"]) == told["count"]
    assert "".join(told["token_strs"]) == "1, 2, 3"
    assert post(served, "/tokenize", prompt="1, 2, 3").json()["token_strs"] is None


def test_a_conversation_counts_as_many_tokens_as_the_answer_says_that_it_had(served: Served) -> None:
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    told = post(served, "/tokenize", messages=messages).json()
    answer = post(served, "/v1/chat/completions", messages=messages, max_tokens=1).json()
    assert told["count"] == answer["usage"]["prompt_tokens"]
    shorter = post(served, "/tokenize", messages=messages, add_generation_prompt=False).json()
    assert shorter["tokens"] == told["tokens"][: shorter["count"]]
    assert 0 < shorter["count"] < told["count"]
    tool = {"type": "function", "function": {"name": "sing"}}
    assert post(served, "/tokenize", messages=messages, tools=[tool]).json()["count"] > told["count"]


@pytest.mark.parametrize(
    ("path", "body", "field", "words"),
    [
        ("/tokenize", {}, "prompt", "one of"),
        ("/tokenize", {"prompt": "a", "messages": []}, "prompt", "one of"),
        ("/tokenize", {"prompt": 7}, "prompt", "expected"),
        ("/tokenize", {"messages": []}, "messages", "1 to 4096"),
        ("/tokenize", {"prompt": "a", "colour": 1}, "colour", "unknown"),
        ("/tokenize", {"messages": [{"role": "user", "content": "x"}], "add_special_tokens": True},
         "add_special_tokens", "chat template"),
        ("/detokenize", {"tokens": "abc"}, "tokens", "expected"),
        ("/detokenize", {"tokens": [-1]}, "tokens[0]", ">= 0"),
        ("/detokenize", {"tokens": [49_152]}, None, "49152 is no token of this model: they are 0 to 49151"),
        ("/detokenize", {"tokens": [1 << 70]}, None, "no token of this model"),
        ("/detokenize", {"tokens": [5] * 9000}, None, "8192 tokens, not 9000"),
        ("/v1/completions", {"prompt": [1 << 40], "max_tokens": 2}, None, "no token of this model"),
    ],
)  # fmt: skip
def test_what_is_refused(served: Served, path: str, body: dict[str, Any], field: str | None, words: str) -> None:
    answer = post(served, path, **body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, field), error
    assert words in error["message"]
    assert post(served, "/tokenize", model="nobody", prompt="a").status_code == 404
