"""Makes columns from columns, and tells which of them say something about the label.

skrub makes features of dates, texts, categories of high cardinality, and aggregates of another table. What it learns
it learns from the whole table given here. Works on up to a million rows, in memory. Lists of equally many numbers
(vectors) are numbers, too.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import skrub
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

from modelport.data.writing import as_schema, checked_schema, read_parts, rows_in, schema_of, write_parts
from modelport.errors import InvalidInput
from modelport.schemas.features import Aggregate, AnyStep, Dates, Selection, Texts
from modelport.tensors import Array

_MOST_ROWS = 1_000_000
_PIECE = 65_536
_MOST_CLASSES = 100


def make_features(
    steps: Mapping[int, AnyStep],
    select: Selection | None,
    parts: Sequence[Path],
    label: str | None,
    others: Mapping[str, Sequence[Path]],
    folder: Path,
    told: Callable[[int, str], object],
    weigh: bool = True,
) -> dict[str, Any]:
    """Write the table with what the steps (by their number in the recipe) make; the report.

    ``others`` are the tables that ``aggregate`` steps name; ``weigh`` asks what each column says about the label.
    """
    frame = _frame(parts)
    for index, step in steps.items():
        told(index, step.step)
        try:
            frame = _applied(step, frame, label, others)
        except (ValueError, TypeError, KeyError) as error:
            cause = str(error).split("\n")[0][:200]
            raise InvalidInput(f"recipe.steps.{index} ({step.step}): {cause}; correct the step") from None
    report: dict[str, Any] = {}
    if weigh and label is not None and label in frame.columns:
        told(max(steps, default=-1) + 1, "importance")
        importance = _importance(frame, label, select.seed if select else 0)
        report["importance"] = importance
        if select is not None:
            kept = set(list(importance)[: select.top]) | {label}
            frame = frame[[name for name in frame.columns if name in kept]]
            report["selected"] = len(kept) - 1
    table = pa.Table.from_pandas(frame, preserve_index=False)
    schema = checked_schema(table.schema)
    write_parts(folder, schema, (as_schema(batch, schema) for batch in table.to_batches(_PIECE)))
    return report


def _frame(parts: Sequence[Path]) -> Any:
    if sum(rows_in(part) for part in parts) > _MOST_ROWS:
        raise InvalidInput(f"more than {_MOST_ROWS} rows; make features of a part or a sample")
    return pa.Table.from_batches(list(read_parts(parts)), schema_of(parts)).to_pandas(date_as_object=False)


def _applied(step: Any, frame: Any, label: str | None, others: Mapping[str, Sequence[Path]]) -> Any:
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
        vectors = _vectors(features)
        unfit = [name for name in features.columns if name in vectors or _is_bytes(features[name])]
        made = (
            [skrub.TableVectorizer().fit_transform(features.drop(columns=unfit))]
            if len(unfit) < len(features.columns)
            else []
        )
        for name, values in vectors.items():
            made.append(pd.DataFrame(values, columns=[f"{name}_{number}" for number in range(values.shape[1])]))
        return pd.concat([*made, *([frame[[label]]] if label in frame.columns else [])], axis=1)


def _replaced(frame: Any, columns: Sequence[str], maker: Callable[[], Any]) -> Any:
    for name in columns:
        if name not in frame.columns:
            raise InvalidInput(f"there is no column {name[:100]!r} there; it has {', '.join(frame.columns)[:300]}")
        made = maker().fit_transform(frame[name])
        at = list(frame.columns).index(name)
        made = pd.DataFrame(made)
        frame = pd.concat([frame.iloc[:, :at], made, frame.iloc[:, at + 1 :]], axis=1)
    return frame


def _is_bytes(column: Any) -> bool:
    return column.dtype == object and any(isinstance(value, bytes) for value in column.head(1))


def _vectors(frame: Any) -> dict[str, Array]:
    """Columns of lists of equally many numbers: [rows, numbers] by name."""
    found: dict[str, Array] = {}
    for name in frame.columns:
        values = frame[name].tolist() if frame[name].dtype == object else []
        shapes = {
            value.shape if isinstance(value, np.ndarray) and value.dtype.kind in "iuf" else () for value in values
        }
        if len(shapes) == 1 and len(shapes.pop()) == 1:
            found[name] = np.stack(values)
    return found


def _importance(frame: Any, label: str, seed: int) -> dict[str, float]:
    """How much each number or vector helps extremely randomized trees to tell the label; the most first; together 1."""
    features = frame.drop(columns=[label])
    numbers, vectors = features.select_dtypes(include=["number", "bool"]), _vectors(features)
    known = frame[label].notna().to_numpy()
    names = [*numbers.columns, *(name for name, found in vectors.items() for _ in range(found.shape[1]))]
    if not names or not known.any():
        return {}
    values = np.concatenate([numbers.to_numpy(np.float64), *vectors.values()], axis=1)[known]
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    target = frame[label][known]
    is_class = target.nunique() <= _MOST_CLASSES or target.dtype.kind not in "if"
    kind = ExtraTreesClassifier if is_class else ExtraTreesRegressor
    model = kind(n_estimators=100, max_depth=12, random_state=seed, n_jobs=1)
    model.fit(values, target.astype(str) if is_class else target)
    summed: dict[str, float] = dict.fromkeys(map(str, names), 0.0)
    for name, importance in zip(names, model.feature_importances_, strict=True):
        summed[str(name)] += float(importance)
    return {name: round(value, 6) for name, value in sorted(summed.items(), key=lambda pair: -pair[1])}
