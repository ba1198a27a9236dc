"""HTTP as the inference adapters see it: plain values, no server, no framework."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from modelport.api.urgency import deadline, priority
from modelport.engine.requests import InferRequest
from modelport.errors import ModelportError
from modelport.tensors import Array


@dataclass(slots=True)
class Caller:
    """Who calls, as the gateway has established it."""

    project: str = "default"
    role: str = "admin"
    key_id: str | None = None
    models: frozenset[str] | None = None
    """The only endpoints that it may call; None for every one."""
    secret: str | None = field(default=None, repr=False)
    """The key itself, for what has to be asked of control in the caller's name."""


@dataclass(slots=True)
class HttpRequest:
    """One request with its whole body (decompressed, within the size limit)."""

    method: str
    path: str
    """Percent-decoded exactly once, as UTF-8."""
    query: dict[str, str]
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    caller: Caller
    request_id: str
    traced: bool = False
    """Whether the caller gave the request id itself."""
    asked: InferRequest | None = None
    """What the data plane was asked, if it was."""

    def infer_request(
        self,
        inputs: dict[str, Array],
        default_s: float,
        outputs: tuple[str, ...] | None = None,
        timeout_us: object = None,
        priority_asked: object = None,
    ) -> InferRequest:
        """What the data plane is asked; for the last two see ``urgency``. Raises InvalidInput."""
        moment = deadline(self.headers, default_s, timeout_us)
        self.asked = InferRequest(
            inputs,
            self.request_id,
            moment,
            outputs,
            self.caller.key_id or "",
            priority(self.headers, priority_asked),
            self.traced,
        )
        return self.asked


@dataclass(slots=True)
class HttpResponse:
    """One answer. ``body`` may be several buffers that are sent one after the other."""

    status: int = 200
    body: bytes | Sequence[bytes | memoryview] = b""
    content_type: str = "application/json"
    headers: list[tuple[str, str]] = field(default_factory=list)
    stream: AsyncGenerator[bytes] | None = None
    """In place of ``body``: what is sent as it comes. Closed when the caller goes away; what it raises before its first
    chunk is answered as an error."""

    @property
    def plain(self) -> bool:
        """Whether it is JSON in one piece with nothing to say beside it."""
        return (
            self.status == 200 and not self.headers and self.stream is None and self.content_type == "application/json"
        )


Handler = Callable[[HttpRequest, dict[str, str]], Awaitable[HttpResponse]]
"""Gets the request and the path's parameters; raises ModelportError."""


@dataclass(frozen=True, slots=True)
class HttpRoute:
    """One path of one protocol."""

    method: str
    pattern: re.Pattern[str]
    """Matched against the whole decoded path; named groups become parameters."""
    handler: Handler
    error: Callable[[ModelportError], HttpResponse]
    """The protocol's wire form of an error."""
    public: bool = False
    """Answers without a key: the short, tested list."""
