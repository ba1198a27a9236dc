"""Two processes of one job talk: one JSON object per line, over a socket that both have from birth. No pickle."""

from __future__ import annotations

import json
import socket
from typing import Any

_AT_ONCE = 1 << 16


class Channel:
    """One end."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._read = b""

    def fileno(self) -> int:
        return self._end.fileno()

    def send(self, message: dict[str, Any]) -> bool:
        """Send it whole; False when the other end is gone."""
        try:
            self._end.sendall(json.dumps(message, default=str).encode() + b"\n")
        except OSError:
            return False
        return True

    def receive(self) -> dict[str, Any] | None:
        """The next message; waits for it. None when the other end is gone."""
        while b"\n" not in self._read:
            if not self._take():
                return None
        return self._next()

    def arrived(self) -> list[dict[str, Any]] | None:
        """What is there, after there was something to read; None when the other end is gone."""
        alive, found = self._take(), []
        while b"\n" in self._read:
            found.append(self._next())
        return found if alive or found else None

    def close(self) -> None:
        self._end.close()

    def _take(self) -> bool:
        try:
            data = self._end.recv(_AT_ONCE)
        except OSError:
            return False
        self._read += data
        return bool(data)

    def _next(self) -> dict[str, Any]:
        line, _, self._read = self._read.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found
