"""What every peer shares, so that only the servers differ: the benchmark's settings, and ONNX Runtime on one thread.

As a program it is the limit that no server passes: runs of the model in a loop.

    BENCH_FILE=m1.onnx python onnx_model.py BATCH SECONDS      prints rows per second
"""

import os
import sys
import time

import numpy as np
import onnxruntime

MODEL = os.environ.get("BENCH_MODEL", "m1")  # which of the three; m1 comes as JSON, the others as raw float32
FILE = os.environ.get("BENCH_FILE", "")  # the .onnx file
PORT = int(os.environ.get("BENCH_PORT", "8000"))
WORKERS = int(os.environ.get("BENCH_WORKERS", "1"))
BATCH = os.environ.get("BENCH_BATCH") == "1"
MAX_BATCH, WAIT_MS = 32, 2
JSON, RAW = "application/json", "application/octet-stream"
MEDIA_TYPE = JSON if MODEL == "m1" else RAW


class OnnxModel:
    """A batch of rows in, a batch of rows out."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(FILE, options, providers=["CPUExecutionProvider"])
        self.row_shape = tuple(self._session.get_inputs()[0].shape[1:])

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return self._session.run(None, {"input": rows})[0]

    def from_raw(self, body: bytes) -> np.ndarray:
        """The rows of a raw body; no copy."""
        return np.frombuffer(body, np.float32).reshape(-1, *self.row_shape)


def rows_per_second(batch: int, seconds: float) -> float:
    """How fast the model alone is, called in a loop."""
    model = OnnxModel()
    rows = np.random.default_rng(0).random((batch, *model.row_shape), dtype=np.float32)
    model(rows)
    count, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        model(rows)
        count += batch
    return count / spent


if __name__ == "__main__":
    print(rows_per_second(int(sys.argv[1]), float(sys.argv[2])))
