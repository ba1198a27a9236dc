"""An operation is written once, as a flow: a generator that asks for requests and pauses, and returns a value.

A driver (blocking or asynchronous) carries out what a flow yields, so ``Client`` and ``AsyncClient`` are one
implementation. Flows know requests, answers and errors; they know no socket and no event loop.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeAlias, TypeVar, overload
from urllib.parse import quote

import orjson

from modelport.errors import (
    BY_CODE,
    CODE_HEADER,
    InvalidInput,
    ModelportError,
    NotAllowed,
    Overloaded,
    Unavailable,
    from_status,
    from_wire,
)

P = ParamSpec("P")
T = TypeVar("T")

#: Statuses that say "not now": nothing was run, the same request may be sent again.
TRY_AGAIN = (429, 503)
LONGEST_PAUSE = 10.0


class Unreachable(Unavailable):
    """No answer came: nobody listens there, or the connection broke. ``sent`` tells whether the request had left."""

    def __init__(self, message: str, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class Source(Protocol):
    """A body that is read anew for every attempt."""

    size: int

    def chunks(self) -> Iterator[bytes]:
        """The bytes, from the beginning."""
        ...


class Sink(Protocol):
    """Where a large answer goes, chunk by chunk."""

    def headers(self) -> dict[str, str]:
        """What asks for the part that earlier attempts did not bring."""
        ...

    def start(self, status: int) -> None:
        """Go on where an earlier attempt ended when the answer is a rest (206), else from the beginning."""
        ...

    def write(self, chunk: bytes) -> None:
        """Take the next bytes."""
        ...


@dataclass(slots=True)
class Request:
    """One HTTP request."""

    method: str
    path: str
    params: Mapping[str, str | int | float | bool] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | Source | None = None
    idempotent: bool = True
    """Whether sending it twice does no more than sending it once."""
    timeout: float | None = None
    """Seconds; None for the client's own."""
    endless: bool = False
    """An answer that goes on until somebody stops it: no timeout between its parts."""
    sink: Sink | None = None
    """Takes the body of a successful answer instead of ``Response.body``."""


@dataclass(slots=True)
class Response:
    """One HTTP answer. ``body`` may be written to: arrays that view it are the caller's own."""

    status: int
    headers: Mapping[str, str]
    body: bytearray


@dataclass(slots=True)
class Sleep:
    """A pause, in seconds."""

    seconds: float


@dataclass(slots=True)
class Work:
    """Something slow that is done here, such as hashing files; beside the loop where there is one."""

    call: Callable[[], object]


Step: TypeAlias = Request | Sleep | Work
Flow: TypeAlias = Generator[Step, Response | None, T]


class Blocking(Protocol):
    """Drives flows to their end in the calling thread."""

    def run(self, flow: Flow[T]) -> T:
        """The flow's value; raises what it raises."""
        ...

    def lines(self, request: Request) -> Iterator[str]:
        """The lines of a streamed answer."""
        ...


class Awaiting(Protocol):
    """Drives flows to their end on the running event loop."""

    def run(self, flow: Flow[T]) -> Coroutine[Any, Any, T]:
        """The flow's value; raises what it raises."""
        ...


D_co = TypeVar("D_co", bound="Blocking | Awaiting", covariant=True)


class Operations(Generic[D_co]):
    """The operations of one noun, over one driver."""

    def __init__(self, driver: D_co) -> None:
        self._driver = driver


class operation(Generic[P, T]):
    """Makes a flow a method: it gives ``T`` on a blocking client, an awaitable of ``T`` on an asynchronous one."""

    def __init__(self, function: Callable[Concatenate[Any, P], Flow[T]]) -> None:
        self.flow = function
        self.__doc__ = function.__doc__
        self.__wrapped__ = function

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: Operations[Blocking], owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, instance: Operations[Awaiting], owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, instance: Operations[Any] | None, owner: type) -> Any:
        if instance is None:
            return self
        run, flow = instance._driver.run, self.flow

        @functools.wraps(flow)
        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            return run(flow(instance, *args, **kwargs))

        instance.__dict__[flow.__name__] = call  # found first from now on
        return call


def send(request: Request, attempts: int = 3) -> Flow[Response]:
    """One request that may be tried again; raises the ModelportError that a failing answer stands for.

    What never reached the server is always sent again; what may have been run only when it is idempotent.
    """
    for attempt in range(attempts):
        last = attempt == attempts - 1
        pause = 0.1 * 2**attempt
        try:
            response = yield request
        except Unreachable as error:
            if last or (error.sent and not request.idempotent):
                raise
        else:
            assert response is not None  # a request is answered with a response
            if response.status < 400:
                return response
            told = _retry_after(response)
            if last or told is None or response.status not in TRY_AGAIN or not request.idempotent:
                raise error_of(request, response)
            pause = min(max(told, pause), LONGEST_PAUSE)
        yield Sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def send_json(method: str, path: str, body: Any = None, **rest: Any) -> Flow[Any]:
    """Like send, for JSON in (``body``: anything orjson writes, or None) and JSON out (None for an empty answer)."""
    request = Request(method, path, **rest)
    if body is not None:
        request.body = orjson.dumps(body)
        request.headers["content-type"] = "application/json"
    response = yield from send(request)
    if not response.body:
        return None
    try:
        return orjson.loads(response.body)
    except orjson.JSONDecodeError:
        raise Unavailable(f"{method} {path}: the answer is not JSON; is this a Modelport server?") from None


def send_list(path: str, key: str, page: int = 500, **params: str | int) -> Flow[list[Any]]:
    """All items of a paged list, whose pages go on after the ``key`` of their last item."""
    items: list[Any] = []
    after: dict[str, str] = {}
    while True:
        answer = yield from send_json("GET", path, params={**params, "limit": page, **after})
        found = answer["items"]
        items += found
        if len(found) < page:
            return items
        after = {"after": str(found[-1][key])}


def error_of(request: Request, response: Response) -> ModelportError:
    """The error that an answer stands for: by its code where there is one, else by its status."""
    error = _error_from(response) or from_status(
        response.status,
        f"{request.method} {request.path}: HTTP status {response.status} without a Modelport error; "
        "is this a Modelport server, and what stands before it?",
    )
    if isinstance(error, Overloaded):
        error.retry_after = int(_retry_after(response) or 1)
    if request_id := response.headers.get("x-request-id"):
        error.add_note(f"request id {request_id}")
    return error


def _error_from(response: Response) -> ModelportError | None:
    """Native form ``{"error": {"code", "message"}}`` or that of V1 and V2, ``{"error": text}`` beside a header."""
    try:
        found = orjson.loads(response.body)["error"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    code = response.headers.get(CODE_HEADER)
    if isinstance(found, dict):
        code, found = str(found.get("code")), found.get("message")
    if not isinstance(found, str):
        return None
    return from_wire(code, found) if code in BY_CODE else from_status(response.status, found)


def _retry_after(response: Response) -> float | None:
    try:
        return max(0.0, float(response.headers["retry-after"]))
    except (KeyError, ValueError):
        return None


def path_of(*parts: str | int) -> str:
    """``/a/b`` from parts, percent-encoding what a part must not mean; raises InvalidInput for an impossible one."""
    texts = [str(part) for part in parts]
    for text in texts:
        if text in {"", ".", ".."} or "/" in text:
            raise InvalidInput(f"{text[:100]!r} is not a name; names hold letters, digits, '.', '_' and '-'")
    return "/" + "/".join(quote(text, safe="") for text in texts)


def refuse_redirect(status: int, where: str) -> None:
    """Keys must not follow a redirect to somewhere else."""
    if 300 <= status < 400:
        raise NotAllowed(f"the server redirects to {where[:200]!r}; give that URL if you trust it")
