"""Follows a job on the terminal until it ends: a bar with rate and time left, for a pipeline its stages, and curves of
the figures that it tells.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import typer

from modelport.cli.render import console, make_table, plain, say, seconds_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from modelport.schemas.jobs import Job, JobMetric
    from modelport.sdk.client import Client

    TableOf = Callable[[Job, Iterable[JobMetric]], tuple[list[str], list[list[Any]]]]

_INTERRUPTED = 130
#: Kinds of jobs that tell figures step by step.
_LEARNING = ("train", "tune")
_FIGURES_EVERY_S = 1.0
_MOST_FIGURES = 8
_TABLE_EVERY_S, _MOST_METRICS = 2.0, 100_000


def follow(client: Client, job_id: str) -> Job:
    """Wait until a job has ended, and show how far it is; raises JobFailed when it did not succeed.

    Ctrl-C ends the following only: the job goes on.
    """
    try:
        if not sys.stderr.isatty():
            return client.jobs.wait(job_id)
        return _drawn(client, job_id)
    except KeyboardInterrupt:
        sys.stderr.write(
            f"\njob {job_id} goes on; `modelport jobs show {job_id}` shows it, "
            f"`modelport jobs cancel {job_id}` ends it\n"
        )
        raise typer.Exit(_INTERRUPTED) from None


def with_table(client: Client, job: Job, table: TableOf, shows: str = "") -> Job:
    """Wait until a job has ended; on a terminal with a table of what it has told so far."""
    if not sys.stderr.isatty():
        return follow(client, job.id)
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    looked: list[float] = []

    def look(job: Job) -> None:
        if looked and time.monotonic() - looked[-1] < _TABLE_EVERY_S:
            return
        looked[:] = [time.monotonic()]
        columns, rows = table(job, client.jobs.metrics(job.id, limit=_MOST_METRICS))
        said = plain(job.message or (job.progress.message if job.progress else ""))
        line = Text(f"{job.kind} {job.state}  {count_text(job)}  {said}")
        live.update(Group(make_table(columns, rows), line), refresh=True)

    try:
        with Live(console=console(stderr=True), transient=True, auto_refresh=False) as live:
            return client.jobs.wait(job.id, progress=look)
    except KeyboardInterrupt:
        sys.stderr.write(f"\njob {job.id} goes on; `{shows or f'modelport jobs show {job.id}'}` shows it\n")
        raise typer.Exit(_INTERRUPTED) from None


def detached(job: Job) -> None:
    """What is said when nobody waits for a job."""
    say(job.id)
    sys.stderr.write(f"{job.kind} is {job.state}; follow it: modelport jobs logs {job.id} -f\n")


def _drawn(client: Client, job_id: str) -> Job:
    from rich.console import Group
    from rich.live import Live
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    columns = (
        SpinnerColumn(finished_text=" "),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[count]}", markup=False),
        TextColumn("{task.fields[left]}", markup=False),
    )
    bars: dict[str, Any] = {}
    progress = Progress(*columns)
    curves = _Curves(client)
    draw = _drawer(progress, bars)

    def look(job: Job) -> None:
        draw(job, job.kind)
        learning = job if job.kind in _LEARNING else None
        if job.kind == "pipeline":
            for stage in reversed(client.jobs.list(run=job.id, limit=1000)):
                draw(stage, f"  {stage.stage}")
                learning = stage if stage.kind in _LEARNING and stage.state == "running" else learning
        if learning is not None:
            curves.look(learning.id)

    shown = Live(
        get_renderable=lambda: Group(progress, *curves.lines),
        console=console(stderr=True), transient=True, refresh_per_second=8,
    )  # fmt: skip
    with shown:
        return client.jobs.wait(job_id, progress=look)


class _Curves:
    """The figures of the job that learns now, as lines of blocks."""

    def __init__(self, client: Client) -> None:
        self._client, self._looked_at = client, 0.0
        self.lines: list[Any] = []

    def look(self, job_id: str) -> None:
        """Ask for them, not too often."""
        if time.monotonic() - self._looked_at < _FIGURES_EVERY_S:
            return
        self._looked_at = time.monotonic()
        from rich.text import Text

        from modelport.cli.curves import by_name, line

        found = by_name(self._client.jobs.metrics(job_id, limit=5000))
        width = max((len(name) for name in found), default=0)
        self.lines = [
            Text(f"  {plain(name):<{width}}  {line([value for _, value in points])}  {points[-1][1]:.4g}")
            for name, points in list(found.items())[:_MOST_FIGURES]
        ]


def _drawer(progress: Any, bars: dict[str, Any]) -> Callable[[Job, str], None]:
    def draw(job: Job, name: str) -> None:
        if job.id not in bars:
            bars[job.id] = progress.add_task(name, total=None, count="", left="")
        told = job.progress
        done, total = (told.done, told.total) if told is not None else (0.0, None)
        if job.has_ended:
            total = done = total or done or 1
        said = job.message or (told.message if told is not None else "")
        progress.update(
            bars[job.id],
            description=f"{name} {job.state}" + (f" (attempt {job.attempt})" if job.attempt > 1 else ""),
            completed=done,
            total=total,
            count=count_text(job),
            left=plain(said)[:60] if said else "",
        )

    return draw


def count_text(job: Job) -> str:
    """``1200/5000 rows, 300/s, 12s left``."""
    told = job.progress
    if told is None:
        return ""
    whole = f"{told.done:g}" + (f"/{told.total:g}" if told.total is not None else "")
    rate = f", {told.rate:.3g}/s" if told.rate and not job.has_ended else ""
    left = f", {seconds_text(told.eta_s)} left" if told.eta_s is not None and not job.has_ended else ""
    return f"{whole} {plain(told.unit)}{rate}{left}"
