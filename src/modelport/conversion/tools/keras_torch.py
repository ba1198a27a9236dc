"""A Keras model as a torch.export program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import torch

from modelport.conversion.tools import keras_model, torch_graph
from modelport.conversion.tools.keras_model import answer

__all__ = ["answer", "convert"]


def convert(request: dict[str, Any], out: Path) -> dict[str, Any]:
    """Any number of rows in, the model's outputs out."""
    model = keras_model.load(request)
    inputs, dynamic = keras_model.examples(model)
    for part in model.modules():
        own = getattr(part, "_torch_params", None)
        if own is not None:  # a program's parameters have names without slashes
            part._torch_params = torch.nn.ParameterDict({name.replace("/", "_"): own[name] for name in own})
    flat = torch_graph.Named(keras_model.Flat(model).eval(), list(inputs), keras_model.outputs_of(model))
    torch_graph.save_program(flat, inputs, dynamic, out)
    return {"versions": {"keras": keras.__version__, "torch": torch.__version__}}
