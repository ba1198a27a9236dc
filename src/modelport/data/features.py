"""Makes columns from columns, and tells which of them say something about the label.

skrub makes features of dates, texts, categories of high cardinality, and aggregates of another table. What it learns
it learns from the whole table given here. Works on up to a million rows, in memory.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import skrub
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

from modelport.data.writing import as_schema, checked_schema, read_parts, rows_in, schema_of, write_parts
from modelport.errors import InvalidInput
from modelport.schemas.features import Aggregate, Dates, FeatureRecipe, Texts

_MOST_ROWS = 1_000_000
_PIECE = 65_536
_MOST_CLASSES = 100


def make_features(
    recipe: FeatureRecipe,
    parts: Sequence[Path],
    label: str | None,
    others: dict[str, Sequence[Path]],
    folder: Path,
    told: Callable[[int, int, str], object],
) -> dict[str, Any]:
    """Write the table with its new columns; the report. ``others`` are the tables that ``aggregate`` steps name."""
    frame = _frame(parts)
    before, count = list(frame.columns), len(recipe.steps) + 1
    for index, step in enumerate(recipe.steps):
        told(index, count, step.step)
        try:
            frame = _applied(step, frame, label, others)
        except (ValueError, TypeError, KeyError) as error:
            cause = str(error).split("\n")[0][:200]
            raise InvalidInput(f"recipe.steps.{index} ({step.step}): {cause}; correct the step") from None
    report: dict[str, Any] = {"columns_before": len(before), "columns_after": len(frame.columns)}
    if label is not None and label in frame.columns:
        told(count - 1, count, "importance")
        importance = _importance(frame, label, recipe.select.seed if recipe.select else 0)
        report["importance"] = importance
        if recipe.select is not None:
            kept = set(list(importance)[: recipe.select.top]) | {label}
            frame = frame[[name for name in frame.columns if name in kept]]
            report |= {"selected": len(kept) - 1, "columns_after": len(frame.columns)}
    table = pa.Table.from_pandas(frame, preserve_index=False)
    schema = checked_schema(table.schema)
    write_parts(folder, schema, (as_schema(batch, schema) for batch in table.to_batches(_PIECE)))
    return report


def _frame(parts: Sequence[Path]) -> Any:
    if sum(rows_in(part) for part in parts) > _MOST_ROWS:
        raise InvalidInput(f"more than {_MOST_ROWS} rows; make features of a part or a sample")
    return pa.Table.from_batches(list(read_parts(parts)), schema_of(parts)).to_pandas(date_as_object=False)


def _applied(step: Any, frame: Any, label: str | None, others: dict[str, Sequence[Path]]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # skrub's hints are for people who look at the code
        if isinstance(step, Dates):
            return _replaced(frame, step.columns, lambda: skrub.DatetimeEncoder(add_weekday=True))
        if isinstance(step, Texts):
            makers: dict[str, Callable[[], Any]] = {
                "gap": lambda: skrub.GapEncoder(n_components=step.components, random_state=0),
                "minhash": lambda: skrub.MinHashEncoder(n_components=step.components),
                "string": lambda: skrub.StringEncoder(n_components=step.components, random_state=0),
            }
            return _replaced(frame, step.columns, makers[step.method])
        if isinstance(step, Aggregate):
            joiner = skrub.AggJoiner(
                _frame(others[step.dataset]), operations=step.operations, key=step.on, cols=step.columns
            )
            return joiner.fit_transform(frame)
        features = frame.drop(columns=[label] if label in frame.columns else [])
        kept = features.select_dtypes(exclude=["object"]) if _has_bytes(features) else features
        made = skrub.TableVectorizer().fit_transform(kept)
        return pd.concat([made, frame[[label]]], axis=1) if label in frame.columns else made


def _replaced(frame: Any, columns: Sequence[str], maker: Callable[[], Any]) -> Any:
    for name in columns:
        if name not in frame.columns:
            raise InvalidInput(f"there is no column {name[:100]!r} there; it has {', '.join(frame.columns)[:300]}")
        made = maker().fit_transform(frame[name])
        at = list(frame.columns).index(name)
        made = pd.DataFrame(made)
        frame = pd.concat([frame.iloc[:, :at], made, frame.iloc[:, at + 1 :]], axis=1)
    return frame


def _has_bytes(frame: Any) -> bool:
    return any(isinstance(value, bytes) for name in frame.columns for value in frame[name].head(1))


def _importance(frame: Any, label: str, seed: int) -> dict[str, float]:
    """How much each number helps extremely randomized trees to tell the label; the most first. It adds up to 1."""
    numbers = frame.drop(columns=[label]).select_dtypes(include=["number", "bool"])
    known = frame[label].notna().to_numpy()
    if not len(numbers.columns) or not known.any():
        return {}
    values = np.nan_to_num(numbers.to_numpy(np.float64)[known], nan=0.0, posinf=0.0, neginf=0.0)
    target = frame[label][known]
    is_class = target.nunique() <= _MOST_CLASSES or target.dtype.kind not in "if"
    kind = ExtraTreesClassifier if is_class else ExtraTreesRegressor
    model = kind(n_estimators=100, max_depth=12, random_state=seed, n_jobs=1)
    model.fit(values, target.astype(str) if is_class else target)
    order = np.argsort(-model.feature_importances_, kind="stable")
    return {str(numbers.columns[index]): round(float(model.feature_importances_[index]), 6) for index in order}
