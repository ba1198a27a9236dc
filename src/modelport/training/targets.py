"""Classes to learn: which there are, each row's code, what a row counts. Knows columns and statistics, and no network.

Classes are in the order of their numbers, or of their texts; their names are texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modelport.errors import InvalidInput
from modelport.plugins import nearest
from modelport.tensors import Array
from modelport.training.recipe import TrainingData

_MOST = 10_000
_FEW, _MOST_TOLD = 10, 10
UNKNOWN = -1
"""The code of a row without a label."""


def check_classes(data: TrainingData, gaps: bool = False) -> list[str]:
    """Warnings; raises InvalidInput for a target that no classes can be learnt from. ``gaps``: rows may lack it."""
    name = data.target
    if name is None:
        raise InvalidInput("target: say which column holds the classes")
    kind = data.target_type or ""
    if kind.startswith(("float", "double", "halffloat", "list", "binary", "struct", "map", "decimal")):
        raise InvalidInput(f"target: column {name!r} is {kind}, which holds no classes")
    column = next((column for column in data.facts.columns if column.name == name), None)
    if column is not None:
        if column.nulls and column.nulls == data.facts.rows:
            raise InvalidInput(f"target: column {name!r} has no values at all")
        if column.nulls and not gaps:
            raise InvalidInput(
                f"target: column {name!r} lacks {column.nulls} of {data.facts.rows} values; remove those rows"
            )
        if column.distinct == 1:
            raise InvalidInput(f"target: column {name!r} has one class alone; there is nothing to tell apart")
        if column.distinct is not None and column.distinct > _MOST:
            raise InvalidInput(f"target: column {name!r} has {column.distinct} values, too many to be classes")
    counts = data.facts.class_balance if data.facts.label == name else {}
    if any(not label.strip() for label in counts):
        raise InvalidInput(f"target: column {name!r} has an empty class; give it a name, or remove its rows")
    return [
        f"class {label[:100]!r} has {count} rows in all: figures for it are hardly reliable"
        for label, count in counts.items()
        if count < _FEW
    ][:_MOST_TOLD]


def told_of_few(codes: Array, classes: Sequence[Any]) -> list[str]:
    """Warnings about classes with hardly a row to learn from; ``codes`` below 0 are rows without a class."""
    counts = np.bincount(codes[codes >= 0], minlength=len(classes))
    return [
        f"class {str(classes[code])!r} has {int(counts[code])} rows to learn from; figures for it are hardly reliable"
        for code in np.flatnonzero(counts < _FEW).tolist()
    ][:_MOST_TOLD]


def check_weights(
    weights: Mapping[str, float], classes: Sequence[str] | Mapping[str, int], option: str = "class_weights"
) -> None:
    """Raise InvalidInput for a weight of a class that is not there."""
    known = list(classes)
    unknown = next((label for label in weights if known and label not in known), None)
    if unknown is not None:
        raise InvalidInput(f"options.{option}: there is no class {unknown!r}{nearest(unknown, known)}")


def texts_of(values: Sequence[Any]) -> list[str | None]:
    """Values of a column as names of classes."""
    return [
        None if value is None else "true" if value is True else "false" if value is False else str(value)
        for value in values
    ]


def classes_of(values: Sequence[Any], name: str) -> list[str]:
    """The classes among values of a column, sorted; raises InvalidInput for fewer than two."""
    known = {value for value in values if value is not None}
    found = [str(text) for text in texts_of(sorted(known))]
    if len(found) < 2:
        what = f"one class, {found[0]!r}" if found else "no class"
        raise InvalidInput(f"target: the training rows have {what} in column {name!r}; give rows of another too")
    return found


def codes_of(values: Sequence[Any], classes: Sequence[str], name: str, rows: str = "validation") -> Array:
    """Int64 [rows] places among the classes; raises InvalidInput for one that is not among them."""
    places: dict[str | None, int] = {label: at for at, label in enumerate(classes)} | {None: UNKNOWN}
    texts = texts_of(values)
    unknown = next((text for text in texts if text not in places), None)
    if unknown is not None:
        raise InvalidInput(
            f"target: class {unknown[:100]!r} of column {name!r} is among the {rows} rows alone; split by strata, so "
            "that it can be learnt"
        )
    return np.array([places[text] for text in texts], np.int64)


def class_weights(how: str | Mapping[str, float], classes: Sequence[str], codes: Array) -> Array | None:
    """Float32 [classes] what a row of each counts, 1 on average over the rows; None when all count alike."""
    if how == "none":
        return None
    counts = np.bincount(codes[codes >= 0], minlength=len(classes)).astype(np.float64)
    if isinstance(how, str):
        found = counts.sum() / (len(classes) * np.maximum(counts, 1))
    else:
        check_weights(how, classes)
        found = np.array([how.get(label, 1.0) for label in classes])
        found = found * counts.sum() / (found * counts).sum()
    weights: Array = found.astype(np.float32)
    return weights
