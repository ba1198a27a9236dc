"""Figures of the user's own: ``module:function(truth, predicted, rows) -> float | dict``, called in the job's process.

``truth`` and ``predicted`` are arrays (texts of a classification, else numbers), ``rows`` a dictionary of arrays: the
columns of the data that were kept, and ``probabilities``. It is code of whoever submitted the job: the caller has asked
the operator before.
"""

from __future__ import annotations

import importlib
import math
import numbers
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelport.errors import InvalidInput
from modelport.tensors import Array

Own = Callable[[Array, Array, Mapping[str, Array]], dict[str, float]]


def load_metrics(folder: Path | None, names: Sequence[str]) -> list[Own]:
    """The functions, among the files of ``folder`` or installed; raises InvalidInput naming one that fails."""
    if folder is not None and str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return [_load(name) for name in names]


def _load(name: str) -> Own:
    module, _, attribute = name.partition(":")
    try:
        function = getattr(importlib.import_module(module), attribute)
    except Exception as error:
        raise InvalidInput(f"metrics: {name!r} cannot be loaded: {_told(error)}") from None
    if not callable(function):
        raise InvalidInput(f"metrics: {name!r} is no function")

    def call(truth: Array, predicted: Array, rows: Mapping[str, Array]) -> dict[str, float]:
        try:
            found = function(truth, predicted, rows)
        except Exception as error:
            raise InvalidInput(f"metrics: {name!r} failed: {_told(error)}; correct it and run it again") from None
        return checked(name, attribute, found)

    return call


def checked(name: str, short: str, found: Any) -> dict[str, float]:
    """What a function gave, as figures; raises InvalidInput for what is no number, and for NaN."""
    given = found if isinstance(found, dict) else {short: found}
    figures = {}
    for key, value in given.items():
        if not isinstance(key, str) or not isinstance(value, numbers.Real) or not math.isfinite(value):
            raise InvalidInput(
                f"metrics: {name!r} gave {str(value)[:60]!r} for {str(key)[:60]!r}; it has to give one finite "
                "number, or a dictionary of them by name"
            )
        figures[key[:100]] = float(value)
    return figures


def _told(error: Exception) -> str:
    """What went wrong and in which line of theirs, without a path."""
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" (line {last[0].lineno} of {Path(last[0].filename).name})" if last else ""
    return f"{type(error).__name__}: {str(error)[:300]}{where}"
