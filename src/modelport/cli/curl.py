"""A command that a person can paste to call a model: curl with data of the right shape and type."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelport.sdk.inference import ModelMetadata
    from modelport.tensors import TensorSpec

_LARGEST = 100


def curl_for(url: str, model: ModelMetadata, with_key: bool) -> str:
    """curl for ``/predict`` with one row of zeros; a large input is made by Python rather than spelled out."""
    target = f"-H 'Content-Type: application/json' '{url}/predict?model={model.name}'"
    if with_key:
        target = f'-H "Authorization: Bearer $MODELPORT_KEY" {target}'
    shapes = {spec.name: tuple(max(dim, 1) for dim in spec.shape) for spec in model.inputs}
    if sum(math.prod(shape) for shape in shapes.values()) <= _LARGEST:
        values = {spec.name: _filled(spec, shapes[spec.name]) for spec in model.inputs}
        body = json.dumps({"data": next(iter(values.values())) if len(values) == 1 else values})
        quoted = body.replace("'", "'\\''")
        return f"curl -s {target} -d '{quoted}'"
    made = {spec.name: f"np.full({shapes[spec.name]}, {_element(spec)!r}).tolist()" for spec in model.inputs}
    data = next(iter(made.values())) if len(made) == 1 else f"{{{', '.join(f'{k!r}: {v}' for k, v in made.items())}}}"
    program = f"import json, numpy as np; print(json.dumps({{'data': {data}}}))"
    escaped = program.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("`", "\\`")
    return f'python3 -c "{escaped}" | curl -s {target} -d @-'


def _element(spec: TensorSpec) -> Any:
    return {"BYTES": "text", "BOOL": False, "FP16": 0.0, "FP32": 0.0, "FP64": 0.0}.get(spec.datatype, 0)


def _filled(spec: TensorSpec, shape: tuple[int, ...]) -> Any:
    if not shape:
        return _element(spec)
    return [_filled(spec, shape[1:]) for _ in range(shape[0])]
