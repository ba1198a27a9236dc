"""A script's process: it runs, what it writes goes to the log as it comes, and its lines are heard.

Lines of its standard output tell figures and progress::

    metric accuracy=0.93 loss=0.21 step=10
    progress 3/10 fitting

It stays in the group of the process that asked, so that whoever ends a job ends all that it started. Knows no model.
"""

from __future__ import annotations

import os
import re
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from modelport.training.scripts import launch

_AT_ONCE = 1 << 16
_LONGEST_LINE = 1 << 16
_TAIL_BYTES = 1 << 14
_MOST_FIGURES = 100_000
_GRACE_S = 5.0
_AFTER_END_S = 2.0
"""Time for what is in the pipes still; a process that the script left behind may hold them open."""
_FIGURE = re.compile(r"([A-Za-z_][\w./@-]{0,99})=(\S+)")
_PROGRESS = re.compile(r"progress\s+([0-9.]+)(?:\s*/\s*([0-9.]+))?(?:\s+(.*))?$")


@dataclass(slots=True)
class Heard:
    """What a script told by its lines."""

    metric: Callable[[str, float, int | None], None]
    progress: Callable[[float, float | None, str], None]
    last: dict[str, float] = field(default_factory=dict)
    """The newest value of each figure."""
    odd: str | None = None
    """The first line that looked like one to be heard and was none."""
    figures: int = 0

    def line(self, text: str) -> None:
        """Hear one line, if it is meant to be heard."""
        if text.startswith("metric "):
            self._metric(text)
        elif text.startswith("progress ") and (found := _PROGRESS.match(text.strip())):
            try:
                total = None if found[2] is None else float(found[2])
                self.progress(float(found[1]), total, (found[3] or "")[:200])
            except ValueError:
                self.odd = self.odd or text[:200]

    def _metric(self, text: str) -> None:
        pairs = text.split()[1:]
        found = [_FIGURE.fullmatch(pair) for pair in pairs]
        try:
            values = {match[1]: float(match[2]) for match in found if match is not None}
            step = None if "step" not in values else int(values.pop("step"))
        except (ValueError, OverflowError):
            values, step = {}, None
        if not values or None in found:
            self.odd = self.odd or text[:200]
            return
        for name, value in values.items():
            self.figures += 1
            if self.figures <= _MOST_FIGURES:
                self.metric(name, value, step)
            self.last[name] = value


@dataclass(frozen=True, slots=True)
class Ended:
    """How it ended."""

    code: int | None
    """None when its time was up; below 0 when a signal ended it."""
    words: str
    """The end of its standard error, or of its output when that is empty."""


def run_script(
    argv: Sequence[str], cwd: Path, env: Mapping[str, str], heard: Heard, timeout_s: float | None = None
) -> Ended:
    """Run it to its end; whatever is raised here meanwhile ends it first."""
    process = subprocess.Popen(  # noqa: S603  (the caller's own program is what this is for)
        [sys.executable, "-I", str(Path(launch.__file__)), str(os.getpid()), *argv],
        cwd=cwd, env=dict(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout as out, process.stderr as err:
        reading = _Reading(out, err, heard)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            while process.poll() is None and reading.once(0.2):
                if deadline is not None and time.monotonic() > deadline:
                    _end(process, reading)
                    return Ended(None, reading.words())
            while process.poll() is None:  # it closed both pipes and goes on
                if deadline is not None and time.monotonic() > deadline:
                    _end(process, reading)
                    return Ended(None, reading.words())
                time.sleep(0.05)
        except BaseException:
            _end(process, reading)
            raise
        reading.until(time.monotonic() + _AFTER_END_S)
    return Ended(process.returncode, reading.words())


def _end(process: subprocess.Popen[bytes], reading: _Reading) -> None:
    """Tell it to end, give it time to write what it has, and kill it."""
    process.terminate()
    deadline = time.monotonic() + _GRACE_S
    while process.poll() is None and time.monotonic() < deadline:
        if not reading.once(0.1):
            time.sleep(0.05)
    process.kill()
    process.wait()


class _Reading:
    """Both of its pipes: to the log as bytes, to whoever hears as lines."""

    def __init__(self, out: IO[bytes], err: IO[bytes], heard: Heard) -> None:
        self._heard = heard
        self._open = selectors.DefaultSelector()
        for pipe, log in ((out, 1), (err, 2)):
            os.set_blocking(pipe.fileno(), False)
            self._open.register(pipe, selectors.EVENT_READ, log)
        self._line = b""
        self._tails = {1: b"", 2: b""}

    def once(self, wait_s: float) -> bool:
        """Take what is there; False when both pipes are closed."""
        for key, _ in self._open.select(wait_s):
            data = os.read(key.fd, _AT_ONCE)
            if not data:
                self._open.unregister(key.fileobj)
                continue
            _write(key.data, data)
            self._tails[key.data] = (self._tails[key.data] + data)[-_TAIL_BYTES:]
            if key.data == 1:
                self._hear(data)
        return bool(self._open.get_map())

    def until(self, deadline: float) -> None:
        """Take what is left."""
        while time.monotonic() < deadline and self.once(0.05):
            pass
        self._hear(b"\n")

    def words(self) -> str:
        return (self._tails[2].strip() or self._tails[1].strip()).decode(errors="replace")

    def _hear(self, data: bytes) -> None:
        *lines, rest = (self._line + data).split(b"\n")
        for line in lines:
            self._heard.line(line[:_LONGEST_LINE].decode(errors="replace").strip("\r"))
        self._line = rest if len(rest) <= _LONGEST_LINE else b""


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
