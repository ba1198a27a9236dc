"""A plug-in whose models take a known time and no processor: they sleep, and give back what they got.

So a model of 10 ms is one of 10 ms on a machine of two cores too, where clients, gateways and replicas share them.
The artifacts are ONNX models, which say the shapes; a deployment chooses the runtime ``nap`` (or ``words``, of
``tests.streaming``) by name. Both enter by the real door, an installed entry point.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper

from modelport.engine.runtime import LoadOptions, Runtime
from modelport.tensors import Array
from tests import onnx_models, streaming

MILLISECONDS = "NAP_MS"
DEADLY = -1.0
"""This and lower values kill the process that runs them."""
_SHAPES: dict[str, tuple[int, int]] = {"row": (-1, 1), "alone": (1, 1), "wide": (1, -1)}


class NapRuntime(Runtime):
    """Sleeps, then answers with its input; ``DEADLY`` ends it."""

    name = "nap"
    platform = "nap_v1"

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    @classmethod
    def load(cls, options: LoadOptions) -> NapRuntime:
        return cls(float(os.environ[MILLISECONDS]) / 1e3)

    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        time.sleep(self._seconds)
        if np.any(inputs["input"] <= DEADLY):
            os._exit(1)
        return {"output": inputs["input"]}


def model(kind: str = "row", seed: int = 0) -> bytes:
    """``row`` batches, ``alone`` does not, ``wide`` has rows of any size; another seed makes another version."""
    node = helper.make_node("Identity", ["input"], ["output"], doc_string=f"version {seed}")
    ends = [onnx_models.value(name, "FP32", _SHAPES[kind]) for name in ("input", "output")]
    return onnx_models.model([node], ends[:1], ends[1:]).SerializeToString()


def spec(ms: float, **more: Any) -> dict[str, Any]:
    """How a nap is deployed."""
    return {"runtime": "nap", "env": {MILLISECONDS: f"{ms:g}"}, **more}


def words(seed: int = 0) -> bytes:
    """What the runtime ``words`` takes and gives."""
    pairs = (("prompt", "word", "BYTES"), ("pause_ms", "index", "INT64"))
    nodes = [helper.make_node("Identity", [given], [made], doc_string=f"version {seed}") for given, made, _ in pairs]
    inputs = [onnx_models.value(given, datatype, (1,)) for given, _, datatype in pairs]
    outputs = [onnx_models.value(made, datatype, (1,)) for _, made, datatype in pairs]
    return onnx_models.model(nodes, inputs, outputs).SerializeToString()


def installed(folder: Path) -> str:
    """PYTHONPATH under which naps and words are an installed distribution."""
    path = streaming.installed(folder)
    with (folder / "modelport_words-1.0.dist-info" / "entry_points.txt").open("a") as entries:
        entries.write("nap = tests.chaos.naps:NapRuntime\n")  # the last group is that of the runtimes
    return os.pathsep.join(filter(None, (path, os.environ.get("PYTHONPATH"))))
