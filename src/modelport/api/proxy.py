"""What a gateway does not answer itself goes to control, streamed both ways, over a Unix socket.

When control is away these routes answer 503, and predictions go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from modelport.api.messages import Caller
from modelport.errors import CODE_HEADER, Unavailable, from_wire

if TYPE_CHECKING:
    import httpx

SOCKET = "control.sock"
_AWAY = "the control process is not answering; predictions go on; try again in a moment"
_CONNECTIONS = 200
_FULL_S = 5.0
_FULL = f"{_CONNECTIONS} management requests are open in this gateway, followed logs among them; end some or try again"
_HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"transfer-encoding", b"te", b"trailer", b"upgrade", b"proxy-authorization",
     b"proxy-connection", b"date", b"server", b"expect")
)  # fmt: skip

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class ControlProxy:
    """A pool of connections to control."""

    def __init__(self) -> None:
        self._client: httpx.AsyncClient | None = None

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send, request_id: str) -> int:
        """Pass one request on and its answer back; the status that was answered."""
        client = self._client or self._connect()
        query = scope["query_string"]
        target = scope["raw_path"] + (b"?" + query if query else b"")
        headers = [(k, v) for k, v in scope["headers"] if k not in _HOP_BY_HOP and k != b"x-request-id"]
        headers.append((b"x-request-id", request_id.encode()))
        gone = asyncio.Event()
        has_body = any(k in (b"content-length", b"transfer-encoding") for k, _ in scope["headers"])
        request = client.build_request(
            scope["method"],
            _url(target),
            headers=headers,
            content=_body(receive, gone) if has_body else None,
        )
        import httpx  # noqa: PLC0415

        try:
            response = await client.send(request, stream=True)
        except httpx.PoolTimeout:
            raise Unavailable(_FULL) from None
        except httpx.TransportError:
            raise Unavailable(_AWAY) from None
        return await _pass_back(response, receive, send, gone)

    async def repository(self, caller: Caller, action: str, model: str | None) -> list[dict[str, Any]]:
        """Open Inference's model repository, in the name of a caller; raises control's own error."""
        import httpx  # noqa: PLC0415

        client = self._client or self._connect()
        path = "/v2/repository/index" if model is None else f"/v2/repository/models/{quote(model, safe='')}/{action}"
        headers = {"x-api-key": caller.secret} if caller.secret else {}
        try:
            answer = await client.post(f"http://control{path}", headers=headers)
        except httpx.TransportError:
            raise Unavailable(_AWAY) from None
        found = answer.json()
        if answer.is_error:
            raise from_wire(answer.headers.get(CODE_HEADER, "internal"), found["error"])
        return found if isinstance(found, list) else []

    def _connect(self) -> httpx.AsyncClient:
        import httpx  # noqa: PLC0415  (only a gateway that is asked for management pays for it)

        transport = httpx.AsyncHTTPTransport(uds=SOCKET, limits=httpx.Limits(max_connections=_CONNECTIONS))
        self._client = httpx.AsyncClient(
            transport=transport, timeout=httpx.Timeout(None, connect=5, pool=_FULL_S), trust_env=False
        )
        return self._client


def _url(target: bytes) -> httpx.URL:
    import httpx  # noqa: PLC0415

    return httpx.URL(scheme="http", host="control", raw_path=target)


async def _body(receive: Receive, gone: asyncio.Event) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            gone.set()
            raise asyncio.CancelledError
        if message.get("body"):
            yield message["body"]
        if not message.get("more_body"):
            return


async def _pass_back(response: Any, receive: Receive, send: Send, gone: asyncio.Event) -> int:
    headers = [(k.lower(), v) for k, v in response.headers.raw if k.lower() not in _HOP_BY_HOP]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    watcher = asyncio.create_task(_wait_until_gone(receive, gone))
    chunks = response.aiter_raw()
    try:
        while not gone.is_set():
            following = asyncio.ensure_future(anext(chunks, None))
            await asyncio.wait((following, watcher), return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                following.cancel()
                break
            chunk = following.result()
            if chunk is None:
                await send({"type": "http.response.body", "body": b""})
                break
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    finally:
        watcher.cancel()
        await response.aclose()
    return int(response.status_code)


async def _wait_until_gone(receive: Receive, gone: asyncio.Event) -> None:
    """A follower of a log who hangs up must not be followed for ever."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            gone.set()
            return
