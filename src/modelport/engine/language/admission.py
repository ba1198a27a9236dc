"""Who is written next in a replica, and who is turned away: by room in the cache, in fair turns between callers.

A text takes room for its prompt and for all that it may write. What does not fit waits; callers take turns, the one
with the fewest texts under way first, and nobody takes the last slots while he has many. Knows counts of tokens; knows
neither tokens nor engines.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from modelport.errors import Overloaded

T = TypeVar("T")

_QUEUES = 2
"""So many times the room may wait."""
_LEAST_WAITING = 16


@dataclass(slots=True)
class _Waits(Generic[T]):
    what: T
    caller: str
    tokens: int


class Admission(Generic[T]):
    """The texts of one replica that are under way or wait. Not for several threads."""

    def __init__(self, slots: int, room: int) -> None:
        """``slots`` texts at once, ``room`` tokens for all of them together."""
        self.slots, self.room = slots, room
        self._running: dict[int, tuple[str, int]] = {}
        """Caller and tokens, by number."""
        self._of: dict[str, int] = {}
        """Texts under way, by caller."""
        self._used = self._queued = 0
        self._waiting: OrderedDict[str, deque[_Waits[T]]] = OrderedDict()

    @property
    def running(self) -> int:
        """Texts under way."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Texts that wait."""
        return sum(map(len, self._waiting.values()))

    def check(self, tokens: int) -> None:
        """Raises Overloaded when so many tokens would wait too long."""
        if self.waiting >= max(_LEAST_WAITING, _QUEUES * self.slots) or (
            self._queued and self._queued + tokens > _QUEUES * self.room
        ):
            raise Overloaded(
                f"the model is at its capacity: {self.running} texts are written and {self.waiting} wait; "
                "try again later"
            )

    def add(self, what: T, caller: str, tokens: int) -> None:
        """Let it wait; raises Overloaded."""
        self.check(tokens)
        self._waiting.setdefault(caller, deque()).append(_Waits(what, caller, tokens))
        self._queued += tokens

    def drop(self, what: T) -> bool:
        """Take one that waits out of the queue; whether it was there."""
        for caller, queue in self._waiting.items():
            for entry in queue:
                if entry.what is what:
                    queue.remove(entry)
                    self._queued -= entry.tokens
                    if not queue:
                        del self._waiting[caller]
                    return True
        return False

    def next(self, number: int) -> T | None:
        """What is begun now, under this number; None when nothing is, or nothing fits."""
        if len(self._running) >= self.slots or not self._waiting:
            return None
        caller = min(self._waiting, key=lambda name: self._of.get(name, 0))  # of equals, who came first
        entry = self._waiting[caller][0]
        if self._running and self._used + entry.tokens > self.room:
            return None
        if self._of.get(caller, 0) >= self.slots - self.slots // 4:
            return None  # the last slots are for others
        queue = self._waiting.pop(caller)
        queue.popleft()
        if queue:
            self._waiting[caller] = queue  # behind the others
        self._queued -= entry.tokens
        self._used += entry.tokens
        self._running[number] = caller, entry.tokens
        self._of[caller] = self._of.get(caller, 0) + 1
        return entry.what

    def done(self, number: int) -> None:
        """One under way has ended."""
        caller, tokens = self._running.pop(number, ("", 0))
        if not tokens:
            return
        self._used -= tokens
        self._of[caller] -= 1
        if not self._of[caller]:
            del self._of[caller]
