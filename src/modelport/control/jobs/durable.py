"""Durable execution: what has to be gone on with when the process comes back, whatever killed it. Imports DBOS.

One workflow per job: attempt, pause, attempt, until an attempt says that there is no next one. DBOS has a thread and an
event loop of its own here, and is imported when the first job comes. It gets ids of jobs only; every value it keeps is
JSON. Knows no process and no table.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Future
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.engine import make_url

if TYPE_CHECKING:
    from dbos import DBOS

#: Seconds until the next attempt; None when there is none.
Attempt = Callable[[str], Awaitable[float | None]]

T = TypeVar("T")
_NAME = "modelport"
#: Of the workflow below: DBOS goes on with what the same version began. A change of its steps is another version.
_WORKFLOW_VERSION = "1"
#: How often a job may be gone on with after the server died.
_MOST_RECOVERIES = 10_000
_OPEN_S = 60.0


class Durable:
    """The running engine of one server. Made once in a process: DBOS is global."""

    def __init__(self, url: str, server: str, attempt: Attempt) -> None:
        self._url, self._server, self._attempt = url, server, attempt
        self._home_loop = asyncio.get_running_loop()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opened: Future[None] | None = None
        self._closing: asyncio.Event | None = None
        self._workflow: Any = None

    async def open(self) -> None:
        """Start it, unless it has been; it goes on by itself with what a killed process left."""
        if self._opened is None:
            self._opened = Future()
            threading.Thread(target=lambda: asyncio.run(self._live()), name="durable", daemon=True).start()
        await asyncio.wrap_future(self._opened)

    async def tell(self, job_ids: Iterable[str]) -> None:
        """Have jobs run that it does not know yet; those that it knows are left alone."""
        wanted = list(job_ids)
        if wanted:
            await self.open()
            await self._there(self._start(wanted))

    async def forget(self, job_ids: list[str]) -> None:
        """Remove what it knows about ended jobs."""
        if job_ids and self._opened is not None:
            await self._there(self._delete(job_ids))

    async def close(self) -> None:
        """End it; attempts under way count as not made."""
        if self._opened is not None and self._loop is not None and self._closing is not None:
            self._loop.call_soon_threadsafe(self._closing.set)

    async def _there(self, work: Any) -> Any:
        assert self._loop is not None
        return await _on(self._loop, work)

    async def _live(self) -> None:
        """The thread's life. Launched from a running loop, DBOS runs every workflow on that loop."""
        assert self._opened is not None
        self._loop, self._closing = asyncio.get_running_loop(), asyncio.Event()
        try:
            from dbos import DBOS  # noqa: PLC0415  (0.3 s, and a server without jobs never needs it)

            self._launch(DBOS)
        except BaseException as error:
            self._opened.set_exception(error)
            return
        self._opened.set_result(None)
        await self._closing.wait()
        DBOS.destroy(workflow_completion_timeout_sec=0)

    def _launch(self, dbos: type[DBOS]) -> None:
        from dbos import DBOSConfig, Serializer  # noqa: PLC0415

        class Json(Serializer):
            """What is kept: never the library's own pickles."""

            def name(self) -> str:
                return "modelport_json"

            def serialize(self, data: Any) -> str:
                return json.dumps(data, default=repr)

            def deserialize(self, serialized_data: str) -> Any:
                return json.loads(serialized_data)

        async def attempt(job_id: str) -> float | None:
            return await _on(self._home_loop, self._here(job_id))

        @dbos.workflow(name="job", max_recovery_attempts=_MOST_RECOVERIES)
        async def job(job_id: str) -> None:
            while (pause := await dbos.run_step_async({"name": "attempt"}, attempt, job_id)) is not None:
                await dbos.sleep_async(pause)

        self._workflow = job
        config: DBOSConfig = {
            "name": _NAME,
            "system_database_url": self._url,
            "executor_id": self._server,
            "application_version": _WORKFLOW_VERSION,
            "serializer": Json(),
            "log_level": "ERROR",
            "enable_otlp": False,
        }
        dbos(config=config)
        quiet = logging.getLogger("dbos")
        quiet.handlers.clear()  # what it says goes where everything goes
        quiet.propagate = True
        dbos.launch()

    async def _here(self, job_id: str) -> float | None:
        return await self._attempt(job_id)

    async def _start(self, job_ids: list[str]) -> None:
        from dbos import DBOS, SetWorkflowID  # noqa: PLC0415

        for some in (job_ids[i : i + 500] for i in range(0, len(job_ids), 500)):
            known = {
                status.workflow_id
                for status in await DBOS.list_workflows_async(workflow_ids=some, load_input=False, load_output=False)
            }
            for job_id in some:
                if job_id not in known:
                    with SetWorkflowID(job_id):
                        await DBOS.start_workflow_async(self._workflow, job_id)

    async def _delete(self, job_ids: list[str]) -> None:
        from dbos import DBOS  # noqa: PLC0415

        for some in (job_ids[i : i + 500] for i in range(0, len(job_ids), 500)):
            await DBOS.delete_workflows_async(some)


def _on(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
    """Run a coroutine on another loop, outside the context of a workflow: what it begins is no part of one."""
    return asyncio.wrap_future(Context().run(asyncio.run_coroutine_threadsafe, work, loop))


def engine_url(database_url: str, home_url: str) -> str:
    """Where it keeps its own tables: beside the server's on PostgreSQL, in a file of its own on SQLite."""
    url = make_url(database_url)
    if url.get_backend_name() == "sqlite":
        return home_url
    return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
