"""An ONNX file around its trees: what comes to them, and the same file with other trees, or with a net in their place.

Knows no rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from modelport.compression.trees.ensemble import KINDS
from modelport.errors import InvalidInput
from modelport.tensors import Array

_PREFIX = "/student/"


def tree_node(model: ModelProto) -> NodeProto:
    """The one node that holds trees; raises InvalidInput when there is none, or more."""
    found = [node for node in model.graph.node if node.op_type.startswith("TreeEnsemble")]
    if not found:
        raise InvalidInput(
            "the model has no trees: this method is for forests and boosting; for networks there are distil, prune and "
            "quantize"
        )
    if len(found) > 1:
        raise InvalidInput(f"the model has {len(found)} ensembles of trees (a vote, a stack); this method takes one")
    if found[0].op_type not in KINDS:
        raise InvalidInput(f"the trees are written as {found[0].op_type} (opset 5); write them with ai.onnx.ml opset 3")
    return found[0]


def asking_inside(model: ModelProto, tensors: Sequence[str]) -> ModelProto:
    """The file with more outputs."""
    found = ModelProto()
    found.CopyFrom(model)
    have = {one.name for one in found.graph.output}
    for name in tensors:
        if name not in have:
            found.graph.output.append(helper.make_empty_tensor_value_info(name))
    return found


def with_node(model: ModelProto, new: NodeProto) -> ModelProto:
    """The file with other trees in the same place."""
    return with_nodes(model, [new], [])


def with_nodes(model: ModelProto, new: Sequence[NodeProto], constants: Sequence[TensorProto]) -> ModelProto:
    """The file with other nodes in the place of its trees."""
    old = tree_node(model)
    found = ModelProto()
    found.CopyFrom(model)
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        nodes += list(new) if list(node.output) == list(old.output) else [node]
    del found.graph.node[:]
    found.graph.node.extend(nodes)
    found.graph.initializer.extend(constants)
    return found


def net(
    node: NodeProto, layers: Sequence[tuple[Array, Array]], scale: tuple[Array, Array]
) -> tuple[list[NodeProto], list[TensorProto]]:
    """Dense layers (weights [in, out], biases) with ReLU between, in the place of the trees.

    ``scale`` is the mean and the deviation of what comes in. The last layer gives the numbers, or logits of classes.
    """
    nodes: list[NodeProto] = []
    constants: list[TensorProto] = []

    def constant(array: Array) -> str:
        name = f"{_PREFIX}c{len(constants)}"
        constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(kind: str, *given: str, to: str = "", **attributes: object) -> str:
        name = to or f"{_PREFIX}t{len(nodes)}"
        domain = "ai.onnx.ml" if kind == "ArrayFeatureExtractor" else ""
        nodes.append(helper.make_node(kind, list(given), [name], f"{_PREFIX}{len(nodes)}", domain=domain, **attributes))
        return name

    is_classifier = node.op_type == KINDS[0]
    scores = node.output[1] if is_classifier else node.output[0]
    flow = node.input[0]
    mean, deviation = scale
    flow = add("Div", add("Sub", flow, constant(mean.astype(np.float32))), constant(deviation.astype(np.float32)))
    for number, (weights, bias) in enumerate(layers):
        last = number == len(layers) - 1
        to = scores if last and not is_classifier else ""
        flow = add("Gemm", flow, constant(weights.astype(np.float32)), constant(bias.astype(np.float32)), to=to)
        if not last:
            flow = add("Relu", flow)
    if is_classifier:
        chances = add("Softmax", flow, to=scores, axis=1)
        given = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        labels = given.get("classlabels_int64s")
        names = np.asarray(labels, np.int64) if labels else np.asarray(given["classlabels_strings"], object)
        best = add("ArgMax", chances, axis=1, keepdims=0)
        add("Gather", constant(names), best, to=node.output[0])
    return nodes, constants
