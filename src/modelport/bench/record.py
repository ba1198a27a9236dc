"""What happened to the requests of one step: times of those that were answered, counts of those that were not.

A latency counts from the moment at which its request was due, so that a request that had to wait for its turn shows
the wait (to count from the sending would be coordinated omission: a stalled server would hide its own stall).
"""

from __future__ import annotations

import time
from array import array
from collections import Counter

from modelport.bench.lines import LATE, Line
from modelport.errors import DeadlineExceeded, Overloaded

_KINDS = 20
"""Different errors that are told apart in one step; the rest is counted together."""


class Record:
    """Times are seconds on ``time.perf_counter``'s clock. ``start`` and ``end`` bound what is measured."""

    def __init__(self, start: float, end: float) -> None:
        self.start, self.end = start, end
        self.latencies = array("d")
        """Of requests that were due in the window and were answered 200."""
        self.given_up = array("d")
        """How long those were waited for that ran into the time limit, or were never sent within it."""
        self.refused = 0
        """Answered 429."""
        self.errors: Counter[str] = Counter()
        self.finished_in_window = 0
        """Answers 200 that came in the window, whenever their request was due."""
        self.answers = 0
        """All answers 200, warm-up and all."""
        self.due_in_window = 0
        self.lateness = array("d")
        """Of the generator itself: from when a request was due to when it looked at it."""
        self.backlog_most = 0
        """Requests that were due and waited for a free connection, at most."""
        self.unsent = 0
        """Those that waited still when the step's time was over."""
        self.last_error = ""
        self.cpu = 0.0
        """Of this process while it measured, in cores."""

    def note(self, due: float, status: int, message: str, line: Line | None = None) -> None:
        """One request's end, now; ``line`` carried it, where it came so far."""
        now = time.perf_counter()
        measured = self.start <= due < self.end
        if status == 200:
            self.answers += 1
            if self.start <= now < self.end:
                self.finished_in_window += 1
            if measured:
                self.latencies.append(now - due)
            return
        self.last_error = f"{status} {message}" if status else message
        if not measured:
            return
        if status == Overloaded.status:
            self.refused += 1
            return
        if message == LATE or status == DeadlineExceeded.status:
            self.given_up.append(now - due)
        kind = self.last_error
        self.errors[kind if kind in self.errors or len(self.errors) < _KINDS else "other errors"] += 1

    @property
    def ended(self) -> int:
        """Requests of the window whose fate is known."""
        return len(self.latencies) + self.refused + self.errors.total()
