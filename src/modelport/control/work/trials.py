"""The processes in which trials run: started, given what to try, heard, ended. Knows no study and no recipe."""

from __future__ import annotations

import os
import resource
import selectors
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelport.control.work.channel import Channel
from modelport.engine.placement.process import thread_variables
from modelport.schemas.tuning import TuneParams
from modelport.starting import argv_of

if TYPE_CHECKING:
    from modelport.control.jobs.run import JobRun


class TrialProcess:
    """One process; it has at most one trial at a time."""

    def __init__(self, told: dict[str, Any], memory_mb: int, folder: Path) -> None:
        ours, theirs = socket.socketpair()
        argv = argv_of("modelport.control.work.trial", str(theirs.fileno()), str(os.getpid()), str(memory_mb))
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603  (argv is ours, without a shell)
                argv, stdin=subprocess.DEVNULL, cwd=folder, pass_fds=(theirs.fileno(),),
                env={**os.environ, **thread_variables(told["threads"])},
            )  # fmt: skip
        self.channel = Channel(ours)
        self.channel.send(told)
        self.number: int | None = None
        """The trial that it has."""
        self.begun = 0.0

    def give(self, number: int, asked: dict[str, Any]) -> None:
        """Have it try."""
        self.number, self.begun = number, time.monotonic()
        self.channel.send({"number": number, **asked})

    def end(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()
        self.channel.close()


class TrialProcesses:
    """All of a job; use it in a ``with``, which ends them."""

    def __init__(self, run: JobRun, params: TuneParams, metric: str) -> None:
        count = params.workers
        limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
        self._memory_mb = 0 if limit == resource.RLIM_INFINITY else max(64, (limit >> 20) // count)
        self._folder = run.folder
        self._told = {
            "id": run.id, "actor": asdict(run.actor), "folder": str(run.folder), "metric": metric,
            "params": params.model_dump(mode="json", exclude_defaults=True), "threads": max(1, run.threads // count),
            "settings": run.services.settings.model_dump(mode="json"),
        }  # fmt: skip
        self._count = count
        self.all: list[TrialProcess] = []

    def __enter__(self) -> TrialProcesses:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.all:
            process.end()

    def idle(self) -> TrialProcess | None:
        """One without a trial, started if there may be more; None when all are busy."""
        found = next((one for one in self.all if one.number is None), None)
        if found is None and len(self.all) < self._count:
            found = TrialProcess(self._told, self._memory_mb, self._folder)
            self.all.append(found)
        return found

    def busy(self) -> list[TrialProcess]:
        """Those that have a trial."""
        return [one for one in self.all if one.number is not None]

    def heard(self, wait_s: float) -> Iterator[tuple[TrialProcess, dict[str, Any] | None]]:
        """What they told; None from one that died, which is forgotten."""
        with selectors.DefaultSelector() as waiting:
            for process in self.all:
                waiting.register(process.channel, selectors.EVENT_READ, process)
            ready = [key.data for key, _ in waiting.select(wait_s)]
        for process in ready:
            messages = process.channel.arrived()
            if messages is None:
                self.end(process)
                yield process, None
            for message in messages or ():
                yield process, message

    def end(self, process: TrialProcess) -> None:
        """End one at once."""
        process.end()
        self.all.remove(process)
