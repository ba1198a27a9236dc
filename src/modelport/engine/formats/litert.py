"""LiteRT: one ``.tflite`` model. The container is told without the library; names, types and shapes need it.

Quantised inputs and outputs keep their integer types: scale and zero point are shown, and applied by the caller.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelport.engine.formats.litert_file import find_litert
from modelport.engine.runtime import Format, Inspected, Trust
from modelport.errors import ArtifactRefused
from modelport.tensors import Signature, TensorSpec


class LiteRtFormat(Format):
    """``model.tflite`` under any name."""

    name = "litert"

    def recognises(self, folder: Path, files: tuple[str, ...]) -> bool:
        """Whether there is a FlatBuffer of LiteRT's."""
        return bool(find_litert(folder, files))

    def inspect(self, folder: Path, files: tuple[str, ...], trust: Trust) -> Inspected:
        """Open the one model; raises ArtifactRefused with the cause and the next step, MissingExtra without LiteRT."""
        from modelport.engine.runtimes.litert import LiteRtModel  # noqa: PLC0415  (optional)

        found = find_litert(folder, files)
        if len(found) > 1:
            raise ArtifactRefused(f"the folder holds {len(found)} LiteRT models: push them one by one")
        model = LiteRtModel(folder / found[0], threads=1)
        inputs, outputs = model.inputs(), model.outputs()
        details: dict[str, Any] = {"model_file": found[0]}
        if model.key is not None:
            details["signature"] = model.key
        quantised = {name: _quantisation(about) for name, about in {**inputs, **outputs}.items()}
        if any(quantised.values()):
            details["quantisation"] = {name: about for name, about in quantised.items() if about}
        signature = Signature(
            tuple(_spec(name, about, "input") for name, about in inputs.items()),
            tuple(_spec(name, about, "output") for name, about in outputs.items()),
        )
        if not signature.outputs:
            raise ArtifactRefused("the LiteRT model has no output: convert one that gives a tensor")
        return Inspected(self.name, "litert", signature, {}, details)


def _spec(name: str, about: dict[str, Any], kind: str) -> TensorSpec:
    from modelport.engine.runtimes.litert import datatype  # noqa: PLC0415  (optional)

    if not name or len(name) > 1000 or not name.isprintable():
        raise ArtifactRefused(
            f"{kind} name {name[:80]!r} is empty, too long or has control characters: convert it with other names"
        )
    found = datatype(about["dtype"])
    if found is None:
        raise ArtifactRefused(
            f"{kind} {name[:80]!r} has elements that the inference protocols cannot carry: convert it inside the model"
        )
    shape = [int(dim) for dim in about["shape"]]
    declared = [int(dim) for dim in about["shape_signature"]]
    return TensorSpec(name, found, tuple(declared if len(declared) == len(shape) else shape))


def _quantisation(about: dict[str, Any]) -> dict[str, float] | None:
    """Scale and zero point of a tensor that is quantised as a whole."""
    scale, zero = about["quantization"]
    return {"scale": float(scale), "zero_point": int(zero)} if scale else None
