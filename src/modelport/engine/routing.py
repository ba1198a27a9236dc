"""The routing table: what control tells every gateway, and all that a gateway needs to know.

Plain structs without a framework; they travel as JSON. A table is whole, never a difference, and carries a number
that grows: a gateway confirms the number it acts on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from modelport.engine.generation import Facts
from modelport.tensors import Signature

_MOST_FEATURES = 10_000
"""More names than that are not sent to every gateway; columns then go by their places."""


def features_of(details: dict[str, Any]) -> tuple[str, ...]:
    """The names of the columns that a version was fitted on, from what its inspection found out."""
    names = details.get("feature_names") or ()
    return tuple(names) if len(names) <= _MOST_FEATURES else ()


class ReplicaAddress(msgspec.Struct, frozen=True):
    """Where one ready replica listens: a Unix socket, relative to the run folder."""

    id: str
    socket: str


def facts_of(language: Sequence[dict[str, Any] | None]) -> Facts | None:
    """What the replicas of a language model have in common: adapters that all hold, the least room of any."""
    known = [msgspec.convert(facts, Facts) for facts in language if facts is not None]
    if not known:
        return None
    adapters = set(known[0].adapters).intersection(*(facts.adapters for facts in known[1:]))
    return msgspec.structs.replace(known[0], adapters=tuple(sorted(adapters)))


class Cascade(msgspec.Struct, frozen=True):
    """Which endpoint is asked first, and when its answer is good enough: all tests that are set have to pass."""

    first: str
    mean_logprob: float | None = None
    """Least mean of its tokens' natural log-probabilities."""
    min_logprob: float | None = None
    """Least log-probability of any token."""
    agreement: float | None = None
    """Least share of further samples that say the same."""
    samples: int = 3
    """The answer's own counts as one."""
    valid_json: bool = False


class Route(msgspec.Struct, frozen=True):
    """One endpoint: its version, how it is run, who answers."""

    project: str
    name: str
    """Of the endpoint."""
    model: str
    version: int
    platform: str
    """Such as ``onnx_onnxv1``; V2 metadata shows it."""
    signature: Signature
    replicas: tuple[ReplicaAddress, ...] = ()
    labels: dict[str, list[str]] = {}
    features: tuple[str, ...] = ()
    """Names of the columns that the one input was fitted on, in order, where the artifact knows them."""
    alias: str | None = None
    batching: bool = True
    """Whether requests may share a run: proven by a replica when it was admitted."""
    streams: bool = False
    """Whether the runtime gives an answer in parts when it is asked to."""
    max_batch: int = 32
    max_delay_ms: float = 0
    timeout_s: float = 60
    cache_bytes: int = 0
    """Answers that each gateway keeps for equal inputs, in bytes; 0 keeps none."""
    recovering: bool = False
    """Has no replica at the moment, but one is being started in place of a lost one: requests wait for it."""
    language: Facts | None = None
    """Of a model that writes texts: what its replicas say of themselves."""
    fallback: tuple[str, ...] = ()
    """Endpoints that are asked in its place when it cannot answer."""
    cascade: Cascade | None = None
    adapter: str | None = None
    """Of a LoRA adapter: what the replicas, which are its base's, call it."""
    asleep: bool = False
    """Scaled to zero on purpose: counts as ready."""
    stopped: bool = False
    """Stopped on purpose: nobody waits for it, it is not listed, and what stands in for it answers."""


class KeyEntry(msgspec.Struct, frozen=True):
    """What a gateway knows of a key: never its secret."""

    id: str
    sha256: str
    project: str
    role: str
    expires_at: float | None = None
    """Seconds since the epoch."""
    models: tuple[str, ...] | None = None
    """The only endpoints that it may call; None for every one."""
    tokens_per_minute: int | None = None
    """That it may spend on each language model."""
    max_tokens: int | None = None
    """Of one answer of a language model."""


class RoutingTable(msgspec.Struct, frozen=True):
    """Everything, at one moment."""

    number: int
    routes: tuple[Route, ...] = ()
    keys: tuple[KeyEntry, ...] = ()
    keys_required: bool = False
