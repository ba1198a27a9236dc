"""mosec: an HTTP front in Rust that hands requests to worker processes; batches of 32 with a 2 ms timer if asked."""

import numpy as np
import wire_rows
from mosec import Server, Worker
from onnx_model import BATCH, MAX_BATCH, MEDIA_TYPE, WAIT_MS, WORKERS, OnnxModel


class Inference(Worker):
    """One row a request."""

    resp_mime_type = MEDIA_TYPE

    def __init__(self) -> None:
        super().__init__()
        self.model = OnnxModel()

    def deserialize(self, data: bytes) -> np.ndarray:
        return wire_rows.read(self.model, data)

    def serialize(self, data: np.ndarray) -> bytes:
        return wire_rows.write(data)

    def forward(self, data: np.ndarray) -> np.ndarray:
        return self.model(data)


class BatchedInference(Inference):
    """As many rows as came within the timer."""

    def forward(self, data: list[np.ndarray]) -> list[np.ndarray]:
        results = self.model(np.concatenate(data))
        return [results[index : index + 1] for index in range(len(data))]


if __name__ == "__main__":
    server = Server()
    if BATCH:
        server.append_worker(BatchedInference, num=WORKERS, max_batch_size=MAX_BATCH, max_wait_time=WAIT_MS)
    else:
        server.append_worker(Inference, num=WORKERS)
    server.run()
