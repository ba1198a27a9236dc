"""Processes on this machine: how a child is started so that it dies with its parent, and how control asks for one.

Only the supervisor (or ``modelport serve``, which is its own) spawns; control asks it over a socket, one JSON object
per line. Imports only the standard library.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

_PR_SET_PDEATHSIG = 1
_NEEDED = frozenset(
    ("PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "USER", "LOGNAME", "VIRTUAL_ENV", "PYTHONPATH",
     "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")
)  # fmt: skip
_NEEDED_PREFIXES = ("LC_", "OMP_", "OPENBLAS_", "MKL_", "CUDA_", "ORT_")

try:
    _libc: ctypes.CDLL | None = ctypes.CDLL(None)
except OSError:
    _libc = None


def spawn(
    argv: Sequence[str],
    *,
    cwd: Path,
    log: int | IO[bytes],
    env: Mapping[str, str],
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a child that is killed when this process ends; ``env`` is its whole environment.

    Call it from a program with one thread.
    """
    parent = os.getpid()
    return subprocess.Popen(  # noqa: S603  (argv is ours, without a shell)
        argv,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={"PYTHONUNBUFFERED": "1", **env},
        pass_fds=pass_fds,
        preexec_fn=lambda: die_with_parent(parent),  # noqa: PLW1509  (see the docstring)
    )


def die_with_parent(parent: int) -> None:
    """Ask the kernel to end this process when ``parent`` ends; ends at once when it has ended already."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the request was made
        os._exit(1)


def replica_environment() -> dict[str, str]:
    """What a replica inherits: what programs need to run, and none of the server's credentials."""
    return {name: value for name, value in os.environ.items() if name in _NEEDED or name.startswith(_NEEDED_PREFIXES)}


def thread_variables(threads: int) -> dict[str, str]:
    """What keeps numerical libraries to so many threads."""
    return dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))


def replica_argv(spec: str, python: str | None = None) -> list[str]:
    """The command line of one replica, in this interpreter or in that of another environment."""
    return [python or sys.executable, "-m", "modelport.engine.replica", spec]


class SupervisorLink:
    """Control's side of the conversation with the supervisor."""

    def __init__(self, on_event: Callable[[dict[str, Any]], None]) -> None:
        self._on_event = on_event
        self._writer: asyncio.StreamWriter | None = None
        self._reader_task: asyncio.Task[None] | None = None

    async def open(self, fd: int) -> None:
        """Begin on an inherited socket; returns when the first event has named the processes that run already."""
        reader, self._writer = await asyncio.open_unix_connection(sock=socket.socket(fileno=fd), limit=1 << 22)
        if first := await reader.readline():
            self._on_event(json.loads(first))
        self._reader_task = asyncio.create_task(self._read(reader))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            self._on_event(json.loads(line))
        os._exit(1)  # without a supervisor there is nothing to decide about

    def start(self, process_id: str, argv: Sequence[str], env: Mapping[str, str], log: str, about: Any = None) -> None:
        """Ask for a process. ``about`` comes back to a restarted control, so that it knows what runs."""
        self._send({"op": "start", "id": process_id, "argv": list(argv), "env": dict(env), "log": log, "about": about})

    def stop(self, process_id: str, signum: int = signal.SIGTERM) -> None:
        """Ask for a signal to a process; unknown ids are ignored."""
        self._send({"op": "signal", "id": process_id, "signal": int(signum)})

    def _send(self, message: dict[str, Any]) -> None:
        assert self._writer is not None
        with contextlib.suppress(ConnectionError):
            self._writer.write(json.dumps(message).encode() + b"\n")
