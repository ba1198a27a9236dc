"""Control's side of a job's process: start it, hear it, end it. The other side is ``worker``.

The process is a child of the event loop's thread and is killed with it; it leads a process group of its own, which is
killed when it has ended, so that nothing it started outlives it. Knows no database.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelport.control.jobs.records import JobFacts
from modelport.engine.placement.process import thread_variables
from modelport.settings import Settings
from modelport.starting import argv_of

_LONGEST_LINE = 16 << 20
_LOG_END = 8192
#: What is written where memory is at its limit: by Rust, C++, Arrow, Python, jemalloc, the loader of libraries.
_NO_MEMORY = re.compile(
    r"memory allocation of \d+ bytes failed|std::bad_alloc|Cannot allocate memory|Out of memory: malloc|^MemoryError\b"
    r"|can't start new thread|thread creation failed|failed to map segment",
    re.MULTILINE,
)
#: Variable by which a job's process, and all that it starts, can be told from others.
MARK = "MODELPORT_JOB_ID"
_CREDENTIALS = ("MODELPORT_BOOT", "MODELPORT_KEY")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended: with a result, or with an error."""

    result: dict[str, Any] | None = None
    code: str = "run_failed"
    message: str = ""
    again: bool = False
    """Whether another attempt may do better."""


class JobProcess:
    """One attempt."""

    def __init__(
        self, settings: Settings, facts: JobFacts, attempt: int, folder: Path, log: Path, gpus: tuple[int, ...]
    ) -> None:
        self._settings, self._facts, self._attempt = settings, facts, attempt
        self._folder, self._log, self._gpus = folder, log, gpus
        self._process: asyncio.subprocess.Process | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._unwanted = False
        self._last: dict[str, Any] | None = None

    async def run(self, hear: Callable[[dict[str, Any]], None]) -> Outcome:
        """Start it and wait for its end; ``hear`` gets its progress and its figures."""
        if self._unwanted:
            return Outcome(code="cancelled", message="it was told to end", again=True)
        if self._attempt > 1:
            await asyncio.to_thread(end_leftovers, self._facts.id)
        ours, theirs = socket.socketpair()
        memory_mb = self._facts.resources.memory_mb
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with theirs, self._log.open("ab") as log:
                begin = log.tell()
                self._process = await asyncio.create_subprocess_exec(
                    *argv_of("modelport.control.jobs.worker", str(theirs.fileno()), str(os.getpid()), str(memory_mb)),
                    stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._folder,
                    env=self._environment(), pass_fds=(theirs.fileno(),), start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            ours.close()
            return Outcome(message=f"the job's process could not be started: {error.strerror}", again=True)
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=_LONGEST_LINE)
        if self._unwanted:
            self.stop()
        try:
            with contextlib.suppress(ConnectionError):  # it died at once: its end says more
                writer.write(self._told())
                await writer.drain()
            await self._listen(reader, hear)
            code = await self._process.wait()
        finally:
            writer.close()
            self._end_group()
        return self._outcome(code, await asyncio.to_thread(self._written, begin))

    def stop(self) -> None:
        """Tell it to end; it is killed when it has not after the grace time. Nothing when it has ended."""
        self._unwanted = True
        if self._process is not None and self._process.returncode is None and self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_task(self._stop())

    async def _stop(self) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), self._settings.jobs.grace_s)
        self._end_group()

    def _end_group(self) -> None:
        """Kill it with everything that it started."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _told(self) -> bytes:
        """What the process is to do. Not in its environment, whose size is bounded, and which its children inherit."""
        facts, actor = self._facts, self._facts.actor
        told = {
            "id": facts.id,
            "kind": facts.kind,
            "params": facts.params,
            "attempt": self._attempt,
            "folder": str(self._folder),
            "threads": max(1, int(facts.resources.cores)),
            "actor": {
                "project_id": actor.project_id, "project": actor.project, "name": actor.name, "role": actor.role,
                "request_id": actor.request_id,
            },
            "settings": self._settings.model_dump(mode="json"),
        }  # fmt: skip
        return json.dumps(told).encode() + b"\n"

    def _environment(self) -> dict[str, str]:
        """Control's own: a job reads stores as control does."""
        resources = self._facts.resources
        env = {name: value for name, value in os.environ.items() if name not in _CREDENTIALS}
        env |= thread_variables(max(1, int(resources.cores)))
        env |= {"PYTHONUNBUFFERED": "1", MARK: self._facts.id}
        env["CUDA_VISIBLE_DEVICES"] = ",".join(str(gpu) for gpu in self._gpus)
        return env

    async def _listen(self, reader: asyncio.StreamReader, hear: Callable[[dict[str, Any]], None]) -> None:
        """Until it closes its end."""
        with contextlib.suppress(ConnectionError, ValueError):  # a line beyond the limit: it is not ours any more
            while line := await reader.readline():
                message = json.loads(line)
                if "progress" in message or "metric" in message:
                    hear(message)
                else:
                    self._last = message

    def _written(self, begin: int) -> str:
        """The end of what this attempt wrote."""
        try:
            with self._log.open("rb") as log:
                size = log.seek(0, 2)
                log.seek(max(begin if begin <= size else 0, size - _LOG_END))
                return log.read().decode(errors="replace")
        except OSError:
            return ""

    def _outcome(self, code: int, written: str) -> Outcome:
        last, memory = self._last, self._facts.resources.memory_mb
        if last is not None and "result" in last:
            return Outcome(result=last["result"])
        error = (last or {}).get("error", {})
        refused = _NO_MEMORY.search(written) is not None
        if error and error["code"] != "out_of_memory" and not (error["code"] == "run_failed" and refused):
            return Outcome(code=error["code"], message=error["message"], again=error["again"])
        if last is not None or refused:
            return Outcome(
                message=f"the job needs more than its {memory} MB of memory; submit it with more: "
                f"resources.memory_mb, such as {memory * 2} (`--memory-mb {memory * 2}`)"
            )
        seen = f"`modelport jobs logs {self._facts.id}` shows its last words"
        if code == -signal.SIGKILL:
            why = "was killed (SIGKILL): by hand, or by the system because memory ran out"
        elif code < 0:
            why = f"died ({signal.Signals(-code).name})"
            seen += f"; without any, its {memory} MB of memory may be too little (`--memory-mb {memory * 2}`)"
        else:
            why = f"ended by itself, with code {code}"
        return Outcome(message=f"the job's process {why}; {seen}", again=True)


def end_leftovers(job_id: str) -> None:
    """Kill what processes of an earlier attempt have started: a killed control could not, and they hold its folder."""
    mark = f"{MARK}={job_id}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone meanwhile, or somebody else's
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)


class Meter:
    """The newest progress of a job, with its rate; and the figures that are not written yet."""

    _FORGET_S = 10.0

    def __init__(self) -> None:
        self.progress: dict[str, Any] | None = None
        self.metrics: list[dict[str, Any]] = []
        self._marks: list[tuple[float, float]] = []

    def hear(self, message: dict[str, Any]) -> None:
        """Take one message of the process."""
        if "metric" in message:
            self.metrics.append(message["metric"])
            return
        progress, now = message["progress"], time.monotonic()
        done, total = progress["done"], progress["total"]
        if self._marks and done < self._marks[-1][1]:  # another thing is counted now
            self._marks.clear()
        self._marks = [mark for mark in self._marks if now - mark[0] < self._FORGET_S] + [(now, done)]
        span, first = now - self._marks[0][0], self._marks[0][1]
        rate = (done - first) / span if span > 0.5 else None
        left = None if not rate or total is None else max(0.0, (total - done) / rate)
        self.progress = {**progress, "rate": rate and round(rate, 3), "eta_s": left and round(left, 1)}

    def take(self) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
        """What is new since the last time."""
        progress, metrics = self.progress, self.metrics
        self.progress, self.metrics = None, []
        return progress, metrics
