"""A job's process: started with FD, PARENT and MEMORY_MB (``modelport.starting``), it does what it is told over FD.

FD is a socket to control: one JSON object comes, saying what to do, and one per line goes back: ``progress``,
``metric``, and last ``result`` or ``error``. It dies with PARENT, which is control. Being told to end (SIGTERM) raises
``Stopped`` in the work, which may still write what it has.
"""

from __future__ import annotations

import json
import logging
import math
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

from modelport.control.actors import Actor
from modelport.control.assembly import build_services
from modelport.control.jobs.run import JobRun, Work, kind_of, params_of
from modelport.engine.placement.process import die_with_parent
from modelport.errors import ModelportError
from modelport.settings import Settings
from modelport.storage.disk import full, is_full
from modelport.telemetry import configure

_log = logging.getLogger(__name__)
_LARGEST_RESULT = 1 << 20
_PROGRESS_EVERY_S = 0.1


class Stopped(BaseException):
    """The process was told to end."""


class Line:
    """The way to control."""

    def __init__(self, fd: int) -> None:
        self._file = os.fdopen(fd, "r+b", buffering=0)
        self._lock = threading.Lock()
        self._held: dict[str, Any] | None = None
        self._told_at = 0.0

    def told(self) -> dict[str, Any]:
        """What to do."""
        with os.fdopen(os.dup(self._file.fileno()), "rb") as reading:
            found: dict[str, Any] = json.loads(reading.readline())
        return found

    def report(self, message: dict[str, Any]) -> None:
        """Send it; of progress that comes faster than anybody looks, only the newest."""
        with self._lock:
            if "progress" in message:
                told = message["progress"]
                total = None if told["total"] is None else float(told["total"])
                message = {"progress": {**told, "done": float(told["done"]), "total": total}}
                if time.monotonic() - self._told_at < _PROGRESS_EVERY_S:
                    self._held = message
                    return
                self._told_at, self._held = time.monotonic(), None
            elif "metric" in message:
                value = float(message["metric"]["value"])
                message = {"metric": {**message["metric"], "value": value if math.isfinite(value) else None}}
            self._send(message)

    def end(self, message: dict[str, Any]) -> None:
        """Send the last message, after the progress that was held back."""
        with self._lock:
            if self._held is not None:
                self._send(self._held)
            self._send(message)

    def _send(self, message: dict[str, Any]) -> None:
        data = memoryview(json.dumps(message, default=str).encode() + b"\n")
        while data:
            data = data[self._file.write(data) :]


def run(told: dict[str, Any], line: Line) -> dict[str, Any]:
    """Do the work; the last message."""
    services = None
    try:
        settings = Settings(**told["settings"])
        services = build_services(settings, owner_token=None, keys_required=True, migrate=False)
        kind = kind_of(told["kind"])
        assert isinstance(kind, Work)
        actor, folder = Actor(**told["actor"]), Path(told["folder"])
        job = JobRun(told["id"], actor, told["attempt"], folder, services, line.report, told["threads"])
        result = kind.run(job, params_of(kind, told["params"]))
        if len(json.dumps(result)) > _LARGEST_RESULT or not isinstance(result, dict):
            raise TypeError("a job's result is a small dictionary")
        return {"result": result}
    except ModelportError as error:
        _log.error("%s", error.message, exc_info=error if error.status >= 500 else None)
        return _error(error.code, error.message, error.status >= 500 and error.status != 501)
    except MemoryError:
        _log.exception("out of memory")
        return _error("out_of_memory", "", False)
    except Stopped:
        _log.warning("told to end")
        return _error("cancelled", "it was told to end", True)
    except Exception as error:
        _log.exception("attempt %d failed", told["attempt"])
        if is_full(error):
            return _error("unavailable", full().message, True)
        shown = f"`modelport jobs logs {told['id']}` shows where"
        return _error("run_failed", f"the job failed with {type(error).__name__}; {shown}", True)
    finally:
        if services is not None:
            services.database.close()


def _error(code: str, message: str, again: bool) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "again": again}}


def _stop(signum: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough; a second one must not spoil the tidying up
    raise Stopped


def main() -> None:
    """Entry of the process."""
    fd, parent, memory_mb = (int(argument) for argument in sys.argv[1:])
    die_with_parent(parent)
    signal.signal(signal.SIGTERM, _stop)
    resource.setrlimit(resource.RLIMIT_DATA, (memory_mb << 20, memory_mb << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    line = Line(fd)
    told = line.told()
    configure(told["settings"]["log"]["level"])
    message = run(told, line)
    line.end(message)
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0 if "result" in message else 1)  # a library's threads and clean-up cannot hold it up


if __name__ == "__main__":
    main()
