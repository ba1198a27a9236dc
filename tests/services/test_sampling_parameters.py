"""How a language model writes, said through protocols that know tensors: a real one (SmolLM2-135M), a real server."""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np
import pytest

from tests.services.served import Served

pytestmark = pytest.mark.xdist_group("language")
MODEL = "smollm2"
PROMPT = "The capital of Spain is"
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 12}


@pytest.fixture
def served(talking: Served) -> Served:
    return talking


@pytest.fixture(scope="module")
def truth(talking: Served) -> str:
    """What OpenAI's door answers."""
    body = {"model": MODEL, "prompt": PROMPT, **GREEDY}
    found = httpx.post(f"{talking.url}/v1/completions", json=body, timeout=60).json()
    assert "Madrid" in found["choices"][0]["text"]
    return str(found["choices"][0]["text"])


def generate(served: Served, **body: Any) -> httpx.Response:
    return httpx.post(f"{served.url}/v2/models/{MODEL}/generate", json={"text_input": PROMPT, **body}, timeout=60)


def infer(served: Served, parameters: dict[str, Any]) -> httpx.Response:
    item = {"name": "text_input", "datatype": "BYTES", "shape": [1], "data": [PROMPT]}
    body = {"inputs": [item], "parameters": parameters}
    return httpx.post(f"{served.url}/v2/models/{MODEL}/infer", json=body, timeout=60)


def test_generate_takes_them_within_parameters_and_beside(served: Served, truth: str) -> None:
    assert generate(served, parameters={"stream": False, **GREEDY}).json()["text_output"] == truth
    assert generate(served, **GREEDY).json()["text_output"] == truth
    words = {name: str(value) for name, value in GREEDY.items()}  # as clients that know text only send them
    assert generate(served, parameters=words).json()["text_output"] == truth


@pytest.mark.parametrize("stop", ["Rome", ["Rome", "Milan"], '["Rome", "Milan"]'])
def test_stop_is_a_text_or_a_list_or_one_as_json(served: Served, stop: Any) -> None:
    """Of another prompt: what follows upon a text that was cut short may be rounded another way by the engine."""
    asked: dict[str, Any] = {"text_input": "The capital of Italy is", "parameters": {**GREEDY, "stop": stop}}
    assert generate(served, **asked).json()["text_output"] == " "


def test_generate_stream_gives_the_same_in_parts(served: Served, truth: str) -> None:
    body = {"text_input": PROMPT, "parameters": GREEDY}
    with httpx.stream("POST", f"{served.url}/v2/models/{MODEL}/generate_stream", json=body, timeout=60) as answer:
        parts = [json.loads(line[5:])["text_output"] for line in answer.iter_lines() if line.startswith("data:")]
    assert "".join(parts) == truth
    assert len(parts) > 3


def test_seeds_repeat_and_differ(served: Served) -> None:
    first, again, other = (
        generate(served, parameters={"seed": seed, "temperature": 1.5, "max_tokens": 12}).json()["text_output"]
        for seed in (7, 7, 8)
    )
    assert first == again != other


def test_infer_takes_them_over_http(served: Served, truth: str) -> None:
    assert infer(served, GREEDY).json()["outputs"][0]["data"] == [truth]
    urgent = infer(served, {**GREEDY, "timeout": 30_000_000, "priority": 2, "binary_data_output": False})
    assert urgent.json()["outputs"][0]["data"] == [truth]
    told = infer(served, {"max_tokens": 20, "guided_regex": "[A-Z]{3}-[0-9]{4}"}).json()["outputs"][0]["data"][0]
    assert told[3] == "-"
    assert told[4:].isdigit()


def test_infer_takes_them_over_grpc(served: Served, truth: str) -> None:
    grpc = pytest.importorskip("tritonclient.grpc")
    item = grpc.InferInput("text_input", [1], "BYTES")
    item.set_data_from_numpy(np.array([PROMPT.encode()], object))
    with grpc.InferenceServerClient(served.grpc) as client:
        found = client.infer(MODEL, [item], parameters={"max_tokens": 12, "temperature": "0"})
        assert found.as_numpy("text_output").tolist() == [truth.encode()]
        with pytest.raises(Exception, match=r"'temperature'.*<= 2"):
            client.infer(MODEL, [item], parameters={"temperature": 9})


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"max_tokens": 0}, "'max_tokens'"),
        ({"max_tokens": "many"}, "'max_tokens'"),
        ({"temperature": -1}, "'temperature'"),
        ({"top_p": 2}, "'top_p'"),
        ({"stop": ["x"] * 17}, "at most 16"),
        ({"logit_bias": {"5": 1}}, "engine"),
        ({"guided_json": "{"}, "no JSON"),
        ({"response_format": {"type": "xml"}}, "json_schema"),
        ({"seed": 1 << 70}, "'seed'"),
    ],
    ids=str,
)
def test_what_is_wrong_is_refused_by_name(served: Served, parameters: dict[str, Any], words: str) -> None:
    for answer in (generate(served, parameters=parameters), infer(served, parameters)):
        assert answer.status_code == 400, answer.text
        assert words in answer.json()["error"]


def test_a_name_that_nobody_knows_is_refused(served: Served) -> None:
    for answer in (generate(served, parameters={"max_token": 5}), infer(served, {"max_token": 5})):
        assert answer.status_code == 400
        assert "max_token" in answer.json()["error"]
    twice = generate(served, max_tokens=5, parameters={"max_tokens": 6})
    assert (twice.status_code, "twice" in twice.text) == (400, True)
