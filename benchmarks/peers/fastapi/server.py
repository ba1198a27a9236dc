"""FastAPI on uvicorn as a careful person writes it: async, orjson, the model run inline; no framework for models.

With BENCH_BATCH=1 a micro-batcher of fifteen lines: what arrived in one turn of the event loop is run together, and
nothing waits for a timer.
"""

import asyncio

import numpy as np
import wire_rows
from fastapi import FastAPI, Request, Response
from onnx_model import BATCH, MAX_BATCH, MEDIA_TYPE, OnnxModel

app = FastAPI(openapi_url=None)
model = OnnxModel()


class Batcher:
    """Runs the rows that wait as one batch."""

    def __init__(self) -> None:
        self._waiting: list[tuple[np.ndarray, asyncio.Future]] = []

    async def __call__(self, rows: np.ndarray) -> np.ndarray:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._run)
        self._waiting.append((rows, future))
        return await future

    def _run(self) -> None:
        batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
        results = model(np.concatenate([rows for rows, _ in batch]))
        for index, (_, future) in enumerate(batch):
            if not future.cancelled():
                future.set_result(results[index : index + 1])
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._run)


batcher = Batcher()


@app.post("/predict")
async def predict(request: Request) -> Response:
    """One row in, one row out."""
    rows = wire_rows.read(model, await request.body())
    result = await batcher(rows) if BATCH else model(rows)
    return Response(wire_rows.write(result), media_type=MEDIA_TYPE)
