"""Carries out flows in the calling thread, over connections that urllib3 keeps open.

Knows sockets, pools and time limits, and turns every failure to get an answer into ``Unreachable`` or
``DeadlineExceeded``. Knows no operation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3 import exceptions as failures

from modelport.errors import InvalidInput, ModelportError
from modelport.sdk.endpoint import Target
from modelport.sdk.flows import Flow, Request, Response, Sleep, Work, error_of, refuse_redirect
from modelport.sdk.transport import CHUNK, CONNECT_TIMEOUT_S, KEPT, Address, Lines, late, path_and_query

T = TypeVar("T")


class Answer(Protocol):
    """An answer whose body has not been read yet."""

    status: int
    headers: Mapping[str, str]

    def read(self) -> bytearray:
        """The whole body."""
        ...

    def chunks(self) -> Iterator[bytes]:
        """The body as it arrives."""
        ...

    def close(self) -> None:
        """Give the connection back, or close it when something is left on it."""
        ...


class Transport(Protocol):
    """What a driver sends requests over: sockets, or a fake in tests."""

    def open(self, request: Request, headers: dict[str, str], seconds: float) -> Answer:
        """Send it and wait for the answer's head; raises Unreachable, DeadlineExceeded, InvalidInput."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


class BlockingDriver:
    """Carries out flows in the calling thread. Safe to share between threads."""

    def __init__(
        self, target: Target, timeout: float, verify: bool | str = True, transport: Transport | None = None
    ) -> None:
        self._address = Address.of(target, verify)
        self.url, self._timeout = self._address.url, timeout
        self._transport: Transport = transport or _Sockets(self._address)

    def run(self, flow: Flow[T]) -> T:
        try:
            step = next(flow)
            while True:
                if isinstance(step, Sleep):
                    time.sleep(step.seconds)
                    step = flow.send(None)
                    continue
                if isinstance(step, Work):
                    step.call()
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

    def _open(self, request: Request) -> Answer:
        headers = {**self._address.headers, **request.headers, **(request.sink.headers() if request.sink else {})}
        return self._transport.open(request, headers, request.timeout or self._timeout)

    def _send(self, request: Request) -> Response:
        answer = self._open(request)
        try:
            refuse_redirect(answer.status, answer.headers.get("location", ""))
            if request.sink is None or answer.status >= 400:
                return Response(answer.status, answer.headers, answer.read())
            request.sink.start(answer.status)
            for chunk in answer.chunks():
                request.sink.write(chunk)
            return Response(answer.status, answer.headers, bytearray())
        finally:
            answer.close()

    def lines(self, request: Request) -> Iterator[str]:
        answer, lines = self._open(request), Lines()
        try:
            if answer.status >= 300:
                raise error_of(request, Response(answer.status, answer.headers, answer.read()))
            for chunk in answer.chunks():
                yield from lines.feed(chunk)
            yield from lines.end()
        finally:
            answer.close()

    def close(self) -> None:
        self._transport.close()


class _Sockets:
    """Connections to one server."""

    def __init__(self, address: Address) -> None:
        self._address = address
        options: dict[str, Any] = {"maxsize": KEPT, "block": False}
        if address.tls is not None:
            options |= {"ssl_context": address.tls, "assert_hostname": None if address.check_name else False}
        parts = urlsplit(address.url)
        proxy = getproxies().get(parts.scheme) if address.by_proxy and not proxy_bypass(parts.netloc) else None
        self._pool: Any
        self._before: str
        if proxy is None:
            origin = f"{parts.scheme}://{parts.netloc}"
            self._pool, self._before = urllib3.connection_from_url(origin, **options), parts.path
        else:
            self._pool, self._before = _proxy(proxy, options), address.url
        self._urlopen: Callable[..., urllib3.BaseHTTPResponse] = self._pool.urlopen

    def open(self, request: Request, headers: dict[str, str], seconds: float) -> Answer:
        body: Any = request.body
        if body is not None and not isinstance(body, bytes):
            headers["content-length"] = str(body.size)
            body = body.chunks()
        try:
            raw = self._urlopen(
                request.method,
                self._before + path_and_query(request),
                body=body,
                headers=headers,
                retries=False,
                redirect=False,
                assert_same_host=False,
                timeout=urllib3.Timeout(
                    connect=min(CONNECT_TIMEOUT_S, seconds), read=None if request.endless else seconds
                ),
                preload_content=False,
            )
        except failures.HTTPError as error:
            raise self.failure(error, request, seconds) from None
        except ValueError as error:  # a header or a path that HTTP has no way to write
            raise InvalidInput(f"request {request.method} {request.path[:200]!r}: {error}") from None
        return _SocketAnswer(raw, self, request, seconds)

    def failure(self, error: failures.HTTPError, request: Request, seconds: float) -> ModelportError:
        never_left = (
            failures.NewConnectionError, failures.ConnectTimeoutError, failures.ProxyError, failures.SSLError,
            failures.LocationValueError,
        )  # fmt: skip
        if isinstance(error, never_left):
            return self._address.unreachable(error)
        if isinstance(error, failures.ReadTimeoutError) or any(isinstance(e, TimeoutError) for e in error.args):
            return late(request, seconds)
        return self._address.broken(error)

    def close(self) -> None:
        (self._pool.clear if isinstance(self._pool, urllib3.PoolManager) else self._pool.close)()


class _SocketAnswer:
    """An answer on its connection."""

    __slots__ = ("_raw", "_request", "_seconds", "_sockets", "close", "headers", "status")

    def __init__(self, raw: urllib3.BaseHTTPResponse, sockets: _Sockets, request: Request, seconds: float) -> None:
        self.status: int = raw.status
        self.headers: Mapping[str, str] = raw.headers
        self._raw, self._sockets, self._request, self._seconds = raw, sockets, request, seconds
        self.close: Callable[[], None] = raw.close

    def read(self) -> bytearray:
        try:
            return bytearray(self._raw.read())
        except failures.HTTPError as error:
            raise self._sockets.failure(error, self._request, self._seconds) from None

    def chunks(self) -> Iterator[bytes]:
        try:
            yield from self._raw.stream(CHUNK)
        except failures.HTTPError as error:
            raise self._sockets.failure(error, self._request, self._seconds) from None


def _proxy(url: str, options: dict[str, Any]) -> urllib3.ProxyManager:
    """The environment's proxy, with the name and password that its URL may hold."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
    headers = urllib3.make_headers(proxy_basic_auth=login) if login else None
    place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return urllib3.ProxyManager(place, proxy_headers=headers, **options)
