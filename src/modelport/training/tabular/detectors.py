"""What tells how unusual a row of a matrix is: a score, higher for rows that are more so, and its ONNX nodes.

ECOD, COPOD and HBOS look at each column by itself, in steps: here each column's steps are one tree of a
TreeEnsembleRegressor, and a row's score is their sum: PyOD's own for a row that is asked about alone. (Asked about rows
together, PyOD's ECOD and COPOD rank them among each other too, so that an answer depends on who else asks; and what is
asked about may turn the skew of a column that has hardly any.)
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors

from modelport.errors import InvalidInput
from modelport.tensors import Array
from modelport.training.encoders.graph import Graph
from modelport.training.tabular.steps import Steps, average_path, forest_tree, tree_nodes

_MOST_NEIGHBOURS_ROWS = 20_000
#: HBOS (Goldstein, Dengel, 2012) with PyOD's defaults: bins, what keeps an empty one finite, and by what share of a
#: bin's width a value may lie beyond the last one.
_BINS, _ALPHA, _TOLERANCE = 10, 0.1, 0.5


class Detector(Protocol):
    """Something that was fitted."""

    def score(self, features: Array) -> Array:
        """[rows] float64."""
        ...

    def training_scores(self, features: Array) -> Array:
        """Those of the rows that it learnt from: a row is no neighbour of itself."""
        ...

    def nodes(self, graph: Graph, tensor: str) -> str:
        """The score [rows, 1] from [rows, width] FP32."""
        ...


def fitted(options: Any, features: Array, seed: int, threads: int) -> Detector:
    """The detector that the options want; raises InvalidInput, or MissingExtra."""
    if options.method in ("lof", "knn"):
        if options.neighbours >= len(features):
            raise InvalidInput(f"options.neighbours: {options.neighbours} of {len(features)} rows; take fewer")
        if len(features) > _MOST_NEIGHBOURS_ROWS:
            drawn = np.random.default_rng(seed).choice(len(features), _MOST_NEIGHBOURS_ROWS, replace=False)
            features = features[np.sort(drawn)]
        return (Outliers if options.method == "lof" else Neighbours)(features, options.neighbours, threads)
    if options.method == "isolation-forest":
        return Isolation(features, options.trees, seed, threads)
    return _by_column(options.method, features)


class Isolation:
    """How few questions set a row apart (Liu, Ting, Zhou, 2008)."""

    def __init__(self, features: Array, trees: int, seed: int, threads: int) -> None:
        self._forest = IsolationForest(n_estimators=trees, random_state=seed, n_jobs=threads).fit(features)

    def score(self, features: Array) -> Array:
        """Above 0.5 for rows that are set apart early."""
        return np.asarray(-self._forest.score_samples(features), np.float64)

    training_scores = score

    def nodes(self, graph: Graph, tensor: str) -> str:
        """One tree ensemble that sums what each tree asks; skl2onnx's is thousands of nodes for the same."""
        trees = [
            forest_tree(tree.tree_, features)
            for tree, features in zip(self._forest.estimators_, self._forest.estimators_features_, strict=True)
        ]
        asked = graph.cast(tree_nodes(graph, tensor, trees), "FP64")
        usual = len(trees) * float(average_path(np.array([self._forest.max_samples_]))[0])
        return graph.cast(
            graph.add("Pow", graph.constant(np.float64(2)), graph.add("Div", asked, graph.constant(-usual))), "FP32"
        )


class Outliers:
    """How much thinner a row's surroundings are than its neighbours' (Breunig et al., 2000)."""

    def __init__(self, features: Array, neighbours: int, threads: int) -> None:
        self._lof = LocalOutlierFactor(n_neighbors=neighbours, novelty=True, n_jobs=threads).fit(features)
        self._rows = features

    def score(self, features: Array) -> Array:
        """About 1 where it is as dense as around."""
        return np.asarray(-self._lof.score_samples(features), np.float64)

    def training_scores(self, features: Array) -> Array:
        """As the fit found them."""
        if len(features) == len(self._rows):
            return np.asarray(-self._lof.negative_outlier_factor_, np.float64)
        return self.score(features)

    def nodes(self, graph: Graph, tensor: str) -> str:
        """Distances in FP64; densities of the training rows are constants (scikit-learn's formulas)."""
        count = self._lof.n_neighbors_
        distances, places = _nearest(graph, tensor, self._rows, count)
        reach = graph.constant(self._lof._distances_fit_X_[:, count - 1].astype(np.float64))
        density = graph.constant(self._lof._lrd.astype(np.float64))
        reached = graph.add("Max", distances, graph.add("Gather", reach, places))
        axis = graph.constant([1], np.int64)
        mean = graph.add("ReduceMean", reached, axis, keepdims=1)
        own = graph.add("Div", graph.constant(np.float64(1)), graph.add("Add", mean, graph.constant(np.float64(1e-10))))
        around = graph.add("ReduceMean", graph.add("Gather", density, places), axis, keepdims=1)
        return graph.cast(graph.add("Div", around, own), "FP32")


class Neighbours:
    """How far away the k-th neighbour is (Ramaswamy, Rastogi, Shim, 2000; PyOD's KNN, method largest)."""

    def __init__(self, features: Array, neighbours: int, threads: int) -> None:
        self._rows, self._count = features.astype(np.float64), neighbours
        self._found = NearestNeighbors(n_neighbors=neighbours, n_jobs=threads).fit(self._rows)

    def score(self, features: Array) -> Array:
        """A distance in the matrix's units."""
        return np.asarray(self._found.kneighbors(features.astype(np.float64))[0][:, -1], np.float64)

    def training_scores(self, features: Array) -> Array:
        """Without themselves."""
        if len(features) != len(self._rows):
            return self.score(features)
        return np.asarray(self._found.kneighbors(None)[0][:, -1], np.float64)

    def nodes(self, graph: Graph, tensor: str) -> str:
        """Distances in FP64."""
        distances, _ = _nearest(graph, tensor, self._rows, self._count)
        return graph.cast(graph.columns(distances, self._count - 1, self._count), "FP32")


def _nearest(graph: Graph, tensor: str, rows: Array, count: int) -> list[str]:
    """Distances and places of the nearest rows, [rows, count] each."""
    known = rows.astype(np.float64)
    asked = graph.cast(tensor, "FP64")
    axis = graph.constant([1], np.int64)
    squares = graph.add("ReduceSumSquare", asked, axis, keepdims=1)
    products = graph.add("MatMul", asked, graph.constant(-2 * known.T))
    total = graph.add("Add", graph.add("Add", products, squares), graph.constant((known**2).sum(axis=1)[None]))
    distances = graph.add("Sqrt", graph.add("Max", total, graph.constant(np.float64(0))))
    found: list[str] = graph.add(
        "TopK", distances, graph.constant([count], np.int64), outputs=2, axis=1, largest=0, sorted=1
    )
    return found


def _by_column(method: str, features: Array) -> Steps:
    """PyOD's scores of each column, as steps."""
    if method == "hbos":
        columns = [np.histogram(values, _BINS, density=True) for values in features.T.astype(np.float64)]
        heights = [-np.log2(density + _ALPHA) for density, _ in columns]
        return Steps.from_histograms([edges for _, edges in columns], heights, _TOLERANCE)
    return Steps.from_tails(features, _ecod if method == "ecod" else _copod)


def _ecod(below: Array, above: Array, lean: float) -> Array:
    """The rarer tail, or the one that the column leans to (Li, Zhao, Hu, Botta, Ionescu, Chen: ECOD, 2022)."""
    low, high = -np.log(below), -np.log(above)
    return np.maximum(np.maximum(low, high), _leaning(low, high, lean))


def _copod(below: Array, above: Array, lean: float) -> Array:
    """The mean of the tails, or the one that the column leans to (Li, Zhao, Botta, Ionescu, Hu: COPOD, 2020)."""
    low, high = -np.log(below), -np.log(above)
    return np.maximum((low + high) / 2, _leaning(low, high, lean))


def _leaning(low: Array, high: Array, lean: float) -> Array:
    """The lower tail where the skew is below 0, the upper one where it is above, both where it is 0."""
    sign = np.sign(lean)
    found: Array = low * -np.sign(sign - 1) + high * np.sign(sign + 1)
    return found
