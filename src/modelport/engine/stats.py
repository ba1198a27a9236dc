"""What is counted of one endpoint in one gateway: plain integers, summed by control when they are asked for."""

from __future__ import annotations

import time
from bisect import bisect_left
from dataclasses import dataclass, field

from modelport.engine.text_stats import TextStats

LATENCY_BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BOUNDS_NS = [int(bound * 1e9) for bound in LATENCY_BOUNDS_S]


@dataclass(slots=True)
class EndpointStats:
    """Times in ns."""

    success: int = 0
    success_ns: int = 0
    failed: int = 0
    failed_ns: int = 0
    queue_ns: int = 0
    compute_ns: int = 0
    executions: int = 0
    """Runs of the model; a run may serve several requests."""
    rows: int = 0
    retried: int = 0
    recalled: int = 0
    """Requests answered from the cache, or by the run of an equal one."""
    passed_on: int = 0
    """Requests that another endpoint has answered in this one's place."""
    kept_small: int = 0
    """Of a cascade: texts of the small model that were good enough."""
    kept_large: int = 0
    """Of a cascade: texts that were asked of the large model after the small one."""
    last_success_ms: int = 0
    """Milliseconds since the epoch."""
    batch_sizes: dict[int, int] = field(default_factory=dict)
    latency: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS_S) + 1))
    """Successful requests by the bucket of LATENCY_BOUNDS_S; the last is beyond all."""
    texts: dict[str, TextStats] = field(default_factory=dict)
    """Of models that read or write texts, by caller: the id of a key, or "" for whoever needs none."""

    def of(self, caller: str) -> TextStats:
        """What is counted of one caller's texts."""
        found = self.texts.get(caller)
        if found is None:
            found = self.texts[caller] = TextStats()
        return found

    def answered(self, queued_ns: int, sent_ns: int, now: int) -> None:
        """A request has its answer."""
        elapsed = now - queued_ns
        self.success += 1
        self.queue_ns += sent_ns - queued_ns
        self.success_ns += elapsed
        self.latency[bisect_left(_BOUNDS_NS, elapsed)] += 1

    def ran(self, rows: int, ns: int) -> None:
        """The model has run once."""
        self.executions += 1
        self.rows += rows
        self.compute_ns += ns
        self.last_success_ms = int(time.time() * 1e3)
        self.batch_sizes[rows] = self.batch_sizes.get(rows, 0) + 1
