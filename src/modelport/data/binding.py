"""Which of a table's columns goes to which of a model's inputs, by names and types alone, before anything runs.

Knows signatures, and types as Arrow writes them; knows no value.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelport.errors import InvalidInput, NotFound
from modelport.tensors import Signature, TensorSpec

_LISTED = 20
_TEXTS = ("string", "large_string", "binary", "large_binary")
_FLOATS = ("halffloat", "float", "double")
_TEXT_COLUMNS = ("text", "image")


@dataclass(frozen=True, slots=True)
class Source:
    """One input, and the columns that it is made of."""

    spec: TensorSpec
    shape: tuple[int, ...]
    """Of one row; -1 where it differs from row to row."""
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Binding:
    """Where every input's values come from."""

    sources: tuple[Source, ...]
    has_rows: bool
    """Whether an input's first dimension counts rows; else one row is a whole input."""

    @property
    def columns(self) -> list[str]:
        """All that are read."""
        return list(dict.fromkeys(name for source in self.sources for name in source.columns))


def bind(
    signature: Signature, features: Sequence[str], columns: Mapping[str, str], given: Mapping[str, Sequence[str]]
) -> Binding:
    """Find the columns (types by name, as Arrow writes them) of every input; raises InvalidInput listing both."""
    specs = signature.inputs
    if not specs:
        raise InvalidInput("the model takes no inputs, so there is nothing that rows could be; it is not for batches")
    for name in given:
        if name not in {spec.name for spec in specs}:
            raise InvalidInput(f"inputs: the model has no input {name[:100]!r}; {_facts(specs, columns)}")
    has_rows = counts_rows(signature)
    sources = []
    for spec in specs:
        shape = spec.shape[1:] if has_rows else spec.shape
        chosen = _named(given[spec.name], columns, spec.name) if spec.name in given else None
        if chosen is None:
            chosen = [spec.name] if spec.name in columns else None
        if chosen is None and len(specs) == 1:
            chosen = _by_kind(spec, shape, features, columns)
        if chosen is None:
            raise InvalidInput(
                f"input {spec.name!r}: no column has its name; say which with --input {spec.name}=COLUMN[,COLUMN…]; "
                f"{_facts(specs, columns)}"
            )
        source = Source(spec, shape, tuple(chosen))
        _check(source, columns, specs)
        sources.append(source)
    return Binding(tuple(sources), has_rows)


def counts_rows(signature: Signature) -> bool:
    """Whether an input's first dimension counts rows."""
    return all(spec.shape[:1] in ((-1,), (1,)) for spec in signature.inputs)


def _named(wanted: Sequence[str], columns: Mapping[str, str], name: str) -> list[str]:
    chosen: list[str] = []
    for column in wanted:
        found = [column] if column in columns else fnmatch.filter(columns, column) if "*" in column else []
        if not found:
            raise NotFound(f"inputs.{name}: the data has no column {column[:100]!r}; it has {_listed(columns)}")
        chosen += [one for one in found if one not in chosen]
    return chosen


def _by_kind(
    spec: TensorSpec, shape: tuple[int, ...], features: Sequence[str], columns: Mapping[str, str]
) -> list[str] | None:
    """Columns of the only input: those it was fitted on, the only list, the only image or text."""
    if spec.datatype == "BYTES":
        known = [name for name in _TEXT_COLUMNS if columns.get(name) in _TEXTS]
        texts = known or [name for name, kind in columns.items() if kind in _TEXTS]
        return texts if len(texts) == 1 else None
    if features and len(shape) == 1 and shape[0] in (-1, len(features)):
        lacking = [name for name in features if name not in columns]
        if not lacking:
            return list(features)
        if len(lacking) < len(features):
            raise InvalidInput(
                f"the data lacks the column {lacking[0][:100]!r}, which the model was fitted on "
                f"({len(lacking)} of {len(features)} are missing); it has {_listed(columns)}"
            )
    lists = [name for name, kind in columns.items() if kind.startswith("list<") and _element(kind) not in _TEXTS]
    return lists if len(lists) == 1 else None


def _check(source: Source, columns: Mapping[str, str], specs: Sequence[TensorSpec]) -> None:
    """Raise InvalidInput unless values of these columns may fit the input."""
    spec, shape = source.spec, source.shape
    lists = [name for name in source.columns if columns[name].startswith("list<")]
    if lists and len(source.columns) > 1:
        raise InvalidInput(f"input {spec.name!r}: {lists[0]!r} is a list, and a list is the whole input; give it alone")
    for name in source.columns:
        if not _suits(_element(columns[name]), spec.datatype):
            raise InvalidInput(
                f"input {spec.name!r} is {spec.datatype}, column {name[:100]!r} is {columns[name]}, which does not fit "
                f"unchanged; convert it with `modelport data clean`, or give another; {_facts(specs, columns)}"
            )
    if not lists and (-1 not in shape or len(shape) > 1 or len(source.columns) == 1):
        wanted = math.prod(abs(size) for size in shape)
        if wanted != len(source.columns):
            raise InvalidInput(
                f"input {spec.name!r}: a row of it is {list(shape)}, which is not {len(source.columns)} columns; "
                f"give as many, or a column of lists; {_facts(specs, columns)}"
            )


def _suits(kind: str, datatype: str) -> bool:
    if datatype == "BYTES":
        return kind in _TEXTS or kind.startswith(("date", "timestamp"))
    if datatype == "BOOL":
        return kind == "bool"
    whole = kind.startswith(("int", "uint"))
    return whole or (datatype.startswith(("FP", "BF")) and (kind in _FLOATS or kind == "bool"))


def _element(kind: str) -> str:
    while kind.startswith("list<"):
        kind = kind.removeprefix("list<").removesuffix(">").partition(": ")[2]
    return kind


def _facts(specs: Sequence[TensorSpec], columns: Mapping[str, str]) -> str:
    inputs = ", ".join(f"{spec.name} {spec.datatype}{list(spec.shape)}" for spec in specs[:_LISTED])
    return f"inputs: {inputs}; columns: {_listed(columns)}"


def _listed(columns: Mapping[str, str]) -> str:
    shown = [f"{name[:60]} {kind}" for name, kind in list(columns.items())[:_LISTED]]
    more = len(columns) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
