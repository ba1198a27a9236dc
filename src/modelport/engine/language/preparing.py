"""Forms of texts are made ready while others are written: one at a time, in a thread that gives way to the steps.

Callers take turns, so that many new forms of one hold up no other's. Knows texts as what they are begun with; which
forms there are is the runtime's (``Prepares``).
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, NamedTuple, TypeVar

from modelport.engine.generation import Format
from modelport.engine.runtime import Prepares
from modelport.errors import InvalidInput
from modelport.telemetry import log

T = TypeVar("T")

_NICE = 10
"""The steps' threads come first."""


class _Waits(NamedTuple, Generic[T]):
    what: T
    form: Format
    caller: str


class Preparing(Generic[T]):
    """Texts whose forms are not ready. ``woken`` can be read when one may be."""

    def __init__(self, runtime: object) -> None:
        self._runtime = runtime if isinstance(runtime, Prepares) else None
        self._thread = ThreadPoolExecutor(1, "forms", _give_way)
        self.woken, self._wakes = socket.socketpair()
        self._wakes.setblocking(False)
        self._waiting: list[_Waits[T]] = []
        self._now: tuple[_Waits[T], Future[InvalidInput | None]] | None = None
        self._last = ""
        """Whose form was the last one."""

    def __bool__(self) -> bool:
        return bool(self._waiting) or self._now is not None

    def add(self, what: T, form: Format | None, caller: str) -> bool:
        """Whether this text has to wait for its form; ``ready`` gives it back."""
        if form is None or self._is_prepared(form):
            return False
        self._waiting.append(_Waits(what, form, caller))
        self._go_on()
        return True

    def ready(self) -> tuple[T, InvalidInput | None] | None:
        """One whose form is ready now, or why there is none."""
        if self._now is None or not self._now[1].done():
            return None
        (waits, done), self._now = self._now, None
        self._go_on()
        return waits.what, done.result()

    def drop(self, what: T) -> bool:
        """Nobody waits for it any more; whether it was here."""
        if self._now is not None and self._now[0].what is what:
            self._now[1].cancel()
            self._now = None
            self._go_on()
            return True
        kept = [waits for waits in self._waiting if waits.what is not what]
        found = len(kept) < len(self._waiting)
        self._waiting = kept
        return found

    def _go_on(self) -> None:
        if self._now is not None or not self._waiting:
            return
        place = next((at for at, waits in enumerate(self._waiting) if waits.caller != self._last), 0)
        waits = self._waiting.pop(place)
        self._last = waits.caller
        self._now = waits, self._thread.submit(self._prepare, waits.form)
        self._now[1].add_done_callback(self._wake)

    def _wake(self, _: Future[InvalidInput | None]) -> None:
        with contextlib.suppress(OSError):  # so many wakes are unread that one more says nothing, or all is over
            self._wakes.send(b"\0")

    def _is_prepared(self, form: Format) -> bool:
        try:
            return self._runtime is None or self._runtime.is_prepared(form)
        except Exception:  # the text is begun, and whoever sent it hears what is wrong with it
            log("not_prepared", error=traceback.format_exc())
            return True

    def _prepare(self, form: Format) -> InvalidInput | None:
        assert self._runtime is not None
        try:
            self._runtime.prepare(form)
        except InvalidInput as error:
            return error
        except Exception:  # the runtime is asked again, and says so to whom it concerns
            log("not_prepared", error=traceback.format_exc())
        return None


def _give_way() -> None:
    """The priority of this thread, and of those that it starts."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
