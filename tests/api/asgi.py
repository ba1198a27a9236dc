"""The smallest HTTP server around a list of routes: what a gateway does, without keys, limits and processes."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl

import uvicorn

from modelport.api.answers import error_answer
from modelport.api.messages import Caller, HttpRequest, HttpResponse, HttpRoute
from modelport.engine.requests import new_request_id
from modelport.errors import MethodNotAllowed, ModelportError, NotFound


async def call(
    routes: list[HttpRoute],
    method: str,
    target: str,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    caller: Caller | None = None,
) -> HttpResponse:
    """Answer one request as a gateway would."""
    path, _, query = target.partition("?")
    headers = headers or {}
    given = headers.get("x-request-id")
    request = HttpRequest(
        method=method,
        path=path,
        query=dict(parse_qsl(query, keep_blank_values=True)),
        headers=headers,
        body=body,
        caller=caller or Caller(),
        request_id=given or new_request_id(),
        traced=given is not None,
    )
    matches = [(route, found) for route in routes if (found := route.pattern.fullmatch(path))]
    for route, found in matches:
        if route.method == method:
            parameters = {key: value for key, value in found.groupdict().items() if value is not None}
            try:
                return await route.handler(request, parameters)
            except ModelportError as error:
                return route.error(error)
    return error_answer(MethodNotAllowed("not this method") if matches else NotFound("no such path"))


def whole(response: HttpResponse) -> bytes:
    """The body of an answer as one string of bytes."""
    return response.body if isinstance(response.body, bytes) else b"".join(response.body)


def app(routes: list[HttpRoute]) -> Any:
    """The routes as an ASGI application."""

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message.get("more_body", False)
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        match headers.get("content-encoding"):
            case "gzip":
                body = gzip.decompress(body)
            case "deflate":
                body = zlib.decompress(body)
        target = scope["path"] + "?" + scope["query_string"].decode()
        response = await call(routes, scope["method"], target, body, headers)
        answer = whole(response)
        out = [(b"content-type", response.content_type.encode())]
        out += [(name.encode(), value.encode()) for name, value in response.headers]
        if headers.get("accept-encoding") == "gzip":
            answer = gzip.compress(answer)
            out.append((b"content-encoding", b"gzip"))
        out.append((b"content-length", str(len(answer)).encode()))
        await send({"type": "http.response.start", "status": response.status, "headers": out})
        await send({"type": "http.response.body", "body": answer})

    return asgi


@contextmanager
def serving(routes: list[HttpRoute]) -> Iterator[str]:
    """``host:port`` of a server in a thread of its own, ended with the block."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app(routes), log_level="warning", lifespan="off", loop="asyncio")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
