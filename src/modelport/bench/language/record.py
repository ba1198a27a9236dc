"""What happened to the answers of one step: when each began, how its tokens followed, how many there were."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise

from modelport.bench.language.streams import StreamLine
from modelport.bench.lines import Line
from modelport.bench.record import Record


@dataclass(frozen=True, slots=True)
class Promise:
    """What a good answer keeps; None for no limit. In ms."""

    ttft_ms: float | None = None
    """From when it was due to its first text."""
    itl_ms: float | None = None
    """Per token after the first, on average over the answer."""

    @property
    def is_given(self) -> bool:
        return self.ttft_ms is not None or self.itl_ms is not None

    def is_kept(self, first: float, token: float | None) -> bool:
        """Times in seconds; an answer of one token has no time between tokens."""
        if self.ttft_ms is not None and 1e3 * first > self.ttft_ms:
            return False
        return self.itl_ms is None or token is None or 1e3 * token <= self.itl_ms


NOTHING = Promise()


class LanguageRecord(Record):
    """Times are seconds. Those of a token are of answers whole and due in the window, as ``latencies`` are."""

    def __init__(self, start: float, end: float, promise: Promise) -> None:
        super().__init__(start, end)
        self._promise = promise
        self.first = array("d")
        """From due to the first text."""
        self.per_token = array("d")
        """Of each answer: its time after the first text, by its tokens after the first."""
        self.gaps = array("d")
        """Between two events with text; an event may hold several tokens."""
        self.tokens_in = self.tokens_out = self.cached_tokens = 0
        """Of those answers."""
        self.tokens_in_window = 0.0
        """Written within the window, whichever answer they belong to."""
        self.empty = 0
        """Answers 200 without any text."""
        self.good = 0

    def note(self, due: float, status: int, message: str, line: Line | None = None) -> None:
        super().note(due, status, message, line)
        if status != 200 or not isinstance(line, StreamLine):
            return
        heard = line.heard
        moments = heard.moments
        tokens = max(heard.tokens_out, len(moments))  # who tells no usage sends a token an event
        if moments:
            inside = bisect_left(moments, self.end) - bisect_left(moments, self.start)
            self.tokens_in_window += tokens * inside / len(moments)
        if not self.start <= due < self.end:
            return
        self.tokens_in += heard.tokens_in
        self.tokens_out += tokens
        self.cached_tokens += heard.cached_tokens
        if not moments:
            self.empty += 1
            return
        first = moments[0] - due
        per_token = (moments[-1] - moments[0]) / (tokens - 1) if tokens > 1 else None
        self.first.append(first)
        if per_token is not None:
            self.per_token.append(per_token)
        self.gaps.extend(after - before for before, after in pairwise(moments))
        self.good += self._promise.is_kept(first, per_token)
