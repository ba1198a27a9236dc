"""A server of an example's own: on free ports, with all that it keeps in a temporary folder, and gone with the example.

However the example ends: by itself, by Ctrl-C, by ``kill``, with its terminal.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial

MODELPORT = [sys.executable, "-m", "modelport.cli.main"]
_ENDINGS = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)


@contextmanager
def own_server(name: str, keep: bool = False) -> Iterator[dict[str, str]]:
    """Gives the environment in which commands find it; ``keep`` leaves it up when all went well."""
    home = tempfile.mkdtemp(prefix=f"modelport-{name}-")
    environment = os.environ | {"MODELPORT_HOME": home}
    for variable in ("MODELPORT_URL", "MODELPORT_KEY"):
        environment.pop(variable, None)
    before = {ending: signal.signal(ending, _end) for ending in _ENDINGS}
    try:
        flags = ["--detach", "--port", "0", "--grpc-port", "0"]
        subprocess.run([*MODELPORT, "up", *flags], env=environment, check=True, stdout=subprocess.DEVNULL)
        yield environment
    except BaseException:
        keep = False
        raise
    finally:
        for ending in _ENDINGS:
            signal.signal(ending, signal.SIG_IGN)  # what is ended twice still tidies up; `down` has this from here
        if not keep:
            quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            subprocess.run([*MODELPORT, "down"], env=environment, check=False, **quiet)
            shutil.rmtree(home, ignore_errors=True)
        for ending, handler in before.items():
            signal.signal(ending, handler)


def _end(number: int, frame: object) -> None:
    sys.exit(128 + number)


def in_front(command: Sequence[str], environment: dict[str, str]) -> int:
    """Run a command that the person talks to; gives its exit status.

    Ctrl-C is for it alone, neither for this process nor for the ``make`` above: on a terminal it becomes the
    foreground. (A group of its own that is stopped would leave the terminal to nobody: Ctrl-Z does nothing there.)
    """
    if not _is_in_front():
        return subprocess.run(command, env=environment, check=False).returncode
    for stopping in (signal.SIGTSTP, signal.SIGTTOU):
        signal.signal(stopping, signal.SIG_IGN)
    # By itself, before it is the command: who reads a terminal that is another's is stopped, and stays so.
    to_the_front = partial(_take_terminal, sys.stdin.fileno())
    process = subprocess.Popen(command, env=environment, process_group=0, preexec_fn=to_the_front)  # noqa: PLW1509  (no threads here)
    try:
        return process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
        with suppress(OSError):  # the terminal was closed
            os.tcsetpgrp(sys.stdin.fileno(), os.getpgrp())


def _take_terminal(terminal: int) -> None:
    os.tcsetpgrp(terminal, os.getpgrp())


def _is_in_front() -> bool:
    """Whether what is typed comes here."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except OSError:  # no terminal, or not ours
        return False
