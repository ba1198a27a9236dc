"""Runs scikit-learn estimators that were saved with skops: one input matrix (or column of texts), named outputs.

A classifier gives ``label`` and, when it can, ``probabilities``; everything else gives ``output``. Only types that
skops or the operator trusts are loaded. Knows nothing of requests, batches or processes.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import is_classifier
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from modelport.engine.formats.skops_library import UntrustedTypesFoundException
from modelport.engine.formats.skops_library import library as skops
from modelport.engine.formats.skops_zip import find_skops
from modelport.engine.runtime import LoadOptions, Runtime, Trust
from modelport.engine.runtimes.texts import to_bytes, to_texts
from modelport.errors import ArtifactRefused, ModelRejectedInput
from modelport.tensors import Array, Signature, dtype_of

INPUT = "input"
#: Plain holders of numbers inside scikit-learn that skops does not list: used while fitting, never while predicting.
_PLAIN_TYPES = tuple(
    f"sklearn.neural_network._stochastic_optimizers.{name}" for name in ("AdamOptimizer", "SGDOptimizer")
)
#: What an estimator raises for values that it cannot take, such as NaN.
REJECTIONS = (ValueError, TypeError, ArithmeticError, LookupError)


class SklearnRuntime(Runtime):
    """One estimator."""

    name = "sklearn"
    platform = "sklearn_skops"

    def __init__(self, estimator: Any, signature: Signature) -> None:
        self._calls = [(name, getattr(estimator, method)) for name, method in methods_of(estimator).items()]
        self._dtypes = {spec.name: dtype_of(spec.datatype) for spec in signature.outputs}
        self._calls = [(name, method) for name, method in self._calls if name in self._dtypes]
        self._takes_text = signature.inputs[0].datatype == "BYTES"

    @classmethod
    def load(cls, options: LoadOptions) -> Self:
        """Load through skops with the operator's list of trusted types; raises ArtifactRefused for any other type."""
        found = find_skops(options.folder, options.files)
        if not found:
            raise ArtifactRefused("there is no skops file among the version's files")
        threadpool_limits(limits=options.threads)
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        estimator = load_estimator(options.folder / found[0], options.trust)
        work_alone(estimator)
        return cls(estimator, options.signature)

    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Run once; raises ModelRejectedInput when the estimator cannot take these values."""
        rows = to_texts(INPUT, inputs[INPUT]) if self._takes_text else inputs[INPUT]
        try:
            return {name: as_tensor(call(rows)).astype(self._dtypes[name], copy=False) for name, call in self._calls}
        except REJECTIONS as error:
            raise ModelRejectedInput(f"the model cannot run this input: {first_line(error)}") from None


def load_estimator(path: Path, trust: Trust) -> Any:
    """The estimator of a skops file; raises ArtifactRefused, naming the types that nobody on this server trusts."""
    trusted = [*_PLAIN_TYPES, *trust.sklearn_types]
    try:
        return skops.load(path, trusted=trusted)
    except UntrustedTypesFoundException:
        unknown = sorted(set(skops.get_untrusted_types(file=path)) - set(trusted))
        shown = ", ".join(name[:120] for name in unknown[:10]) + (" …" if len(unknown) > 10 else "")
        raise ArtifactRefused(
            f"the skops file holds types that this server does not trust: {shown}. An operator who trusts its author "
            f"starts the server again with MODELPORT_TRUST_SKLEARN_TYPES='{json.dumps(unknown[:10])}', or with that "
            "list under trust: sklearn_types: in settings.yaml; or convert the model to ONNX with skl2onnx"
        ) from None


def methods_of(estimator: Any) -> dict[str, str]:
    """Output name to the estimator's method that makes it."""
    if is_classifier(estimator):
        methods = {"label": "predict"}
        several = isinstance(getattr(estimator, "classes_", None), list)
        if hasattr(estimator, "predict_proba") and not several:
            methods["probabilities"] = "predict_proba"
        return methods
    for method in ("predict", "transform"):
        if hasattr(estimator, method):
            return {"output": method}
    return {}


def as_tensor(found: Any) -> Array:
    """What a method returned, as a dense array of a data type that travels: texts become BYTES, integers INT64."""
    array = np.asarray(found.toarray() if hasattr(found, "toarray") else found)
    if array.dtype.kind in "iu":
        return array.astype(np.int64, copy=False)
    if array.dtype.kind == "f":
        return array.astype(np.float32 if array.dtype.itemsize <= 4 else np.float64, copy=False)
    return to_bytes(array) if array.dtype.kind in "USO" else array


def work_alone(estimator: Any) -> None:
    """One job per estimator: a replica's threads are its deployment's business, and it starts no processes."""
    jobs = [name for name in estimator.get_params() if name == "n_jobs" or name.endswith("__n_jobs")]
    estimator.set_params(**dict.fromkeys(jobs, 1))


def first_line(error: BaseException) -> str:
    """A library's message, its first line, at most 300 characters."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]
