"""The models that the protocols' tests call, by the name they are deployed under."""

from __future__ import annotations

from collections.abc import Callable

from tests import onnx_models

MODELS: dict[str, Callable[[], bytes]] = {
    **{
        f"identity-{datatype.lower()}": lambda datatype=datatype: onnx_models.identity(datatype)  # type: ignore[misc]
        for datatype in onnx_models.ELEMENT_TYPES
    },
    "add-sub": onnx_models.add_sub,
    "scalar": onnx_models.scalar,
    "dynamic": onnx_models.dynamic_dims,
    "fixed": onnx_models.fixed_batch,
    "mlp": onnx_models.mlp,
    "animals": onnx_models.string_labels,
    "fails": onnx_models.fails_on,
}

#: Class labels by model and output.
LABELS: dict[str, dict[str, list[str]]] = {
    "mlp": {"output": ["red", "green", "blue"]},
    "animals": {"probabilities": ["ant", "bee", "cat"]},
}
