"""Which of a model's outputs is its answer, by names and types alone, before anything runs.

A classifier answers with a class and scores of all classes, others with a number or several. What cannot be told by
names and types has to be said.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from modelport.data.outputs import LABEL, SCORE, Column, Wanted
from modelport.errors import InvalidInput
from modelport.schemas.training import Task

_LISTED = 10
_QUANTILE = re.compile(r"(?:q|quantile)_?(0?\.[0-9]{1,6})")
"""Outputs such as ``q0.9`` and ``quantile_0.05``."""
_CLASSES = ("label", "output_label", "class", "classes", "prediction")
_SCORES = ("score", "scores", "anomaly_score", "probability", "prediction", "predictions", "variable", "output")
_CHANCES = ("probabilities", "output_probability", "probability", "scores", "logits")


@dataclass(frozen=True, slots=True)
class Picked:
    """Places of the answers among a model's columns of results."""

    prediction: int | None
    """The answer itself; None where it is the class with the highest score."""
    probabilities: int | None
    labels: tuple[str, ...] | None
    """Classes in the order of the scores; None when nobody knows them."""
    quantiles: tuple[tuple[str, int], ...] = ()
    """Levels, such as ``0.9``, and the places of the outputs that tell them."""


def pick(task: Task, columns: Wanted, output: str | None = None) -> Picked:
    """The answers; raises InvalidInput naming the outputs where they cannot be told."""
    given = list(columns.columns)
    named = next((column for column in given if column.part == SCORE), None)
    if output is not None and (named is None or output != named.output.name):
        at = next((at for at, column in enumerate(given) if column.output.name == output and not column.part), None)
        if at is None:
            raise InvalidInput(f"output: the model has no output {output[:100]!r}; it has {_outputs(columns)}")
        is_scores = task == "classification" and not _is_scalar(given[at])
        return Picked(None, at, None) if is_scores else Picked(at, None, None)
    if named is not None:
        chances = next(at for at, one in enumerate(given) if one.output is named.output and not one.part)
        if task != "classification":
            return Picked(None, chances, named.labels)
        own = next(
            (at for at, one in enumerate(given) if one.output is not named.output and one.output.name == LABEL), None
        )
        return Picked(own, chances, named.labels)
    if task == "classification":
        return _unnamed_classes(given, columns)
    numbers = [at for at, column in enumerate(given) if column.output.datatype not in ("BYTES", "BOOL")]
    levels = {at: found[1] for at in numbers if (found := _QUANTILE.fullmatch(given[at].output.name))}
    plain = [at for at in numbers if at not in levels] or [at for at, level in levels.items() if float(level) == 0.5]
    return Picked(_only(plain, given, _SCORES, columns), None, None, tuple((level, at) for at, level in levels.items()))


def _unnamed_classes(given: Sequence[Column], columns: Wanted) -> Picked:
    """A classifier whose classes have no names."""
    floats = ("FP16", "FP32", "FP64", "BF16")
    classes = [at for at, one in enumerate(given) if one.output.datatype not in floats and _is_scalar(one)]
    scores = [at for at, one in enumerate(given) if one.output.datatype in floats]
    if not classes:
        return Picked(None, _only(scores, given, _CHANCES, columns), None)
    known = [at for at in scores if given[at].output.name in _CHANCES]
    return Picked(_only(classes, given, _CLASSES, columns), known[0] if len(known) == 1 else None, None)


def _only(found: Sequence[int], given: Sequence[Column], names: Sequence[str], columns: Wanted) -> int:
    if len(found) == 1:
        return found[0]
    for name in names:
        for at in found:
            if given[at].output.name == name:
                return at
    raise InvalidInput(f"which output is the answer cannot be told; say it with output: {_outputs(columns)}")


def _outputs(columns: Wanted) -> str:
    return listed(list(dict.fromkeys(column.output.name for column in columns.columns)))


def _is_scalar(column: Column) -> bool:
    shape = column.output.shape
    return column.output.dims != ("...",) and all(size == 1 for size in shape[1:])


def listed(names: Sequence[str]) -> str:
    """A few of them."""
    shown = ", ".join(repr(name[:60]) for name in names[:_LISTED])
    return shown + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
