"""Carries out flows on the running asyncio loop, over connections that aiohttp keeps open.

Knows sockets, pools and time limits, and turns every failure to get an answer into ``Unreachable`` or
``DeadlineExceeded``. Knows no operation.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol, TypeVar

import aiohttp
from yarl import URL

from modelport.errors import InvalidInput, ModelportError
from modelport.sdk.endpoint import Target
from modelport.sdk.flows import Flow, Request, Response, Sleep, Source, Work, error_of, refuse_redirect
from modelport.sdk.transport import CHUNK, CONNECT_TIMEOUT_S, Address, Lines, late, path_and_query

T = TypeVar("T")
#: Servers close what is idle; the client does so before.
_IDLE_S = 30.0


class Answer(Protocol):
    """An answer whose body has not been read yet."""

    status: int
    headers: Mapping[str, str]

    async def read(self) -> bytearray:
        """The whole body."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives."""
        ...

    def close(self) -> None:
        """Give the connection back, or close it when something is left on it."""
        ...


class Transport(Protocol):
    """What a driver sends requests over: sockets, or a fake in tests."""

    async def open(self, request: Request, headers: dict[str, str], seconds: float) -> Answer:
        """Send it and wait for the answer's head; raises Unreachable, DeadlineExceeded, InvalidInput."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class AwaitingDriver:
    """Carries out flows on the running asyncio loop."""

    def __init__(
        self, target: Target, timeout: float, verify: bool | str = True, transport: Transport | None = None
    ) -> None:
        self._address = Address.of(target, verify)
        self.url, self._timeout = self._address.url, timeout
        self._transport: Transport = transport or _Sockets(self._address)

    async def run(self, flow: Flow[T]) -> T:
        try:
            step = next(flow)
            while True:
                if isinstance(step, Sleep):
                    await asyncio.sleep(step.seconds)
                    step = flow.send(None)
                    continue
                if isinstance(step, Work):
                    await asyncio.to_thread(step.call)
                    step = flow.send(None)
                    continue
                try:
                    response = await self._send(step)
                except ModelportError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(response)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        finally:
            flow.close()

    async def _open(self, request: Request) -> Answer:
        headers = {**self._address.headers, **request.headers, **(request.sink.headers() if request.sink else {})}
        return await self._transport.open(request, headers, request.timeout or self._timeout)

    async def _send(self, request: Request) -> Response:
        answer = await self._open(request)
        try:
            refuse_redirect(answer.status, answer.headers.get("location", ""))
            if request.sink is None or answer.status >= 400:
                return Response(answer.status, answer.headers, await answer.read())
            request.sink.start(answer.status)
            async for chunk in answer.chunks():
                await asyncio.to_thread(request.sink.write, chunk)
            return Response(answer.status, answer.headers, bytearray())
        finally:
            answer.close()

    async def lines(self, request: Request) -> AsyncIterator[str]:
        answer, lines = await self._open(request), Lines()
        try:
            if answer.status >= 300:
                raise error_of(request, Response(answer.status, answer.headers, await answer.read()))
            async for chunk in answer.chunks():
                for line in lines.feed(chunk):
                    yield line
            for line in lines.end():
                yield line
        finally:
            answer.close()

    async def close(self) -> None:
        await self._transport.close()


class _Sockets:
    """Connections to one server, which belong to the loop that first uses them."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        # The same few paths are called again and again.
        self._url = functools.lru_cache(maxsize=256)(lambda path: URL(address.url + path, encoded=True))

    async def open(self, request: Request, headers: dict[str, str], seconds: float) -> Answer:
        body: Any = request.body
        upload = None
        if isinstance(body, bytes):
            if len(body) > CHUNK:  # in pieces, between which others get their turn
                headers["content-length"] = str(len(body))
                body = _pieces(body)
        elif body is not None:
            headers["content-length"] = str(body.size)
            upload = _Upload(body)
            body = upload.chunks()
        try:
            raw = await self._opened().request(
                request.method,
                self._url(path_and_query(request)),
                data=body,
                headers=headers,
                allow_redirects=False,
                timeout=_limits(seconds, request.endless),
            )
        except (aiohttp.ClientError, OSError) as error:
            if upload is not None and upload.failure is not None:
                raise upload.failure from None
            raise self.failure(error, request, seconds) from None
        except ValueError as error:  # a header that HTTP has no way to write
            raise InvalidInput(f"request {request.method} {request.path[:200]!r}: {error}") from None
        return _SocketAnswer(raw, self, request, seconds)

    def _opened(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._loop is not loop:
            # One server, one certificate check; a proxy only where the environment names one.
            tls = self._address.tls if self._address.tls is not None else True
            self._loop = loop
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_S, ssl=tls),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=self._address.by_proxy,
            )
        return self._session

    def failure(self, error: Exception, request: Request, seconds: float) -> ModelportError:
        never_left = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError)
        if isinstance(error, aiohttp.InvalidURL):
            return InvalidInput(f"request {request.method} {request.path[:200]!r}: it makes no URL")
        if isinstance(error, never_left):
            return self._address.unreachable(error)
        if isinstance(error, TimeoutError):
            return late(request, seconds)
        return self._address.broken(error)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


class _SocketAnswer:
    """An answer on its connection."""

    __slots__ = ("_raw", "_request", "_seconds", "_sockets", "headers", "status")

    def __init__(self, raw: aiohttp.ClientResponse, sockets: _Sockets, request: Request, seconds: float) -> None:
        self.status: int = raw.status
        self.headers: Mapping[str, str] = raw.headers
        self._raw, self._sockets, self._request, self._seconds = raw, sockets, request, seconds

    async def read(self) -> bytearray:
        try:
            return bytearray(await self._raw.read())
        except (aiohttp.ClientError, OSError) as error:
            raise self._sockets.failure(error, self._request, self._seconds) from None

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._raw.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise self._sockets.failure(error, self._request, self._seconds) from None

    def close(self) -> None:
        self._raw.close()


class _Upload:
    """A file on its way, read in a thread so that the loop goes on. Keeps the error that reading ended with."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.failure: ModelportError | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        found = self._source.chunks()
        try:
            while chunk := await asyncio.to_thread(next, found, b""):
                yield chunk
        except ModelportError as error:
            self.failure = error
            raise


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), CHUNK):
        yield body[start : start + CHUNK]


@functools.lru_cache(maxsize=64)
def _limits(seconds: float, endless: bool) -> aiohttp.ClientTimeout:
    connect = min(CONNECT_TIMEOUT_S, seconds)
    return aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=None if endless else seconds)
