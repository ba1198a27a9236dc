"""One attempt at batch inference: replicas, shards that are not done yet, rows in, results out.

A run of the model has the same rows at every attempt, and no others, so that its results have the same bits. Rows of a
run that the model refuses are run again one by one, to find whose fault it was.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelport.control.work import made
from modelport.control.work.replicas import Wish, files_of, start
from modelport.engine.dataplane import DataPlane, Endpoint
from modelport.engine.local import LocalReplicas
from modelport.engine.requests import InferRequest
from modelport.engine.routing import Route, RoutingTable
from modelport.errors import InvalidInput, ModelRejectedInput, Overloaded, RunFailed
from modelport.schemas.models import Manifest
from modelport.schemas.predictions import PredictParams

if TYPE_CHECKING:
    from modelport.control.jobs.run import JobRun

_DEADLINE_S = 30 * 86_400.0
_UNDER_WAY = 2
"""Runs for each worker that are under way or next in line."""
_AGAIN_S = 0.05
_ADVICE = "correct it, or write such rows with --on-error record"
_log = logging.getLogger(__name__)


class Predictor:
    """The work of one attempt."""

    def __init__(
        self, run: JobRun, params: PredictParams, manifest: Manifest, binding: Any, wanted: Any,
        files: Path | None = None, advice: str = _ADVICE,
    ) -> None:  # fmt: skip
        """``files``: the folder of a version that is not registered; ``advice`` ends what is said of a refused row."""
        self._run, self._params, self._manifest = run, params, manifest
        self._folder, self._advice = files, advice
        self._binding, self._wanted = binding, wanted
        self._reading = made.room("model_inputs")
        self._data_schema: Any = None
        self._learnt: Callable[[], None] = lambda: None
        self._plane = DataPlane()
        self._room = asyncio.Semaphore(params.workers * _UNDER_WAY)
        self._done_rows = 0
        self._total = 0

    async def run(self, parts: list[Path], put: Callable[[int, Path], None], learnt: Callable[[], None]) -> None:
        """All shards: each made, put where it is wanted, noted."""
        writing = made.room("writing")
        self._total = sum(writing.rows_in(part) for part in parts)
        size = self._params.shard_rows
        notes, files = self._run.folder / "shards", self._run.folder / "parts"
        for folder in (notes, files):
            folder.mkdir(exist_ok=True)
        numbers = range(-(-self._total // size))
        todo = [number for number in numbers if not (notes / f"{number:05}.json").exists()]
        self._done_rows = sum(min(size, self._total - n * size) for n in numbers) - sum(
            min(size, self._total - n * size) for n in todo
        )
        if not todo:
            return
        self._told("starting the model")
        replicas = await self._start()
        try:
            self._learnt = learnt
            endpoint = self._plane.find("default", self._manifest.model)
            self._told()
            await self._shards(endpoint, parts, todo, put)
        finally:
            self._plane.close()
            replicas.close(signal.SIGKILL)

    # Replicas

    async def _start(self) -> LocalReplicas:
        """The replicas, one of them ready; this process works in their folder from now on."""
        run, params = self._run, self._params
        files: Path = await asyncio.to_thread(self._files)
        wish = Wish(params.workers, params.threads, params.batch, params.timeout_s)
        return await start(run, self._manifest, files, wish, run.folder / "replicas", self._publish, self._told)

    def _files(self) -> Path:
        return self._folder if self._folder is not None else files_of(self._run, self._manifest)

    async def _publish(self, number: int, route: Route) -> None:
        await self._plane.update(RoutingTable(number, (route,)))

    # Shards

    async def _shards(
        self, endpoint: Endpoint, parts: list[Path], todo: list[int], put: Callable[[int, Path], None]
    ) -> None:
        rows = self._params.batch if endpoint.route.batching and self._binding.has_rows else 1
        columns = list(dict.fromkeys((*self._wanted.beside, *self._binding.columns)))
        pieces = made.room("shards").pieces(parts, columns, todo, self._params.shard_rows, rows)
        piece = await asyncio.to_thread(next, pieces, None)
        for number in todo:
            file = self._run.folder / "parts" / f"part-{number:05}.parquet"
            table = made.room("predictions").ShardTable(self._wanted)
            count, running = 0, set[asyncio.Task[None]]()
            try:
                while piece is not None and piece.shard == number:
                    await self._room.acquire()
                    table.data(piece.offset, piece.rows)
                    count += len(piece.rows)
                    task = asyncio.create_task(self._piece(endpoint, table, number, piece))
                    running.add(task)
                    task.add_done_callback(lambda _: self._room.release())
                    for ended in [one for one in running if one.done()]:
                        ended.result()
                        running.discard(ended)
                    piece = await asyncio.to_thread(next, pieces, None)
                await asyncio.gather(*running)
            finally:
                for task in running:
                    task.cancel()
            await asyncio.to_thread(self._finish, number, table, count, file, put)

    def _finish(self, number: int, table: Any, rows: int, file: Path, put: Callable[[int, Path], None]) -> None:
        """A whole shard: written, put where it is wanted, noted in this order."""
        predictions = made.room("predictions")
        first = number * self._params.shard_rows
        found = table.table(first, rows, predictions.schema_of(self._wanted, self._data_schema))
        shard = predictions.write_shard(found, file, len(table.errors))
        put(number, file)
        note = self._run.folder / "shards" / f"{number:05}.json"
        made.write_whole(note, shard.model_dump(mode="json"))
        if self._params.to is not None and not self._params.to.startswith("dataset:"):
            file.unlink()

    # Rows

    async def _piece(self, endpoint: Endpoint, table: Any, number: int, piece: Any) -> None:
        """A few rows, which are run together where they can be."""
        batches, wrong = await asyncio.to_thread(
            self._reading.read, self._binding, piece.rows, self._params.nulls == "nan"
        )
        self._data_schema = piece.rows.schema
        for place, why in sorted(wrong.items()):
            self._refused(table, number, piece, place, why)
        for batch in batches:
            try:
                outputs = await self._infer(endpoint, batch)
                self._take(table, piece, batch, outputs)
            except (InvalidInput, RunFailed) as error:
                if len(batch.rows) == 1:
                    self._refused(table, number, piece, int(batch.rows[0]), error.message)
                    continue
                await self._one_by_one(endpoint, table, number, piece, batch)
        self._done_rows += len(piece.rows)
        self._told()

    async def _one_by_one(self, endpoint: Endpoint, table: Any, number: int, piece: Any, batch: Any) -> None:
        for alone in self._reading.alone(batch):
            try:
                self._take(table, piece, alone, await self._infer(endpoint, alone))
            except (InvalidInput, RunFailed) as error:
                self._refused(table, number, piece, int(alone.rows[0]), error.message)

    def _take(self, table: Any, piece: Any, batch: Any, outputs: dict[str, Any]) -> None:
        if self._wanted.learn(outputs):
            self._learnt()
        table.answered(batch.rows + piece.offset, self._wanted.by_row(outputs, len(batch.rows)))

    async def _infer(self, endpoint: Endpoint, batch: Any) -> dict[str, Any]:
        while True:
            deadline = time.monotonic() + _DEADLINE_S
            request = InferRequest(self._reading.tensors(self._binding, batch), deadline=deadline, alone=True)
            try:
                return (await self._plane.infer(endpoint, request)).outputs
            except Overloaded:  # replicas died and what they had waits again
                await asyncio.sleep(_AGAIN_S)

    def _refused(self, table: Any, number: int, piece: Any, place: int, why: str) -> None:
        """Note what is wrong with a row, or end the job naming it."""
        at = piece.offset + place
        if self._params.on_error == "record":
            table.errors[at] = why[:1000]
            return
        row = number * self._params.shard_rows + at
        ids = ", ".join(f"{name} {piece.rows.column(name)[place].as_py()!r}"[:100] for name in self._params.id)
        raise ModelRejectedInput(f"row {row}{f' ({ids})' if ids else ''}: {why[:500]}; {self._advice}")

    def _told(self, message: str = "predicting") -> None:
        self._run.progress(self._done_rows, self._total, message)
