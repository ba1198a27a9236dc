"""A program of torch.export as LiteRT by litert-torch: so many rows as are asked for, for its graphs have fixed sizes.

Runs in an environment of its own with litert-torch and the server's release of torch.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import litert_torch
import torch

from modelport.conversion.process import said
from modelport.engine.formats.torch_export import TorchExportFormat
from modelport.engine.runtime import LoadOptions, Trust
from modelport.engine.runtimes.torch import exported_program
from modelport.errors import InvalidInput
from modelport.tensors import dtype_of

FILE = "model.tflite"


def convert(request: dict[str, Any], out: Path) -> dict[str, Any]:
    """The names of the program in and out."""
    folder, files = Path(request["folder"]), tuple(request["files"])
    signature = TorchExportFormat().inspect(folder, files, Trust(native_code=True)).signature
    options = LoadOptions(folder, files, signature, {})
    names = [spec.name for spec in signature.inputs]
    rows = request["batch"]
    example = []
    for spec in signature.inputs:
        if -1 in spec.shape[1:]:
            raise InvalidInput(
                f"input {spec.name!r} has a free dimension besides its rows, and litert-torch fixes all: convert it to "
                "ONNX first and that to LiteRT, or export the program with fixed sizes"
            )
        kind = getattr(torch, dtype_of(spec.datatype).name)
        size = [rows if dim == -1 else dim for dim in spec.shape]
        example.append(torch.rand(size).to(kind) if kind.is_floating_point else torch.zeros(size, dtype=kind))
    module = Positional(exported_program(options).module(), [spec.name for spec in signature.outputs], names)
    try:
        edge = litert_torch.signature("serving_default", module, sample_kwargs=dict(zip(names, example, strict=True)))
        made = edge.convert()
    except Exception as error:
        raise InvalidInput(
            f"litert-torch {metadata.version('litert-torch')} cannot convert the program: {said(error)}"
        ) from None
    made.export(str(out / FILE))
    return {
        "report": {"batch": rows},
        "versions": {name: metadata.version(name) for name in ("litert-torch", "torch")},
    }  # fmt: skip


class Positional(torch.nn.Module):
    """The program called by names, giving a dictionary."""

    def __init__(self, module: Any, outputs: list[str], inputs: list[str]) -> None:
        super().__init__()
        self.module, self._outputs, self._inputs = module, outputs, inputs

    def forward(self, **tensors: torch.Tensor) -> dict[str, torch.Tensor]:
        found = self.module(*(tensors[name] for name in self._inputs))
        results = list(found) if isinstance(found, list | tuple) else [found]
        return dict(zip(self._outputs, results, strict=True))
