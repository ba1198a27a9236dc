"""Rows as models are given them: a column of numbers, of true and false, or of texts. Loads pyarrow.

Numbers are float64 (a missing one is NaN), texts are ``str`` (a missing one is empty), dates and times are texts in
ISO 8601, in UTC where they have a time zone. Those are the inputs of the model that is made, one for each column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelport.data.values import iso_texts
from modelport.data.writing import read_parts
from modelport.errors import InvalidInput
from modelport.tensors import Array

#: Values by column, each an array of one dimension.
Rows = Mapping[str, Array]

_NUMBERS = ("int", "uint", "float", "double", "halffloat")


def input_kind(arrow_type: str) -> str | None:
    """``number``, ``flag``, ``text`` or ``date`` for a type as Arrow writes it; None for what tables cannot hold."""
    if arrow_type.startswith(_NUMBERS):
        return "number"
    if arrow_type == "bool":
        return "flag"
    if arrow_type in ("string", "large_string"):
        return "text"
    return "date" if arrow_type.startswith(("date", "timestamp")) else None


def read_rows(parts: Sequence[Path], columns: Sequence[str]) -> dict[str, Array]:
    """The columns of all rows, in order."""
    pieces: dict[str, list[Array]] = {name: [] for name in columns}
    for batch in read_parts(parts, list(columns)):
        for name in columns:
            pieces[name].append(values_of(name, batch.column(name)))
    return {name: np.concatenate(found) if found else np.empty(0) for name, found in pieces.items()}


def values_of(name: str, column: Any) -> Array:
    """An Arrow column as an array: float64, bool (where nothing is missing), or texts."""
    kind = column.type
    if pa.types.is_boolean(kind) and not column.null_count:
        return np.asarray(column.to_numpy(zero_copy_only=False), bool)
    if pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    elif pa.types.is_temporal(kind):
        column = iso_texts(column)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        texts = np.empty(len(column), object)
        texts[:] = column.fill_null("").to_pylist()
        return texts
    try:
        floats = pc.cast(column, pa.float64(), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise InvalidInput(f"column {name!r} is {kind}, which is no number, text or date; leave it out") from None
    return np.asarray(floats.to_numpy(zero_copy_only=False), np.float64)


def joined(rows: Rows, others: Rows) -> dict[str, Array]:
    """The rows of both; a column that is bool in one of them alone becomes numbers."""
    return {name: np.concatenate([rows[name], others[name]]) for name in rows}


def taken(rows: Rows, places: Array) -> dict[str, Array]:
    """Some rows."""
    return {name: values[places] for name, values in rows.items()}


def count(rows: Rows) -> int:
    """How many there are."""
    return len(next(iter(rows.values()))) if rows else 0
