"""One tree for the scenarios that leave it well, and the table that ``make chaos`` prints at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.chaos import naps
from tests.chaos.callers import Callers
from tests.services.conftest import Server

_HEAD = f"{'scenario':<46}{'sent':>9}{'answered':>10}{'retried':>9}{'failed':>8}{'longest gap':>13}  notes"

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

    def write(scenario: str, callers: Callers, notes: str = "") -> None:
        text = (
            f"{scenario:<46}{callers.total('sent'):>9}{callers.total('answered'):>10}{callers.retried:>9.0f}"
            f"{callers.failed:>8}{callers.longest_gap_s:>11.2f} s  {notes}"
        )
        print(text)
        for group, why in callers.failures.items():
            print("   ", group, why)
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
