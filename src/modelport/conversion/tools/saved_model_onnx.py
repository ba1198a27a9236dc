"""A TensorFlow SavedModel as ONNX by tf2onnx, through its signature ``serving_default``, or its only one.

Runs in an environment of its own with TensorFlow.
"""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import onnx
import tensorflow as tf
from tf2onnx import convert as tf2onnx

from modelport.conversion import arrays
from modelport.conversion.arrays import ANSWERS
from modelport.conversion.process import said
from modelport.conversion.tools import onnx_file
from modelport.errors import InvalidInput

_OPSET = 18
_DEFAULT = "serving_default"


def convert(request: dict[str, Any], out: Path) -> dict[str, Any]:
    """The names of the signature in and out."""
    _, key = _signature(request)
    file = out / onnx_file.FILE
    arguments = ["--saved-model", _folder(request), "--signature_def", key, "--tag", "serve", "--output", str(file)]
    arguments += ["--opset", str(min(request["opset"] or _OPSET, _OPSET))]
    before, sys.argv = sys.argv, ["tf2onnx", *arguments]
    try:
        tf2onnx.main()
    except (Exception, SystemExit) as error:
        raise InvalidInput(f"tf2onnx {metadata.version('tf2onnx')} cannot convert the model: {said(error)}") from None
    finally:
        sys.argv = before
    graph = onnx.load(str(file))
    return {
        "report": onnx_file.facts(graph),
        "versions": {"tf2onnx": metadata.version("tf2onnx"), "tensorflow": tf.__version__},
    }  # fmt: skip


def answer(request: dict[str, Any], out: Path) -> dict[str, Any]:
    """What TensorFlow answers."""
    model, key = _signature(request)
    given = arrays.load(Path(request["inputs"]))
    found = model.signatures[key](**{name: tf.constant(array) for name, array in given.items()})
    arrays.save({name: tensor.numpy() for name, tensor in found.items()}, out / ANSWERS)
    return {}


def _folder(request: dict[str, Any]) -> str:
    return str(Path(request["folder"]) / request["place"])


def _signature(request: dict[str, Any]) -> tuple[Any, str]:
    try:
        model = tf.saved_model.load(_folder(request))
    except Exception as error:  # TensorFlow raises many kinds
        raise InvalidInput(f"TensorFlow {tf.__version__} cannot load the SavedModel: {said(error)}") from None
    keys = [key for key in model.signatures if not key.startswith("__")]
    if not keys:
        raise InvalidInput("the SavedModel has no signature, so nobody knows what it takes: save it with signatures=")
    if len(keys) > 1 and _DEFAULT not in keys:
        raise InvalidInput(f"the SavedModel has the signatures {', '.join(keys)[:200]} and none is called {_DEFAULT!r}")
    return model, _DEFAULT if _DEFAULT in keys else keys[0]
