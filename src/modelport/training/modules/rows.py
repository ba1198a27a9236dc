"""Rows as the tensors that a network is given: numbers side by side, list columns, images; and what they aim at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modelport.data.writing import read_parts, rows_in
from modelport.errors import InvalidInput
from modelport.tensors import Array
from modelport.training.encoders.table import values_of
from modelport.training.images import pixels as pixel_files
from modelport.training.images.pixels import Shape

Inputs = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which columns become what."""

    numbers: list[str]
    vectors: list[str]
    image: str | None
    shape: Shape | None
    """What images become."""
    target: str


@dataclass(slots=True)
class Rows:
    """All rows of a part, in memory; images are mapped from the disk."""

    numbers: torch.Tensor
    """float32 [rows, columns]; a missing one is NaN"""
    vectors: dict[str, torch.Tensor]
    pixels: torch.Tensor | None
    values: list[Any]
    """The target column as it is."""

    def __len__(self) -> int:
        return len(self.values)


@dataclass(slots=True)
class Scaling:
    """What the numbers of each column are taken down by, and divided by."""

    mean: list[float] = field(default_factory=list)
    deviation: list[float] = field(default_factory=list)
    target_mean: float = 0.0
    target_deviation: float = 1.0

    def of(self, numbers: torch.Tensor) -> torch.Tensor:
        """Scaled; a missing one becomes 0, which is the mean."""
        mean, deviation = torch.tensor(self.mean), torch.tensor(self.deviation)
        scaled = (numbers - mean) / deviation
        return torch.where(scaled.isnan(), torch.zeros_like(scaled), scaled)

    def predicted(self, found: torch.Tensor) -> torch.Tensor:
        """What the network gives [rows] or [rows, 1], as the numbers [rows] that were meant."""
        return found.reshape(found.shape[0]) * self.target_deviation + self.target_mean


def read(parts: Sequence[Path], wanted: Wanted, folder: Path, name: str) -> Rows:
    """All rows; raises InvalidInput for lists of different lengths, or an image that is none."""
    columns: dict[str, list[Array]] = {column: [] for column in (*wanted.numbers, *wanted.vectors)}
    values: list[Any] = []
    for batch in read_parts(parts, [*columns, wanted.target]):
        for column in wanted.numbers:
            columns[column].append(values_of(column, batch.column(column)).astype(np.float32))
        for column in wanted.vectors:
            columns[column].append(_lists(column, batch.column(column)))
        values += batch.column(wanted.target).to_pylist()
    count = sum(rows_in(part) for part in parts)
    found = {
        column: np.concatenate(pieces) if pieces else np.empty(0, np.float32) for column, pieces in columns.items()
    }
    numbers = np.stack([found[column] for column in wanted.numbers], 1) if wanted.numbers else np.empty((count, 0))
    pixels = None
    if wanted.image is not None and wanted.shape is not None:
        pixels = pixel_files.read(parts, wanted.image, wanted.target, wanted.shape, folder, name).pixels
    vectors = {column: torch.from_numpy(found[column]) for column in wanted.vectors}
    return Rows(torch.from_numpy(numbers.astype(np.float32)), vectors, pixels, values)


def _lists(name: str, column: Any) -> Array:
    """Float32 [rows, length]."""
    lengths = {len(value) if value is not None else 0 for value in column.to_pylist()}
    if len(lengths) > 1 or 0 in lengths:
        raise InvalidInput(f"column {name!r}: a network needs lists of one length in all rows, and none missing")
    flat = np.asarray(column.flatten().to_numpy(zero_copy_only=False), np.float32)
    return flat.reshape(len(column), lengths.pop() if lengths else 0)


def scaling_of(numbers: torch.Tensor, wanted: bool) -> Scaling:
    """Means and deviations of the columns; 0 and 1 where numbers are to stay as they are."""
    if not wanted or not numbers.shape[1]:
        return Scaling([0.0] * numbers.shape[1], [1.0] * numbers.shape[1])
    values = numbers.double().numpy()
    known = np.where(np.isfinite(values), values, np.nan)
    filled = np.where(np.isnan(known).all(0), 0.0, known)
    mean, deviation = np.nanmean(filled, 0), np.nanstd(filled, 0)
    deviation = np.where(deviation > 1e-12, deviation, 1.0)
    return Scaling(mean.astype(np.float32).tolist(), deviation.astype(np.float32).tolist())


class RowExamples:
    """Rows of one or two parts, one after the other."""

    def __init__(self, rows: Sequence[tuple[Rows, Array]], scaling: Scaling, target: torch.Tensor) -> None:
        """``rows``: of each part, which; ``target`` is for all of them, int64 or float32."""
        self._target = target
        chosen = [torch.from_numpy(at) for _, at in rows]
        self._inputs: Inputs = {}
        if rows[0][0].numbers.shape[1]:
            together = torch.cat([part.numbers[at] for (part, _), at in zip(rows, chosen, strict=True)])
            self._inputs["numbers"] = scaling.of(together)
        for name in rows[0][0].vectors:
            self._inputs[name] = torch.cat([part.vectors[name][at] for (part, _), at in zip(rows, chosen, strict=True)])
        self._stores = [part.pixels for part, _ in rows if part.pixels is not None]
        self._store = torch.cat([torch.full((len(at),), number) for number, at in enumerate(chosen)])
        self._row = torch.cat(chosen)

    def __len__(self) -> int:
        return len(self._target)

    def leave_only(self, names: Set[str]) -> None:
        """Give these inputs alone."""
        self._inputs = {name: tensor for name, tensor in self._inputs.items() if name in names}
        self._stores = self._stores if "image" in names else []

    def batch(self, rows: torch.Tensor, epoch: int) -> tuple[Inputs, torch.Tensor]:
        found = {name: tensor.index_select(0, rows) for name, tensor in self._inputs.items()}
        if self._stores:
            found["image"] = self._images(rows)
        return found, self._target.index_select(0, rows)

    def _images(self, rows: torch.Tensor) -> torch.Tensor:
        found = torch.empty(len(rows), *self._stores[0].shape[1:], dtype=torch.uint8)
        for number, store in enumerate(self._stores):
            mine = (self._store[rows] == number).nonzero().squeeze(1)
            found[mine] = store.index_select(0, self._row[rows[mine]])
        return found.float().mul_(1 / 255)


def scaled_target(scaling: Scaling, numbers: Array) -> Scaling:
    """The same, with the mean and the deviation of what is to be predicted."""
    deviation = float(np.std(numbers, dtype=np.float64))
    return replace(scaling, target_mean=float(np.mean(numbers, dtype=np.float64)), target_deviation=deviation or 1.0)


def example(inputs: Mapping[str, torch.Tensor]) -> Inputs:
    """The first two rows, or the first one twice."""
    return {name: torch.cat([tensor, tensor])[:2].contiguous() for name, tensor in inputs.items()}
