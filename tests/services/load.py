"""Callers that keep calling: what they sent, what failed, and how long they waited."""

from __future__ import annotations

import http.client
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Load:
    """Closed-loop callers on keep-alive connections, each checking its own answers."""

    url: str
    path: str
    body: bytes
    expected: bytes | None = None
    callers: int = 4
    pause_s: float = 0.002
    sent: int = 0
    failures: list[str] = field(default_factory=list)
    longest_s: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Load:
        self._threads = [threading.Thread(target=self._call) for _ in range(self.callers)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=70)

    def _call(self) -> None:
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        while not self._stop.is_set():
            began = time.monotonic()
            failure = None
            try:
                connection.request("POST", self.path, self.body, {"content-type": "application/json"})
                answer = connection.getresponse()
                text = answer.read()
                if answer.status != 200:
                    failure = f"{answer.status} {text[:200]!r}"
                elif self.expected is not None and text != self.expected:
                    failure = f"another answer: {text[:200]!r}"
            except OSError as error:
                failure = repr(error)
                connection.close()
            waited = time.monotonic() - began
            with self._lock:
                self.sent += 1
                self.longest_s = max(self.longest_s, waited)
                if failure is not None:
                    self.failures.append(failure)
            time.sleep(self.pause_s)
