"""OpenVINO: ``model.xml`` that describes a network, and ``model.bin`` beside it with its weights.

Says which tensors go in and out, and which classes the scores stand for where the file says so. OpenVINO itself reads
the file, without extensions, in the inspection process only.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from modelport.engine.formats.openvino_file import find_openvino, weights_of
from modelport.engine.runtime import Format, Inspected, Trust
from modelport.errors import ArtifactRefused
from modelport.tensors import Signature, TensorSpec

_DATATYPES = {
    "f32": "FP32", "f64": "FP64", "f16": "FP16", "boolean": "BOOL",
    **{f"{kind}{bits}": f"{name}{bits}" for kind, name in (("i", "INT"), ("u", "UINT")) for bits in (8, 16, 32, 64)},
}  # fmt: skip
_MOST_LABELS, _LONGEST_LABEL = 100_000, 300


class OpenVinoFormat(Format):
    """``model.xml`` and ``model.bin`` under any name."""

    name = "openvino"

    def recognises(self, folder: Path, files: tuple[str, ...]) -> bool:
        """Whether an XML file begins as a network of OpenVINO's."""
        return bool(find_openvino(folder, files))

    def inspect(self, folder: Path, files: tuple[str, ...], trust: Trust) -> Inspected:
        """Read the one model; raises ArtifactRefused with the cause, MissingExtra without OpenVINO."""
        from modelport.engine.runtimes.openvino import read_model  # noqa: PLC0415  (optional)

        found = find_openvino(folder, files)
        if len(found) > 1:
            raise ArtifactRefused(f"the folder holds {len(found)} OpenVINO models: push them one by one")
        weights = weights_of(found[0])
        if weights not in files:
            raise ArtifactRefused(
                f"{found[0]!r} has its weights in {weights!r}, which is not here: push a folder with both"
            )
        model = read_model(folder / found[0], folder / weights)
        signature = Signature(
            tuple(_spec(port, "input") for port in model.inputs), tuple(_spec(port, "output") for port in model.outputs)
        )
        for kind, specs in (("input", signature.inputs), ("output", signature.outputs)):
            names = [spec.name for spec in specs]
            if len(set(names)) != len(names):
                raise ArtifactRefused(
                    f"two {kind}s of the model have the same name: convert it with names of their own"
                )
        if not signature.outputs:
            raise ArtifactRefused("the model has no output: convert one that gives a tensor")
        operations = [operation.get_type_name() for operation in model.get_ops()]
        details: dict[str, Any] = {"model_file": found[0], "operations": len(operations)}
        if "FakeQuantize" in operations:
            details["quantised"] = True
        if any(operation in ("ReadValue", "Assign") for operation in operations):
            raise ArtifactRefused("the model keeps a state between calls, so answers would depend on earlier callers: "
                                  "convert it without state")  # fmt: skip
        return Inspected(self.name, "openvino", signature, _labels(model, signature), details)


def _spec(port: Any, kind: str) -> TensorSpec:
    names = sorted(port.get_names())
    name = names[0] if names else ""
    if not name or len(name) > 1000 or not name.isprintable():
        raise ArtifactRefused(
            f"{kind} name {name[:80]!r} is empty, too long or has control characters: convert it with other names"
        )
    datatype = _DATATYPES.get(port.get_element_type().get_type_name())
    if datatype is None:
        raise ArtifactRefused(
            f"{kind} {name[:80]!r} has elements of type {port.get_element_type().get_type_name()}, which the inference "
            "protocols cannot carry: convert it inside the model"
        )
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        if kind == "output":
            return TensorSpec(name, datatype, (-1,), ("...",))
        raise ArtifactRefused(f"input {name[:80]!r} does not say its number of dimensions: convert it with a shape")
    return TensorSpec(name, datatype, tuple(-1 if dim.is_dynamic else dim.get_length() for dim in shape))


def _labels(model: Any, signature: Signature) -> dict[str, list[str]]:
    """The classes that a conversion here has noted, for each output of scores that they fit."""
    try:
        found = json.loads(str(model.get_rt_info(["modelport", "labels"]).astype(str)))
    except (RuntimeError, ValueError, TypeError):
        return {}
    if not isinstance(found, list) or not 0 < len(found) <= _MOST_LABELS:
        return {}
    names = [str(name)[:_LONGEST_LABEL] for name in found]
    scores = [spec for spec in signature.outputs if spec.datatype.startswith("FP") and len(spec.shape) > 1]
    return {spec.name: names for spec in scores if spec.shape[-1] in (len(names), -1)}
