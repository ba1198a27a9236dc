"""OpenAI's embeddings: texts in, one vector for each.

    POST /v1/embeddings   {"model", "input", "encoding_format"?, "dimensions"?, "user"?}

Any endpoint that takes one text a row and answers one vector a row is an embedding model. Knows the data plane;
which words a text is made of only the model knows, so tokens in place of texts are refused.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from modelport.api.answers import answer
from modelport.api.messages import HttpRequest, HttpResponse, HttpRoute
from modelport.api.openai.errors import error_answer
from modelport.api.openai.reading import endpoint_of, read
from modelport.engine.dataplane import DataPlane, Endpoint
from modelport.engine.routing import Route
from modelport.errors import InvalidInput, RunFailed
from modelport.tensors import Array

_MOST_INPUTS = 2048
"""As OpenAI's."""


class EmbeddingsBody(msgspec.Struct, forbid_unknown_fields=True):
    """What is asked."""

    model: str
    input: str | list[str | int | list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    user: str | None = None


def routes(plane: DataPlane) -> list[HttpRoute]:
    """The one path."""
    return [HttpRoute("POST", re.compile("/v1/embeddings"), Embeddings(plane).create, error_answer)]


class Embeddings:
    """The handler, over one data plane."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    async def create(self, request: HttpRequest, path: dict[str, str]) -> HttpResponse:
        asked = read(request.body, EmbeddingsBody)
        endpoint = endpoint_of(self._plane, request, asked.model)
        _check_dimensions(endpoint.route, asked.dimensions)
        vectors, tokens = await embed(self._plane, endpoint, request, _texts(asked.input))
        data = [
            {"object": "embedding", "index": index, "embedding": _written(vector, asked.encoding_format)}
            for index, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return answer({"object": "list", "data": data, "model": asked.model, "usage": usage})


def gives_embeddings(route: Route) -> tuple[str, str] | None:
    """The names of the input for texts and of the output with their vectors; None where the model is of another kind:
    classes have labels, and a single number is no vector."""
    takes, gives = route.signature.inputs, route.signature.outputs
    if len(takes) != 1 or takes[0].datatype != "BYTES" or len(takes[0].shape) != 1 or route.language is not None:
        return None
    vectors = [
        spec.name
        for spec in gives
        if spec.datatype.startswith(("FP", "BF")) and len(spec.shape) == 2 and spec.shape[1] != 1
        if not route.labels.get(spec.name)
    ]
    named = [name for name in vectors if "embedding" in name]
    found = named or vectors
    return (takes[0].name, found[0]) if found else None


async def embed(plane: DataPlane, endpoint: Endpoint, request: HttpRequest, texts: Sequence[str]) -> tuple[Array, int]:
    """FP32 [texts, width], and how many tokens they were; raises InvalidInput for a model that gives no vectors."""
    names = gives_embeddings(endpoint.route)
    if names is None:
        raise InvalidInput.of(
            "model", f"the model {endpoint.route.name!r} gives no embeddings of texts; ask one that does"
        )
    rows = np.empty(len(texts), object)
    rows[:] = [text.encode() for text in texts]
    wanted = request.infer_request({names[0]: rows}, plane.default_timeout_s, (names[1],))
    result = await plane.infer(endpoint, wanted)
    vectors = result.outputs[names[1]].astype(np.float32, copy=False)
    if not np.isfinite(vectors).all():
        raise RunFailed(f"the model {endpoint.route.name!r} answered numbers that are not finite")
    return vectors, result.tokens


def _texts(given: str | list[Any]) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if not 0 < len(texts) <= _MOST_INPUTS:
        raise InvalidInput.of("input", f"'input' has 1 to {_MOST_INPUTS} texts; this one has {len(texts)}")
    if not all(isinstance(text, str) for text in texts):
        raise InvalidInput.of(
            "input",
            "'input' holds tokens, and this model takes texts: send strings "
            "(LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False))",
        )
    return texts


def _check_dimensions(route: Route, wanted: int | None) -> None:
    """A vector that was not trained to be cut is worth less when it is: only its own length is given."""
    if wanted is None:
        return
    names = gives_embeddings(route)
    width = next((spec.shape[1] for spec in route.signature.outputs if names and spec.name == names[1]), None)
    if wanted != width:
        raise InvalidInput.of(
            "dimensions", f"the model {route.name!r} gives {width or 'no'} dimensions and no other number"
        )


def _written(vector: Array, form: str | None) -> list[float] | str | Array:
    """A list of numbers, or the bytes of its little-endian FP32 in base64."""
    if form == "base64":
        return base64.b64encode(vector.astype("<f4", copy=False).tobytes()).decode()
    return np.ascontiguousarray(vector)
