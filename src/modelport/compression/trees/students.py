"""A single tree, or a small net, that learns from what all trees together answer."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
from onnx import ModelProto
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from sklearn.tree import DecisionTreeRegressor

from modelport.compression.trees import graph
from modelport.compression.trees.ensemble import Ensemble, write
from modelport.errors import InvalidInput
from modelport.tensors import Array
from modelport.training.recipe import TrainingRun
from modelport.training.tabular.settle import floor32

_LEAST = 1e-2
"""A chance below this counts as this one, so that logits stay finite."""


def student(run: TrainingRun, look: Any, options: Any) -> tuple[ModelProto, dict[str, Any]]:
    """The file with the student in the place of the trees, and what it is."""
    if options.into == "tree":
        single = _tree(look.whole, look.seen, look.seen_sums, options.max_leaves, run.seed)
        model = graph.with_node(look.model, write(single, look.node))
        return model, {"into": "tree", "trees": 1, "leaves": single.leaves}
    if not np.isfinite(look.seen).all() or not np.isfinite(look.held).all():
        raise InvalidInput("options.into: rows have missing values, which a net cannot take; say tree")
    nodes, constants = _net(run, look, options)
    model = graph.with_nodes(look.model, nodes, constants)
    return model, {"into": "mlp", "hidden": list(options.hidden)}


def _tree(whole: Ensemble, seen: Array, sums: Array, most: int, seed: int) -> Ensemble:
    """One tree whose leaves say what all trees said on average."""
    fitted = DecisionTreeRegressor(max_leaf_nodes=most, random_state=seed).fit(seen, sums).tree_
    at = np.arange(fitted.node_count)
    is_leaf = fitted.children_left < 0
    leaf = np.where(is_leaf[:, None], fitted.value[:, :, 0] - whole.base, 0.0)
    return replace(
        whole, tree=np.zeros(len(at), np.int64), feature=np.where(is_leaf, 0, fitted.feature),
        value=np.where(is_leaf, 0, floor32(fitted.threshold)).astype(np.float32), mode=np.where(is_leaf, 6, 0),
        yes=np.where(is_leaf, at, fitted.children_left), no=np.where(is_leaf, at, fitted.children_right),
        missing=np.asarray(fitted.missing_go_to_left, bool) & ~is_leaf, leaf=leaf,
    )  # fmt: skip


def _net(run: TrainingRun, look: Any, options: Any) -> tuple[Any, Any]:
    """Learns logits of the answers, or the numbers; both scaled."""
    whole, seen = look.whole, look.seen.astype(np.float64)
    deviation = seen.std(0)
    scale = seen.mean(0), np.where(deviation > 1e-9, deviation, 1.0)
    wanted = whole.answers(look.seen_sums)
    if whole.classes:
        wanted = np.log(np.maximum(wanted, _LEAST))
        wanted -= wanted.mean(1, keepdims=True)
    spread = wanted.std(0) + 1e-9
    middle = wanted.mean(0)
    rows = len(seen)
    net = MLPRegressor(
        hidden_layer_sizes=options.hidden, random_state=run.seed, max_iter=min(1000, max(100, 400_000 // rows)),
        alpha=1e-3, learning_rate_init=3e-3, n_iter_no_change=30,
    )  # fmt: skip
    aims = (wanted - middle) / spread
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        net.fit((seen - scale[0]) / scale[1], aims if aims.shape[1] > 1 else aims[:, 0])
    layers = list(zip(net.coefs_, net.intercepts_, strict=True))
    weights, bias = layers[-1]
    layers[-1] = (weights * spread, bias * spread + middle)
    return graph.net(look.node, layers, scale)
