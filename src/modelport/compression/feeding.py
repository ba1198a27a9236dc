"""Rows of a dataset as the tensors that a version's model itself takes: what calibrates, teaches and judges reads them.

Columns are bound to inputs as for ``predict-batch``, and image files and texts go through the version's own steps, so
that a model sees here what it sees in a replica. Holds one batch at a time. Knows no method.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from modelport.compression.inputs import bound, model_signature
from modelport.compression.method import Model
from modelport.data.model_inputs import Batch, alone, read, tensors
from modelport.data.writing import read_parts, rows_in
from modelport.engine.preprocessing import steps_of
from modelport.errors import ModelRejectedInput
from modelport.tensors import Array
from modelport.training.recipe import TrainingData

__all__ = ["Fed", "Feeder", "chosen", "has_rows", "model_signature"]

_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Fed:
    """Rows that are run together."""

    inputs: dict[str, Array]
    """What the model itself takes; BYTES are object arrays of ``bytes``."""
    rows: Array
    """Their places in what was read (int64)."""
    truth: list[Any] | None
    """The target's values; None where the data has no target."""


class Feeder:
    """Reads rows for one model; raises InvalidInput, naming columns or the row, for what does not fit."""

    def __init__(self, model: Model, data: TrainingData) -> None:
        self._binding = bound(model, data.features)
        self._signature = model_signature(model)
        self._target = data.target
        declared = [step.model_dump() for step in model.manifest.preprocessing]
        self._steps = steps_of(declared, self._signature)
        for step in self._steps:
            step.open(model.folder)

    @property
    def one_by_one(self) -> bool:
        """Whether the model takes one row at a time alone."""
        fixed = any(spec.shape[:1] not in ((-1,),) for spec in self._signature.inputs)
        return fixed or not self._binding.has_rows

    def batches(
        self, parts: Sequence[Path], size: int = _AT_ONCE, rows: int | None = None, seed: int = 0,
        places: Array | None = None,
    ) -> Iterator[Fed]:  # fmt: skip
        """The rows of parts in their order, ``size`` at a time where the model takes that; or ``rows`` of them, chosen
        by ``seed``; or those at ``places``, which rise. Rows of different shapes come in different batches."""
        wanted = chosen(parts, rows, seed) if places is None else places
        size = 1 if self.one_by_one else size
        first = 0
        for table in _read(parts, [*self._binding.columns, *([self._target] if self._target else [])]):
            here = (
                np.arange(first, first + len(table)) if wanted is None else wanted[_between(wanted, first, len(table))]
            )
            for start in range(0, len(here), size):
                places = here[start : start + size]
                yield from self._fed(table.take(pa.array(places - first)), places)
            first += len(table)

    def _fed(self, table: pa.RecordBatch, places: Array) -> Iterator[Fed]:
        found, wrong = read(self._binding, table, nulls_are_nan=True)
        if wrong:
            at = min(wrong)
            raise ModelRejectedInput(f"row {int(places[at])}: {wrong[at]}; leave it out with `modelport data clean`")
        truth = None if self._target is None else table.column(self._target).to_pylist()
        for batch in found if self._binding.has_rows else [one for each in found for one in alone(each)]:
            values = None if truth is None else [truth[at] for at in batch.rows.tolist()]
            yield Fed(self._prepared(batch, places), places[batch.rows], values)

    def _prepared(self, batch: Batch, places: Array) -> dict[str, Array]:
        made = dict(tensors(self._binding, batch))
        for step in self._steps:
            try:
                made |= step.apply(made.pop(step.name).reshape(-1).tolist())
            except ModelRejectedInput as error:
                among = f"rows {int(places[0])} to {int(places[-1])}"
                raise ModelRejectedInput(
                    f"{among}: {error.message}; leave it out with `modelport data clean`"
                ) from None
        return made


def chosen(parts: Sequence[Path], rows: int | None, seed: int) -> Array | None:
    """Places of so many rows of the parts, in order; None for all of them."""
    total = sum(rows_in(part) for part in parts)
    if rows is None or rows >= total:
        return None
    return np.sort(np.random.default_rng(seed).choice(total, rows, replace=False))


def has_rows(parts: Sequence[Path]) -> bool:
    """Whether there is a row at all."""
    return any(rows_in(part) for part in parts)


def _between(wanted: Array, first: int, rows: int) -> slice:
    return slice(*np.searchsorted(wanted, [first, first + rows]).tolist())


def _read(parts: Sequence[Path], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    return read_parts(parts, list(dict.fromkeys(columns)))
