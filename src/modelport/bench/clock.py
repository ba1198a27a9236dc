"""An alarm on an event loop that is true to some 50 µs, where loops' own timers count whole milliseconds.

On Linux by a timerfd; elsewhere by the loop's timer, whose lateness the load's own figures then show.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
from collections.abc import Callable
from contextlib import suppress

_MONOTONIC, _NONBLOCK, _CLOEXEC = 1, 0o4000, 0o2000000


class _Span(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Setting(ctypes.Structure):
    _fields_ = (("interval", _Span), ("first", _Span))


class Alarm:
    """Calls back once for each ``set``, which replaces the one before."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None
        self._fd = -1
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._setting = _Setting()
            with suppress(AttributeError):  # a C library without it
                self._fd = self._libc.timerfd_create(_MONOTONIC, _NONBLOCK | _CLOEXEC)
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._read)

    def set(self, seconds: float) -> None:
        """Ring in so many seconds, at once where they are not above 0."""
        if self._fd < 0:
            self.unset()
            self._timer = self._loop.call_later(max(0.0, seconds), self._ring)
            return
        nanoseconds = max(1, int(seconds * 1e9))  # 0 would be never
        self._setting.first.seconds, self._setting.first.nanoseconds = divmod(nanoseconds, 1_000_000_000)
        self._libc.timerfd_settime(self._fd, 0, ctypes.byref(self._setting), None)

    def unset(self) -> None:
        """Do not ring any more."""
        if self._timer is not None:
            self._timer.cancel()

    def close(self) -> None:
        """Give the timer back."""
        self.unset()
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _read(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:  # set again between the alarm and its reading
            return
        self._ring()
