"""Who is silent and does nothing is hung, soon; who works may be silent for a while; a late listener blames nobody."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from modelport.engine.placement.pulse import Pulse

Start = Callable[[str], int]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def run(code: str) -> int:
        started.append(subprocess.Popen([sys.executable, "-S", "-c", f"print(flush=True)\n{code}"], stdout=-1))
        assert started[-1].stdout is not None
        started[-1].stdout.readline()
        return started[-1].pid

    yield run
    for process in started:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def work(pid: int, seconds: float = 0.1) -> None:
    """Returns when the process has used so much more processor time."""
    used = psutil.Process(pid).cpu_times()
    while sum(psutil.Process(pid).cpu_times()[:2]) < used.user + used.system + seconds:
        time.sleep(0.01)


def test_silent_and_idle_is_hung(start: Start) -> None:
    pulse = Pulse(start("import time; time.sleep(1000)"), now=100)
    pulse.hung(100)  # what its start has used
    pulse.beat(101)
    assert pulse.hung(105.9) is None
    pulse.beat(105.9)
    assert pulse.hung(110.8) is None
    assert pulse.hung(111) == "has said and done nothing for 5 s"


def test_one_that_works_may_be_silent_but_not_for_ever(start: Start) -> None:
    pid = start("while True: pass")
    pulse = Pulse(pid, now=0)
    pulse.beat(0)
    for now in (4, 8, 12, 16):
        work(pid)
        assert pulse.hung(now) is None
    work(pid)
    assert pulse.hung(59) is None
    work(pid)
    assert pulse.hung(61) == "has said nothing for 60 s"


def test_one_that_is_stopped_in_the_middle_of_work_is_hung(start: Start) -> None:
    pid = start("while True: pass")
    pulse = Pulse(pid, now=0)
    work(pid)
    assert pulse.hung(6) is None
    psutil.Process(pid).suspend()
    pulse.hung(7)
    assert pulse.hung(13) is not None


def test_a_late_listener_blames_nobody(start: Start) -> None:
    pulse = Pulse(start("import time; time.sleep(1000)"), now=0)
    pulse.beat(1)
    pulse.forgive(3600)
    assert pulse.hung(3604) is None
    assert pulse.hung(3606) is not None


def test_the_first_word_may_take_as_long_as_imports_take(start: Start) -> None:
    pid = start("while True: pass")
    pulse = Pulse(pid, now=0)
    for now in range(0, 120, 4):
        work(pid, 0.06)
        assert pulse.hung(now) is None
    pulse.beat(118)
    work(pid)
    assert pulse.hung(177) is None
    work(pid)
    assert pulse.hung(179) is not None
