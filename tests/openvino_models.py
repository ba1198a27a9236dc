"""OpenVINO networks, made by its own operations."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np


def weights() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(5)
    return random.normal(size=(4, 3)).astype(np.float32), random.normal(size=3).astype(np.float32)


def dense(folder: Path, labels: list[str] | None = None, name: str = "model.xml") -> tuple[str, ...]:
    """``softmax(x @ W + b)`` for ``x`` FP32 [-1, 4], with three classes, as ``scores``."""
    import openvino
    from openvino import opset13 as ops

    weight, bias = weights()
    given = ops.parameter([-1, 4], np.float32, name="x")
    given.output(0).get_tensor().set_names({"x"})
    scores = ops.softmax(ops.add(ops.matmul(given, ops.constant(weight), False, False), ops.constant(bias)), 1)
    scores.output(0).get_tensor().set_names({"scores"})
    model = openvino.Model([scores], [given], "dense")
    if labels is not None:
        model.set_rt_info(json.dumps(labels), ["modelport", "labels"])
    openvino.save_model(model, folder / name, compress_to_fp16=False)
    return tuple(sorted(path.name for path in folder.iterdir()))


def softmax(rows: np.ndarray) -> np.ndarray:
    weight, bias = weights()
    raised = np.exp(rows @ weight + bias)
    return raised / raised.sum(1, keepdims=True)
