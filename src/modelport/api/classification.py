"""The best classes of each row: Triton's ``classification`` extension, and label-and-score objects for V1 and /predict.

A row is one entry of the first dimension of a batched output, or the whole output of a model without batches.
Knows tensors and labels; knows no protocol.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from modelport.errors import InvalidInput
from modelport.tensors import Array, Signature


def _best(scores: Array, k: int) -> Array:
    """Indices [rows, k] of the k largest of each row, largest first; equal scores in the order of their index."""
    keys = scores.astype(np.float64) if scores.dtype.kind in "fbV" else scores.astype(object)
    if keys.dtype == np.float64:
        keys = np.where(np.isnan(keys), -np.inf, keys)
    return np.argsort(-keys, axis=1, kind="stable")[:, :k]


def _rows(tensor: Array, batched: bool) -> Array:
    if tensor.dtype.name == "bfloat16":  # which JSON cannot write
        tensor = tensor.astype(np.float32)
    if batched and tensor.ndim > 1:
        return tensor.reshape(len(tensor), math.prod(tensor.shape[1:]))
    return tensor.reshape(1, tensor.size)


def as_bytes(tensor: Array, k: int, labels: list[str] | None, batched: bool, name: str) -> Array:
    """Triton's form: BYTES ``score:index[:label]``, of shape [rows, k] for a batched model, else [k]."""
    if tensor.dtype.kind == "O":
        raise InvalidInput(f"output {name!r} is BYTES and holds no scores; ask for it without 'classification'")
    scores = _rows(tensor, batched)
    indices = _best(scores, k)
    found = np.empty(indices.shape, dtype=object)
    for (row, rank), index in np.ndenumerate(indices):
        score = scores[row, index]
        text = f"{float(score):f}" if scores.dtype.kind in "fV" else str(int(score))
        text += f":{index}"
        if labels is not None and index < len(labels):
            text += f":{labels[index]}"
        found[row, rank] = text.encode()
    return found if batched else found[0]


def as_objects(tensor: Array, k: int, labels: list[str] | None) -> list[list[dict[str, Any]]]:
    """For each row of scores [rows, classes] the best k as ``{"label", "score"}``, or ``{"index", "score"}``."""
    scores = _rows(tensor, batched=True)
    indices = _best(scores, k)
    best = np.take_along_axis(scores, indices, axis=1)
    return [
        [_named(int(index), score, labels) for index, score in zip(row, values, strict=True)]
        for row, values in zip(indices, best, strict=True)
    ]


def _named(index: int, score: Any, labels: list[str] | None) -> dict[str, Any]:
    if labels is not None and index < len(labels):
        return {"label": labels[index], "score": score}
    return {"index": index, "score": score}


def classified_outputs(signature: Signature, labels: dict[str, list[str]]) -> tuple[str, ...]:
    """The outputs that hold scores of classes: those with labels, else the float matrices. Raises InvalidInput."""
    known = {spec.name for spec in signature.outputs if spec.datatype != "BYTES"}
    found = tuple(name for name in labels if name in known)
    if not found:
        found = tuple(
            spec.name
            for spec in signature.outputs
            if spec.datatype in ("FP16", "FP32", "FP64") and len(spec.shape) == 2 and spec.shape[1] != 1
        )
    if not found:
        raise InvalidInput(
            "'top_k' and 'labels' are for classifiers, and this endpoint has no output of class scores; leave them out"
        )
    return found


def wanted_classes(query: dict[str, str]) -> int | None:
    """How many classes of each row the query asks for: ``top_k=K``, or all with ``labels=true``; None for neither."""
    text = query.get("top_k")
    if text is not None:
        if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) > 0):
            raise InvalidInput(f"query parameter 'top_k' must be a number above 0, not {text[:80]!r}")
        return int(text)
    flag = query.get("labels", "false").lower()
    if flag not in ("true", "false", "1", "0"):
        raise InvalidInput(f"query parameter 'labels' must be true or false, not {flag[:80]!r}")
    return 1 << 30 if flag in ("true", "1") else None
