"""Documents in the order in which they answer a query, in the form that Cohere, Jina and vLLM share.

    POST /v1/rerank, /v2/rerank, /rerank   {"model", "query", "documents", "top_n"?, "return_documents"?}

A cross-encoder reads the query with each document and gives the score itself; of an embedding model the score is the
cosine of the two vectors. Knows the data plane; knows no tokenizer.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
import numpy as np

from modelport.api.answers import answer
from modelport.api.messages import HttpRequest, HttpResponse, HttpRoute
from modelport.api.openai.embeddings import embed, gives_embeddings
from modelport.api.openai.errors import error_answer
from modelport.api.openai.reading import endpoint_of, read
from modelport.engine.dataplane import DataPlane, Endpoint
from modelport.engine.routing import Route
from modelport.errors import InvalidInput, RunFailed
from modelport.tensors import Array

_MOST_DOCUMENTS = 10_000
_TINY = 1e-12


class Document(msgspec.Struct):
    """A document as an object; what else it holds is the caller's."""

    text: str


class RerankBody(msgspec.Struct, forbid_unknown_fields=True):
    """What is asked."""

    model: str
    query: str
    documents: list[str | Document]
    top_n: int | None = None
    """How many of the best are answered; all without it."""
    return_documents: bool = True
    user: str | None = None


def routes(plane: DataPlane) -> list[HttpRoute]:
    """The path and its aliases."""
    return [HttpRoute("POST", re.compile("(?:/v[12])?/rerank"), Rerank(plane).create, error_answer)]


class Rerank:
    """The handler, over one data plane."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    async def create(self, request: HttpRequest, path: dict[str, str]) -> HttpResponse:
        asked = read(request.body, RerankBody)
        texts = [each if isinstance(each, str) else each.text for each in asked.documents]
        if not 0 < len(texts) <= _MOST_DOCUMENTS:
            raise InvalidInput.of(
                "documents", f"'documents' has 1 to {_MOST_DOCUMENTS} texts; this one has {len(texts)}"
            )
        if asked.top_n is not None and asked.top_n < 1:
            raise InvalidInput.of("top_n", f"'top_n' is at least 1; this one is {asked.top_n}")
        endpoint = endpoint_of(self._plane, request, asked.model)
        scores, tokens = await self._scores(endpoint, request, asked.query, texts)
        best = np.argsort(-scores, kind="stable")[: asked.top_n]
        results: list[dict[str, Any]] = [
            {"index": index, "relevance_score": float(scores[index])} for index in best.tolist()
        ]
        if asked.return_documents:
            for result in results:
                result["document"] = {"text": texts[result["index"]]}
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return answer({"id": f"rerank-{request.request_id}", "model": asked.model, "results": results, "usage": usage})

    async def _scores(
        self, endpoint: Endpoint, request: HttpRequest, query: str, texts: list[str]
    ) -> tuple[Array, int]:
        """One score for each text, and the tokens that were read; raises InvalidInput for a model that gives none."""
        names = _gives_scores(endpoint.route)
        if names is None:
            if gives_embeddings(endpoint.route) is None:
                raise InvalidInput.of(
                    "model",
                    f"the model {endpoint.route.name!r} ranks no texts; ask a cross-encoder or an embedding model",
                )
            vectors, tokens = await embed(self._plane, endpoint, request, [query, *texts])
            lengths = np.maximum(np.linalg.norm(vectors, axis=1), _TINY)
            return vectors[1:] @ vectors[0] / (lengths[1:] * lengths[0]), tokens
        query_in, text_in, score = names
        rows, queries = np.empty(len(texts), object), np.empty(len(texts), object)
        rows[:], queries[:] = [text.encode() for text in texts], query.encode()
        wanted = request.infer_request({query_in: queries, text_in: rows}, self._plane.default_timeout_s, (score,))
        result = await self._plane.infer(endpoint, wanted)
        scores = result.outputs[score].astype(np.float32, copy=False).reshape(-1)
        if scores.shape != rows.shape or not np.isfinite(scores).all():
            raise RunFailed(f"the model {endpoint.route.name!r} did not answer one finite score a document")
        return scores, result.tokens


def _gives_scores(route: Route) -> tuple[str, str, str] | None:
    """The inputs for the query and the text, and the output with their score, of a model that reads pairs."""
    takes, gives = route.signature.inputs, route.signature.outputs
    pairs = len(takes) == 2 and all(spec.datatype == "BYTES" and len(spec.shape) == 1 for spec in takes)
    one = len(gives) == 1 and gives[0].datatype.startswith(("FP", "BF")) and gives[0].shape[1:] in ((), (1,))
    return (takes[0].name, takes[1].name, gives[0].name) if pairs and one else None
