"""A server of an example's own ends with the example, whoever ends it and how; ``make`` stands above as in life."""

from __future__ import annotations

import os
import pty
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from modelport.sdk.endpoint import is_alive, local_server

EXAMPLES = Path(__file__).parents[2] / "examples"
TALK = """
while True:
    try:
        print("heard", input("talking\\n"), flush=True)
    except KeyboardInterrupt:
        print("stopped", flush=True)
    except EOFError:
        break
"""
EXAMPLE = f"""
import sys
sys.path.insert(0, {str(EXAMPLES)!r})
from own_server import in_front, own_server
with own_server("test") as environment:
    code = in_front([sys.executable, "talk.py"], environment)
sys.exit(code)
"""


class Person:
    """Somebody at a terminal who typed ``make``."""

    def __init__(self, folder: Path) -> None:
        (folder / "talk.py").write_text(TALK)
        (folder / "example.py").write_text(EXAMPLE)
        (folder / "Makefile").write_text(f"talk:\n\t@{sys.executable} example.py\n")
        self.folder = folder
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execvpe("make", ["make", "talk"], os.environ | {"TMPDIR": str(folder), "HOME": str(folder)})
        self.shown = ""

    def wait_for(self, words: str, seconds: float = 60) -> bool:
        deadline = time.monotonic() + seconds
        while words not in self.shown and (left := deadline - time.monotonic()) > 0:
            if select.select([self.terminal], [], [], left)[0]:
                self.shown += os.read(self.terminal, 1 << 16).decode()
        return words in self.shown

    def types(self, keys: str) -> None:
        os.write(self.terminal, keys.encode())

    def stops(self) -> bool:
        """Ctrl-C, and again where nothing comes: Python's ``input`` loses one between its prompt and its reading."""
        for _ in range(20):
            self.types("\x03")
            if self.wait_for("stopped", 3):
                return True
        return False

    def homes(self) -> list[Path]:
        return list(self.folder.glob("modelport-test-*"))


def has_ended(person: Person) -> None:
    """By Ctrl-D: all is well."""
    person.types("\x04")
    with pytest.raises(OSError):  # nobody has the terminal any more
        while True:
            person.shown += os.read(person.terminal, 1 << 16).decode()
    _, status = os.waitpid(person.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, person.shown
    assert "***" not in person.shown and "Traceback" not in person.shown


def has_closed_the_window(person: Person) -> None:
    os.close(person.terminal)
    os.waitpid(person.pid, 0)


def has_ended_make(person: Person) -> None:
    os.kill(person.pid, signal.SIGTERM)
    os.waitpid(person.pid, 0)


@pytest.mark.parametrize("end", [has_ended, has_closed_the_window, has_ended_make])
def test_it_ends_with_the_example_and_ctrl_c_is_for_the_talk(end: Callable[[Person], None], tmp_path: Path) -> None:
    person = Person(tmp_path)
    assert person.wait_for("talking"), person.shown
    assert person.stops(), person.shown
    person.types("again\n")
    assert person.wait_for("heard again"), person.shown
    (home,) = person.homes()
    server = local_server(home)
    assert server is not None
    end(person)
    deadline = time.monotonic() + 30
    while person.homes() or is_alive(server.pid):
        assert time.monotonic() < deadline, person.shown
        time.sleep(0.05)
