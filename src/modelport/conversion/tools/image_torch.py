"""A Hugging Face image classifier as a torch.export program, with its processor's settings as preprocessing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelport.conversion.tools import torch_graph
from modelport.conversion.tools.image_onnx import INPUT, OUTPUT, answer, opened

__all__ = ["answer", "convert"]


def convert(request: dict[str, Any], out: Path) -> dict[str, Any]:
    """Any number of rows in, probabilities out."""
    network, example, about = opened(request)
    named = torch_graph.Named(network, [INPUT], [OUTPUT])
    torch_graph.save_program(named, {INPUT: example}, {INPUT: {0: "rows"}}, out)
    return about
