"""Values to HTTP answers; errors to the form that V1, V2 and ``/predict`` share: ``{"error": "text"}``."""

from __future__ import annotations

from typing import Any

import orjson

from modelport.api.messages import HttpResponse
from modelport.engine.requests import InferRequest
from modelport.errors import CODE_HEADER, ModelportError, NotAuthenticated, NotFound, Overloaded

ANSWERED_BY = "x-modelport-model"
"""Names the endpoint that has answered, where that need not be the one that was asked."""
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY


class NoSuchPath(NotFound):
    """Nobody answers at this path."""


def to_json(value: Any) -> bytes:
    """JSON of a value; C-contiguous numpy arrays inside become lists, NaN and infinities null."""
    return orjson.dumps(value, option=_OPTIONS)


def answer(value: Any, status: int = 200) -> HttpResponse:
    """A JSON answer."""
    return HttpResponse(status=status, body=to_json(value))


def native_error_answer(error: ModelportError, request_id: str) -> HttpResponse:
    """The wire form of an error in the management API."""
    detail = {"code": error.code, "message": error.message, "request_id": request_id}
    return HttpResponse(error.status, to_json({"error": detail}), headers=hints(error))


def error_answer(error: ModelportError) -> HttpResponse:
    """The wire form of an error in V1, V2 and ``/predict``."""
    return HttpResponse(error.status, to_json({"error": error.message}), headers=hints(error))


def notes(asked: InferRequest) -> list[tuple[str, str]]:
    """The headers that tell who has answered in an endpoint's place, and what a key has left: OpenAI's names."""
    found = []
    if asked.answered_by is not None:
        found.append((ANSWERED_BY, asked.answered_by.name))
    if (budget := asked.budget) is not None:
        found += [
            ("x-ratelimit-limit-tokens", str(budget.limit)),
            ("x-ratelimit-remaining-tokens", str(budget.left)),
            ("x-ratelimit-reset-tokens", f"{budget.full_in_s:.3f}s"),
        ]
    return found


def hints(error: ModelportError) -> list[tuple[str, str]]:
    """The headers that an error brings to an answer of any form: its code, and what HTTP asks for."""
    found = [(CODE_HEADER, error.code)]
    if isinstance(error, Overloaded):
        found.append(("Retry-After", str(error.retry_after)))
    elif error.status == 503:
        found.append(("Retry-After", "1"))
    elif isinstance(error, NotAuthenticated):
        found.append(("WWW-Authenticate", "Bearer"))
    return found
