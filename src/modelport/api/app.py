"""The management API as one application: routes, errors, documentation. Whoever runs it gives it a ``Context``."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import modelport
from modelport.api.native import (
    audit,
    blobs,
    datasets,
    errors,
    evaluations,
    grades,
    imports,
    keys,
    methods,
    models,
    recipes,
)
from modelport.api.native.context import Context, uploads_limiter
from modelport.engine.requests import request_id_of
from modelport.errors import TooLarge
from modelport.schemas.models import VersionPush

PREFIX = "/api/v1"
_DESCRIPTION = """Models, versions, deployments and keys. `{ref}` is a version's number, an alias or `latest`.

Errors are `{"error": {"code", "message", "request_id"}}`. Lists are `{"items": [...]}`; the next page begins `after`
the last item."""
#: Bodies that are read whole; contents of files are streamed and have their own limit.
_MAX_BODY = 32 << 20


def create_app(context: Context, routers: Sequence[APIRouter] = ()) -> FastAPI:
    """The application; ``routers`` are further nouns' routes, under the same prefix."""
    app = FastAPIOffline(
        docs_url="/docs",
        redoc_url=None,
        static_url="/docs/assets",
        swagger_ui_oauth2_redirect_url="/docs/oauth2-redirect",
        title="Modelport",
        version=modelport.__version__,
        description=_DESCRIPTION,
        license_info={"name": "Apache-2.0"},
        generate_unique_id_function=_operation_id,
        redirect_slashes=False,
    )
    app.state.context = context
    app.state.uploads = uploads_limiter()
    nouns = (models, datasets, evaluations, grades, imports, blobs, recipes, methods, keys, audit)
    for router in (*(noun.router for noun in nouns), *routers):
        app.include_router(router, prefix=PREFIX, responses=errors.EVERYWHERE)
    errors.install(app)
    app.add_middleware(RequestFrame)
    _document_push(app)
    return app


class RequestFrame:
    """Gives every request its id, in and out, and bounds the bodies that are read whole."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id, _ = request_id_of(given)
        scope.setdefault("state", {})["request_id"] = request_id
        streamed = _is_streamed(scope["method"], scope["path"], headers.get(b"content-type", b""))
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > _MAX_BODY and not streamed:
                raise TooLarge(f"the body is over the limit of {_MAX_BODY} bytes for JSON")
            return message

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [(key, value) for key, value in message["headers"] if key.lower() != b"x-request-id"]
                message["headers"] = [*kept, (b"x-request-id", request_id.encode())]
            await send(message)

        await self._app(scope, counted, named)


def _is_streamed(method: str, path: str, media: bytes) -> bool:
    """Whether a route takes the body in pieces, so that it needs no bound here."""
    if method == "PUT":
        return path.startswith(f"{PREFIX}/blobs/")
    if method == "POST" and path == "/v1/files":
        return True
    return method == "POST" and path.endswith("/versions") and media.lower().startswith(b"application/octet-stream")


def _operation_id(route: APIRoute) -> str:
    return route.name


def _document_push(app: FastAPI) -> None:
    """Add the schema of the one body that its route parses itself."""
    plain = app.openapi

    def openapi() -> dict[str, object]:
        schema = plain()
        found = VersionPush.model_json_schema(ref_template="#/components/schemas/{model}")
        schema["components"]["schemas"].update({**found.pop("$defs", {}), "VersionPush": found})
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
