"""What every protocol turns its bytes into, and gets back."""

from __future__ import annotations

import random
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modelport.tensors import Array

if TYPE_CHECKING:
    from modelport.engine.routing import Route

NORMAL = 5
"""The priority of a request that asks for none."""

_random = random.Random()  # noqa: S311


_SAFE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
"""What a caller may give as a request id: nothing that means something in a header, a log or a page."""


def new_request_id() -> str:
    """A fresh id for a request that brought none. Unique, not secret: the system's randomness costs too much here."""
    return f"{_random.getrandbits(64):016x}"


def request_id_of(given: str | None) -> tuple[str, bool]:
    """The caller's own id where it may be one, else a new one; and whether it is the caller's."""
    if given is not None and _SAFE_ID.fullmatch(given):
        return given, True
    return new_request_id(), False


@dataclass(slots=True)
class Budget:
    """How a key stands with a language model, as its caller is told."""

    limit: int
    """Tokens per minute."""
    left: int
    full_in_s: float


@dataclass(slots=True)
class InferRequest:
    """Named tensors for one endpoint."""

    inputs: dict[str, Array]
    """By input name; data types and shapes as the signature wants them (the data plane checks)."""
    request_id: str = field(default_factory=new_request_id)
    """Travels to the replica's log and back (``x-request-id``)."""
    deadline: float = field(default_factory=lambda: time.monotonic() + 60)
    """On the clock of time.monotonic()."""
    outputs: tuple[str, ...] | None = None
    """Which outputs are wanted; None for all."""
    caller: str = ""
    """Whose it is, for fair shares: the id of a key, or "" for whoever needs none."""
    priority: int = NORMAL
    """1 to 9; lower comes first."""
    traced: bool = False
    """Whether the caller gave the id itself: then the replica writes a log line."""
    sampling: dict[str, Any] = field(default_factory=dict)
    """How a language model writes, where the protocol says it: fields of ``generation.Sampling``."""
    alone: bool = False
    """Whether it shares no run with others, so that nothing but itself decides the last bits of its answer."""
    answered_by: Route | None = None
    """Set by the data plane where an endpoint has others to pass a request on to: whose answer it is."""
    budget: Budget | None = None
    """Set by the data plane where the key's tokens are limited."""


@dataclass(slots=True)
class InferResult:
    """Named tensors of one answer; BYTES are object arrays of ``bytes``."""

    outputs: dict[str, Array]
    queue_ns: int = 0
    compute_ns: int = 0
    run_rows: int = 0
    """Rows of everything that shared the run."""
    replica: str = ""
    """Who ran it."""
    tokens: int = 0
    """Of the texts that were read, where the runtime tells."""
