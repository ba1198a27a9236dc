"""A replica's heartbeat: how it is, told twice a second to whoever decides, from a thread of its own.

So that a run that hangs shows. Knows no model and no frame.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import threading
import time
from pathlib import Path
from typing import Any

_EVERY_S = 0.5


class Heartbeat(threading.Thread):
    """Tells the control process twice a second how the replica is; reconnects when control comes back."""

    def __init__(self, replica: str, address: str) -> None:
        """``address`` is the Unix socket where control listens."""
        super().__init__(name="heartbeat", daemon=True)
        self._address = address
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self.facts: dict[str, Any] = {"id": replica, "pid": os.getpid(), "state": "starting"}
        self.busy_since: float | None = None
        self.last_ok: float | None = None

    def run(self) -> None:
        while True:
            self.send()
            time.sleep(_EVERY_S)

    def send(self) -> None:
        """Send the facts as they are now; a control process that is away is no reason to stop."""
        now = time.monotonic()
        busy, last_ok = self.busy_since, self.last_ok
        facts = {
            **self.facts,
            "busy_s": round(now - busy, 3) if busy is not None else 0.0,
            "ok_age_s": round(now - last_ok, 3) if last_ok is not None else None,
            "memory": _resident_bytes(),
        }
        line = json.dumps(facts).encode() + b"\n"
        with self._lock:
            try:
                if self._socket is None:
                    self._socket = socket.socket(socket.AF_UNIX)
                    self._socket.settimeout(5)
                    self._socket.connect(self._address)
                self._socket.sendall(line)
            except OSError:
                if self._socket is not None:
                    self._socket.close()
                self._socket = None


def _resident_bytes() -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
