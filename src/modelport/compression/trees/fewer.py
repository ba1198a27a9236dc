"""Which trees of an ensemble are worth keeping: an order, from the most useful on.

Trees that were grown beside each other (a forest) are picked greedily, by how near their mean comes to what is wanted.
Boosted trees correct those before them, so their order stays, and the last ones go first.
"""

from __future__ import annotations

import numpy as np

from modelport.compression.trees.ensemble import Ensemble
from modelport.tensors import Array


def is_forest(ensemble: Ensemble, leaves: Array) -> bool:
    """Whether each tree alone is an answer: one for all sums, and each as spread as the whole.

    ``leaves`` is [rows, trees], as ``reached`` gives it.
    """
    if ensemble.post != "NONE" or ensemble.base.any() or ensemble.trees < 2:
        return False
    alone = ensemble.leaf[leaves] * ensemble.trees
    spread = alone.std(0).mean(1)
    whole = float(alone.mean(1).std(0).mean())
    return bool(np.quantile(spread, 0.1) > whole / 2 and np.quantile(spread, 0.9) < whole * 4)


def forest_order(ensemble: Ensemble, leaves: Array, wanted: Array, most: int) -> Array:
    """[most] trees: each next one brings the mean of those so far nearest to ``wanted`` [rows, targets] (squares)."""
    trees = ensemble.trees
    alone = (ensemble.leaf[leaves] * trees).transpose(1, 0, 2).reshape(trees, -1)
    products = alone @ alone.T
    with_wanted = alone @ wanted.reshape(-1)
    norms = np.diag(products)
    chosen: list[int] = []
    own, cross = np.zeros(trees), 0.0  # products with the sum so far; the sum's own square
    towards = 0.0
    free = np.ones(trees, bool)
    for count in range(1, min(most, trees) + 1):
        error = (cross + 2 * own + norms) / count**2 - 2 * (towards + with_wanted) / count
        best = int(np.argmin(np.where(free, error, np.inf)))
        chosen.append(best)
        free[best] = False
        cross += 2 * own[best] + norms[best]
        towards += with_wanted[best]
        own += products[best]
    return np.array(chosen)


def boosting_order(ensemble: Ensemble) -> Array:
    """All trees, round by round, whatever order they lie in: the first tree of each sum, then the second ones."""
    starts = ensemble.roots
    # a tree that adds to one sum alone belongs to it; others count as one kind
    adds = np.add.reduceat(np.abs(ensemble.leaf), starts, axis=0) > 0
    kind = np.where(adds.sum(1) == 1, adds.argmax(1), -1)
    turn = np.zeros(ensemble.trees, np.int64)
    for one in np.unique(kind):
        turn[kind == one] = np.arange((kind == one).sum())
    order: Array = np.lexsort((np.arange(ensemble.trees), turn))
    return order


def rounds(ensemble: Ensemble) -> int:
    """Trees of one round of boosting: those that count alike."""
    starts = ensemble.roots
    adds = np.add.reduceat(np.abs(ensemble.leaf), starts, axis=0) > 0
    return max(1, len(np.unique(np.where(adds.sum(1) == 1, adds.argmax(1), -1))))
