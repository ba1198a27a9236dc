"""``/invocations`` as MLflow's scoring server and SageMaker's containers speak it, for the only or the named model.

    POST /invocations[?model=NAME]          the model may also stand in X-Amzn-SageMaker-Target-Model
    POST /endpoints/{model}/invocations     where SageMaker's runtime client sends it
    GET  /version                           beside /ping, which is among the health checks

JSON holds one of ``dataframe_split``, ``dataframe_records``, ``instances`` and ``inputs``; bodies and answers may also
be ``text/csv`` (``; header=present`` or ``absent``) and ``application/jsonlines``. JSON answers are
``{"predictions": …}``; an error is ``{"error_code", "message"}``. ``?top_k=K`` and ``?labels=true`` name classes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import modelport
from modelport.api import rows, tables
from modelport.api.answers import answer, hints, to_json
from modelport.api.messages import HttpRequest, HttpResponse, HttpRoute
from modelport.api.tensor_json import parse_object, shown
from modelport.engine.dataplane import DataPlane
from modelport.errors import InvalidInput, ModelportError, UnsupportedEncoding
from modelport.tensors import Array, Signature

TARGET_HEADER = "x-amzn-sagemaker-target-model"
_CSV = ("text/csv", "application/csv")
_LINES = ("application/jsonlines", "application/jsonl", "application/x-jsonlines", "application/x-ndjson")
_JSON = ("application/json", "application/x-www-form-urlencoded", "application/octet-stream", "")
"""The other three are what curl, botocore and plain sockets say when their user says nothing."""
_SHAPES = ("dataframe_split", "dataframe_records", "instances", "inputs")
#: MLflow's names of what can go wrong; everything else is an internal error there.
_MLFLOW_CODES = {
    400: "INVALID_PARAMETER_VALUE",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    413: "BAD_REQUEST",
    415: "BAD_REQUEST",
    429: "RESOURCE_EXHAUSTED",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def routes(plane: DataPlane) -> list[HttpRoute]:
    """The three paths."""
    door = Invocations(plane)
    return [
        HttpRoute("POST", re.compile(r"/invocations"), door.invoke, mlflow_error),
        HttpRoute("POST", re.compile(r"/endpoints/(?P<model>[^/]+)/invocations"), door.invoke, mlflow_error),
        HttpRoute("GET", re.compile(r"/version"), _version, mlflow_error),
    ]


def mlflow_error(error: ModelportError) -> HttpResponse:
    """The wire form of an error."""
    body = {"error_code": _MLFLOW_CODES.get(error.status, "INTERNAL_ERROR"), "message": error.message}
    return HttpResponse(error.status, to_json(body), headers=hints(error))


async def _version(request: HttpRequest, path: dict[str, str]) -> HttpResponse:
    return HttpResponse(body=modelport.__version__.encode(), content_type="text/plain; charset=utf-8")


class Invocations:
    """The handler, over one data plane."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    async def invoke(self, request: HttpRequest, path: dict[str, str]) -> HttpResponse:
        name = path.get("model") or request.query.get("model") or request.headers.get(TARGET_HEADER)
        endpoint = rows.chosen(self._plane, request.caller, name)
        route = endpoint.route
        media = request.headers.get("content-type", "")
        form = _answer_form(request.headers.get("accept", ""))
        classes = rows.class_outputs(route, request.query)
        by_row, inputs = read_invocation(route.signature, request.body, media, route.features)
        asked = request.infer_request(inputs, self._plane.default_timeout_s, classes and classes[1])
        result = await self._plane.infer(endpoint, asked)
        if by_row or form is not None:
            rows.check_rows(inputs, result.outputs)
        values = rows.write_all(route, result.outputs, classes and classes[0])
        if form in _CSV:
            return HttpResponse(body=tables.write_csv(values), content_type="text/csv; charset=utf-8")
        if form in _LINES:
            return HttpResponse(body=tables.write_lines(rows.per_row(values)), content_type="application/jsonlines")
        return answer({"predictions": rows.per_row(values) if by_row else rows.bare(values)})


def read_invocation(
    signature: Signature, body: bytes, media: str, features: Sequence[str] = ()
) -> tuple[bool, dict[str, Array]]:
    """Whether the answer goes by rows, and the tensors; raises InvalidInput and UnsupportedEncoding."""
    kind, parameters = _media(media)
    if kind in _CSV:
        return True, tables.read_csv(signature, body, _header(parameters), features)
    if kind in _LINES:
        return True, tables.read_lines(signature, body)
    if kind not in _JSON:
        raise UnsupportedEncoding(
            f"Content-Type {shown(media)} is not spoken here; use application/json, text/csv or application/jsonlines"
        )
    return _read_json(signature, body, features)


def _read_json(signature: Signature, body: bytes, features: Sequence[str]) -> tuple[bool, dict[str, Array]]:
    document = parse_object(body)
    given = [key for key in _SHAPES if key in document]
    if len(given) != 1:
        raise InvalidInput(f"the body must have exactly one of {', '.join(_SHAPES)}; it has {len(given)} of them")
    if document.get("params"):
        raise InvalidInput("'params' is not supported here: what a model takes are its inputs; leave it out")
    (field,) = given
    value = document[field]
    if field == "dataframe_split":
        return True, tables.read_split(signature, value, field, features)
    if field == "dataframe_records":
        return True, tables.read_records(signature, value, field, features)
    if field == "instances":
        return True, rows.read_instances(signature, value)
    return False, rows.read_columns(signature, value, field)


def _media(text: str) -> tuple[str, dict[str, str]]:
    """A media type in lower case, and its parameters."""
    kind, *rest = text.split(";")
    pairs = (part.partition("=") for part in rest)
    return kind.strip().lower(), {key.strip().lower(): value.strip().lower() for key, _, value in pairs}


def _header(parameters: dict[str, str]) -> bool | None:
    word: Any = parameters.get("header")
    if word not in (None, "present", "absent"):
        raise InvalidInput(f"Content-Type: 'header' must be present or absent, not {shown(word)}")
    return None if word is None else word == "present"


def _answer_form(accept: str) -> str | None:
    """The media type of the answer: the first of ``accept`` that is known; None for JSON."""
    for item in accept.split(","):
        kind, _ = _media(item)
        if kind in (*_CSV, *_LINES):
            return kind
        if kind == "application/json":
            return None
    return None
