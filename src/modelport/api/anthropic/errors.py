"""Anthropic's form of an error: ``{"type": "error", "error": {"type", "message"}}``."""

from __future__ import annotations

from typing import Any

from modelport.api.answers import hints, to_json
from modelport.api.messages import HttpResponse
from modelport.errors import ModelportError

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def body(error: ModelportError) -> dict[str, Any]:
    """As an answer, and as an event of a stream."""
    kind = _TYPES.get(error.status, "invalid_request_error" if 400 <= error.status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": error.message}}


def error_answer(error: ModelportError) -> HttpResponse:
    """The whole answer."""
    return HttpResponse(error.status, to_json(body(error)), headers=hints(error))
