"""A torch module, or a program, as ONNX or as a program: names, free dimensions, nothing of the machine."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from onnx import ModelProto

from modelport.conversion.process import said
from modelport.engine.formats.onnx_origin import without_origin
from modelport.errors import InvalidInput

Dims = Mapping[str, Mapping[int, str]]
PROGRAM = "model.pt2"


def to_onnx(
    module: Any, inputs: Mapping[str, torch.Tensor], outputs: Sequence[str], dynamic: Dims | None, opset: int | None
) -> ModelProto:
    """``module`` is a torch module, or a program, which has its own free dimensions (``dynamic`` is None then)."""
    more: dict[str, Any] = {} if opset is None else {"opset_version": opset}
    if dynamic is not None:
        more["dynamic_shapes"] = _shapes(module, inputs, dynamic)
    try:
        with torch.no_grad():
            program = torch.onnx.export(
                module, () if dynamic is None else tuple(inputs.values()), dynamo=True, input_names=list(inputs),
                output_names=list(outputs), verbose=False, **more,
            )  # fmt: skip
    except Exception as error:  # the exporter raises many kinds
        raise InvalidInput(f"torch {torch.__version__} cannot put the model into ONNX: {said(error)}") from None
    assert program is not None
    return without_origin(program.model_proto)


def save_program(module: Any, inputs: Mapping[str, torch.Tensor], dynamic: Dims, out: Path) -> None:
    """Write ``model.pt2``; raises InvalidInput for what torch.export cannot follow."""
    try:
        with torch.no_grad():
            program = torch.export.export(
                module, tuple(inputs.values()), dynamic_shapes=_shapes(module, inputs, dynamic)
            )
    except Exception as error:
        raise InvalidInput(f"torch {torch.__version__} cannot export the model: {said(error)}") from None
    torch.export.save(program, out / PROGRAM)


class Named(torch.nn.Module):
    """A module whose arguments and results have names: a program's signature tells them."""

    def __init__(self, module: torch.nn.Module, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__()
        self.module, self._outputs = module, list(outputs)
        names = [name if name.isidentifier() else f"input_{at}" for at, name in enumerate(inputs)]
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD

        def forward(*tensors: torch.Tensor) -> dict[str, torch.Tensor]:
            found = self.module(*tensors)
            results = found if isinstance(found, tuple) else (found,)
            return dict(zip(self._outputs, results, strict=True))

        forward.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in names])  # type: ignore[attr-defined]
        self.forward = forward


def _shapes(module: Any, inputs: Mapping[str, torch.Tensor], dynamic: Dims) -> tuple[Any, ...]:
    made = {name: torch.export.Dim(name) for found in dynamic.values() for name in found.values()}
    shapes = tuple({at: made[name] for at, name in dynamic.get(given, {}).items()} for given in inputs)
    kinds = [one.kind for one in inspect.signature(module.forward).parameters.values()]
    return (shapes,) if inspect.Parameter.VAR_POSITIONAL in kinds else shapes  # *args are one argument
