"""An XGBoost model, saved as JSON or UBJSON, as ONNX by onnxmltools: rows of features in, in XGBoost's order."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import xgboost
from onnxmltools import convert_xgboost
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
    model, names = _load(request)
    width = model.get_booster().num_features()
    try:
        graph = convert_xgboost(
            model, initial_types=[(INPUT, FloatTensorType([None, width]))], target_opset=request["opset"] or _OPSET
        )
    except Exception as error:
        raise InvalidInput(
            f"onnxmltools {metadata.version('onnxmltools')} cannot write a "
            f"{type(model).__name__} as ONNX: {said(error)}"
        ) from None
    onnx_file.rename(graph, dict(zip([found.name for found in graph.graph.output], _outputs(model), strict=True)))
    if _outputs(model) == ["prediction"]:
        onnx_file.as_vector(graph, "prediction")
    onnx_file.write(graph, out)
    notes = [f"columns in their order: {', '.join(names)[:2000]}"] if names else []
    return {
        "report": onnx_file.facts(graph), "notes": notes,
        "versions": {name: metadata.version(name) for name in ("onnxmltools",)} | {"xgboost": xgboost.__version__},
    }  # fmt: skip


def answer(request: dict[str, Any], out: Path) -> dict[str, Any]:
    """What XGBoost answers."""
    model, _ = _load(request)
    rows = next(iter(arrays.load(Path(request["inputs"])).values()))
    if isinstance(model, xgboost.XGBClassifier):
        chances = np.asarray(model.predict_proba(rows))
        found = {"label": np.asarray(model.predict(rows)).astype(np.int64), "probabilities": chances}
    else:
        found = {"prediction": np.asarray(model.predict(rows)).reshape(-1)}
    arrays.save(found, out / ANSWERS)
    return {}


def _outputs(model: Any) -> list[str]:
    return ["label", "probabilities"] if isinstance(model, xgboost.XGBClassifier) else ["prediction"]


def _load(request: dict[str, Any]) -> tuple[Any, list[str]]:
    path = Path(request["folder"]) / request["place"]
    ending = "json" if path.read_bytes()[:2] != b"{L" else "ubj"
    try:
        booster = xgboost.Booster()
        booster.load_model(bytearray(path.read_bytes()))
        objective = json.loads(booster.save_config())["learner"]["objective"]["name"]
    except (xgboost.core.XGBoostError, KeyError, ValueError) as error:
        raise InvalidInput(f"XGBoost {xgboost.__version__} cannot load the {ending} model: {said(error)}") from None
    if objective.startswith(("rank:", "survival:")) or objective == "binary:logitraw":
        raise InvalidInput(
            f"the objective {objective!r} has no converter to ONNX; serve the model by a Python predictor"
        )
    names = list(booster.feature_names or [])
    booster.feature_names = None  # the converter knows columns by their number only
    model = xgboost.XGBClassifier() if objective.startswith(("binary:", "multi:")) else xgboost.XGBRegressor()
    model.load_model(bytearray(booster.save_raw(raw_format="ubj")))
    return model, names
