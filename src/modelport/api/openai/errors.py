"""OpenAI's form of an error: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

from typing import Any

from modelport.api.answers import NoSuchPath, hints, to_json
from modelport.api.messages import HttpResponse
from modelport.errors import InvalidInput, ModelportError

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
}
_CODES = {"not_authenticated": "invalid_api_key", "not_found": "model_not_found", "overloaded": "rate_limit_exceeded"}


def detail(error: ModelportError) -> dict[str, Any]:
    """What is inside ``error``."""
    kind = _TYPES.get(error.status, "invalid_request_error" if 400 <= error.status < 500 else "server_error")
    field = error.field if isinstance(error, InvalidInput) else None
    code = "unknown_url" if isinstance(error, NoSuchPath) else _CODES.get(error.code, error.code)
    return {"message": error.message, "type": kind, "param": field, "code": code}


def error_answer(error: ModelportError) -> HttpResponse:
    """The whole answer."""
    return HttpResponse(error.status, to_json({"error": detail(error)}), headers=hints(error))
