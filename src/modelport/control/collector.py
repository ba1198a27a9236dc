"""Collects garbage by itself: each project's, whenever its last collection lies an interval back; old jobs, and
files whose time is over.

When that was stands in the audit, so that restarts, and other servers on the same database, do not count. What a
running push has sent is kept by the grace time of blobs, as in a collection by hand. Knows no HTTP and no clock of
its own but the database's rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import func, select

from modelport.control.actors import Actor
from modelport.control.registry import Registry
from modelport.errors import ModelportError
from modelport.storage import tables
from modelport.storage.database import Database
from modelport.telemetry import log

_LONGEST_TICK_S = 3600.0
_SHORTEST_TICK_S = 1.0


class Collector:
    """The loop."""

    def __init__(
        self,
        database: Database,
        registry: Registry,
        interval_s: float,
        prune_jobs: Callable[[], int] = lambda: 0,
        sweep_files: Callable[[], int] = lambda: 0,
    ) -> None:
        self._database, self._registry, self._prune_jobs = database, registry, prune_jobs
        self._sweep_files = sweep_files
        self._interval = timedelta(seconds=interval_s)
        self._tick_s = min(_LONGEST_TICK_S, max(_SHORTEST_TICK_S, (interval_s or _LONGEST_TICK_S) / 10))

    async def run(self) -> None:
        """For ever; with an interval of 0 only old jobs and files are collected."""
        while True:
            await asyncio.sleep(self._tick_s)
            try:
                if removed := await asyncio.to_thread(self._prune_jobs):
                    log("jobs_removed", count=removed)
                if removed := await asyncio.to_thread(self._sweep_files):
                    log("files_expired", count=removed)
                if self._interval:
                    await asyncio.to_thread(self.collect_due)
            except Exception as error:  # the database or the store is away: the next tick tries again
                message = error.message if isinstance(error, ModelportError) else type(error).__name__
                log("gc_waits", error=message)

    def collect_due(self) -> list[str]:
        """Collect in every project that is due; returns their names."""
        due = [actor for actor, last in self._projects() if last + self._interval <= tables.now()]
        for actor in due:
            report = self._registry.gc(actor)
            log("gc", project=actor.project, blobs=report.blobs, environments=report.environments, bytes=report.bytes)
        return [actor.project for actor in due]

    def _projects(self) -> list[tuple[Actor, datetime]]:
        """Every project, with the time of its last collection (of its beginning, when there was none)."""
        project, audit = tables.Project, tables.Audit
        query = (
            select(project.id, project.name, project.created_at, func.max(audit.at))
            .outerjoin(audit, (audit.project_id == project.id) & (audit.action == "gc.run"))
            .group_by(project.id, project.name, project.created_at)
        )
        with self._database.reading() as session:
            return [
                (Actor(project_id, name, "schedule", "admin"), max(created_at, last or created_at))
                for project_id, name, created_at, last in session.execute(query)
            ]
