"""Vectors of a text's tokens to one vector, in the ways that sentence-transformers defines. Knows only numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from modelport.tensors import Array


def pool(vectors: Array, mask: Array, mode: str) -> Array:
    """Token vectors [n, length, d], and a mask [n, length] with 1 for tokens that count, to [n, d]."""
    return _POOLS[mode](vectors, mask[:, :, None].astype(np.float32))


def unit(vectors: Array) -> Array:
    """Each vector of [n, d] at the length 1; a vector of zeros stays one."""
    scaled: Array = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return scaled


def _mean(vectors: Array, weights: Array) -> Array:
    mean: Array = (vectors * weights).sum(1) / np.maximum(weights.sum(1), 1e-9)
    return mean


def _mean_sqrt(vectors: Array, weights: Array) -> Array:
    mean: Array = (vectors * weights).sum(1) / np.sqrt(np.maximum(weights.sum(1), 1e-9))
    return mean


def _weighted(vectors: Array, weights: Array) -> Array:
    return _mean(vectors, weights * np.arange(1, vectors.shape[1] + 1, dtype=np.float32)[None, :, None])


def _largest(vectors: Array, weights: Array) -> Array:
    largest: Array = np.where(weights > 0, vectors, -1e9).max(1)
    return largest


def _at(vectors: Array, places: Array) -> Array:
    chosen: Array = vectors[np.arange(len(vectors)), places]
    return chosen


_POOLS: dict[str, Callable[[Array, Array], Array]] = {
    "cls": lambda vectors, weights: _at(vectors, weights[:, :, 0].argmax(1)),
    "max": _largest,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt,
    "weightedmean": _weighted,
    "lasttoken": lambda vectors, weights: _at(vectors, vectors.shape[1] - 1 - weights[:, ::-1, 0].argmax(1)),
}
