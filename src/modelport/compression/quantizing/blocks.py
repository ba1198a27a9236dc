"""Blocks of 32 weights in 4 bits, with the scale that leaves the least error where it matters.

The bytes are ggml's ``Q4_0`` (16 levels around 0) and ``Q4_1`` (16 levels above a lowest value); the library ``gguf``
takes each block's largest values for its scale, here scales around that one are tried, and weights count as much as
what goes through them. Where it is known what goes in together, the columns behind make up for what rounding has left
(GPTQ, Frantar et al. 2022). Knows no model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from modelport.tensors import Array

Kind = Literal["q4_0", "q4_1"]
BLOCK = 32
_TRIED = np.linspace(-0.3, 0.06, 7)
"""How much narrower or wider than all of a block's values its levels are tried."""
_AT_ONCE = 1 << 15
"""Blocks, or rows."""
_TINY = 1e-20
_DAMPED = 0.1
"""Of the mean square of what goes in: other texts have other inputs."""
_LEVELS = {"q4_0": (-8, 7), "q4_1": (0, 15)}


def quantized(weights: Array, kind: Kind, inputs: Array | None = None) -> Array:
    """UINT8 [rows, bytes] of FP32 ``weights`` [rows, columns], where ``columns`` is a multiple of 32.

    ``inputs`` tells what goes through them: mean squares [columns], all above 0, or mean products [columns, columns].
    """
    rows, columns = weights.shape
    if inputs is not None and inputs.ndim == 2:
        damped = inputs + _DAMPED * max(float(np.diagonal(inputs).mean()), _TINY) * np.eye(columns)
        left = np.linalg.cholesky(np.linalg.inv(damped.astype(np.float64))).T.astype(np.float32)
        matters = np.diagonal(damped).astype(np.float32)
        made = [
            _made_up_for(weights[start : start + _AT_ONCE], kind, matters, left) for start in range(0, rows, _AT_ONCE)
        ]
        return np.concatenate(made)
    matters = np.ones(columns, np.float32) if inputs is None else inputs.astype(np.float32)
    repeated = np.broadcast_to(matters, weights.shape).reshape(-1, BLOCK)
    made = []
    for block, counts in _parts(weights.reshape(-1, BLOCK), repeated):
        scale, lowest = _FITS[kind](block, counts)
        made.append(_packed(kind, scale, lowest, _levels(block, scale, lowest, kind)))
    return np.concatenate(made).reshape(rows, -1)


def _parts(blocks: Array, counts: Array) -> Iterator[tuple[Array, Array]]:
    for start in range(0, len(blocks), _AT_ONCE):
        yield blocks[start : start + _AT_ONCE].astype(np.float32), counts[start : start + _AT_ONCE]


def _made_up_for(weights: Array, kind: Kind, matters: Array, left: Array) -> Array:
    """Columns one after another; what rounding leaves of one goes into those behind it, as ``left`` tells."""
    wanted, made = weights.astype(np.float32), []
    for start in range(0, weights.shape[1], BLOCK):
        end = start + BLOCK
        block, inside = wanted[:, start:end].copy(), left[start:end, start:end]
        scale, lowest = _FITS[kind](block, np.broadcast_to(matters[start:end], block.shape))
        levels, errors = np.empty_like(block), np.empty_like(block)
        for at in range(BLOCK):
            one = slice(at, at + 1)
            levels[:, one] = _levels(block[:, one], scale, lowest, kind)
            errors[:, one] = (block[:, one] - levels[:, one] * scale - lowest) / inside[at, at]
            block[:, at + 1 :] -= errors[:, one] * inside[at, at + 1 :]
        wanted[:, end:] -= errors @ left[start:end, end:]
        made.append(_packed(kind, scale, lowest, levels))
    return np.concatenate(made, axis=1)


def _around_zero(blocks: Array, counts: Array) -> tuple[Array, Array]:
    """``level * scale``."""
    places = np.abs(blocks).argmax(1)
    largest = np.take_along_axis(blocks, places[:, None], 1)
    none = np.zeros_like(largest)
    best_scale = largest / -8
    best_error = np.full((len(blocks), 1), np.inf, np.float32)
    for more in _TRIED:
        levels = _levels(blocks, largest * (1 + more) / -8, none, "q4_0")
        weighted = counts * levels
        scale = (weighted * blocks).sum(1, keepdims=True) / np.maximum((weighted * levels).sum(1, keepdims=True), _TINY)
        scale = _stored(scale)
        error = (counts * (blocks - scale * levels) ** 2).sum(1, keepdims=True)
        better = error < best_error
        best_error, best_scale = np.where(better, error, best_error), np.where(better, scale, best_scale)
    return _stored(best_scale), none


def _above_lowest(blocks: Array, counts: Array) -> tuple[Array, Array]:
    """``level * scale + lowest``."""
    low, high = blocks.min(1, keepdims=True), blocks.max(1, keepdims=True)
    best = [(high - low) / 15, low]
    best_error = np.full((len(blocks), 1), np.inf, np.float32)
    total = counts.sum(1, keepdims=True)
    for more in _TRIED:
        widened = (high - low) * more / 2
        levels = _levels(blocks, (high - low + 2 * widened) / 15, low - widened, "q4_1")
        weighted = counts * levels
        ones, squares = weighted.sum(1, keepdims=True), (weighted * levels).sum(1, keepdims=True)
        values, both = (counts * blocks).sum(1, keepdims=True), (weighted * blocks).sum(1, keepdims=True)
        apart = np.maximum(total * squares - ones**2, _TINY)
        scale = _stored((total * both - ones * values) / apart)
        lowest = _stored((values - scale * ones) / total)
        again = _levels(blocks, scale, lowest, "q4_1")
        error = (counts * (blocks - scale * again - lowest) ** 2).sum(1, keepdims=True)
        better = error < best_error
        best_error = np.where(better, error, best_error)
        best = [np.where(better, new, old) for new, old in zip((scale, lowest), best, strict=True)]
    return _stored(best[0]), _stored(best[1])


_FITS = {"q4_0": _around_zero, "q4_1": _above_lowest}
"""Scale and lowest value of blocks, of weights that count so much."""


def _stored(numbers: Array) -> Array:
    """As the file's 16 bits keep them."""
    return np.asarray(numbers.astype(np.float16).astype(np.float32))


def _levels(blocks: Array, scale: Array, lowest: Array, kind: Kind) -> Array:
    """The nearest level of each weight."""
    safe = np.where(np.abs(scale) < _TINY, 1, scale)
    found = np.where(np.abs(scale) < _TINY, 0, (blocks - lowest) / safe)
    return np.clip(np.rint(found), *_LEVELS[kind]).astype(np.float32)


def _packed(kind: Kind, scale: Array, lowest: Array, levels: Array) -> Array:
    """A block's bytes: scale, lowest value, levels from 0 on."""
    halves = [scale, lowest] if kind == "q4_1" else [scale]
    numbers = [one.astype(np.float16).view(np.uint8) for one in halves]
    return np.concatenate([*numbers, _nibbles(levels - _LEVELS[kind][0])], axis=1)


def _nibbles(levels: Array) -> Array:
    """The first half of a block's levels in the lower four bits of its 16 bytes, the second in the upper."""
    whole = levels.astype(np.uint8)
    return np.asarray(whole[:, : BLOCK // 2] | (whole[:, BLOCK // 2 :] << 4))
