"""The two drivers: they carry out a flow's requests and pauses with httpx, blocking or awaiting.

They know sockets, pools and time limits, and turn every failure to get an answer into ``Unreachable`` or
``DeadlineExceeded``. They know no operation.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from modelport.errors import DeadlineExceeded, InvalidInput, ModelportError
from modelport.sdk.endpoint import Target
from modelport.sdk.flows import Flow, Request, Response, Sleep, Source, Unreachable, error_of, refuse_redirect

T = TypeVar("T")
_CONNECT_TIMEOUT = 5.0
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=256, keepalive_expiry=30)
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class _Common:
    """What both drivers know: where the server is, and how a request becomes httpx's."""

    def __init__(self, target: Target, timeout: float, verify: bool | str) -> None:
        parts = urlsplit(target.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise InvalidInput(f"server URL {target.url[:200]!r} is not like http://127.0.0.1:8000")
        self.url = target.url.rstrip("/")
        self.timeout = timeout
        self._headers = {"accept": "*/*", "accept-encoding": "identity"}
        if target.key:
            self._headers["authorization"] = f"Bearer {target.key}"
        self._options: dict[str, Any] = {
            "limits": _LIMITS,
            "trust_env": parts.hostname not in _LOOPBACK,
            # Certificates take 20 ms to load: only where they are needed.
            "verify": _context(verify, target.certificate) if parts.scheme == "https" else False,
        }

    def _build(self, request: Request, content: Any) -> httpx.Request:
        """The request as httpx sends it; built without httpx.Client, whose merging costs more than the rest."""
        seconds = request.timeout or self.timeout
        limits = {
            "connect": min(_CONNECT_TIMEOUT, seconds),
            "read": None if request.endless else seconds,
            "write": seconds,
            "pool": seconds,
        }
        headers = {**self._headers, **request.headers}
        if content is not None and not isinstance(content, bytes):
            headers["content-length"] = str(request.body.size)  # type: ignore[union-attr]
        try:
            return httpx.Request(
                request.method,
                _parsed(self.url + request.path),
                params=request.params,
                headers=headers,
                content=content,
                extensions={"timeout": limits},
            )
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            raise InvalidInput(f"request {request.method} {request.path[:200]!r}: {error}") from None

    def _failure(self, error: httpx.HTTPError, request: Request) -> ModelportError:
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.UnsupportedProtocol | httpx.ProxyError):
            return Unreachable(f"no server answers at {self.url} ({_cause(error)})", sent=False)
        if isinstance(error, httpx.TimeoutException):
            seconds = request.timeout or self.timeout
            return DeadlineExceeded(f"{request.method} {request.path}: no answer within {seconds:g} s")
        return Unreachable(f"the connection to {self.url} broke ({_cause(error)})", sent=True)


class BlockingDriver(_Common):
    """Carries out flows in the calling thread. Safe to share between threads."""

    def __init__(
        self,
        target: Target,
        timeout: float,
        verify: bool | str = True,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(target, timeout, verify)
        self._http = httpx.Client(transport=transport, follow_redirects=False, **self._options)

    def run(self, flow: Flow[T]) -> T:
        try:
            step = next(flow)
            while True:
                if isinstance(step, Sleep):
                    time.sleep(step.seconds)
                    step = flow.send(None)
                    continue
                try:
                    response = self._send(step)
                except ModelportError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(response)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        finally:
            flow.close()

    def _send(self, request: Request) -> Response:
        body = request.body
        content = body if body is None or isinstance(body, bytes) else body.chunks()
        try:
            answer = self._http.send(self._build(request, content), stream=True)
            try:
                refuse_redirect(answer.status_code, answer.headers.get("location", ""))
                if request.sink and answer.is_success:
                    request.sink.start()
                    for chunk in answer.iter_bytes():
                        request.sink.write(chunk)
                    return Response(answer.status_code, answer.headers, bytearray())
                return Response(answer.status_code, answer.headers, bytearray().join(answer.iter_bytes()))
            finally:
                answer.close()
        except httpx.HTTPError as error:
            raise self._failure(error, request) from None

    def lines(self, request: Request) -> Iterator[str]:
        try:
            answer = self._http.send(self._build(request, None), stream=True)
            try:
                if not answer.is_success:
                    raise error_of(request, Response(answer.status_code, answer.headers, bytearray(answer.read())))
                yield from answer.iter_lines()
            finally:
                answer.close()
        except httpx.HTTPError as error:
            raise self._failure(error, request) from None

    def close(self) -> None:
        self._http.close()


class AwaitingDriver(_Common):
    """Carries out flows on the running asyncio loop."""

    def __init__(
        self,
        target: Target,
        timeout: float,
        verify: bool | str = True,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(target, timeout, verify)
        self._http = httpx.AsyncClient(transport=transport, follow_redirects=False, **self._options)

    async def run(self, flow: Flow[T]) -> T:
        try:
            step = next(flow)
            while True:
                if isinstance(step, Sleep):
                    await asyncio.sleep(step.seconds)
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

    async def _send(self, request: Request) -> Response:
        body = request.body
        content = body if body is None or isinstance(body, bytes) else _off_loop(body)
        try:
            answer = await self._http.send(self._build(request, content), stream=True)
            try:
                refuse_redirect(answer.status_code, answer.headers.get("location", ""))
                if request.sink and answer.is_success:
                    request.sink.start()
                    async for chunk in answer.aiter_bytes():
                        await asyncio.to_thread(request.sink.write, chunk)
                    return Response(answer.status_code, answer.headers, bytearray())
                parts = [chunk async for chunk in answer.aiter_bytes()]
                return Response(answer.status_code, answer.headers, bytearray().join(parts))
            finally:
                await answer.aclose()
        except httpx.HTTPError as error:
            raise self._failure(error, request) from None

    async def lines(self, request: Request) -> AsyncIterator[str]:
        try:
            answer = await self._http.send(self._build(request, None), stream=True)
            try:
                if not answer.is_success:
                    body = bytearray(await answer.aread())
                    raise error_of(request, Response(answer.status_code, answer.headers, body))
                async for line in answer.aiter_lines():
                    yield line
            finally:
                await answer.aclose()
        except httpx.HTTPError as error:
            raise self._failure(error, request) from None

    async def close(self) -> None:
        await self._http.aclose()


@functools.lru_cache(maxsize=256)
def _parsed(url: str) -> httpx.URL:
    """Parsing costs a tenth of a small prediction, and the same few are called again and again."""
    return httpx.URL(url)


def _context(verify: bool | str, pinned: str | None) -> ssl.SSLContext | bool:
    """What certificates to accept: those of a CA file, the one that is pinned, or what the system trusts."""
    if pinned is not None and verify is True:
        context = ssl.create_default_context(cafile=pinned)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.check_hostname = False
        return context
    return verify if isinstance(verify, bool) else ssl.create_default_context(cafile=verify)


async def _off_loop(source: Source) -> AsyncIterator[bytes]:
    """The chunks of a file, read in a thread so that the loop goes on."""
    chunks = source.chunks()
    while chunk := await asyncio.to_thread(next, chunks, b""):
        yield chunk


def _cause(error: Exception) -> str:
    return str(error)[:200] or type(error).__name__
