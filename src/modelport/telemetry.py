"""Logs: one JSON object per line on standard output, which the supervisor has joined to a file.

Only the standard library, because replicas in any environment write the same lines. ``log`` is for what this product
says itself, ``configure`` turns what libraries say through ``logging`` into the same form.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from typing import Any


def log(event: str, **facts: Any) -> None:
    """Write one line: when, what happened, and the facts."""
    sys.stdout.write(_line(time.time(), event, facts))
    sys.stdout.flush()


def configure(level: str) -> None:
    """Send everything that goes through ``logging`` to standard output, from ``level`` up."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_JsonFormatter())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        facts: dict[str, Any] = {"level": record.levelname.lower(), "logger": record.name}
        if record.exc_info is not None:
            facts["error"] = "".join(traceback.format_exception(*record.exc_info))
        return _line(record.created, record.getMessage(), facts).rstrip("\n")


def _line(at: float, event: str, facts: dict[str, Any]) -> str:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))
    return json.dumps({"time": f"{stamp}.{int(at % 1 * 1000):03d}Z", "event": event, **facts}, default=str) + "\n"
