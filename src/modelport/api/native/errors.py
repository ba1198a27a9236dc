"""Errors of the management API on the wire: ``{"error": {"code", "message", "request_id"}}``, whatever went wrong."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError, ResponseValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from modelport.api.answers import hints
from modelport.api.openai.errors import detail
from modelport.errors import Cancelled, InvalidInput, MethodNotAllowed, ModelportError, NotFound
from modelport.schemas.problems import told

_log = logging.getLogger(__name__)


class ErrorDetail(BaseModel):
    """What went wrong."""

    code: str
    """Stable, for programs."""
    message: str
    """The thing, the cause and the next step, for people."""
    request_id: str


class ErrorBody(BaseModel):
    """Every failing answer."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": {
                        "code": "not_found",
                        "message": "there is no model 'digits'",
                        "request_id": "4bf92f3577b34da6",
                    }
                }
            ]
        }
    )
    error: ErrorDetail


class OpenAiErrorDetail(BaseModel):
    """What went wrong, as OpenAI says it."""

    message: str
    type: str
    param: str | None
    """The field that it is about."""
    code: str


class OpenAiErrorBody(BaseModel):
    """Every failing answer of OpenAI's routes."""

    error: OpenAiErrorDetail


class PlainErrorBody(BaseModel):
    """Every failing answer of Open Inference's routes; the code is in the header ``x-modelport-error``."""

    error: str


_DESCRIPTIONS = {
    400: "The request does not fit",
    401: "No key, or not a good one",
    403: "The key's role does not cover this",
    404: "There is no such thing in this project",
    409: "It exists already, or is in use",
    413: "The body, or what is kept with it, is over the limit",
    415: "The Content-Type is not spoken here",
    422: "A field is wrong, or the artifact was refused",
    429: "Too many at once; Retry-After says when to try again",
    501: "An optional package is not installed on the server",
    503: "Try again in a moment",
}


def responses(*statuses: int, body: type[BaseModel] = ErrorBody) -> dict[int | str, dict[str, Any]]:
    """For a route's documentation: it can give these answers, beside those of every route."""
    return {status: {"model": body, "description": _DESCRIPTIONS[status]} for status in statuses}


#: What every route can answer, and every one of OpenAI's.
EVERYWHERE = responses(401, 403, 422, 503)
EVERYWHERE_OPENAI = responses(400, 401, 403, 422, 503, body=OpenAiErrorBody)


def install(app: FastAPI) -> None:
    """Add one handler per kind of error."""
    app.add_exception_handler(ModelportError, _handle)
    app.add_exception_handler(RequestValidationError, _handle)
    app.add_exception_handler(HTTPException, _handle)
    app.add_exception_handler(ClientDisconnect, _handle)
    app.add_exception_handler(ResponseValidationError, _handle)
    app.add_exception_handler(Exception, _handle)


def answer(error: ModelportError, request_id: str, status: int | None = None, *, plain: bool = False) -> JSONResponse:
    """An error in its native wire form, or in Open Inference's: ``{"error": text}``."""
    headers = {"x-request-id": request_id, **dict(hints(error))}
    detail = {"code": error.code, "message": error.message, "request_id": request_id}
    body = {"error": error.message if plain else detail}
    return JSONResponse(body, status or error.status, headers)


async def _handle(request: Request, error: Exception) -> JSONResponse:
    request_id: str = request.state.request_id
    plain = request.url.path.startswith("/v2/")
    if request.url.path.startswith("/v1/"):
        return _openai(request, error, request_id)
    if isinstance(error, RequestValidationError):
        return answer(InvalidInput(first_problem(error, _shape_of(request))), request_id, status=422, plain=plain)
    return answer(_told(request, error), request_id, plain=plain)


def _openai(request: Request, error: Exception, request_id: str) -> JSONResponse:
    """OpenAI's form."""
    if isinstance(error, RequestValidationError):
        where = error.errors()[0]["loc"][1:]
        known: ModelportError = InvalidInput.of(
            ".".join(str(part)[:100] for part in where), first_problem(error, _shape_of(request))
        )
    else:
        known = _told(request, error)
    found = detail(known)
    if known.status == 404:
        found["code"] = known.code
    return JSONResponse({"error": found}, known.status, {"x-request-id": request_id, **dict(hints(known))})


def _told(request: Request, error: Exception) -> ModelportError:
    """What the caller is told; the log knows more."""
    known = _known(request, error)
    if known is None:
        request_id = request.state.request_id
        _log.error("request %s failed", request_id, exc_info=error)
        known = ModelportError(f"internal error; the server's log says more under request id {request_id}")
    elif known.__cause__ is not None:
        _log.warning("request %s: %s", request.state.request_id, known.message, exc_info=known.__cause__)
    return known


def first_problem(error: RequestValidationError, kind: Any = None) -> str:
    """The first field that is wrong, with its path, and why; ``kind`` is the body's shape."""
    first: Any = error.errors()[0]
    if first["type"] == "json_invalid":
        return f"the body is not JSON: {first.get('ctx', {}).get('error', first['msg'])}"
    if first["loc"][0] == "body" and len(first["loc"]) > 1:
        first = {**first, "loc": first["loc"][1:]}
        return f"body.{told(first, kind)}"
    return told(first, kind)


def _shape_of(request: Request) -> Any:
    """What the route takes as its body."""
    field = getattr(request.scope.get("route"), "body_field", None)
    return field.field_info.annotation if field is not None else None


def _known(request: Request, error: Exception) -> ModelportError | None:
    if isinstance(error, ModelportError):
        return error
    if isinstance(error, ClientDisconnect):
        return Cancelled("the caller went away")
    if isinstance(error, HTTPException):
        if isinstance(error.__cause__, ModelportError):  # raised while the framework read the body
            return error.__cause__
        if error.status_code == 404:
            return NotFound(f"there is no route {request.url.path[:200]!r}; see /docs")
        if error.status_code == 405:
            return MethodNotAllowed(f"{request.method[:20]} is not possible on {request.url.path[:200]!r}; see /docs")
        return InvalidInput(f"{str(error.detail)[:500]}; /docs shows what is taken here")
    return None
