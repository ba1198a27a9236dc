"""A sum over columns of functions that go up and down in steps, with numpy and as one ONNX tree ensemble."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

import numpy as np
from scipy.stats import skew

from modelport.tensors import Array
from modelport.training.encoders.graph import Graph
from modelport.training.tabular.settle import floor32

#: Of a column; more are thinned to quantiles.
_MOST_STEPS = 4096
#: Its number, feature, threshold, the nodes for yes and for no, and its height; a leaf has 0 for both nodes.
Node = tuple[int, int, float, int, int, float]


class Steps:
    """By column, thresholds (float32, rising) and one height more than there are of them."""

    def __init__(self, thresholds: Sequence[Array], heights: Sequence[Array]) -> None:
        self.thresholds = [np.asarray(each, np.float32) for each in thresholds]
        self.heights = [np.asarray(each, np.float64) for each in heights]

    @classmethod
    def from_tails(cls, features: Array, height: Callable[[Array, Array, float], Array]) -> Self:
        """Steps at the values of the rows; ``height`` of the shares of rows not above and not below, and the skew.

        A row that is asked about is one more row, as when PyOD is asked about it alone.
        """
        columns = [_tails(values, height) for values in features.T]
        return cls([thresholds for thresholds, _ in columns], [own for _, own in columns])

    @classmethod
    def from_histograms(cls, edges: Sequence[Array], heights: Sequence[Array], tolerance: float) -> Self:
        """Steps at a histogram's edges; beyond the first and the last by more than ``tolerance`` of a bin's width a
        value is as unusual as the emptiest bin's."""
        thresholds, found = [], []
        for edge, height in zip(edges, heights, strict=True):
            low, high = edge[0] - tolerance * (edge[1] - edge[0]), edge[-1] + tolerance * (edge[-1] - edge[-2])
            thresholds.append(np.concatenate([[low], edge[1:-1], [high]]))
            found.append(np.concatenate([[height.max()], height, [height.max()]]))
        return cls(thresholds, found)

    def score(self, features: Array) -> Array:
        """[rows] float64."""
        total = np.zeros(len(features))
        for column, thresholds, heights in zip(features.T, self.thresholds, self.heights, strict=True):
            total += heights[np.searchsorted(thresholds, column.astype(np.float32), side="left")]
        return total

    training_scores = score

    def nodes(self, graph: Graph, tensor: str) -> str:
        """The score [rows, 1] from [rows, width] FP32: a balanced tree for each column."""
        columns = enumerate(zip(self.thresholds, self.heights, strict=True))
        return tree_nodes(graph, tensor, [_tree(t.tolist(), h.tolist(), column) for column, (t, h) in columns])


def tree_nodes(graph: Graph, tensor: str, trees: Sequence[Iterable[Node]]) -> str:
    """The sum of trees' heights, [rows, 1]."""
    nodes = [(number, *node) for number, tree in enumerate(trees) for node in tree]
    leaves = [(tree, at, height) for tree, at, _, _, yes, _, height in nodes if yes == 0]
    return str(
        graph.add(
            "TreeEnsembleRegressor", tensor, n_targets=1, aggregate_function="SUM",
            nodes_treeids=[node[0] for node in nodes],
            nodes_nodeids=[node[1] for node in nodes],
            nodes_featureids=[node[2] for node in nodes],
            nodes_values=[node[3] for node in nodes],
            nodes_modes=["BRANCH_LEQ" if node[4] else "LEAF" for node in nodes],
            nodes_truenodeids=[node[4] for node in nodes],
            nodes_falsenodeids=[node[5] for node in nodes],
            target_treeids=[tree for tree, _, _ in leaves],
            target_nodeids=[at for _, at, _ in leaves],
            target_ids=[0] * len(leaves),
            target_weights=[height for _, _, height in leaves],
        )
    )  # fmt: skip


def forest_tree(tree: Any, features: Array) -> Iterable[Node]:
    """A tree of an isolation forest: a leaf's height is how many questions lead there, and would go on from there."""
    rest = average_path(tree.n_node_samples)
    thresholds = floor32(tree.threshold)
    waiting = [(0, 0)]
    while waiting:
        node, depth = waiting.pop()
        yes, no = int(tree.children_left[node]), int(tree.children_right[node])
        if yes == -1:
            yield node, 0, 0.0, 0, 0, depth + float(rest[node])
            continue
        yield node, int(features[tree.feature[node]]), float(thresholds[node]), yes, no, 0.0
        waiting += [(yes, depth + 1), (no, depth + 1)]


def average_path(rows: Array) -> Array:
    """How many questions set a row apart among so many, on average (Liu, Ting, Zhou: equation 1)."""
    many = np.maximum(rows, 3).astype(np.float64)
    found = 2 * (np.log(many - 1) + np.euler_gamma) - 2 * (many - 1) / many
    return np.where(rows <= 1, 0.0, np.where(rows == 2, 1.0, found))


def _tails(values: Array, height: Callable[[Array, Array, float], Array]) -> tuple[Array, Array]:
    """Thresholds before and at each value; heights between values, and at them."""
    knots, counts = np.unique(values.astype(np.float32), return_counts=True)
    until, rows = np.cumsum(counts), len(values) + 1
    before = until - counts
    if len(knots) * 2 > _MOST_STEPS:
        kept = np.unique(np.linspace(0, len(knots) - 1, _MOST_STEPS // 2).round().astype(np.int64))
        knots, until, before = knots[kept], until[kept], before[kept]
    thresholds = np.stack([np.nextafter(knots, np.float32(-np.inf)), knots], axis=1).reshape(-1)
    below = np.append(np.stack([before, until], axis=1).reshape(-1), len(values))
    above = len(values) - np.append(np.stack([before, before], axis=1).reshape(-1), len(values))
    lean = float(np.nan_to_num(skew(values.astype(np.float64))))
    return thresholds, height((below + 1) / rows, (above + 1) / rows, lean)


def _tree(thresholds: list[float], heights: list[float], column: int) -> Iterable[Node]:
    """A balanced one over one column."""
    waiting, used = [(0, 0, len(thresholds))], 1
    while waiting:
        node, low, high = waiting.pop()
        if low == high:
            yield node, 0, 0.0, 0, 0, heights[low]
            continue
        middle = (low + high) // 2
        yield node, column, thresholds[middle], used, used + 1, 0.0
        waiting += [(used, low, middle), (used + 1, middle + 1, high)]
        used += 2
