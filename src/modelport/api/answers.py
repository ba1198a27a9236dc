"""Values to HTTP answers; errors to the form that V1, V2 and ``/predict`` share: ``{"error": "text"}``."""

from __future__ import annotations

from typing import Any

import orjson

from modelport.api.messages import HttpResponse
from modelport.errors import ModelportError, NotAuthenticated, Overloaded

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY


def to_json(value: Any) -> bytes:
    """JSON of a value; C-contiguous numpy arrays inside become lists, NaN and infinities null."""
    return orjson.dumps(value, option=_OPTIONS)


def answer(value: Any, status: int = 200) -> HttpResponse:
    """A JSON answer."""
    return HttpResponse(status=status, body=to_json(value))


def native_error_answer(error: ModelportError, request_id: str) -> HttpResponse:
    """The wire form of an error in the management API."""
    detail = {"code": error.code, "message": error.message, "request_id": request_id}
    return _with_hints(answer({"error": detail}, error.status), error)


def error_answer(error: ModelportError) -> HttpResponse:
    """The wire form of an error in V1, V2 and ``/predict``."""
    return _with_hints(answer({"error": error.message}, error.status), error)


def _with_hints(response: HttpResponse, error: ModelportError) -> HttpResponse:
    if isinstance(error, Overloaded):
        response.headers.append(("Retry-After", str(error.retry_after)))
    elif error.status == 503:
        response.headers.append(("Retry-After", "1"))
    elif isinstance(error, NotAuthenticated):
        response.headers.append(("WWW-Authenticate", "Bearer"))
    return response
