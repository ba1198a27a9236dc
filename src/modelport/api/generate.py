"""Triton's ``generate`` extension over HTTP: a flat JSON object of inputs in, one of outputs out, whole or in parts.

    POST /v2/models/{m}[/versions/{v}]/generate          one JSON object
    POST /v2/models/{m}[/versions/{v}]/generate_stream   server-sent events, one for each part of the answer

A key of the body, or of its ``parameters``, is the input of that name. ``text_input`` also stands for the only BYTES
input of a model; its only BYTES output is then ``text_output``. A value with fewer dimensions than its input gets
leading ones of size 1. As in Triton, an output of one element is a scalar, any other a flat list.
For a language model, ``max_tokens``, ``temperature`` and their like are no inputs but say how it writes.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from modelport.api import rows
from modelport.api.answers import answer, error_answer
from modelport.api.inference_v2 import read_parameters
from modelport.api.messages import HttpRequest, HttpResponse, HttpRoute
from modelport.api.sampling_parameters import NAMES, read_sampling
from modelport.api.streaming import events
from modelport.api.tensor_json import parse_object, shown, to_array
from modelport.engine.dataplane import DataPlane, Endpoint
from modelport.engine.requests import InferRequest, InferResult
from modelport.engine.routing import Route
from modelport.errors import InvalidInput
from modelport.tensors import Array, TensorSpec

_TEXT_IN, _TEXT_OUT = "text_input", "text_output"
_PATH = r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?/"
_OPTIONS = ("stream", "timeout")
"""Parameters that are no inputs: the first is said by the path already, the second is a deadline in µs."""


@dataclass(slots=True)
class Asked:
    """One request for the endpoint of its path."""

    inputs: dict[str, Array]
    id: str | None
    timeout_us: Any
    names: dict[str, str]
    """Outputs that are answered under another name than their own."""
    sampling: dict[str, Any]


def routes(plane: DataPlane) -> list[HttpRoute]:
    """The two paths."""
    doors = Generate(plane)
    return [
        HttpRoute("POST", re.compile(_PATH + "generate"), doors.whole, error_answer),
        HttpRoute("POST", re.compile(_PATH + "generate_stream"), doors.parts, error_answer),
    ]


class Generate:
    """The handlers, over one data plane."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    def _read(self, request: HttpRequest, path: dict[str, str]) -> tuple[Endpoint, Asked, InferRequest]:
        endpoint = self._plane.find(
            request.caller.project, path["model"], path.get("version"), only=request.caller.models
        )
        asked = read_generate(endpoint.route, request.body)
        wanted = request.infer_request(asked.inputs, self._plane.default_timeout_s, timeout_us=asked.timeout_us)
        wanted.sampling = asked.sampling
        return endpoint, asked, wanted

    async def whole(self, request: HttpRequest, path: dict[str, str]) -> HttpResponse:
        endpoint, asked, wanted = self._read(request, path)
        return answer(write_generate(endpoint, asked, await self._plane.infer(endpoint, wanted)))

    async def parts(self, request: HttpRequest, path: dict[str, str]) -> HttpResponse:
        endpoint, asked, wanted = self._read(request, path)

        async def values() -> AsyncGenerator[dict[str, Any]]:
            async with aclosing(self._plane.stream(endpoint, wanted)) as found:
                async for part in found:
                    yield write_generate(endpoint, asked, part)

        return events(values())


def read_generate(route: Route, body: bytes) -> Asked:
    """The tensors and the rest of a body; raises InvalidInput."""
    signature = route.signature
    document = parse_object(body)
    request_id, parameters = document.pop("id", None), read_parameters(document.pop("parameters", None))
    if request_id is not None and (type(request_id) is not str or len(request_id) > 1000):
        raise InvalidInput("'id' must be a string of at most 1000 characters")
    specs = {spec.name: spec for spec in signature.inputs}
    options = {key: parameters.pop(key) for key in _OPTIONS if key in parameters and key not in specs}
    for key in parameters:
        if key in document:
            raise InvalidInput(f"input {shown(key)} is given twice: beside 'parameters' and within")
    given = document | parameters
    how = {name: given.pop(name) for name in NAMES & given.keys()} if route.language is not None else {}
    names: dict[str, str] = {}
    text_in, text_out = _only_text(signature.inputs), _only_text(signature.outputs)
    if _TEXT_IN in given and _TEXT_IN not in specs and text_in is not None and text_in not in given:
        given[text_in] = given.pop(_TEXT_IN)
        names = {text_out: _TEXT_OUT} if text_out is not None else {}
    rows.check_names(signature, given)
    inputs = {name: _read(specs[name], given[name]) for name in specs}
    return Asked(inputs, request_id, options.get("timeout"), names, read_sampling(route, how))


def _only_text(specs: tuple[TensorSpec, ...]) -> str | None:
    found = [spec.name for spec in specs if spec.datatype == "BYTES"]
    return found[0] if len(found) == 1 else None


def _read(spec: TensorSpec, value: Any) -> Array:
    tensor = to_array(value, spec.datatype, spec.name, base64_objects=True)
    missing = len(spec.shape) - tensor.ndim
    return tensor.reshape((1,) * missing + tensor.shape) if missing > 0 else tensor


def write_generate(endpoint: Endpoint, asked: Asked, result: InferResult) -> dict[str, Any]:
    """One answer, or one part of it."""
    found: dict[str, Any] = {} if asked.id is None else {"id": asked.id}
    found |= {"model_name": endpoint.route.name, "model_version": str(endpoint.route.version)}
    for name, tensor in result.outputs.items():
        value = rows.write(name, tensor.reshape(() if tensor.size == 1 else -1))
        found[asked.names.get(name, name)] = value
    return found
