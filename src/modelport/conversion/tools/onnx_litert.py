"""An ONNX model as LiteRT by onnx2tf and TensorFlow's converter: any number of rows, unless one is asked for.

Runs in an environment of its own with TensorFlow. Inputs keep ONNX's order of dimensions.
"""

from __future__ import annotations

import contextlib
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
    names = [given.name for given in graph.graph.input]
    try:
        onnx2tf.convert(
            input_onnx_file_path=str(work / onnx_file.FILE), output_folder_path=str(work / "tf"), non_verbose=True,
            batch_size=request["batch"], keep_ncw_or_nchw_or_ncdhw_input_names=names, not_use_onnxsim=True,
            copy_onnx_input_output_names_to_tflite=True, output_signaturedefs=True,
        )  # fmt: skip
    except (Exception, SystemExit) as error:
        raise InvalidInput(f"onnx2tf {metadata.version('onnx2tf')} cannot convert the model: {said(error)}") from None
    made = work / "tf" / f"{Path(onnx_file.FILE).stem}_float32.tflite"
    if not made.exists():
        raise InvalidInput("onnx2tf wrote no model: it holds an operator that LiteRT has not")
    with contextlib.suppress(FileExistsError):
        made.rename(out / FILE)
    return {
        "report": {"left_out": left_out, "batch": request["batch"] or "any"},
        "versions": {name: metadata.version(name) for name in ("onnx2tf", "tensorflow")},
    }  # fmt: skip
