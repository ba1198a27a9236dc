"""Texts as values: which type a column of texts has, and its values, without those that cannot be read.

Knows no file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from modelport.tensors import Array

#: What stands for a missing value in a text file, besides nothing.
MISSING = ["", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "#N/A"]
TYPES: dict[str, Any] = {
    "int64": pa.int64(),
    "float64": pa.float64(),
    "string": pa.string(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
}
#: Tried in this order; a text like 007 is no number: it would lose its zeros.
_GUESSES: tuple[tuple[Any, str], ...] = (
    (pa.int64(), r"^[+-]?(0|[1-9][0-9]{0,18})$"),
    (pa.float64(), r"^[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$|^[+-]?(inf|Inf|Infinity)$"),
    (pa.bool_(), r"^(true|false|True|False|TRUE|FALSE)$"),
    (pa.date32(), r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"),
    (pa.timestamp("us"), r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]+$"),
    (pa.timestamp("us", "UTC"), r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]+(Z|[+-][0-9]{2}:?[0-9]{2})$"),
)


def guess_type(texts: Any) -> Any:
    """The narrowest type that all of the texts have; ``string`` when there is none, or no text."""
    found = pc.utf8_trim_whitespace(pc.drop_null(texts))
    if not len(found):
        return pa.string()
    for kind, pattern in _GUESSES:
        if pc.all(pc.match_substring_regex(found, pattern)).as_py():
            try:
                pc.cast(found, kind)
            except pa.ArrowInvalid:  # digits in the right places, but no such number or day
                continue
            return kind
    return pa.string()


def read_texts(texts: Any, kind: Any) -> tuple[Any, Array]:
    """The texts as ``kind``, and which of them (a boolean array) cannot be read and became null."""
    none_bad = np.zeros(len(texts), bool)
    if pa.types.is_string(kind):
        return texts, none_bad
    trimmed = pc.utf8_trim_whitespace(texts)
    try:
        return pc.cast(trimmed, kind), none_bad
    except pa.ArrowInvalid:
        return _one_by_one(trimmed, kind)


def read_objects(values: list[Any], kind: Any) -> tuple[Any, Array]:
    """Values from JSON as ``kind``, and which of them do not fit and became null."""
    if pa.types.is_string(kind):
        values = [value if value is None or isinstance(value, str) else _json(value) for value in values]
    elif not pa.types.is_boolean(kind):
        values = [value if value is None or not isinstance(value, bool) else _Wrong for value in values]
    try:
        if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
            return read_texts(pa.array(values, pa.string()), kind)
        return pa.array(values, kind), np.zeros(len(values), bool)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        return _one_by_one(values, kind)


def type_of_objects(values: list[Any]) -> Any:
    """The type of a field's values from JSON; objects, and lists of several kinds, are kept as their JSON text."""
    found = [value for value in values if value is not None]
    kinds = {type(value) for value in found}
    if kinds == {str}:
        guessed = guess_type(pa.array(found, pa.string()))
        is_time = pa.types.is_date(guessed) or pa.types.is_timestamp(guessed)
        return guessed if is_time else pa.string()
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int} and all(-(2**63) <= value < 2**63 for value in found):
        return pa.int64()
    if kinds and kinds <= {int, float}:
        return pa.float64()
    if kinds == {list}:
        inner = type_of_objects([item for value in found for item in value])
        if inner in (pa.int64(), pa.float64(), pa.bool_()) or all(isinstance(i, str) for v in found for i in v):
            return pa.list_(inner if inner in (pa.int64(), pa.float64(), pa.bool_()) else pa.string())
    return pa.string()


def iso_texts(column: Any) -> Any:
    """Dates and times as models take them: texts in ISO 8601 to the second, in UTC where they have a time zone."""
    kind = column.type
    if pa.types.is_date(kind):
        return pc.strftime(column, "%Y-%m-%d")
    moments = pc.cast(column, pa.timestamp("us", kind.tz), safe=False)
    seconds = pc.cast(pc.floor_temporal(moments, unit="second"), pa.timestamp("s", kind.tz), safe=False)
    return pc.strftime(pc.cast(seconds.cast(pa.int64()), pa.timestamp("s")), "%Y-%m-%dT%H:%M:%S")


class _Wrong:
    """Stands for a value that fits no type."""


def _one_by_one(values: Any, kind: Any) -> tuple[Any, Array]:
    bad = np.zeros(len(values), bool)
    good = list(_each(values, kind, bad))
    return pa.array(good, kind), bad


def _each(values: Any, kind: Any, bad: Array) -> Iterator[Any]:
    is_text = isinstance(values, pa.Array | pa.ChunkedArray)
    for index, value in enumerate(values):
        try:
            made = pc.cast(value, kind) if is_text else pa.scalar(value, kind)
            yield made.as_py()
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, TypeError):
            bad[index] = True
            yield None


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
