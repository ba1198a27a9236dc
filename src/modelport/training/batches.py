"""Rows for a training loop: what a set of examples is, and in which order its rows come.

The order follows from seed and epoch alone, so that a loop that was killed finds its place by two numbers. Several
workers each take their share of the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch


class Examples(Protocol):
    """Rows by number. What it makes of a row may depend on the row and the epoch, and on nothing else."""

    def __len__(self) -> int: ...

    def batch(self, rows: torch.Tensor, epoch: int) -> Any:
        """What the loss is given for these rows (int64 [n]); tensors, or lists, tuples and dicts of them."""
        ...


class TensorExamples:
    """Rows that lie in memory: a batch is each tensor's rows, by name."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        lengths = {len(tensor) for tensor in tensors.values()}
        if len(lengths) != 1:
            raise ValueError(f"tensors of different lengths: {sorted(lengths)}")
        self._tensors = dict(tensors)
        self._rows = lengths.pop()

    def __len__(self) -> int:
        return self._rows

    def batch(self, rows: torch.Tensor, epoch: int) -> dict[str, torch.Tensor]:
        return {name: tensor.index_select(0, rows) for name, tensor in self._tensors.items()}


class Order:
    """Which rows come when."""

    def __init__(self, rows: int, batch_size: int, seed: int, rank: int = 0, world: int = 1) -> None:
        if rows < 1:
            raise ValueError("there are no rows")
        self._rows, self._size, self._seed = rows, batch_size, seed
        self._rank, self._world = rank, world
        share = -(-rows // world)
        #: A last batch of one row is left out where there are others: batch norm knows no statistics of one row.
        self._share = share - 1 if share > batch_size > 1 and share % batch_size == 1 else share
        self.batches = -(-self._share // batch_size)

    def of(self, epoch: int) -> tuple[torch.Tensor, ...]:
        """The batches of an epoch (int64), shuffled."""
        generator = torch.Generator().manual_seed((self._seed * 1_000_003 + epoch) % 2**63)
        order = torch.randperm(self._rows, generator=generator)
        if self._world > 1:
            whole = -(-self._rows // self._world) * self._world
            order = torch.cat([order, order[: whole - self._rows]])[self._rank :: self._world]
        return tuple(order[: self._share].split(self._size))


def in_turn(examples: Examples, batch_size: int) -> Iterator[Any]:
    """All rows in their order, as epoch 0 sees them: for validation, without gradients."""
    for rows in torch.arange(len(examples)).split(batch_size):
        yield examples.batch(rows, 0)


def moved(batch: Any, device: torch.device) -> Any:
    """A batch on another device."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {name: moved(value, device) for name, value in batch.items()}
    if isinstance(batch, list | tuple):
        return type(batch)(moved(value, device) for value in batch)
    return batch
