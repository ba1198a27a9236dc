"""Finds labels that are probably wrong, by confident learning (Northcutt, Jiang, Chuang: JAIR 70, 2021).

Each row's class probabilities come from a model that was fitted without it. A row is suspected when another class is
at least as probable as that class is on average among the rows that bear its name.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from modelport.data.recipe import LabelErrors
from modelport.data.writing import read_parts, rows_in, schema_of
from modelport.errors import InvalidInput, MissingExtra
from modelport.tensors import Array

_MOST_ROWS = 1_000_000
_SHOWN = 100
_SIDE = 16


def label_errors(parts: Sequence[Path], codes: Array, classes: Sequence[Any], rule: LabelErrors) -> dict[str, Any]:
    """The suspected rows (``rows``) and what a report shows of them, the surest first."""
    if sum(rows_in(part) for part in parts) > _MOST_ROWS:
        raise InvalidInput(f"more than {_MOST_ROWS} rows; look for label errors in a sample of them")
    counts = np.bincount(codes[codes >= 0], minlength=len(classes))
    if len(classes) < 2 or counts.min() < rule.folds:
        raise InvalidInput(f"needs two classes with {rule.folds} rows each; the smallest has {int(counts.min())}")
    known = np.flatnonzero(codes >= 0)
    chances = _out_of_sample(_matrix(parts, rule)[known], codes[known], rule)
    given = codes[known]
    own = chances[np.arange(len(known)), given]
    thresholds = np.array([chances[given == code, code].mean() for code in range(len(classes))])
    likely = np.where(chances >= thresholds, chances, -1.0)
    suggested = likely.argmax(axis=1)
    suspected = np.flatnonzero((likely.max(axis=1) >= 0) & (suggested != given))
    surest = suspected[np.argsort(own[suspected] - chances[suspected, suggested[suspected]], kind="stable")]
    shown = [
        {
            "row": int(known[index]),
            "label": str(classes[given[index]]),
            "suggested": str(classes[suggested[index]]),
            "probability": round(float(chances[index, suggested[index]]), 4),
        }
        for index in surest[:_SHOWN]
    ]
    accuracy = float((chances.argmax(axis=1) == given).mean())
    return {"rows": known[suspected], "suspected": len(suspected), "accuracy": round(accuracy, 4), "surest": shown}


def _out_of_sample(features: Array, codes: Array, rule: LabelErrors) -> Array:
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.model_selection import StratifiedKFold, cross_val_predict  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

    folds = StratifiedKFold(rule.folds, shuffle=True, random_state=rule.seed)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    found: Array = cross_val_predict(model, features, codes, cv=folds, method="predict_proba")
    return found


def _matrix(parts: Sequence[Path], rule: LabelErrors) -> Array:
    """Numbers for each row, missing ones as their column's mean."""
    schema = schema_of(parts)
    names = rule.features or [
        field.name
        for field in schema
        if field.name != rule.column and (pa.types.is_integer(field.type) or pa.types.is_floating(field.type))
    ]
    if rule.features is None and "image" in schema.names:
        return np.concatenate([_pixels(batch.column(0)) for batch in read_parts(parts, ["image"])])
    if not names:
        raise InvalidInput("there is no numeric column to learn from; name some in features")
    pieces = [
        np.stack([column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False) for column in batch.columns], 1)
        for batch in read_parts(parts, names)
    ]
    matrix = np.concatenate(pieces)
    matrix[~np.isfinite(matrix)] = np.nan
    means = np.nan_to_num(np.nanmean(matrix, axis=0)) if len(matrix) else 0.0
    return np.where(np.isnan(matrix), means, matrix)


def _pixels(images: Any) -> Array:
    try:
        from PIL import Image  # noqa: PLC0415
    except ImportError:
        raise MissingExtra("image", "looking at images") from None
    rows = []
    for image in images.to_pylist():
        with Image.open(io.BytesIO(image)) as opened:
            rows.append(np.asarray(opened.convert("L").resize((_SIDE, _SIDE)), np.float64).reshape(-1) / 255)
    return np.stack(rows) if rows else np.empty((0, _SIDE * _SIDE))
