"""The trees of an ONNX ``TreeEnsembleClassifier`` or ``TreeEnsembleRegressor`` as arrays, and back again.

An answer is a base and the sum of one leaf per tree; what the node does with that sum afterwards is kept as it was.
Knows no data and no loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from onnx import NodeProto, helper
from scipy.special import expit, softmax

from modelport.errors import InvalidInput
from modelport.tensors import Array

KINDS = ("TreeEnsembleClassifier", "TreeEnsembleRegressor")
LEAF = "LEAF"
_MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", LEAF)
_LEAF = _MODES.index(LEAF)
_CHUNK = 20_000_000
"""Values that are looked at in one go."""
_REBUILT = ("nodes_", "class_ids", "class_nodeids", "class_treeids", "class_weights", "target_ids", "target_nodeids",
            "target_treeids", "target_weights", "base_values", "n_targets", "aggregate_function")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Trees; a node is a place in the arrays, and a tree's first node is its root."""

    tree: Array
    """[nodes] the tree, from 0 on, rising."""
    feature: Array
    value: Array
    """[nodes] float32: what the feature is compared with."""
    mode: Array
    """[nodes] places in the list of comparisons."""
    yes: Array
    no: Array
    """[nodes] places of the nodes that follow; itself for a leaf."""
    missing: Array
    """[nodes] whether NaN goes to ``yes``."""
    leaf: Array
    """[nodes, targets] float64: what a leaf adds; 0 for the other nodes."""
    base: Array
    """[targets]"""
    post: str
    """``NONE``, ``LOGISTIC`` or ``SOFTMAX``: what the node makes of the sum."""
    classes: int
    """How many classes the node tells apart; 0 for numbers."""

    @property
    def trees(self) -> int:
        """How many."""
        return int(self.tree[-1]) + 1 if len(self.tree) else 0

    @property
    def is_leaf(self) -> Array:
        """[nodes]"""
        found: Array = self.mode == _LEAF
        return found

    @property
    def leaves(self) -> int:
        """How many."""
        return int(self.is_leaf.sum())

    @property
    def roots(self) -> Array:
        """[trees] places."""
        return np.searchsorted(self.tree, np.arange(self.trees))

    def reached(self, features: Array) -> Array:
        """[rows, trees] the leaf that each row comes to, as places of nodes; ``features`` is [rows, width] float32."""
        step = max(1, _CHUNK // max(self.trees, 1))
        pieces = [self._reached(features[at : at + step]) for at in range(0, len(features), step)]
        return np.concatenate(pieces) if pieces else np.empty((0, self.trees), np.int64)

    def _reached(self, features: Array) -> Array:
        at = np.tile(self.roots, (len(features), 1))
        rows = np.arange(len(features))[:, None]
        while True:
            mode = self.mode[at]
            if (mode == _LEAF).all():
                return at
            found, wanted = features[rows, self.feature[at]], self.value[at]
            with np.errstate(invalid="ignore"):
                goes = np.select(
                    [mode == 0, mode == 1, mode == 2, mode == 3, mode == 4],
                    [found <= wanted, found < wanted, found >= wanted, found > wanted, found == wanted],
                    found != wanted,
                )
            goes = np.where(np.isnan(found), self.missing[at], goes)
            at = np.where(goes, self.yes[at], self.no[at])

    def sums(self, features: Array) -> Array:
        """[rows, targets] before what the node does with them."""
        step = max(1, _CHUNK // max(self.trees * len(self.base), 1))
        pieces = [
            self.leaf[self.reached(features[at : at + step])].sum(1) + self.base
            for at in range(0, len(features), step)
        ]  # fmt: skip
        return np.concatenate(pieces) if pieces else np.empty((0, len(self.base)))

    def answers(self, sums: Array) -> Array:
        """Probabilities [rows, classes], or numbers [rows, targets]."""
        if self.post == "SOFTMAX":
            found: Array = softmax(sums, 1)
            return found
        if self.post == "LOGISTIC":
            sums = expit(sums)
        if self.classes == 2 and sums.shape[1] == 1:
            return np.concatenate([1 - sums, sums], 1)
        return sums

    def taken(self, trees: Array, factor: float = 1.0) -> Ensemble:
        """Some of the trees, what they add multiplied."""
        kept = np.isin(self.tree, trees)
        return replace(self._only(kept), leaf=self.leaf[kept] * factor)

    def _only(self, kept: Array) -> Ensemble:
        """The nodes of a mask, which has to be whole in itself."""
        place = np.cumsum(kept) - 1
        _, tree = np.unique(self.tree[kept], return_inverse=True)
        return replace(
            self, tree=tree, feature=self.feature[kept], value=self.value[kept], mode=self.mode[kept],
            yes=place[self.yes[kept]], no=place[self.no[kept]], missing=self.missing[kept], leaf=self.leaf[kept],
        )  # fmt: skip

    def cut(self, ends: Array, leaf: Array) -> Ensemble:
        """``ends`` [nodes] become leaves that add ``leaf`` [nodes, targets]; what lies below them goes."""
        at = np.arange(len(self.tree))
        over = ends | self.is_leaf
        alive = np.zeros(len(at), bool)
        front = self.roots
        while len(front):
            alive[front] = True
            front = front[~over[front]]
            front = np.concatenate([self.yes[front], self.no[front]])
        changed = replace(
            self, mode=np.where(over, _LEAF, self.mode), yes=np.where(over, at, self.yes),
            no=np.where(over, at, self.no), leaf=np.where(over[:, None], leaf, 0.0),
            feature=np.where(over, 0, self.feature), value=np.where(over, np.float32(0), self.value),
            missing=self.missing & ~over,
        )  # fmt: skip
        return changed._only(alive)


def read(node: NodeProto) -> Ensemble:
    """The trees of a node; raises InvalidInput for one that this cannot take apart."""
    given = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    if any(name.endswith("_as_tensor") and value is not None for name, value in given.items()):
        raise InvalidInput("the trees are written in float64 (…_as_tensor), which this method cannot rewrite")
    is_classifier = node.op_type == KINDS[0]
    labels = given.get("classlabels_int64s") or given.get("classlabels_strings") or []
    post = bytes(given.get("post_transform", b"NONE")).decode()
    how = bytes(given.get("aggregate_function", b"SUM")).decode()
    if post not in ("NONE", "LOGISTIC", "SOFTMAX") or how not in ("SUM", "AVERAGE"):
        raise InvalidInput(f"the trees' answers are put together by {how} and {post}, which this method does not know")
    ids = np.asarray(given["nodes_treeids"]), np.asarray(given["nodes_nodeids"])
    order = np.lexsort(ids[::-1])
    _, tree = np.unique(ids[0][order], return_inverse=True)
    keys = _keys(ids[0][order], ids[1][order])
    modes = [_MODES.index(one.decode()) for one in given["nodes_modes"]]
    mode = np.asarray(modes)[order]
    at = np.arange(len(order))
    yes, no = (
        np.where(mode == _LEAF, at, np.searchsorted(keys, _keys(ids[0][order], np.asarray(given[name])[order])))
        for name in ("nodes_truenodeids", "nodes_falsenodeids")
    )
    kind = "class" if is_classifier else "target"
    targets = _targets(given, kind, len(labels))
    leaf = np.zeros((len(order), targets))
    places = np.searchsorted(keys, _keys(np.asarray(given[f"{kind}_treeids"]), np.asarray(given[f"{kind}_nodeids"])))
    which = np.asarray(given[f"{kind}_ids"]) if targets > 1 else np.zeros(len(places), np.int64)
    np.add.at(leaf, (places, which), np.asarray(given[f"{kind}_weights"], np.float64))
    if how == "AVERAGE":
        leaf /= int(tree[-1]) + 1
    base = np.zeros(targets)
    if given.get("base_values"):
        base = np.asarray(given["base_values"], np.float64)
        if len(base) != targets:
            raise InvalidInput(f"the trees have {len(base)} base values for {targets} sums; the file is unusual")
    tracks = np.asarray(given.get("nodes_missing_value_tracks_true") or np.zeros(len(order)), bool)[order]
    return Ensemble(
        tree, np.asarray(given["nodes_featureids"])[order], np.asarray(given["nodes_values"], np.float32)[order], mode,
        yes, no, tracks, leaf, base, post, len(labels) if is_classifier else 0,
    )  # fmt: skip


def _keys(trees: Array, nodes: Array) -> Array:
    """One number for a tree and a node in it."""
    found: Array = trees.astype(np.int64) * (1 << 32) + nodes
    return found


def _targets(given: Mapping[str, Any], kind: str, classes: int) -> int:
    """How many sums there are: two classes are often told apart by one."""
    if kind == "target":
        return int(given.get("n_targets", 1))
    return 1 if classes == 2 and len(set(given["class_ids"])) == 1 else classes


def write(ensemble: Ensemble, node: NodeProto) -> NodeProto:
    """The node with these trees: its names, its labels and what it does with the sums stay.

    What says nothing is left out: zeros, the default of what is missing, hit rates.
    """
    is_classifier = node.op_type == KINDS[0]
    old = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    kept = [one for one in node.attribute if not one.name.startswith(_REBUILT)]
    first = ensemble.roots[ensemble.tree]
    own = np.arange(len(ensemble.tree)) - first
    is_leaf = ensemble.is_leaf
    made: dict[str, Any] = {
        "nodes_treeids": ensemble.tree, "nodes_nodeids": own, "nodes_featureids": ensemble.feature,
        "nodes_values": ensemble.value, "nodes_modes": [_MODES[one] for one in ensemble.mode],
        "nodes_truenodeids": np.where(is_leaf, 0, ensemble.yes - first),
        "nodes_falsenodeids": np.where(is_leaf, 0, ensemble.no - first),
    }  # fmt: skip
    if ensemble.missing.any():
        made["nodes_missing_value_tracks_true"] = ensemble.missing.astype(np.int64)
    leaf = ensemble.leaf.astype(np.float32)
    said = is_leaf[:, None] & (leaf != 0)
    said[:, 0] |= is_leaf & ~said.any(1)  # each leaf says something
    places, which = np.nonzero(said)
    ids = set(old["class_ids"]) if is_classifier and leaf.shape[1] == 1 else {0}
    kind = "class" if is_classifier else "target"
    made |= {
        f"{kind}_treeids": ensemble.tree[places], f"{kind}_nodeids": own[places],
        f"{kind}_ids": which if leaf.shape[1] > 1 else np.full(len(places), ids.pop()),
        f"{kind}_weights": leaf[places, which],
    }  # fmt: skip
    if ensemble.base.any() or old.get("base_values"):
        made["base_values"] = ensemble.base
    if not is_classifier:
        made["n_targets"] = leaf.shape[1]
    plain = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in made.items()}
    found = helper.make_node(node.op_type, list(node.input), list(node.output), name=node.name, domain=node.domain)
    found.attribute.extend(kept)
    found.attribute.extend(helper.make_attribute(name, value) for name, value in plain.items())
    return found
