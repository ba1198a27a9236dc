"""Who is written next in a replica, and who is turned away: by room in the cache, in fair turns between callers.

A text takes room for its prompt and for all that it may write. What does not fit waits; callers take turns, the one
with the fewest texts under way first, and nobody takes the last slots, or the last places to wait, while he has many,
nor the others' time with his prompts (``debts``). Background texts come after all others: they leave slots free, take
few while others are written, and give way to who waits. Knows counts of tokens; knows neither tokens nor engines.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from modelport.engine.language.debts import Debts
from modelport.errors import Overloaded

T = TypeVar("T")

_QUEUES = 4
"""So many times the room may wait."""
_LEAST_WAITING = 16
_SHARE = 3
"""A caller may have so many times the places that are left: alone three quarters of all, and whoever comes gets in."""
_FEW = 4
"""Texts that anybody may have under way, where there are slots."""


def most_at_once(slots: int) -> int:
    """Texts that a caller who is alone may ask for in one moment."""
    return _SHARE * max(_LEAST_WAITING, _QUEUES * slots) // (_SHARE + 1)


@dataclass(slots=True)
class _Waits(Generic[T]):
    what: T
    caller: str
    tokens: int
    """That it takes room for."""
    prompt: int
    background: bool
    read_s: float = 0.0
    """Seconds in which its prompt was read."""

    @property
    def account(self) -> str:
        """Who owes others for its prompt."""
        return _account(self.caller, self.background)


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

    def of(self, caller: str) -> Collection[_Waits[T]]:
        """His that wait."""
        return self._of.get(caller, ())

    @property
    def callers(self) -> Collection[str]:
        """Whose texts wait; who came first first."""
        return self._of.keys()

    def first(self, callers: Collection[str], running: dict[str, int]) -> _Waits[T] | None:
        """Of these callers, whose turn it is: of equals, who came first."""
        if not callers:
            return None
        return self._of[min(callers, key=lambda name: running.get(name, 0))][0]

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

    def __init__(self, slots: int, room: int, ample: int = 0, short: int = 0) -> None:
        """``slots`` texts at once, ``room`` tokens for all of them together; ``ample`` texts for one key, if not three
        quarters of the slots; texts of more than ``short`` tokens count for several, if that is not 0."""
        self.slots, self.room, self._ample, self._short = slots, room, ample or slots - slots // 4, short
        self._running: dict[int, _Waits[T]] = {}
        """By number."""
        self._of: dict[str, int] = {}
        """Texts under way that somebody waits for, by caller."""
        self._behind_of: dict[str, int] = {}
        """Those of the background: a caller's batch takes nothing from what he may have beside it."""
        self._used = self._behind = 0
        """Tokens of all that are under way; texts of the background among them."""
        self._unread: set[int] = set()
        """Numbers of those that have gained nothing yet."""
        self._new: set[int] = set()
        """Of these, those that have been taken since the last step."""
        self._debts = Debts()
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

    def has(self, caller: str) -> bool:
        """Whether he has a text that is under way or waits, but for those of the background."""
        return caller in self._of or caller in self._waiting.callers

    def add(
        self, what: T, caller: str, prompt: int, most: int, background: bool = False, *, begun: bool = False
    ) -> None:
        """Let a text wait that goes on from ``prompt`` tokens with at ``most`` so many. Raises Overloaded when it would
        wait too long, or its caller has his share of the queue, unless another replica has ``begun`` it: then somebody
        has its beginning."""
        queue = self._background if background else self._waiting
        count, own = len(queue.of(caller)), sum(entry.tokens for entry in queue.of(caller))
        tokens = prompt + most
        places = max(_LEAST_WAITING, _QUEUES * self.slots) - queue.count - 1
        room = _QUEUES * self.room - queue.tokens - tokens
        full = places < 0 or (queue.tokens and room < 0)
        shared = not count or (count + 1 <= _SHARE * places and own + tokens <= _SHARE * room)
        if not begun and (full or not shared):
            raise Overloaded(
                f"the model is at its capacity: {self.running} texts are written and {self.waiting} wait, "
                f"{count} of them yours; try again later"
            )
        queue.add(_Waits(what, caller, tokens, prompt, background))

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
        queue = self._waiting if self._waiting.count else self._background
        entry = self._turn(queue)
        if entry is None or not self._fits(entry):
            return None
        if self._behind >= self._most_behind() if entry.background else self._has_many(entry.caller):
            return None  # the last slots are for others
        queue.take(entry)
        self._used += entry.tokens
        self._running[number] = entry
        self._unread.add(number)
        self._new.add(number)
        counts = self._behind_of if entry.background else self._of
        counts[entry.caller] = counts.get(entry.caller, 0) + 1
        self._behind += entry.background
        return entry.what

    def in_the_way(self) -> T | None:
        """The newest background text, while another one waits that would fit without them."""
        entry = self._turn(self._waiting)
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
        self._unread.discard(number)
        self._new.discard(number)
        self._used -= entry.tokens
        self._behind -= entry.background
        counts = self._behind_of if entry.background else self._of
        counts[entry.caller] -= 1
        if not counts[entry.caller]:
            del counts[entry.caller]

    def stepped(self, seconds: float, gained: Collection[int], idle: float = 0.0) -> None:
        """A step was taken for all under way, ``idle`` seconds after the one before, and those with these numbers have
        gained something by it."""
        read: dict[str, int] = {}
        for number in self._unread:
            entry = self._running[number]
            read[entry.account] = read.get(entry.account, 0) + entry.prompt
        wrote = any(number not in self._unread for number in gained)
        each = self._debts.stepped(seconds, self._of.keys(), read, wrote, idle)
        for number in self._unread:
            self._running[number].read_s += each * self._running[number].prompt
        self._unread.difference_update(gained)
        self._new.clear()

    def left(self, number: int) -> None:
        """Its caller does not want the rest of one under way."""
        if (entry := self._running.get(number)) is not None:
            self._debts.left(entry.account, entry.read_s)

    def _turn(self, queue: _Queue[T]) -> _Waits[T] | None:
        """Whose turn it is of those who wait; nobody's while all of them have to let others write first."""
        behind = queue is self._background
        counts = self._behind_of if behind else self._of
        free = [caller for caller in queue.callers if not self._barred(_account(caller, behind), counts.get(caller, 0))]
        if free or not self._running:
            return queue.first(free or queue.callers, counts)
        return None

    def _barred(self, account: str, running: int) -> bool:
        """Whether his next prompt waits: beside others he has one read at a time, and none while he owes them, nor in a
        step that reads another's while he has something ``running``."""
        if not self._debts.beside(account):
            return False
        if self._debts.bars(account) or (running and self._new):
            return True
        return any(self._running[number].account == account for number in self._unread)

    def _fits(self, entry: _Waits[T]) -> bool:
        if not self._running:
            return True
        return len(self._running) < self.slots and self._used + entry.tokens <= self.room

    def _has_many(self, caller: str) -> bool:
        """Whether a caller has all texts under way that he may have. A step takes the longer the more and the longer
        they are: while others are there or will soon be, and have few, he has a quarter of the slots, or as many as one
        of them wants. Who has no key is everybody."""
        own, most = self._of.get(caller, 0), self._ample if caller else self.slots
        wanted = [self._of.get(other, 0) + len(self._waiting.of(other)) for other in self._debts.lately(caller)]
        if not wanted:
            return own >= most
        return own >= min(most, max(_FEW, *wanted)) and self._weight(caller) >= min(most, self.slots // 4)

    def _weight(self, caller: str) -> float:
        """Of his texts: short ones that would take as long in a step."""
        if not self._short:
            return self._of.get(caller, 0)
        his = (entry for entry in self._running.values() if entry.caller == caller and not entry.background)
        return sum(max(1.0, (entry.prompt + entry.tokens) / 2 / self._short) for entry in his)

    def _most_behind(self) -> int:
        """Texts of the background at once: a quarter of the slots beside others, all but a quarter without them."""
        quarter = self.slots // 4
        return max(1, quarter) if self.running > self._behind else max(1, self.slots - quarter)


def _account(caller: str, background: bool) -> str:
    """A caller's batch owes for itself, to his own live texts too."""
    return f"{caller}\0" if background else caller
