"""Which guesses are taken for labels: the sure ones, and of each class not more than keeps them in proportion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modelport.tensors import Array
from modelport.training.recipes.image import PseudoLabels

_TIMES = 3


@dataclass(frozen=True, slots=True)
class Chosen:
    """Rows that were labelled."""

    rows: Array
    """int64, ascending"""
    codes: Array
    weight: float


def choose(chances: Array, rows: Array, how: PseudoLabels) -> Chosen:
    """``chances`` [rows, classes] of the rows without a label."""
    best, sure = chances.argmax(1), chances.max(1)
    confident = sure >= how.threshold
    counts = np.bincount(best[confident], minlength=chances.shape[1])
    most = how.per_class or (int(counts[counts > 0].min()) * _TIMES if counts.any() else 0)
    taken = np.zeros(len(rows), bool)
    for code in range(chances.shape[1]):
        own = np.flatnonzero(confident & (best == code))
        surest = own[np.argsort(-sure[own], kind="stable")][:most]
        taken[surest] = True
    return Chosen(rows[taken], best[taken].astype(np.int64), how.weight)
