"""Texts as token ids in a file: made once, mapped into memory, padded as they are put together.

A folder of them is whole or not there, so that training which begins again finds what it had. Knows no model.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modelport.tensors import Array

_AT_ONCE = 1024


class Tokens:
    """Rows of token ids of different length."""

    def __init__(self, folder: Path) -> None:
        self._ends = np.load(folder / "ends.npy")
        size = int(self._ends[-1]) if len(self._ends) else 0
        self._ids = np.memmap(folder / "ids.bin", np.int32, "r", shape=(size,)) if size else np.empty(0, np.int32)
        self._marks = np.memmap(folder / "marks.bin", np.uint8, "r", shape=(size,)) if size else np.empty(0, np.uint8)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, row: int) -> Array:
        """The ids of a row, INT32 [tokens]."""
        begin = int(self._ends[row - 1]) if row else 0
        return self._ids[begin : int(self._ends[row])]

    def marks(self, row: int) -> Array:
        """Which of a row's tokens are to be learnt: 1 or 0, UINT8 [tokens]."""
        begin = int(self._ends[row - 1]) if row else 0
        return self._marks[begin : int(self._ends[row])]

    def lengths(self) -> Array:
        """Tokens of each row, INT64 [rows]."""
        return np.diff(self._ends, prepend=0)


def kept(folder: Path, make: Callable[[], Iterable[tuple[Sequence[int], Sequence[int] | None]]]) -> Tokens:
    """What ``make`` gives (ids and marks of each row), written when it is not there yet."""
    if not folder.exists():
        half = folder.with_name(folder.name + ".half")
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(parents=True)
        _write(half, make())
        half.rename(folder)
    return Tokens(folder)


def _write(folder: Path, found: Iterable[tuple[Sequence[int], Sequence[int] | None]]) -> None:
    ends, end = [], 0
    with (folder / "ids.bin").open("wb") as ids_file, (folder / "marks.bin").open("wb") as marks_file:
        for ids, marks in found:
            row = np.asarray(ids, np.int32)
            ids_file.write(row.tobytes())
            marks_file.write((np.ones(len(row), np.uint8) if marks is None else np.asarray(marks, np.uint8)).tobytes())
            end += len(row)
            ends.append(end)
        for file in (ids_file, marks_file):
            file.flush()
            os.fsync(file.fileno())
    np.save(folder / "ends.npy", np.asarray(ends, np.int64))


def encoded(tokenizer: Any, texts: Sequence[str]) -> Iterable[tuple[Sequence[int], None]]:
    """The ids of texts, as ``tokenizer`` (of the library ``tokenizers``) cuts them."""
    for begin in range(0, len(texts), _AT_ONCE):
        for found in tokenizer.encode_batch_fast(list(texts[begin : begin + _AT_ONCE])):
            yield found.ids, None


def padded(rows: Sequence[Array], pad: int, multiple: int = 1) -> tuple[Array, Array]:
    """Ids and mask, INT64 [rows, longest], padded on the right."""
    longest = max((len(row) for row in rows), default=0)
    longest = -(-longest // multiple) * multiple
    ids = np.full((len(rows), longest), pad, np.int64)
    mask = np.zeros((len(rows), longest), np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return ids, mask
