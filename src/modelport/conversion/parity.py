"""How far the answers of a converted model are from those of the one that it was made of.

Outputs belong together by name, else by their order. Knows arrays; knows no model and no library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modelport.errors import InvalidInput
from modelport.tensors import Array

TOLD = "told:"
"""Before the name of an output whose distance is told and not judged."""


@dataclass(slots=True)
class Parity:
    """Of all outputs that could be compared."""

    rows: int = 0
    max_absolute: float = 0.0
    max_relative: float = 0.0
    """The difference beside what was expected, where that is larger than 0.001 of the output's largest."""
    rows_off: float = 0.0
    """Share of the rows with a value that is further off than the tolerance."""
    label_agreement: float | None = None
    """Share of the rows with the same class: the output of classes, else the largest of the scores."""
    outputs: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """Outputs that only the source has."""
    told: dict[str, float] = field(default_factory=dict)
    """Of outputs that are not judged: of numbers the largest difference, of labels and texts the share that agrees."""


def pairs_of(expected: Mapping[str, Array], found: Mapping[str, Array]) -> list[tuple[str, Array, Array]]:
    """Outputs that belong together; raises InvalidInput when none do."""
    named = [(name, expected[name], found[name]) for name in expected if name in found]
    if len(named) == len(found):
        return named
    if len(expected) == len(found):
        return [(new, expected[old], found[new]) for old, new in zip(expected, found, strict=True)]
    numbers = [name for name in expected if expected[name].dtype != object]
    if len(numbers) == len(found):
        return [(new, expected[old], found[new]) for old, new in zip(numbers, found, strict=True)]
    if named:
        return named
    raise InvalidInput(
        f"the converted model gives {', '.join(found)[:200]} and the source {', '.join(expected)[:200]}: no telling "
        "which belong together"
    )


def compare(expected: Mapping[str, Array], found: Mapping[str, Array], tolerance: float) -> Parity:
    """Compare the answers to the same rows."""
    told = {name.removeprefix(TOLD): _apart(expected[name], found[name]) for name in expected if name.startswith(TOLD)}
    expected, found = _judged(expected), _judged(found)
    pairs = pairs_of(expected, found)
    result = Parity(told=told, outputs=[name for name, _, _ in pairs])
    matched = {id(before) for _, before, _ in pairs}
    result.left_out = [name for name, array in expected.items() if id(array) not in matched]
    off: Array | None = None
    for name, before, given in pairs:
        after = _shaped(name, before, given)
        result.rows = len(before)
        if before.dtype == object or before.dtype.kind in "iub":
            same = (before == after).reshape(len(before), -1).all(1)
            agreement = float(same.mean()) if len(same) else 1.0
            known = result.label_agreement
            result.label_agreement = agreement if known is None else min(agreement, known)
            wrong = np.zeros(len(before), bool) if _are_labels(before) else ~same
        else:
            wrong = _numbers(before.astype(np.float64), after.astype(np.float64), tolerance, result)
        off = wrong if off is None else off | wrong
    if result.label_agreement is None:
        result.label_agreement = _best_agree(pairs)
    result.rows_off = float(off.mean()) if off is not None and len(off) else 0.0
    return result


def _judged(answers: Mapping[str, Array]) -> dict[str, Array]:
    return {name: array for name, array in answers.items() if not name.startswith(TOLD)}


def _apart(before: Array, after: Array) -> float:
    if before.dtype.kind == "f":
        return float(np.abs(before.astype(np.float64) - after).max(initial=0.0))
    return float((before == after).reshape(len(before), -1).all(1).mean())


def check(parity: Parity, tolerance: float, most_rows_off: float) -> None:
    """Raise InvalidInput with the figures when the answers differ by more than is allowed."""
    same = 1.0 if parity.label_agreement is None else parity.label_agreement
    if parity.rows_off <= most_rows_off and same >= 1 - most_rows_off:
        return
    agreement = "" if parity.label_agreement is None else f", {same:.2%} of the labels agree"
    raise InvalidInput(
        f"the converted model answers differently: {parity.rows_off:.2%} of {parity.rows} rows are off by more than "
        f"{tolerance:g} (the most: {parity.max_absolute:.3g}, relative {parity.max_relative:.3g}){agreement}; nothing "
        "was registered. Allow more with --tolerance or --max-rows-off, or choose another target"
    )


def _are_labels(array: Array) -> bool:
    """Labels follow the scores: where these are close, the best may change, and the agreement counts that."""
    return array.ndim == 1


def _shaped(name: str, before: Array, after: Array) -> Array:
    if before.shape == after.shape:
        return after
    if before.size == after.size and before.shape[:1] == after.shape[:1]:
        return after.reshape(before.shape)
    raise InvalidInput(
        f"output {name!r} has the shape {list(after.shape)} after the conversion, and had {list(before.shape)}"
    )


def _numbers(before: Array, after: Array, tolerance: float, result: Parity) -> Array:
    """Which rows are off, by what is absolute below 1 and relative above; the figures are told."""
    if not before.size:
        return np.zeros(len(before), bool)
    with np.errstate(all="ignore"):
        apart = np.abs(before - after)
        apart[(before == after) | (np.isnan(before) & np.isnan(after))] = 0.0
        apart[np.isnan(apart)] = np.inf
        size = np.abs(before)
        largest = float(np.nanmax(size[np.isfinite(size)], initial=0.0))
        relative = np.where(size > 1e-3 * largest, apart / np.where(size > 0, size, 1.0), 0.0)
    result.max_absolute = max(result.max_absolute, float(apart.max()))
    result.max_relative = max(result.max_relative, float(relative.max()))
    rows: Array = (apart / np.maximum(np.nan_to_num(size, posinf=1.0), 1.0)).reshape(len(before), -1).max(1) > tolerance
    return rows


def _best_agree(pairs: list[tuple[str, Array, Array]]) -> float | None:
    for _, before, after in pairs:
        if before.ndim == 2 and before.shape[1] > 1 and before.dtype.kind in "fV":
            return float((before.argmax(1) == after.argmax(1)).mean())
    return None


def as_report(parity: Parity) -> dict[str, Any]:
    """JSON: numbers that it does not have become texts."""
    told = {
        "rows": parity.rows, "max_absolute": parity.max_absolute, "max_relative": parity.max_relative,
        "rows_off": parity.rows_off, "label_agreement": parity.label_agreement, "outputs": parity.outputs,
        "left_out": parity.left_out, "told": parity.told,
    }  # fmt: skip
    return {name: str(value) if value in (float("inf"),) else value for name, value in told.items()}
