"""Ray Serve with its settings for throughput; ``@serve.batch`` for m3. Started by itself, without a dashboard."""

import os

os.environ.update(RAY_SERVE_THROUGHPUT_OPTIMIZED="1", RAY_USAGE_STATS_ENABLED="0", RAY_SERVE_LOG_TO_STDERR="0")

import signal
import time

import numpy as np
import ray
import wire_rows
from onnx_model import BATCH, MAX_BATCH, MEDIA_TYPE, PORT, WAIT_MS, WORKERS, OnnxModel
from ray import serve
from starlette.requests import Request
from starlette.responses import Response


@serve.deployment(
    num_replicas=WORKERS,
    max_ongoing_requests=256,
    ray_actor_options={"num_cpus": 0.1},
    logging_config={"enable_access_log": False, "log_level": "WARNING"},
)
class Inference:
    """One row a request."""

    def __init__(self) -> None:
        self.model = OnnxModel()

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=WAIT_MS / 1000)
    async def batched(self, requests: list[np.ndarray]) -> list[np.ndarray]:
        results = self.model(np.concatenate(requests))
        return [results[index : index + 1] for index in range(len(requests))]

    async def __call__(self, request: Request) -> Response:
        rows = wire_rows.read(self.model, await request.body())
        result = await self.batched(rows) if BATCH else self.model(rows)
        return Response(wire_rows.write(result), media_type=MEDIA_TYPE)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0) if ray.shutdown() is None else None)
    environment = {"env_vars": {k: v for k, v in os.environ.items() if k.startswith(("BENCH_", "PYTHONPATH", "RAY_S"))}}
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, runtime_env=environment)
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(Inference.bind(), route_prefix="/predict")
    while True:
        time.sleep(3600)
