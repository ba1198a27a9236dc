"""The figures of one step, from what was recorded; and the greatest load that keeps a promise.

Latencies in ms, loads in requests per second. A percentile is given only where at least one request lies beyond it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import numpy as np

from modelport.bench.record import Record
from modelport.tensors import Array

SHARES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999))
BUSY = 0.9
"""Share of one core above which the generator itself may be what is slow."""
LATE_MS = 1.0
"""Half of the requests later than this: the generator could not keep its schedule."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One step."""

    load: str
    """As it was asked for: ``100/s``, ``16 callers``, ``log x 2``."""
    seconds: float
    """How long was measured, without the warm-up."""
    offered: float
    """Requests that were due, per second; of callers what they sent."""
    achieved: float
    """Answers 200 per second, within the measured time."""
    requests: int
    ok: int
    refused: int
    """Answered 429."""
    errors: dict[str, int]
    """By status and message."""
    latency_ms: dict[str, float | None]
    """p50, p90, p99, p99.9, mean and max of answers 200, and of those that ran into the time limit."""
    slo_p99_ms: float | None
    """p99 over all requests (of few: the longest), where a refused or failed one never ended; None for endless."""
    backlog_most: int
    """Requests that waited for a free connection, at most."""
    unsent: int
    """Those that waited still when the time was over."""
    late_ms: float
    """Median of how late the generator itself was; 0 for callers, who have no schedule."""
    cpu: float
    """Of the generator, in cores."""
    callers: int | None = None
    batch_rows: float | None = None
    """Rows of a run, on average; by the server's own figures, the warm-up included, as the next."""
    queue_ms: float | None = None
    """Time that a request waited in the server, on average."""
    interrupted: bool = False
    warnings: list[str] = field(default_factory=list)

    @property
    def failed(self) -> int:
        return sum(self.errors.values())

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` shows it."""
        return asdict(self)


F = TypeVar("F", bound=Figures)


def percentile(times: Array, share: float) -> float | None:
    """The value that ``share`` of the sorted times do not exceed; None where none lies beyond it."""
    if len(times) * (1 - share) < 1 - 1e-9:
        return None
    return float(np.percentile(times, 100 * share, method="higher"))


def spread(seconds: Array) -> dict[str, float | None]:
    """p50, p90, p99, p99.9, mean and max of times in seconds, as ms."""
    times = np.sort(1e3 * seconds)
    found = {name: percentile(times, share) for name, share in SHARES}
    found["mean"] = float(times.mean()) if len(times) else None
    found["max"] = float(times[-1]) if len(times) else None
    return found


def figures_of(record: Record, load: str, *, interrupted: bool = False, **more: Any) -> Figures:
    """The step's figures; ``more`` are fields that the record does not know."""
    return made_of(Figures, record, load, interrupted=interrupted, **more)


def made_of(kind: type[F], record: Record, load: str, *, interrupted: bool, **more: Any) -> F:
    """Figures of a kind that has more fields than these: ``more`` holds them."""
    seconds = max(record.end - record.start, 1e-9)
    answered = np.array(record.latencies)
    endless = np.full(record.ended - len(answered), np.inf)
    asked = np.concatenate([1e3 * answered, endless])
    p99 = float(np.percentile(asked, 99, method="higher")) if len(asked) else np.inf
    late_ms = 1e3 * float(np.median(np.array(record.lateness))) if len(record.lateness) else 0.0
    return kind(
        load=load,
        seconds=seconds,
        offered=record.due_in_window / seconds,
        achieved=record.finished_in_window / seconds,
        requests=record.due_in_window,
        ok=len(record.latencies),
        refused=record.refused,
        errors=dict(record.errors.most_common()),
        latency_ms=spread(np.concatenate([np.array(record.latencies), np.array(record.given_up)])),
        slo_p99_ms=p99 if np.isfinite(p99) else None,
        backlog_most=record.backlog_most,
        unsent=record.unsent,
        late_ms=late_ms,
        cpu=record.cpu,
        interrupted=interrupted,
        warnings=_warnings(late_ms, record),
        **more,
    )


def _warnings(late_ms: float, record: Record) -> list[str]:
    found = []
    if record.cpu >= BUSY:
        found.append(f"the load generator used {record.cpu:.0%} of a core: it may be what is slow, not the server")
    if late_ms > LATE_MS:
        found.append(f"half of the requests left {late_ms:.1f} ms late or more: the load generator is short of CPU")
    if record.backlog_most:
        found.append(f"up to {record.backlog_most} requests waited for one of the connections (--connections)")
    return found


def greatest_within(steps: Sequence[Figures], p99_ms: float) -> Figures | None:
    """The step of the greatest load up to which every one had its p99 within the limit."""
    best = None
    for step in sorted(steps, key=lambda step: (step.callers or 0, step.offered)):
        if step.slo_p99_ms is None or step.slo_p99_ms > p99_ms:
            return best
        best = step
    return best
