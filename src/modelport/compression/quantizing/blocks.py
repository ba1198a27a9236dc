"""Blocks of 32 weights in 4 bits, with the scale that leaves the least error where it matters.

The bytes are ggml's ``Q4_0`` (16 levels around 0) and ``Q4_1`` (16 levels above a lowest value); the library ``gguf``
takes each block's largest values for its scale, here scales around that one are tried, and weights count as much as
what goes through them. Knows no model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from modelport.tensors import Array

BLOCK = 32
_TRIED = np.linspace(-0.3, 0.06, 7)
"""How much narrower or wider than all of a block's values its levels are tried."""
_AT_ONCE = 1 << 15
"""Blocks."""
_TINY = 1e-20


def quantized(weights: Array, kind: Literal["q4_0", "q4_1"], importance: Array | None = None) -> Array:
    """UINT8 [rows, bytes] of FP32 ``weights`` [rows, columns]; ``importance`` [columns] is above 0.

    ``columns`` is a multiple of 32.
    """
    rows, columns = weights.shape
    matters = np.ones(columns, np.float32) if importance is None else importance.astype(np.float32)
    repeated = np.broadcast_to(matters, weights.shape).reshape(-1, BLOCK)
    pack = _around_zero if kind == "q4_0" else _above_lowest
    made = [pack(block, counts) for block, counts in _parts(weights.reshape(-1, BLOCK), repeated)]
    return np.concatenate(made).reshape(rows, -1)


def _parts(blocks: Array, counts: Array) -> Iterator[tuple[Array, Array]]:
    for start in range(0, len(blocks), _AT_ONCE):
        yield blocks[start : start + _AT_ONCE].astype(np.float32), counts[start : start + _AT_ONCE]


def _around_zero(blocks: Array, counts: Array) -> Array:
    """``(level - 8) * scale``."""
    places = np.abs(blocks).argmax(1)
    largest = np.take_along_axis(blocks, places[:, None], 1)
    best_scale = largest / -8
    best_error = np.full((len(blocks), 1), np.inf, np.float32)
    for more in _TRIED:
        first = largest * (1 + more) / -8
        levels = _levels(blocks, first, 0, -8, 7)
        weighted = counts * levels
        scale = (weighted * blocks).sum(1, keepdims=True) / np.maximum((weighted * levels).sum(1, keepdims=True), _TINY)
        scale = scale.astype(np.float16).astype(np.float32)
        error = (counts * (blocks - scale * levels) ** 2).sum(1, keepdims=True)
        better = error < best_error
        best_error, best_scale = np.where(better, error, best_error), np.where(better, scale, best_scale)
    scale = best_scale.astype(np.float16)
    levels = _levels(blocks, scale.astype(np.float32), 0, -8, 7) + 8
    return np.concatenate([scale.view(np.uint8), _nibbles(levels)], axis=1)


def _above_lowest(blocks: Array, counts: Array) -> Array:
    """``level * scale + lowest``."""
    low, high = blocks.min(1, keepdims=True), blocks.max(1, keepdims=True)
    best = [(high - low) / 15, low]
    best_error = np.full((len(blocks), 1), np.inf, np.float32)
    total = counts.sum(1, keepdims=True)
    for more in _TRIED:
        widened = (high - low) * more / 2
        levels = _levels(blocks, (high - low + 2 * widened) / 15, low - widened, 0, 15)
        weighted = counts * levels
        ones, squares = weighted.sum(1, keepdims=True), (weighted * levels).sum(1, keepdims=True)
        values, both = (counts * blocks).sum(1, keepdims=True), (weighted * blocks).sum(1, keepdims=True)
        apart = np.maximum(total * squares - ones**2, _TINY)
        scale = ((total * both - ones * values) / apart).astype(np.float16).astype(np.float32)
        lowest = ((values - scale * ones) / total).astype(np.float16).astype(np.float32)
        again = _levels(blocks, scale, lowest, 0, 15)
        error = (counts * (blocks - scale * again - lowest) ** 2).sum(1, keepdims=True)
        better = error < best_error
        best_error = np.where(better, error, best_error)
        best = [np.where(better, new, old) for new, old in zip((scale, lowest), best, strict=True)]
    halves = [one.astype(np.float16) for one in best]
    levels = _levels(blocks, halves[0].astype(np.float32), halves[1].astype(np.float32), 0, 15)
    return np.concatenate([halves[0].view(np.uint8), halves[1].view(np.uint8), _nibbles(levels)], axis=1)


def _levels(blocks: Array, scale: Array, lowest: Array | int, least: int, most: int) -> Array:
    """The nearest level of each weight."""
    safe = np.where(np.abs(scale) < _TINY, 1, scale)
    found = np.where(np.abs(scale) < _TINY, 0, (blocks - lowest) / safe)
    return np.clip(np.rint(found), least, most).astype(np.float32)


def _nibbles(levels: Array) -> Array:
    """The first half of a block's levels in the lower four bits of its 16 bytes, the second in the upper."""
    whole = levels.astype(np.uint8)
    return np.asarray(whole[:, : BLOCK // 2] | (whole[:, BLOCK // 2 :] << 4))
