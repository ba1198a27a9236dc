"""What a scikit-learn estimator takes and gives: it is loaded through skops, and tried on two rows.

Types are held against what skops and the operator trust, never against anything in the file. Runs in the inspection
process only.
"""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from modelport.engine.runtime import Inspected, Trust
from modelport.engine.runtimes.sklearn import (
    INPUT,
    REJECTIONS,
    as_tensor,
    first_line,
    load_estimator,
    methods_of,
    work_alone,
)
from modelport.errors import ArtifactRefused
from modelport.tensors import Array, Signature, TensorSpec, datatype_of

_MOST_FEATURES = 1_000_000


def inspect_estimator(path: Path, trust: Trust) -> Inspected:
    """Load the estimator of a skops file whose container is sound; raises ArtifactRefused with the cause."""
    estimator = _load(path, trust)
    rows, given = _example(estimator)
    outputs, labels = _outputs(estimator, rows)
    details: dict[str, Any] = {
        "estimator": _class_name(estimator),
        "saved_with": _versions(path),
        "sklearn": sklearn.__version__,
    }
    names = getattr(estimator, "feature_names_in_", None)
    if names is not None:
        details["feature_names"] = [str(name)[:300] for name in names]
    return Inspected("sklearn", "sklearn", Signature((given,), outputs), labels, details)


def _load(path: Path, trust: Trust) -> Any:
    try:
        estimator = load_estimator(path, trust)
    except ArtifactRefused:
        raise
    except Exception as error:  # skops leaves it to each type what it raises for a falsified schema
        raise ArtifactRefused(f"the skops file cannot be loaded: it is damaged ({type(error).__name__})") from None
    if not isinstance(estimator, BaseEstimator):
        raise ArtifactRefused(f"the skops file holds a {_class_name(estimator)}, not a scikit-learn estimator")
    try:
        check_is_fitted(estimator)
    except (NotFittedError, TypeError):
        raise ArtifactRefused(f"the {type(estimator).__name__} is not fitted: fit it, save it, push again") from None
    work_alone(estimator)
    return estimator


def _example(estimator: Any) -> tuple[Array, TensorSpec]:
    """Two rows to try the estimator on, and the specification of its input."""
    for part in _parts(estimator):
        chosen = [columns for _, _, columns in getattr(part, "transformers_", [])]
        if any(isinstance(name, str) for columns in chosen for name in _listed(columns)):
            raise ArtifactRefused(
                "a ColumnTransformer selects columns by name, which needs a data frame: select them by position, "
                "or convert the model with skl2onnx (one input per column)"
            )
    features = getattr(estimator, "n_features_in_", None)
    if features is None:
        first = next(_parts(estimator))
        if hasattr(first, "build_analyzer"):
            return np.array(["a text", "another one"], dtype=object), TensorSpec(INPUT, "BYTES", (-1,))
        raise ArtifactRefused(
            f"the {type(estimator).__name__} does not say how many features it takes (n_features_in_)"
        )
    if type(features) is not int or not 0 < features <= _MOST_FEATURES:
        raise ArtifactRefused(f"the {type(estimator).__name__} says that it takes {str(features)[:40]} features")
    return np.zeros((2, features)), TensorSpec(INPUT, "FP64", (-1, features))


def _parts(estimator: Any) -> Iterator[Any]:
    """The innermost first step, then everything that a pipeline is made of."""
    steps = getattr(estimator, "steps", None)
    if not steps:
        yield estimator
        return
    for _, step in steps:
        yield from _parts(step)


def _listed(columns: Any) -> Any:
    return [columns] if isinstance(columns, str) else columns if isinstance(columns, list | tuple | np.ndarray) else []


def _outputs(estimator: Any, rows: Array) -> tuple[tuple[TensorSpec, ...], dict[str, list[str]]]:
    specs: list[TensorSpec] = []
    labels: dict[str, list[str]] = {}
    for name, method in methods_of(estimator).items():
        found = _try(estimator, method, rows)
        if found.ndim not in (1, 2) or len(found) != len(rows):
            raise ArtifactRefused(f"{method} gives shape {list(found.shape)} for 2 rows, not one answer per row")
        specs.append(TensorSpec(name, datatype_of(found.dtype), (-1, *found.shape[1:])))
        if name == "probabilities":
            classes = [str(label)[:300] for label in estimator.classes_]
            if len(classes) == found.shape[-1]:
                labels[name] = classes
    if not specs:
        raise ArtifactRefused(
            f"a {type(estimator).__name__} has neither predict nor transform: there is nothing to serve"
        )
    return tuple(specs), labels


def _try(estimator: Any, method: str, rows: Array) -> Array:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return as_tensor(getattr(estimator, method)(rows))
        except REJECTIONS as error:
            raise ArtifactRefused(
                f"{method} fails on two rows of {'texts' if rows.dtype == object else 'zeros'}: {first_line(error)}; "
                "an estimator that takes something else is served as ONNX (skl2onnx)"
            ) from None
        except AttributeError as error:
            raise ArtifactRefused(
                f"{method} fails: {first_line(error)}; it was saved with another release of scikit-learn "
                f"than this server's {sklearn.__version__}, or is damaged"
            ) from None


def _class_name(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"[:200]


def _versions(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        schema = json.loads(archive.read("schema.json"))
    return f"skops {schema.get('_skops_version')}"[:100] if isinstance(schema, dict) else ""
