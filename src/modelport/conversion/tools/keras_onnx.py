"""A Keras model as ONNX, by torch's exporter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import torch

from modelport.conversion.tools import keras_model, onnx_file, torch_graph
from modelport.conversion.tools.keras_model import answer

__all__ = ["answer", "convert"]


def convert(request: dict[str, Any], out: Path) -> dict[str, Any]:
    """Any number of rows in, the model's outputs out."""
    model = keras_model.load(request)
    inputs, dynamic = keras_model.examples(model)
    flat = keras_model.Flat(model).eval()
    graph = torch_graph.to_onnx(flat, inputs, keras_model.outputs_of(model), dynamic, request["opset"])
    onnx_file.write(graph, out)
    return {
        "report": onnx_file.facts(graph), "versions": {"keras": keras.__version__, "torch": torch.__version__},
    }  # fmt: skip
