"""Whose turn it is at a replica when several gateways have work for it.

A frame that waits at a busy replica has stopped growing. So a gateway whose batch is not full asks for its turn
instead of sending, and is granted it when the run before it ends; what arrives meanwhile shares the run. The turn is
said in the replica's mark too (``running``), so that the others ask in their turn. Knows connections; knows no frame.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable

from modelport.engine.running import Running

_PATIENCE_S = 0.02
"""How long a gateway may hesitate before the next one is granted its turn too."""


class Turns:
    """The turns of one replica. ``grant`` tells a gateway."""

    def __init__(self, mark: Running, grant: Callable[[socket.socket], None]) -> None:
        self._mark = mark
        self._grant = grant
        self._asked: deque[socket.socket] = deque()
        self._granted: socket.socket | None = None
        self._since = 0.0

    def ask(self, gateway: socket.socket) -> None:
        """It has requests waiting, and sends them when it is granted its turn."""
        self._asked.append(gateway)

    def give(self) -> None:
        """Grant the next turn to whoever has asked first, unless somebody is about to use one."""
        if not self._asked or (self._granted is not None and time.monotonic() - self._since < _PATIENCE_S):
            return
        self._granted = self._asked.popleft()
        self._since = time.monotonic()
        self._grant(self._granted)

    def begin(self, gateway: socket.socket) -> None:
        """A frame of this gateway is run."""
        if self._granted is gateway:
            self._granted = None
        self._mark.connection = gateway.fileno()

    def end(self) -> None:
        """Nothing is run; the mark says whose frame is expected."""
        self._mark.connection = self._granted.fileno() if self._granted is not None else 0

    def leave(self, gateway: socket.socket) -> None:
        """It does not use its turn, or has gone."""
        if gateway in self._asked:
            self._asked.remove(gateway)
        if self._granted is gateway:
            self._granted = None
            self.give()
            self.end()

    @property
    def patience(self) -> float | None:
        """Seconds after which the next turn is due, where somebody waits for it."""
        if not self._asked or self._granted is None:
            return None
        return max(0.0, self._since + _PATIENCE_S - time.monotonic())
