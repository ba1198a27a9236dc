"""Where a replica hears its gateways, and the wish that it ends: the first things in its loop's selector.

Imports only the standard library.
"""

from __future__ import annotations

import selectors
import signal
import socket
from collections.abc import Callable
from pathlib import Path

GATEWAY, SIGNAL = "gateway", "signal"
"""What the selector says of a gateway that connects, and of a signal that has come (to be read off its socket)."""


def listen(where: str, selector: selectors.BaseSelector, drain: Callable[..., None]) -> None:
    """Listen at a Unix socket of this name; SIGTERM calls ``drain`` and wakes the loop."""
    Path(where).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(where)
    listener.listen(64)
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.detach())
    signal.signal(signal.SIGTERM, drain)
    selector.register(listener, selectors.EVENT_READ, GATEWAY)
    selector.register(woken, selectors.EVENT_READ, SIGNAL)
