"""How good vectors of texts are: whether their cosines follow scores, and whether what belongs together is nearest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from modelport.tensors import Array

_AT = (1, 5, 10)


def judged(loss: str, vectors: Sequence[Array], values: Array, most: int) -> dict[str, float]:
    """Figures of validation rows; vectors of length 1 by column [rows, width], values [rows].

    ``cosine``: Spearman's and Pearson's correlation. ``ranking``: how often a text's own partner is among the nearest
    1, 5, 10, and the mean of 1 / its place. ``triplet``: how often the nearest other text is of the same class.
    """
    if loss == "cosine":
        cosines = (vectors[0] * vectors[1]).sum(1)
        if not np.ptp(cosines) or not np.ptp(values):  # nothing varies: no order, and none to follow
            return {"spearman": 0.0, "pearson": 0.0}
        return {
            "spearman": float(stats.spearmanr(cosines, values).statistic),
            "pearson": float(stats.pearsonr(cosines, values).statistic),
        }
    rows = min(len(values), most)
    values = values[:rows]
    if loss == "triplet":
        near = vectors[0][:rows] @ vectors[0][:rows].T
        np.fill_diagonal(near, -2.0)
        return {"recall_at_1": float((values[near.argmax(1)] == values).mean())}
    near = vectors[0][:rows] @ vectors[1][:rows].T
    own = np.where(values[:, None] == values[None, :], near, -2.0).max(1)
    others = np.where(values[:, None] == values[None, :], -2.0, near)
    places = (others > own[:, None]).sum(1) + 1
    return {f"recall_at_{at}": float((places <= at).mean()) for at in _AT} | {"mrr": float((1 / places).mean())}
