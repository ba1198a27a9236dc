"""What a version answers to tensors: by its own runtime, behind its preprocessing, as a replica of it would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from modelport import plugins
from modelport.conversion import arrays
from modelport.conversion.arrays import ANSWERS, INPUTS
from modelport.engine import preprocessing, proof
from modelport.engine.runtime import LoadOptions, MakesUpInputs, Runtime, Trust
from modelport.errors import InvalidInput, ModelRejectedInput
from modelport.tensors import Array, Signature, dtype_of


def answer(request: dict[str, Any], out: Path) -> dict[str, Any]:
    """Write the outputs for the rows of ``inputs``, or for made-up ones, which it writes then as well."""
    outer = Signature.from_json(request["signature"])
    runtime = _load(request)
    if request["inputs"] is not None:
        inputs = arrays.load(Path(request["inputs"]))
    else:
        inputs = _made_up(runtime, outer, request["rows"])
        arrays.save(inputs, out / INPUTS)
    if request["own"]:
        own = runtime.prepared(inputs) if isinstance(runtime, preprocessing.Preprocessed) else inputs
        arrays.save(own, out / INPUTS)
    arrays.save(run_rows(runtime, outer, inputs), out / ANSWERS)
    return {}


def _load(request: dict[str, Any]) -> Runtime:
    outer, inner = request["signature"], request["model_signature"]
    own = Signature.from_json(inner or outer)
    folder = Path(request["folder"])
    options = LoadOptions(
        folder, tuple(request["files"]), own, request["labels"], 1, Trust(tuple(request["trust"])), request["details"]
    )
    runtime: Runtime = plugins.resolve(request["runtime"]).load(options)
    steps = request["preprocessing"]
    return preprocessing.wrap(runtime, steps, own, folder) if steps else runtime


def run_rows(runtime: Runtime, signature: Signature, inputs: dict[str, Array]) -> dict[str, Array]:
    """The answers to rows: together where the model takes any number, else so many at a time as it takes."""
    inputs = {spec.name: _cast(inputs[spec.name], spec.datatype) for spec in signature.inputs}
    sizes = {spec.shape[0] for spec in signature.inputs if spec.shape}
    batch = next((size for size in sizes if size > 0), None)
    if batch is None:
        return runtime.infer(inputs)
    rows = len(next(iter(inputs.values())))
    pieces: list[dict[str, Array]] = []
    for at in range(0, rows, batch):
        places = np.minimum(np.arange(at, at + batch), rows - 1)  # the last run is filled up with its last row
        found = runtime.infer({name: array[places] for name, array in inputs.items()})
        pieces.append({name: array[: min(batch, rows - at)] for name, array in found.items()})
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def _cast(array: Array, datatype: str) -> Array:
    return array if datatype == "BYTES" else array.astype(dtype_of(datatype), copy=False)


def _made_up(runtime: Runtime, signature: Signature, rows: int) -> dict[str, Array]:
    """The first of the usual sizes that the model takes."""
    cause = "it takes none of the sizes that were tried"
    for size in (1, 2, 3, 8, 16, 28, 32, 64, 128, 224, 256, 512):
        made = (
            runtime.made_up_inputs(rows, size, 0)
            if isinstance(runtime, MakesUpInputs)
            else proof.made_up_inputs(signature, rows, size)
        )
        try:
            runtime.infer(made)
        except ModelRejectedInput as error:
            cause = error.message
            continue
        return made
    raise InvalidInput(f"no inputs could be made up to compare with: {cause}; give rows with --data, or a --sample")
