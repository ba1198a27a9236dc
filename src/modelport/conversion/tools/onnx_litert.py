"""An ONNX model as LiteRT by onnx2tf and TensorFlow's converter: any number of rows, unless one is asked for.

Runs in an environment of its own with TensorFlow. Inputs keep ONNX's order of dimensions.
"""

from __future__ import annotations

import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import onnx
import onnx2tf

from modelport.conversion.process import said
from modelport.conversion.tools import onnx_file
from modelport.errors import InvalidInput

FILE = "model.tflite"


def convert(request: dict[str, Any], out: Path) -> dict[str, Any]:
    """The same names in and out; outputs that are texts are left out."""
    folder = Path(request["folder"])
    source = next(folder / name for name in request["files"] if name.endswith(".onnx"))
    graph = onnx.load(str(source))
    left_out = onnx_file.without_texts(graph, "LiteRT")
    work = out.parent / "tmp"
    onnx_file.write(graph, work)
    # of more than two dimensions, onnx2tf would put the channels last
    names = [given.name for given in graph.graph.input if 2 < len(given.type.tensor_type.shape.dim) < 6]
    batch, notes = request["batch"], []
    try:
        _convert(work, batch, names)
    except (Exception, SystemExit) as error:
        if batch is not None:
            raise _refused(error) from None
        batch = 1
        notes = ["one row at a time: onnx2tf cannot keep the number of rows free for this model"]
        try:
            _convert(work, batch, names)
        except (Exception, SystemExit):
            raise _refused(error) from None
    made = work / "tf" / f"{Path(onnx_file.FILE).stem}_float32.tflite"
    if not made.exists():
        raise InvalidInput("onnx2tf wrote no model: it holds an operator that LiteRT has not")
    made.rename(out / FILE)
    return {
        "report": {"left_out": left_out, "batch": batch or "any"}, "notes": notes,
        "versions": {name: metadata.version(name) for name in ("onnx2tf", "tensorflow")},
    }  # fmt: skip


def _convert(work: Path, batch: int | None, names: list[str]) -> None:
    shutil.rmtree(work / "tf", ignore_errors=True)
    onnx2tf.convert(
        input_onnx_file_path=str(work / onnx_file.FILE), output_folder_path=str(work / "tf"), non_verbose=True,
        batch_size=batch, keep_ncw_or_nchw_or_ncdhw_input_names=names or None, not_use_onnxsim=True,
        copy_onnx_input_output_names_to_tflite=True, output_signaturedefs=True,
    )  # fmt: skip


def _refused(error: BaseException) -> InvalidInput:
    return InvalidInput(f"onnx2tf {metadata.version('onnx2tf')} cannot convert the model: {said(error)}")
