"""Who is written next in a replica, and who is turned away: by room in the cache, in fair turns between callers.

A text takes room for its prompt and for all that it may write. What does not fit waits; callers take turns, the one
with the fewest texts under way first, and nobody takes the last slots, or the last places to wait, while he has many.
Background texts come after
all others: they leave slots free, take few while others are written, and give way to who waits. Knows counts of
tokens; knows neither tokens nor engines.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from modelport.errors import Overloaded

T = TypeVar("T")

_QUEUES = 2
"""So many times the room may wait."""
_LEAST_WAITING = 16
_SHARE = 3
"""A caller may have so many times the places that are left: alone three quarters of all, and whoever comes gets in."""


@dataclass(slots=True)
class _Waits(Generic[T]):
    what: T
    caller: str
    tokens: int
    background: bool


class _Queue(Generic[T]):
    """Those who wait, by caller."""

    def __init__(self) -> None:
        self.count = self.tokens = 0
        self._of: OrderedDict[str, deque[_Waits[T]]] = OrderedDict()

    def __iter__(self) -> Iterator[_Waits[T]]:
        for entries in self._of.values():
            yield from entries

    def add(self, entry: _Waits[T]) -> None:
        self._of.setdefault(entry.caller, deque()).append(entry)
        self.count += 1
        self.tokens += entry.tokens

    def of(self, caller: str) -> tuple[int, int]:
        """How many of his wait, and their tokens."""
        own = self._of.get(caller, ())
        return len(own), sum(entry.tokens for entry in own)

    def first(self, running: dict[str, int]) -> _Waits[T] | None:
        """Whose turn it is: of equals, who came first."""
        if not self._of:
            return None
        return self._of[min(self._of, key=lambda name: running.get(name, 0))][0]

    def take(self, entry: _Waits[T]) -> None:
        """It is begun; its caller's others come behind those of everybody else."""
        self._of.move_to_end(entry.caller)
        self.remove(entry)

    def remove(self, entry: _Waits[T]) -> None:
        """Nobody wants it any more."""
        entries = self._of[entry.caller]
        entries.remove(entry)
        if not entries:
            del self._of[entry.caller]
        self.count -= 1
        self.tokens -= entry.tokens


class Admission(Generic[T]):
    """The texts of one replica that are under way or wait. Not for several threads."""

    def __init__(self, slots: int, room: int) -> None:
        """``slots`` texts at once, ``room`` tokens for all of them together."""
        self.slots, self.room = slots, room
        self._running: dict[int, _Waits[T]] = {}
        """By number."""
        self._of: dict[str, int] = {}
        """Texts under way that somebody waits for, by caller."""
        self._behind_of: dict[str, int] = {}
        """Those of the background: a caller's batch takes nothing from what he may have beside it."""
        self._used = self._behind = 0
        """Tokens of all that are under way; texts of the background among them."""
        self._waiting: _Queue[T] = _Queue()
        self._background: _Queue[T] = _Queue()

    @property
    def running(self) -> int:
        """Texts under way."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Texts that wait."""
        return self._waiting.count + self._background.count

    def add(self, what: T, caller: str, tokens: int, background: bool = False, *, begun: bool = False) -> None:
        """Let it wait; raises Overloaded when it would wait too long, or its caller has his share of the queue, unless
        another replica has ``begun`` it: then somebody has its beginning."""
        queue = self._background if background else self._waiting
        count, own = queue.of(caller)
        places = max(_LEAST_WAITING, _QUEUES * self.slots) - queue.count - 1
        room = _QUEUES * self.room - queue.tokens - tokens
        full = places < 0 or (queue.tokens and room < 0)
        shared = not count or (count + 1 <= _SHARE * places and own + tokens <= _SHARE * room)
        if not begun and (full or not shared):
            raise Overloaded(
                f"the model is at its capacity: {self.running} texts are written and {self.waiting} wait, "
                f"{count} of them yours; try again later"
            )
        queue.add(_Waits(what, caller, tokens, background))

    def drop(self, what: T) -> bool:
        """Take one that waits out of the queue; whether it was there."""
        for queue in (self._waiting, self._background):
            for entry in queue:
                if entry.what is what:
                    queue.remove(entry)
                    return True
        return False

    def next(self, number: int) -> T | None:
        """What is begun now, under this number; None when nothing is, or nothing fits."""
        entry, queue = self._waiting.first(self._of), self._waiting
        if entry is None:
            entry, queue = self._background.first(self._behind_of), self._background
        if entry is None or not self._fits(entry):
            return None
        if self._behind >= self._most_behind() if entry.background else self._has_many(entry.caller):
            return None  # the last slots are for others
        queue.take(entry)
        self._used += entry.tokens
        self._running[number] = entry
        counts = self._behind_of if entry.background else self._of
        counts[entry.caller] = counts.get(entry.caller, 0) + 1
        self._behind += entry.background
        return entry.what

    def in_the_way(self) -> T | None:
        """The newest background text, while another one waits that would fit without them."""
        entry = self._waiting.first(self._of)
        if entry is None or not self._behind or self._fits(entry) or self._has_many(entry.caller):
            return None
        behind = [one for one in self._running.values() if one.background]
        left = self._used - sum(one.tokens for one in behind)
        if left and left + entry.tokens > self.room:
            return None
        return behind[-1].what

    def done(self, number: int) -> None:
        """One under way has ended."""
        entry = self._running.pop(number, None)
        if entry is None:
            return
        self._used -= entry.tokens
        self._behind -= entry.background
        counts = self._behind_of if entry.background else self._of
        counts[entry.caller] -= 1
        if not counts[entry.caller]:
            del counts[entry.caller]

    def _fits(self, entry: _Waits[T]) -> bool:
        if not self._running:
            return True
        return len(self._running) < self.slots and self._used + entry.tokens <= self.room

    def _has_many(self, caller: str) -> bool:
        return self._of.get(caller, 0) >= self.slots - self.slots // 4

    def _most_behind(self) -> int:
        """Texts of the background at once: a quarter of the slots beside others, all but a quarter without them."""
        quarter = self.slots // 4
        return max(1, quarter) if self.running > self._behind else max(1, self.slots - quarter)
