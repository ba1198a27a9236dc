"""How results look on a terminal: tables, facts, JSON, progress, one red line for an error.

Colour only on a terminal; what is piped stays plain text, one thing per line. Knows no server.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from modelport.schemas.deployments import Deployment

_STYLES = {
    "ready": "green",
    "stopped": "dim",
    "failed": "red",
    "degraded": "yellow",
    "starting": "cyan",
    "updating": "cyan",
    "draining": "cyan",
    "succeeded": "green",
    "running": "cyan",
    "queued": "dim",
    "cancelled": "yellow",
}


def console(stderr: bool = False) -> Console:
    """A rich console that wraps at the terminal's width, and nowhere when there is none."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, markup=False, width=None if stream.isatty() else 10_000)


def make_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """A table without frames; a cell that is a known state gets its colour."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        cells = [plain(cell) for cell in row]
        made.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in cells))
    return made


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], empty: str) -> None:
    """Print a table, or one line when there is nothing in it."""
    console().print(make_table(columns, rows)) if rows else say(empty)


def facts(pairs: Iterable[tuple[str, Any]]) -> None:
    """Print names and values below one another, without those that are empty."""
    shown = [(name, plain(value)) for name, value in pairs if value not in (None, "", [], {})]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        say(f"{name:<{width}}  {value}")


def as_json(value: Any) -> None:
    """Print schemas, or lists and dicts of them, as JSON."""
    import orjson

    def jsonable(found: Any) -> Any:
        return found.model_dump(mode="json") if hasattr(found, "model_dump") else str(found)

    options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY
    say(orjson.dumps(value, default=jsonable, option=options).decode())


def say(text: str) -> None:
    """Print plain text."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def fail(message: str) -> None:
    """One line to standard error, red on a terminal (and the further lines that the message brings)."""
    first, _, rest = message.partition("\n")
    red, end = ("\x1b[31m", "\x1b[0m") if sys.stderr.isatty() else ("", "")
    sys.stderr.write(f"{red}error: {plain(first)}{end}\n" + (rest + "\n" if rest else ""))


def plain(value: Any) -> str:
    """A value as one line, without what could steer a terminal."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, dict):
        value = ", ".join(f"{key}={entry}" for key, entry in value.items()) or "-"
    elif isinstance(value, list | tuple):
        value = ", ".join(str(entry) for entry in value) or "-"
    return "".join(c if c.isprintable() else " " for c in str(value))


def bytes_text(count: int | float) -> str:
    """``38.2 kB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("GB is the last unit")


def counted(count: int, noun: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def seconds_text(seconds: float | None) -> str:
    """``3h 5m``."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days}d {hours}h" if days else f"{hours}h {minutes}m" if hours else f"{minutes}m {rest}s"


@contextmanager
def transfer_bar() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar per stage of a push or pull, on standard error; nothing when that is no terminal."""
    if not sys.stderr.isatty():
        yield lambda stage, done, total: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<8}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        tasks: dict[str, Any] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done, total=total)

        yield show


@contextmanager
def working(what: str) -> Iterator[None]:
    """``what`` beside a spinner on standard error, for work that cannot say how far it is; nothing when no terminal."""
    if not sys.stderr.isatty():
        yield
        return
    with console(stderr=True).status(plain(what)):
        yield


@contextmanager
def changing_line() -> Iterator[Callable[[str], None]]:
    """One line of standard error that is written anew; nothing when that is no terminal. Cheaper than a spinner."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    width = console(stderr=True).width - 1

    def show(text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{plain(text)[:width]}")
        sys.stderr.flush()

    try:
        yield show
    finally:
        show("")


@contextmanager
def deployment_spinner() -> Iterator[Callable[[Deployment], None]]:
    """What a deployment is doing, on one line of standard error that changes; nothing when that is no terminal."""
    if not sys.stderr.isatty():
        yield lambda deployment: None
        return
    with console(stderr=True).status("deploying") as spinner:

        def show(found: Deployment) -> None:
            ready = f"{found.replicas_ready}/{found.spec.replicas} replicas ready"
            reason = f": {plain(found.reason)}" if found.reason else ""
            spinner.update(f"{found.name} revision {found.revision} is {found.state}, {ready}{reason}")

        yield show
