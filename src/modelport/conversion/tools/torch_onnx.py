"""A program of torch.export as ONNX, with its own names and free dimensions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from modelport.conversion.tools import onnx_file, torch_graph
from modelport.engine.formats.torch_export import TorchExportFormat
from modelport.engine.runtime import LoadOptions, Trust
from modelport.engine.runtimes.torch import exported_program


def convert(request: dict[str, Any], out: Path) -> dict[str, Any]:
    """The program is put together from its checked JSON and weights, as the runtime does it: no pickle is read."""
    folder, files = Path(request["folder"]), tuple(request["files"])
    signature = TorchExportFormat().inspect(folder, files, Trust(native_code=True)).signature
    options = LoadOptions(folder, files, signature, {})
    program = exported_program(options)
    names = {spec.name: torch.empty(0) for spec in signature.inputs}
    graph = torch_graph.to_onnx(program, names, [spec.name for spec in signature.outputs], None, request["opset"])
    onnx_file.write(graph, out)
    return {"report": onnx_file.facts(graph), "versions": {"torch": torch.__version__}}
