"""Latency against load on a terminal: progress, a table, and bars of Unicode blocks. Knows figures and a width only."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from modelport.bench.figures import Figures
    from modelport.bench.record import Record

F = TypeVar("F", bound="Figures")
_BLOCKS = (("p50", "█"), ("p90", "▓"), ("p99", "▒"), ("p99.9", "░"))
_WIDEST = 100


class Progress:
    """What is measured now, for how long still, and how it goes."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show, self._what = show, ""

    def note(self, what: str) -> None:
        """Something begins."""
        self._what = what
        self._show(what)

    def watch(self, record: Record) -> None:
        """It goes on."""
        now = time.perf_counter()
        left = f"{record.end - now:.0f} s left" if now < record.end else "waiting for the last answers"
        text = f"{self._what}: {left}, {record.answers:,} answers"
        if failed := record.refused + record.errors.total():
            text += f", {failed:,} failed ({record.last_error})"
        self._show(text)


def table(steps: Sequence[Figures]) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows; what no step has (the server's own figures) is no column."""
    columns = ["LOAD", "OFFERED", "ACHIEVED", "OK", "429", "ERRORS"]
    columns += [name.upper() for name, _ in _BLOCKS] + ["MAX"]
    has_server = any(step.batch_rows is not None for step in steps)
    rows: list[list[Any]] = []
    for step in steps:
        row = [step.load, _rate(step.offered), _rate(step.achieved), step.ok, step.refused, step.failed]
        row += [number(step.latency_ms[name]) for name in (*(name for name, _ in _BLOCKS), "max")]
        rows.append(row + ([number(step.batch_rows), number(step.queue_ms)] if has_server else []))
    return columns + (["BATCH", "QUEUE"] if has_server else []), rows


def number(value: float | None) -> str:
    """Three digits or so."""
    if value is None:
        return "-"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _rate(value: float) -> str:
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _latency(step: Figures) -> dict[str, float | None]:
    return step.latency_ms


def bars(
    steps: Sequence[F],
    width: int,
    title: str = "latency",
    times_of: Callable[[F], dict[str, float | None]] = _latency,
) -> list[str]:
    """Percentiles on a logarithmic scale, then achieved beside offered load; empty where there are no times."""
    times = [value for step in steps for name, _ in _BLOCKS if (value := times_of(step)[name]) is not None]
    if not times:
        return []
    left = max(len(title), *(len(step.load) for step in steps)) + 2
    room = max(20, min(width, _WIDEST) - left - 14)
    low, high = math.floor(math.log10(max(min(times), 1e-3) / 1.5)), math.ceil(math.log10(max(*times, 1e-3)))
    high = max(high, low + 1)

    def place(value: float) -> int:
        return round(room * (math.log10(max(value, 10**low)) - low) / (high - low))

    names = "  ".join(f"{block} {name}" for name, block in _BLOCKS)
    lines = [f"{title:<{left}}{names}"]
    for step in steps:
        bar = ""
        for name, block in _BLOCKS:
            if (value := times_of(step)[name]) is not None:
                bar += block * (place(value) - len(bar))
        lines.append(f"{step.load:<{left}}{bar}")
    scale = [" "] * (room + 10)
    for power in range(low, high + 1):
        text = f"╵{10**power:g} ms"
        start = place(10**power)
        scale[start : start + len(text)] = text
    lines += [" " * left + "".join(scale).rstrip(), ""]
    lines.append(f"{'load':<{left}}█ achieved  · offered, requests/s")
    most = max(max(step.offered, step.achieved) for step in steps) or 1
    for step in steps:
        got = round(room * step.achieved / most)
        missing = max(0, round(room * step.offered / most) - got)
        lines.append(f"{step.load:<{left}}{'█' * got}{'·' * missing} {_rate(step.achieved)}")
    return [*lines, ""]
