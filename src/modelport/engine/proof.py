"""The inference that admits a replica, and the check whether requests may share a run.

Inputs come from the version's own sample, or are made up from its signature. Sharing is proven, not assumed: three
rows run together have to give what they give alone. Knows a runtime and a signature; knows no process and no wire.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from modelport.engine.runtime import MakesUpInputs, Runtime
from modelport.errors import ModelportError, ModelRejectedInput
from modelport.tensors import Array, Signature, TensorSpec, dtype_of

#: Sizes tried for dynamic dimensions that are not the batch; most models accept one of them.
SIZES = (1, 2, 3, 8, 16, 28, 32, 64, 128, 224, 256, 512)
_ROWS = 3


class ProofFailed(ModelportError):
    """No inference succeeded, so the replica is not admitted."""

    code = "proof_failed"


def sample_inputs(signature: Signature, sample: dict[str, Any]) -> dict[str, Array]:
    """The tensors of a manifest's sample (V2 JSON inputs)."""
    found = {entry["name"]: entry for entry in sample["inputs"]}
    inputs: dict[str, Array] = {}
    for spec in signature.inputs:
        entry = found[spec.name]
        data = entry["data"]
        if spec.datatype == "BYTES":
            flat = np.array([str(x).encode() for x in np.asarray(data, dtype=object).reshape(-1)], dtype=object)
            inputs[spec.name] = flat.reshape(entry["shape"])
        else:
            inputs[spec.name] = np.asarray(data, dtype_of(spec.datatype)).reshape(entry["shape"])
    return inputs


def made_up_inputs(signature: Signature, rows: int, size: int, seed: int = 0) -> dict[str, Array]:
    """Inputs that fit the signature: ``rows`` in a dynamic first dimension, ``size`` in the other dynamic ones."""
    random = np.random.default_rng(seed)
    return {spec.name: _fill(spec, rows, size, random) for spec in signature.inputs}


def _fill(spec: TensorSpec, rows: int, size: int, random: np.random.Generator) -> Array:
    shape = tuple(dim if dim >= 0 else (rows if axis == 0 else size) for axis, dim in enumerate(spec.shape))
    if spec.datatype == "BYTES":
        return np.full(shape, b"a", dtype=object)
    dtype = dtype_of(spec.datatype)
    if spec.datatype.startswith(("FP", "BF")):
        return np.asarray(random.random(shape), dtype=dtype)
    return np.asarray(random.integers(0, 2, shape), dtype=dtype)


def _made_up(runtime: Runtime, signature: Signature, rows: int, size: int, seed: int = 0) -> dict[str, Array]:
    if isinstance(runtime, MakesUpInputs):
        return runtime.made_up_inputs(rows, size, seed)
    return made_up_inputs(signature, rows, size, seed)


def _candidates(runtime: Runtime, signature: Signature, sample: dict[str, Any] | None) -> Iterator[dict[str, Array]]:
    if sample is not None:
        yield sample_inputs(signature, sample)
        return
    has_free_dims = isinstance(runtime, MakesUpInputs) or any(-1 in spec.shape[1:] for spec in signature.inputs)
    for size in SIZES if has_free_dims else SIZES[:1]:
        yield _made_up(runtime, signature, 1, size)


def prove(runtime: Runtime, signature: Signature, sample: dict[str, Any] | None) -> dict[str, Array]:
    """Run once and return the inputs that worked; raises ProofFailed with the last cause."""
    cause = "the signature has no inputs"
    for inputs in _candidates(runtime, signature, sample):
        try:
            outputs = runtime.infer(inputs)
        except ModelRejectedInput as error:
            cause = error.message
            continue
        missing = [spec.name for spec in signature.outputs if spec.name not in outputs]
        if missing:
            raise ProofFailed(
                f"the model did not give its output {missing[0]!r}; export it with the outputs that it declares"
            )
        return inputs
    hint = "" if sample is not None else "; push it with --sample FILE to say what its inputs look like"
    raise ProofFailed(f"no proof inference succeeded: {cause}{hint}")


def why_not_batched(runtime: Runtime, signature: Signature, proven: dict[str, Array]) -> str | None:
    """None when several requests may share a run; otherwise the reason, for people."""
    if runtime.not_batched is not None:
        return runtime.not_batched
    if not signature.has_batch_dimension:
        return "an input or output has no dynamic first dimension"
    size = next((n for spec in signature.inputs for n, d in _other_dims(proven[spec.name], spec) if d == -1), 1)
    together = _made_up(runtime, signature, _ROWS, size, seed=1)
    if not isinstance(runtime, MakesUpInputs):
        together |= _known_texts(signature, proven, together)
    try:
        whole = runtime.infer(together)
        for row in range(_ROWS):
            alone = runtime.infer({name: array[row : row + 1] for name, array in together.items()})
            for spec in signature.outputs:
                got, want = whole[spec.name], alone[spec.name]
                if got.shape[:1] != (_ROWS,) or want.shape[:1] != (1,):
                    return f"output {spec.name!r} does not have one row per row of input"
                if not _same(got[row : row + 1], want):
                    return f"output {spec.name!r} of a row depends on the other rows"
    except ModelRejectedInput as error:
        return f"three rows together were refused: {error.message}"
    except Exception as error:  # it has run alone, so it serves: one by one
        cause = error.message if isinstance(error, ModelportError) else type(error).__name__
        return f"three rows together failed: {cause}"
    return None


def _known_texts(signature: Signature, proven: dict[str, Array], made_up: dict[str, Array]) -> dict[str, Array]:
    """Texts that are known to be understood, a date for one, instead of made-up ones."""
    return {
        spec.name: np.resize(proven[spec.name], made_up[spec.name].shape)
        for spec in signature.inputs
        if spec.datatype == "BYTES" and proven[spec.name].shape[1:] == made_up[spec.name].shape[1:]
    }


def _other_dims(array: Array, spec: TensorSpec) -> list[tuple[int, int]]:
    return list(zip(array.shape[1:], spec.shape[1:], strict=True))


def _same(left: Array, right: Array) -> bool:
    if left.shape != right.shape:
        return False
    if left.dtype.kind in "fV":
        return bool(np.allclose(left.astype(np.float64), right.astype(np.float64), 1e-2, 1e-3, equal_nan=True))
    return bool(np.array_equal(left, right))
