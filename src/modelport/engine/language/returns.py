"""For whom the next step waits: who asks again as soon as he is answered would else wait for all of it.

A step is not interrupted, and many who ask have the next question ready: scripts, agents, whoever calls tools. Beside
others' texts each of them would come a moment after a step began, every time. So a step waits some milliseconds for
those who have just been answered, but not again soon for whom it has waited in vain, and at most for a tenth of the
time. The idea is that of anticipatory schedulers of disks (Iyer and Druschel, SOSP 2001). Knows times and callers.
"""

from __future__ import annotations

from collections import OrderedDict

_LONGEST_S = 0.008
"""A caller on the same machine is back after 3 to 6 ms."""
_OF_STEPS = 0.1
"""Of the steps' time."""
_SAVED_S = 2 * _LONGEST_S
_NOT_AFTER = 8
"""So many answers of a caller who was waited for in vain."""
_KNOWN = 1000
"""Callers of whom that is known."""


class Returns:
    """To one replica."""

    def __init__(self) -> None:
        self._saved = 0.0
        """Seconds that may be waited."""
        self._begun = self._until = 0.0
        self._awaited: set[str] = set()
        self._not_for: OrderedDict[str, int] = OrderedDict()
        """How many more of his answers nobody waits behind, by caller; who was waited for longest ago first."""

    def stepped(self, seconds: float) -> None:
        """A step took so long."""
        self._saved = min(_SAVED_S, self._saved + _OF_STEPS * seconds)

    def answered(self, caller: str, now: float) -> None:
        """His last text is complete, and others' are under way."""
        if skipped := self._not_for.get(caller, 0):
            self._not_for[caller] = skipped - 1
        elif self._awaited or self._saved >= _LONGEST_S:
            if not self._awaited:
                self._begun, self._until = now, now + _LONGEST_S
            self._awaited.add(caller)

    def asks(self, caller: str, now: float) -> None:
        """He is there."""
        if caller in self._awaited:
            self._awaited.discard(caller)
            self._spend(now)

    def left_s(self, now: float) -> float:
        """How long the next step still waits."""
        if self._awaited and now >= self._until:
            for caller in self._awaited:
                self._not_for[caller] = _NOT_AFTER
                self._not_for.move_to_end(caller)
            self._awaited.clear()
            self._spend(now)
            while len(self._not_for) > _KNOWN:
                self._not_for.popitem(last=False)
        return self._until - now if self._awaited else 0.0

    def _spend(self, now: float) -> None:
        self._saved -= min(now, self._until) - self._begun
        self._begun = now
