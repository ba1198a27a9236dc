"""One tree for the scenarios that leave it well, and the table that ``make chaos`` prints at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.chaos import naps
from tests.services.conftest import Server

_COLUMNS = ("scenario", "sent", "answered", "retried", "failed", "longest gap", "notes")
_HEAD = f"{_COLUMNS[0]:<44}{_COLUMNS[1]:>9}{_COLUMNS[2]:>10}{_COLUMNS[3]:>9}{_COLUMNS[4]:>8}{_COLUMNS[5]:>13}  {_COLUMNS[6]}"

Line = Callable[..., None]


@pytest.fixture(scope="session")
def plugged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a server that has the runtimes of the scenarios."""
    return {"PYTHONPATH": naps.installed(tmp_path_factory.mktemp("site") / "plugins")}


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory, plugged: dict[str, str]) -> Iterator[Server]:
    """A server with default settings."""
    found = Server(tmp_path_factory.mktemp("chaos") / "home", env=plugged).start()
    yield found
    found.stop()


@pytest.fixture
def line(record_property: Callable[[str, Any], None]) -> Line:
    """Prints one line of the table, and keeps it for the end."""

    def write(
        scenario: str, sent: int, answered: int, failed: int, retried: float | None = None,
        gap_s: float | None = None, notes: str = "",
    ) -> None:  # fmt: skip
        shown = "-" if retried is None else f"{retried:.0f}"
        gap = "-" if gap_s is None else f"{gap_s:.2f} s"
        text = f"{scenario:<44}{sent:>9}{answered:>10}{shown:>9}{failed:>8}{gap:>13}  {notes}"
        print(text)
        record_property("chaos", text)

    return write


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The whole table."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    lines = [
        value
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in report.user_properties
        if name == "chaos"
    ]
    if lines:
        terminalreporter.write_sep("=", "chaos")
        for text in (_HEAD, *lines):
            terminalreporter.write_line(text)
