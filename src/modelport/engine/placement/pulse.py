"""Whether a process is hung: it has been silent, and does nothing meanwhile or never comes back from what it does.

Silence alone proves nothing: on a busy machine everybody is late, and a large body may keep a loop for seconds. But
who gets no word out and uses no processor either is stopped, or waits for what never comes. Knows words and processor
time; knows no process's business. Imports only the standard library.
"""

from __future__ import annotations

import os
from pathlib import Path

ALIVE, GOODBYE = b"+", b"."
"""The words: said every half second, and once, by who ends as soon as its last callers are answered."""
EVERY_S = 0.5
_IDLE_S = 5.0
"""Silent and idle for so long: hung."""
_BUSY_S = 60.0
"""Silent for so long: hung, whatever it does. Twice that for the first word, after all imports."""
_WORK_S = 0.05
"""Processor time that is more than a few timers of a stuck process's libraries."""
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Pulse:
    """That of one process; moments are seconds of one clock that never goes back."""

    def __init__(self, pid: int, now: float) -> None:
        self._pid = pid
        self._heard = now + _BUSY_S
        self._worked = now
        self._used_s = 0.0

    def beat(self, now: float) -> None:
        """It has said that it is alive."""
        self._heard = self._worked = now

    def forgive(self, now: float) -> None:
        """It was the listener who stood still, perhaps with the whole machine: nobody is blamed for that time."""
        self._heard, self._worked = max(self._heard, now), now

    def hung(self, now: float) -> str | None:
        """Why it has to go. To be asked about as often as it speaks."""
        if now - self._heard > _BUSY_S:
            return f"has said nothing for {_BUSY_S:g} s"
        used_s = _work_of(self._pid)
        if used_s is None or used_s - self._used_s > _WORK_S:
            self._worked, self._used_s = now, used_s or 0.0
        if now - self._worked > _IDLE_S:
            return f"has said and done nothing for {_IDLE_S:g} s"
        return None


def _work_of(pid: int) -> float | None:
    """Seconds of processor time that a process has used; None while it waits for a disk, or where nobody can say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "D" else (int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND
