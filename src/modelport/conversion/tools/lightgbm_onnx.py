"""A LightGBM model, saved as text, as ONNX by onnxmltools: rows of features in, in LightGBM's order."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType

from modelport.conversion import arrays
from modelport.conversion.arrays import ANSWERS
from modelport.conversion.process import said
from modelport.conversion.tools import onnx_file
from modelport.errors import InvalidInput

INPUT = "input"
_OPSET = 15


def convert(request: dict[str, Any], out: Path) -> dict[str, Any]:
    """``input`` [rows, features] FP32 to ``label`` and ``probabilities``, or ``prediction``."""
    booster, classifies = _load(request)
    try:
        graph = convert_lightgbm(
            booster, initial_types=[(INPUT, FloatTensorType([None, booster.num_feature()]))], zipmap=False,
            target_opset=request["opset"] or _OPSET,
        )  # fmt: skip
    except Exception as error:
        raise InvalidInput(
            f"onnxmltools {metadata.version('onnxmltools')} cannot write this LightGBM model as ONNX: {said(error)}"
        ) from None
    names = ["label", "probabilities"] if classifies else ["prediction"]
    onnx_file.rename(graph, dict(zip([found.name for found in graph.graph.output], names, strict=True)))
    onnx_file.free_rows(graph, names)
    if not classifies:
        onnx_file.as_vector(graph, "prediction")
    onnx_file.write(graph, out)
    return {
        "report": onnx_file.facts(graph),
        "notes": [f"columns in their order: {', '.join(booster.feature_name())[:2000]}"],
        "versions": {"onnxmltools": metadata.version("onnxmltools"), "lightgbm": lightgbm.__version__},
    }  # fmt: skip


def answer(request: dict[str, Any], out: Path) -> dict[str, Any]:
    """What LightGBM answers."""
    booster, classifies = _load(request)
    rows = next(iter(arrays.load(Path(request["inputs"])).values()))
    found = np.asarray(booster.predict(rows)).astype(np.float32)
    if classifies:
        chances = np.stack([1 - found, found], 1) if found.ndim == 1 else found
        arrays.save({"label": chances.argmax(1).astype(np.int64), "probabilities": chances}, out / ANSWERS)
    else:
        arrays.save({"prediction": found.reshape(-1)}, out / ANSWERS)
    return {}


def _load(request: dict[str, Any]) -> tuple[lightgbm.Booster, bool]:
    path = Path(request["folder"]) / request["place"]
    try:
        text = path.read_text()
        booster = lightgbm.Booster(model_str=text, params={"verbose": -1})
    except (lightgbm.basic.LightGBMError, UnicodeDecodeError, ValueError) as error:
        raise InvalidInput(f"LightGBM {lightgbm.__version__} cannot load the model: {said(error)}") from None
    objective = next((line.partition("=")[2] for line in text.splitlines() if line.startswith("objective=")), "")
    return booster, objective.startswith(("binary", "multiclass"))
