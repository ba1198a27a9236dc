"""LitServe: FastAPI processes in front, worker processes behind a queue. Raw bodies come by a FastAPI dependency."""

from typing import Annotated

import litserve
import numpy as np
import wire_rows
from fastapi import Depends, Request, Response
from onnx_model import BATCH, MAX_BATCH, MEDIA_TYPE, MODEL, PORT, WAIT_MS, WORKERS, OnnxModel


async def raw_body(request: Request) -> bytes:
    """The body as it came: LitServe itself reads JSON and forms only."""
    return await request.body()


class Inference(litserve.LitAPI):
    """One row a request."""

    def setup(self, device: str) -> None:
        self.model = OnnxModel()

    def decode_request(self, request: Annotated[bytes, Depends(raw_body)]) -> np.ndarray:
        return wire_rows.read(self.model, request)

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        return np.concatenate(inputs)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.model(x)

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        return [output[index : index + 1] for index in range(len(output))]

    def encode_response(self, output: np.ndarray) -> Response:
        return Response(wire_rows.write(output), media_type=MEDIA_TYPE)


if __name__ == "__main__":
    batching = {"max_batch_size": MAX_BATCH, "batch_timeout": WAIT_MS / 1000} if BATCH else {}
    # With two cores a tiny model gains more by a second HTTP process, a large one by a second worker.
    fronts, workers = (WORKERS, 1) if MODEL == "m1" else (1, WORKERS)
    server = litserve.LitServer(Inference(**batching), accelerator="cpu", workers_per_device=workers, timeout=60)
    server.run(host="127.0.0.1", port=PORT, num_api_servers=fronts, generate_client_file=False, log_level="warning")
