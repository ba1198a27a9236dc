"""A scikit-learn estimator, saved by skops, as ONNX by skl2onnx: the same names in and out as skops' runtime gives."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import skl2onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator

from modelport.conversion.process import said
from modelport.conversion.tools import onnx_file
from modelport.engine.formats.skops_zip import find_skops
from modelport.engine.runtime import Trust
from modelport.engine.runtimes.sklearn import INPUT, load_estimator, methods_of
from modelport.errors import InvalidInput

_OPSET, _ML_OPSET = 18, 3


def convert(request: dict[str, Any], out: Path) -> dict[str, Any]:
    """``input`` [rows, features] FP32 (texts stay texts) to ``label`` and ``probabilities``, or ``output``."""
    folder, signature = Path(request["folder"]), request["signature"]
    file = folder / find_skops(folder, tuple(request["files"]))[0]
    estimator = load_estimator(file, Trust(tuple(request["trust"])))
    given = signature["inputs"][0]
    texts = given["datatype"] == "BYTES"
    taken = StringTensorType([None, 1]) if texts else FloatTensorType([None, given["shape"][1]])
    opset = request["opset"] or _OPSET
    classifies = "predict" in methods_of(estimator).values() and hasattr(estimator, "classes_")
    try:
        model = skl2onnx.to_onnx(
            estimator, initial_types=[(INPUT, taken)], options={"zipmap": False} if classifies else None,
            target_opset={"": opset, "ai.onnx.ml": _ML_OPSET},
        )  # fmt: skip
    except (MissingConverter, MissingShapeCalculator, RuntimeError, NotImplementedError, ValueError) as error:
        raise InvalidInput(
            f"skl2onnx {metadata.version('skl2onnx')} cannot write {_inside(estimator)} as ONNX ({said(error)[:200]}); "
            "the skops version can be served as it is: `modelport deploy`"
        ) from None
    wanted = [spec["name"] for spec in signature["outputs"]]
    found = [output.name for output in model.graph.output]
    onnx_file.rename(model, dict(zip(found, wanted, strict=False)))
    for spec in signature["outputs"]:
        if len(spec["shape"]) == 1 and spec["datatype"].startswith("FP"):
            onnx_file.as_vector(model, spec["name"])
    onnx_file.write(model, out)
    return {
        "report": onnx_file.facts(model), "versions": {"skl2onnx": metadata.version("skl2onnx")},
        "notes": [] if texts else ["numbers are float32 now, and were float64 in skops"],
    }  # fmt: skip


def _inside(estimator: Any) -> str:
    steps = getattr(estimator, "steps", None)
    return " → ".join(_inside(step) for _, step in steps) if steps else f"a {type(estimator).__name__}"
