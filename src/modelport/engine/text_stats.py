"""What is counted of texts that a language model writes: for each caller of one endpoint, in one gateway.

Plain integers, as in ``stats``: a part of a text costs a few additions, and control sums when somebody asks. Knows
times in ns and counts of tokens; knows no text.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from dataclasses import dataclass, field

from modelport.engine.generation import Part

_FIRST = (0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)
_BETWEEN = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2.5, 5)
_WHOLE = (0.05, 0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480)
_TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)
BOUNDS: dict[str, tuple[float, ...]] = {
    "first": _FIRST,  # from entering the queue to the first part
    "between": _BETWEEN,  # from one token to the next; the tokens of one part share its time
    "pace": _BETWEEN,  # the same, as each whole text's mean
    "whole": _WHOLE,  # from entering the queue to the last part
    "queue": _WHOLE,  # until the text's turn, in the gateway and in the replica
    "prefill": _WHOLE,  # from its turn to the first part
    "decode": _WHOLE,  # from the first part to the last
    "prompts": _TOKENS,  # of each prompt
    "answers": _TOKENS,  # of each answer
    "most": _TOKENS,  # that each answer might have had, where the caller said it
}
"""What is measured of each text, and the bounds of its histogram: seconds, or tokens."""
_SCALED = {
    name: [int(bound * (1 if bounds is _TOKENS else 1e9)) for bound in bounds] for name, bounds in BOUNDS.items()
}


@dataclass(slots=True)
class Histogram:
    """How many values fell up to each bound; the last count is of those beyond all."""

    counts: list[int]
    total: int = 0
    """Of all values: ns, or tokens."""


def _histograms() -> dict[str, Histogram]:
    return {name: Histogram([0] * (len(bounds) + 1)) for name, bounds in BOUNDS.items()}


@dataclass(slots=True)
class TextStats:
    """Of one caller."""

    ended: dict[str, int] = field(default_factory=dict)
    """Texts by how they ended: ``stop``, ``length``, ``abort`` (the caller went away) or ``error``."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Of these, where the engine tells: those that it did not have to compute."""
    tokens: int = 0
    """Written."""
    ahead: int = 0
    """Of these, so many came in a step beside another: they were tried ahead, and right."""
    measured: dict[str, Histogram] = field(default_factory=_histograms)
    """By the names of ``BOUNDS``."""

    def note(self, name: str, value: int, times: int = 1) -> None:
        """A value more (so often) in the histogram of that name."""
        histogram = self.measured[name]
        histogram.counts[bisect_left(_SCALED[name], value)] += times
        histogram.total += value * times


def summed(found: list[TextStats]) -> TextStats:
    """All of them as one."""
    total = TextStats()
    for stats in found:
        total.prompt_tokens += stats.prompt_tokens
        total.cached_tokens += stats.cached_tokens
        total.tokens += stats.tokens
        total.ahead += stats.ahead
        for how, count in stats.ended.items():
            total.ended[how] = total.ended.get(how, 0) + count
        for name, mine in total.measured.items():
            theirs = stats.measured[name]
            mine.counts = [a + b for a, b in zip(mine.counts, theirs.counts, strict=True)]
            mine.total += theirs.total
    return total


class Counted:
    """One text on its way into the figures: told of each part, and once of the end."""

    __slots__ = ("_cached", "_ended", "_first_ns", "_last_ns", "_prompt", "_queued_ns", "_stats", "_tokens", "_wait_ns")

    def __init__(self, stats: TextStats, queued_ns: int, most: int | None) -> None:
        self._stats, self._queued_ns = stats, queued_ns
        self._first_ns = self._last_ns = self._wait_ns = 0
        self._prompt = self._cached = self._tokens = 0
        self._ended = False
        if most is not None:
            stats.note("most", most)

    def gained(self, part: Part, sent_ns: int, now: int) -> None:
        """A part has come of what was sent to the replica at that moment."""
        stats, tokens = self._stats, len(part.tokens)
        if not self._first_ns:
            self._first_ns = now
            self._wait_ns = sent_ns - self._queued_ns + part.waited_ns
            stats.note("first", now - self._queued_ns)
            stats.note("queue", self._wait_ns)
            stats.note("prefill", max(0, now - self._queued_ns - self._wait_ns))
        elif tokens:
            stats.note("between", (now - self._last_ns) // tokens, tokens)
        if part.prompt_tokens > self._prompt:
            stats.prompt_tokens += part.prompt_tokens - self._prompt
            self._prompt = part.prompt_tokens
        if part.cached_tokens is not None and part.cached_tokens > self._cached:
            stats.cached_tokens += part.cached_tokens - self._cached
            self._cached = part.cached_tokens
        self._last_ns = now
        self._tokens += tokens
        stats.tokens += tokens
        stats.ahead += max(0, tokens - 1)
        if part.finish is not None:
            self.ended("length" if part.finish == "length" else "stop", now)

    def ended(self, how: str, now: int | None = None) -> None:
        """Said twice, the first holds."""
        if self._ended:
            return
        self._ended = True
        stats, now = self._stats, now or time.perf_counter_ns()
        stats.ended[how] = stats.ended.get(how, 0) + 1
        if how in ("stop", "length"):
            stats.note("whole", now - self._queued_ns)
            stats.note("prompts", self._prompt)
            stats.note("answers", self._tokens)
            stats.note("decode", now - self._first_ns)
            if self._tokens > 1:
                stats.note("pace", (now - self._first_ns) // (self._tokens - 1))
