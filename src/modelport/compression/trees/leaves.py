"""Fewer leaves: two leaves that say nearly the same to the rows become one; then all leaves' values are fitted anew.

What a merge costs is how far the rows' answers move by it, in squares; the cheapest come first, over all trees
together. Fitting anew means: what all trees add up to comes as near as it can to what is wanted, without leaving the
old values further than needed.
"""

from __future__ import annotations

import heapq
from dataclasses import replace

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import lsmr

from modelport.compression.trees.ensemble import Ensemble
from modelport.tensors import Array

_PRIOR = 1e-3
"""Rows that a leaf counts for that none has reached."""


def merged(ensemble: Ensemble, leaves: Array, most: int) -> Ensemble:
    """At most so many leaves, but one per tree at least; ``leaves`` [rows, trees] are places that rows reached."""
    if ensemble.leaves <= most:
        return ensemble
    nodes = len(ensemble.tree)
    weight = np.bincount(leaves.reshape(-1), minlength=nodes).astype(np.float64) + _PRIOR
    value = ensemble.leaf.copy()
    inner = np.flatnonzero(~ensemble.is_leaf)
    parent = np.full(nodes, -1)
    parent[ensemble.yes[inner]] = inner
    parent[ensemble.no[inner]] = inner
    end = ensemble.is_leaf.copy()
    weight[inner] = 0.0
    lost = np.zeros(nodes)
    """What the rows below a node have already been moved by."""

    def cost(node: int) -> float:
        yes, no = ensemble.yes[node], ensemble.no[node]
        share = weight[yes] * weight[no] / (weight[yes] + weight[no])
        gap = value[yes] - value[no]
        return float(share * (gap @ gap) + lost[yes] + lost[no])

    waiting = [(cost(node), node) for node in inner.tolist() if end[ensemble.yes[node]] and end[ensemble.no[node]]]
    heapq.heapify(waiting)
    count = ensemble.leaves
    while count > most and waiting:
        moved, node = heapq.heappop(waiting)
        yes, no = ensemble.yes[node], ensemble.no[node]
        weight[node] = weight[yes] + weight[no]
        value[node] = (weight[yes] * value[yes] + weight[no] * value[no]) / weight[node]
        lost[node], end[node] = moved, True
        count -= 1
        over = int(parent[node])
        if over >= 0 and end[ensemble.yes[over]] and end[ensemble.no[over]]:
            heapq.heappush(waiting, (cost(over), over))
    return ensemble.cut(end, value)


def refitted(ensemble: Ensemble, leaves: Array, wanted: Array, stiffness: float, positive: bool) -> Ensemble:
    """Values of the leaves so that the sums [rows, targets] come near ``wanted``.

    ``leaves`` are those of ``ensemble``. ``stiffness`` is what a leaf's old value counts, in rows. ``positive``: no
    leaf says less than 0, since the runtime reads such ensembles otherwise.
    """
    rows, trees = leaves.shape
    used, columns = np.unique(leaves, return_inverse=True)
    ones = np.ones(rows * trees)
    reach = sparse.csr_matrix((ones, (np.repeat(np.arange(rows), trees), columns.reshape(-1))), (rows, len(used)))
    value = ensemble.leaf.copy()
    rest = wanted - ensemble.base - ensemble.leaf[leaves].sum(1)
    for target in range(value.shape[1]):
        if rest[:, target].any():
            value[used, target] += lsmr(reach, rest[:, target], damp=stiffness**0.5, maxiter=50)[0]
    if positive:
        value = np.maximum(value, 0.0)
    return replace(ensemble, leaf=value)


def rounded(ensemble: Ensemble, bits: int) -> Ensemble:
    """Values of the leaves in so many bits' steps: small ones become 0 and need no place in the file."""
    top = np.abs(ensemble.leaf).max()
    step = top / (2**bits - 1) if top else 1.0
    return replace(ensemble, leaf=np.round(ensemble.leaf / step) * step)
