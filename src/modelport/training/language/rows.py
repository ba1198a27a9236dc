"""Texts and their classes out of Parquet parts. Rows without a text are counted and left out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelport.data.writing import read_parts
from modelport.errors import InvalidInput
from modelport.training import targets

FEWEST = 2
"""Rows that a class needs to be learnt and seen again."""


@dataclass(slots=True)
class Labelled:
    """Texts with the codes of their classes."""

    texts: list[str]
    codes: list[int]
    left_out: int
    """Rows that had no text."""


def rows(parts: Sequence[Path], columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """The values of columns, row by row in order."""
    for batch in read_parts(parts, list(columns)):
        yield from zip(*(batch.column(name).to_pylist() for name in columns), strict=True)


def is_text(value: Any) -> bool:
    """Whether there is something to read."""
    return isinstance(value, str) and bool(value.strip())


def class_names(parts: Sequence[Path], target: str) -> list[str]:
    """The names of the classes of training rows, in their order; raises InvalidInput."""
    found: dict[Any, int] = {}
    for (value,) in rows(parts, [target]):
        if value is None or (isinstance(value, float) and math.isnan(value)):
            raise InvalidInput(
                f"target: column {target!r} is null in a training row; leave such rows out "
                "(modelport data clean, rule missing)"
            )
        found[value] = found.get(value, 0) + 1
    scarce = sorted(name_of(value) for value, count in found.items() if count < FEWEST)
    if scarce:
        raise InvalidInput(
            f"target: class {scarce[0][:60]!r} has fewer than {FEWEST} training rows"
            + (f", and {len(scarce) - 1} others too" if len(scarce) > 1 else "")
            + "; collect more, or leave the class out"
        )
    return targets.classes_of(list(found), target)


def labelled(parts: Sequence[Path], text: str, target: str, classes: Sequence[str]) -> Labelled:
    """Rows with a text; raises InvalidInput for a class that training did not see."""
    codes = {name: code for code, name in enumerate(classes)}
    found = Labelled([], [], 0)
    for value, label in rows(parts, [text, target]):
        if not is_text(value):
            found.left_out += 1
            continue
        code = codes.get(name_of(label))
        if code is None:
            raise InvalidInput(
                f"target: class {name_of(label)[:60]!r} is not among the training rows' classes "
                f"({', '.join(classes[:8])}); split again with stratify"
            )
        found.texts.append(value)
        found.codes.append(code)
    return found


def name_of(value: Any) -> str:
    """A class as text; empty for a row without one."""
    return targets.texts_of([value])[0] or ""
