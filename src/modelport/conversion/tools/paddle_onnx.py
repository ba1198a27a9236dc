"""A PaddlePaddle inference model as ONNX by paddle2onnx. Runs in an environment of its own with PaddlePaddle."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import onnx
import paddle
import paddle2onnx

from modelport.conversion import arrays
from modelport.conversion.arrays import ANSWERS
from modelport.conversion.process import said
from modelport.conversion.tools import onnx_file
from modelport.errors import InvalidInput

_OPSET = 17


def convert(request: dict[str, Any], out: Path) -> dict[str, Any]:
    """The program's own names in and out."""
    program = Path(request["folder"]) / request["place"]
    weights, file = program.with_suffix(".pdiparams"), out / onnx_file.FILE
    try:
        paddle2onnx.export(
            str(program), str(weights), save_file=str(file), opset_version=request["opset"] or _OPSET,
            auto_upgrade_opset=True, verbose=False, enable_onnx_checker=True,
        )  # fmt: skip
    except Exception as error:
        raise InvalidInput(
            f"paddle2onnx {metadata.version('paddle2onnx')} cannot convert the model: {said(error)}"
        ) from None
    if not file.exists():
        raise InvalidInput("paddle2onnx wrote no model: the program holds an operator that it does not know")
    graph = onnx.load(str(file))
    return {
        "report": onnx_file.facts(graph),
        "versions": {"paddle2onnx": metadata.version("paddle2onnx"), "paddlepaddle": paddle.__version__},
    }  # fmt: skip


def answer(request: dict[str, Any], out: Path) -> dict[str, Any]:
    """What PaddlePaddle answers."""
    program = Path(request["folder"]) / request["place"]
    given = arrays.load(Path(request["inputs"]))
    model = paddle.jit.load(str(program.with_suffix("")))
    model.eval()
    found = model(*[paddle.to_tensor(array) for array in given.values()])
    results = found if isinstance(found, list | tuple) else [found]
    arrays.save({f"output_{place}": tensor.numpy() for place, tensor in enumerate(results)}, out / ANSWERS)
    return {}
