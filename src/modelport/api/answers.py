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


def error_answer(error: ModelportError) -> HttpResponse:
    """The wire form of an error in V1, V2 and ``/predict``."""
    response = answer({"error": error.message}, error.status)
    if isinstance(error, Overloaded):
        response.headers.append(("Retry-After", str(error.retry_after)))
    elif isinstance(error, NotAuthenticated):
        response.headers.append(("WWW-Authenticate", "Bearer"))
    return response
