"""A folder that MLflow wrote: ``MLmodel`` names the flavors, the signature and an input example.

The flavor's own file is inspected like any other; MLflow's Python loaders are never run.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from modelport.engine.imports.declared import Declaration, read_text, read_yaml, sample_of
from modelport.engine.runtime import Inspected
from modelport.errors import ArtifactRefused
from modelport.tensors import Signature

FILE = "MLmodel"
#: What MLflow writes beside the model.
_BESIDE = {FILE, "conda.yaml", "python_env.yaml", "requirements.txt", "input_example.json",
           "serving_input_example.json", "registered_model_meta", "estimator.html"}  # fmt: skip
_TO_ONNX = "convert it to ONNX, log that with mlflow.onnx.log_model, and push the folder again"
_ADVICE = {
    "sklearn": "its model is a pickle, which runs code when it is loaded: save the estimator with skops.io.dump and "
    "push that file, or convert it with skl2onnx and log it with mlflow.onnx.log_model",
    "pytorch": "its model is a pickle: export it with torch.onnx.export(…, dynamo=True) and push the file, or log it "
    "with mlflow.onnx.log_model",
    "xgboost": f"convert it with onnxmltools.convert_xgboost; {_TO_ONNX}",
    "lightgbm": f"convert it with onnxmltools.convert_lightgbm; {_TO_ONNX}",
    "catboost": "save it with model.save_model('model.onnx', format='onnx') and push the file",
    "tensorflow": f"convert it with python -m tf2onnx.convert; {_TO_ONNX}",
    "keras": "export it with model.export('model.onnx', format='onnx') and push the file",
    "python_function": "it is Python code with a pickle, which is not loaded: " + _TO_ONNX,
}


def declaration(folder: Path, files: tuple[str, ...]) -> Declaration | None:
    """What ``MLmodel`` says; None when there is none. Raises ArtifactRefused for one that cannot be read."""
    if FILE not in files:
        return None
    found = read_yaml(folder, FILE)
    flavors = found.get("flavors") if isinstance(found, dict) else None
    if not isinstance(flavors, dict) or not flavors or not all(isinstance(name, str) for name in flavors):
        raise ArtifactRefused("'MLmodel' names no flavor: log the model again with an MLflow of this decade")
    names = sorted(flavors)
    main = next((name for name in names if name != "python_function"), names[0])
    advice = _ADVICE.get(main, _TO_ONNX)

    def complete(inspected: Inspected) -> Inspected:
        details = {
            **inspected.details,
            "imported_from": "mlflow",
            "mlflow": _facts(found, names),
        }
        sample = inspected.sample or _sample(folder, found, inspected.signature)
        return replace(inspected, details=details, sample=sample)

    inside = tuple(name for name in files if name not in _BESIDE)
    return Declaration(inside, complete, f"the MLflow model has the flavor {main[:50]!r}: {advice}")


def _facts(found: dict[str, Any], flavors: list[str]) -> dict[str, Any]:
    facts: dict[str, Any] = {"flavors": [name[:50] for name in flavors[:20]]}
    for key in ("mlflow_version", "run_id", "model_uuid", "model_id", "utc_time_created"):
        if isinstance(found.get(key), str):
            facts[key] = found[key][:100]
    signature = found.get("signature")
    for side in ("inputs", "outputs"):
        text = signature.get(side) if isinstance(signature, dict) else None
        if isinstance(text, str) and len(text) <= 100_000:
            try:
                facts[side] = json.loads(text)
            except (ValueError, RecursionError):
                continue
    return facts


def _sample(folder: Path, found: dict[str, Any], signature: Signature) -> dict[str, Any] | None:
    """The input example, where there is one that the model takes."""
    info = found.get("saved_input_example_info")
    name = info.get("artifact_path") if isinstance(info, dict) else None
    if not isinstance(name, str) or "/" in name or name.startswith(".") or not (folder / name).is_file():
        return None
    try:
        example = json.loads(read_text(folder, name))
    except (ValueError, RecursionError, ArtifactRefused):
        return None
    return sample_of(signature, _unwrapped(example, {spec.name for spec in signature.inputs}))


def _unwrapped(example: Any, inputs: set[str]) -> Any:
    """Tensors by name, or the only one, out of the forms in which MLflow saves examples."""
    if not isinstance(example, dict) or inputs <= example.keys():
        return example
    for key in ("inputs", "instances"):
        if key in example:
            return example[key]
    example = example.get("dataframe_split", example)
    rows, columns = example.get("data"), example.get("columns")
    if not isinstance(rows, list):
        return example
    if isinstance(columns, list) and inputs <= set(map(str, columns)):
        places = {str(column): place for place, column in enumerate(columns)}
        return {name: [[row[places[name]]] for row in rows] for name in inputs}
    return rows
