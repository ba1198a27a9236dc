"""All columns to one matrix: chooses what becomes of each by its type and values, or as it is told.

What it leaves out it says: columns with one value, and columns whose every value is another one (numbers of rows, ids).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from modelport.errors import InvalidInput
from modelport.tensors import Array
from modelport.training.encoders import categories, dates, numbers, texts
from modelport.training.encoders.graph import Graph
from modelport.training.encoders.table import Rows, count, taken

Kind = Literal["number", "flag", "category", "many", "text", "date", "ignore"]
_ENCODERS: dict[str, Any] = {
    made.__name__: made
    for made in (
        numbers.Numbers, numbers.Flags, categories.OneHot, categories.NumberOneHot, categories.TargetMeans,
        categories.Hashed, texts.Words, dates.Dates,
    )
}  # fmt: skip
_ID_ROWS = 20


@dataclass(frozen=True, slots=True)
class Wishes:
    """How columns become numbers."""

    kinds: Mapping[str, str] = field(default_factory=dict)
    """By column, where it is not to be chosen."""
    max_categories: int = 32
    many: str = "target"
    """What becomes of a column with more names: ``target``, ``frequency``, ``hash`` or ``ignore``."""
    max_words: int = 512
    buckets: int = 256
    keep_missing: bool = False
    seed: int = 0


@dataclass(slots=True)
class Encoder:
    """The encoders of all columns, side by side."""

    parts: list[Any]
    notes: list[str] = field(default_factory=list)
    """What was left out, and why."""

    @property
    def columns(self) -> list[str]:
        """Those that it looks at."""
        return list(dict.fromkeys(name for name, _ in self.names))

    @property
    def names(self) -> list[tuple[str, str]]:
        """Column, and what of it, by place in the matrix."""
        return [name for part in self.parts for name in part.names]

    def transform(self, rows: Rows) -> Array:
        """[rows, width] float32."""
        found: Array = np.concatenate([part.transform(rows) for part in self.parts], axis=1)
        return found

    def nodes(self, graph: Graph) -> str:
        """The same as ONNX: the name of a tensor [rows, width] FP32."""
        made = [part.nodes(graph) for part in self.parts]
        return str(graph.add("Concat", *made, axis=1)) if len(made) > 1 else str(made[0])

    def state(self) -> list[dict[str, Any]]:
        """As JSON."""
        return [{"kind": type(part).__name__, **asdict(part)} for part in self.parts]

    @classmethod
    def from_state(cls, state: list[dict[str, Any]]) -> Encoder:
        """The inverse of ``state``; raises InvalidInput for anything else."""
        try:
            return cls([_ENCODERS[part["kind"]](**{k: v for k, v in part.items() if k != "kind"}) for part in state])
        except (KeyError, TypeError, AttributeError):
            raise InvalidInput("start: what the version says of its columns cannot be read; train anew") from None


def fit(rows: Rows, types: Mapping[str, str], target: Array | None, wishes: Wishes) -> tuple[Encoder, Array]:
    """Learn from rows (``types`` by column: number, flag, text or date); the encoder and the rows' own matrix.

    Raises InvalidInput when no column is left.
    """
    kinds, notes = choose(rows, types, wishes)
    parts: list[Any] = []
    matrices: list[Array] = []
    numeric = [name for name, kind in kinds.items() if kind == "number"]
    flags = [name for name, kind in kinds.items() if kind == "flag"]
    if numeric:
        parts.append(numbers.Numbers.fit(rows, numeric, wishes.keep_missing))
    if flags:
        parts.append(numbers.Flags(flags))
    matrices = [part.transform(rows) for part in parts]
    for name, kind in kinds.items():
        if kind in ("number", "flag", "ignore"):
            continue
        part, matrix = _fit_one(rows, name, kind, types[name], target, wishes)
        if part.names:
            parts.append(part)
            matrices.append(part.transform(rows) if matrix is None else matrix)
        else:
            notes.append(f"column {name!r} was left out: no word stands in two of its rows")
    if not parts:
        raise InvalidInput("no column is left to learn from: " + ("; ".join(notes) or "name some in features"))
    return Encoder(parts, notes), np.concatenate(matrices, axis=1)


def _fit_one(
    rows: Rows, name: str, kind: str, given: str, target: Array | None, wishes: Wishes
) -> tuple[Any, Array | None]:
    if kind == "category" and given != "text":
        return categories.NumberOneHot.fit(rows, name, wishes.max_categories), None
    if kind == "category":
        return categories.OneHot.fit(rows, name, wishes.max_categories), None
    if kind == "many" and wishes.many == "hash":
        return categories.Hashed(name, wishes.buckets), None
    if kind == "many":
        return categories.TargetMeans.fit(rows, name, target if wishes.many == "target" else None, wishes.seed)
    if kind == "text":
        return texts.Words.fit(rows, name, wishes.max_words), None
    return dates.Dates.fit(rows, name), None


def choose(rows: Rows, types: Mapping[str, str], wishes: Wishes) -> tuple[dict[str, str], list[str]]:
    """What becomes of each column, and what there is to say about it."""
    kinds: dict[str, str] = {}
    notes: list[str] = []
    for name, given in types.items():
        wish = wishes.kinds.get(name)
        values = rows[name]
        if wish is not None:
            _check_wish(name, wish, given)
            kinds[name] = wish if wish != "number" or given != "flag" else "flag"
            continue
        found, why = _kind_of(values, given, wishes)
        if why:
            notes.append(f"column {name!r} was left out: {why}")
        kinds[name] = found
    return kinds, notes


def _check_wish(name: str, wish: str, given: str) -> None:
    fitting = {
        "number": ("number", "category", "ignore"),
        "flag": ("flag", "number", "ignore"),
        "text": ("category", "many", "text", "date", "ignore"),
        "date": ("date", "ignore"),
    }[given]
    if wish not in fitting:
        raise InvalidInput(f"options.columns: {name!r} holds {given}s, which can be {', '.join(fitting)}, not {wish!r}")


def _kind_of(values: Array, given: str, wishes: Wishes) -> tuple[str, str]:
    """What becomes of a column, and why it is left out, if it is."""
    if given == "number":
        known = values[np.isfinite(values)]
        distinct = np.unique(known)
        if len(distinct) <= 1 and len(known) in (0, len(values)):
            return "ignore", "it has one value in all rows" if len(known) else "it has no value"
        if len(distinct) == len(values) and _counts(distinct):
            return "ignore", "it seems to number the rows (columns: {NAME: number} takes it nevertheless)"
        return "number", ""
    found = set(values.tolist())
    if len(found) <= 1:
        return "ignore", "it has one value in all rows" if found - {""} else "it has no value"
    if given in ("flag", "date"):
        return given, ""
    if len(found) <= wishes.max_categories and len(found) * 2 <= len(values):
        return "category", ""
    if _words(values) >= 3:
        return "text", ""
    if len(found) == len(values) >= _ID_ROWS:
        return "ignore", "each of its values is another one, as ids are (columns: {NAME: many} takes it nevertheless)"
    if wishes.many == "frequency" and len(found) * 2 > len(values):
        return "ignore", "most of its values stand in one row"
    if wishes.many == "ignore":
        return "ignore", f"it has {len(found)} names, more than max_categories"
    return ("category" if len(found) <= wishes.max_categories else "many"), ""


def _counts(distinct: Array) -> bool:
    """Whether different numbers are those of rows, or of a part of them."""
    if (distinct != np.round(distinct)).any():
        return False
    span = distinct[-1] - distinct[0] + 1
    return bool(span == len(distinct) >= _ID_ROWS or (span <= 3 * len(distinct) and len(distinct) >= 5 * _ID_ROWS))


def _words(values: Array) -> float:
    """How many words a text of the column has on average."""
    sample = [text for text in values[:5000].tolist() if text]
    return sum(len(text.split()) for text in sample) / max(len(sample), 1)


def sample_of(rows: Rows, most: int, seed: int) -> dict[str, Array]:
    """At most so many rows, drawn."""
    rows_there = count(rows)
    places = np.arange(rows_there)
    if rows_there > most:
        places = np.sort(np.random.default_rng(seed).choice(rows_there, most, replace=False))
    return taken(rows, places)
