"""Weights alone of fewer bits; activations stay float32. The file is smaller; whether it is quicker is the runtime's.

``uniform``: equal steps, a scale for each channel (8 bits) or group of weights (4 bits, computed with as such);
``codebook``: each weight is the nearest of a few values that k-means found among the layer's own; ``normal-float``:
the nearest of the quantiles of a normal distribution, with a scale for each group (Dettmers et al., arXiv 2305.14314).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer
from onnxruntime.quantization.onnx_model import ONNXModel
from scipy.stats import norm
from sklearn.cluster import KMeans

from modelport.compression.quantizing import graph
from modelport.tensors import Array

Levels = Literal["uniform", "codebook", "normal-float"]
_LOOKED_AT = 1 << 15
"""Weights of a layer that k-means sees, at most."""
_INT8_COMPUTE = 4
"""ONNX Runtime's level of accuracy at which groups of weights are multiplied as integers."""


@dataclass(frozen=True, slots=True)
class How:
    """What becomes of a layer's weights."""

    bits: int
    levels: Levels
    per_channel: bool
    group: int
    """Weights that share a scale; 0: those of a channel do."""
    seed: int = 0


def smaller(model: ModelProto, chosen: list[NodeProto], how: How) -> ModelProto:
    """The model with the weights of these layers in fewer bits."""
    made = copy.deepcopy(model)
    names = {node.name for node in chosen}
    if how.levels == "uniform":
        names |= {f"{name}_MatMul" for name in names}
        plain = ONNXModel(made)
        plain.replace_gemm_with_matmul()
        made = plain.model
        if how.bits == 4 and how.group:
            made = _in_groups(made, names, how.group)
    graph.add_opset(made, "", 21 if how.bits == 4 else 13)
    stored = {tensor.name: tensor for tensor in made.graph.initializer}
    users: dict[str, list[NodeProto]] = {}
    for node in graph.layers(made):
        users.setdefault(graph.weights_of(node), []).append(node)
    for name, nodes in users.items():
        if all(node.name in names for node in nodes):
            _replace(made, stored[name], nodes, how)
    graph.drop_unused(made.graph)
    return made


def _in_groups(model: ModelProto, names: set[str], group: int) -> ModelProto:
    """Products of matrices, and look-ups, that ONNX Runtime does with 4-bit weights as they are stored."""
    left_out = [node.name for node in model.graph.node if node.name not in names]
    config = DefaultWeightOnlyQuantConfig(
        block_size=group, is_symmetric=True, accuracy_level=_INT8_COMPUTE, op_types_to_quantize=("MatMul", "Gather")
    )
    with graph.quiet():
        quantizer = MatMulNBitsQuantizer(model, nodes_to_exclude=left_out, algo_config=config)
        quantizer.process()
    found: ModelProto = quantizer.model.model
    return found


def _replace(model: ModelProto, tensor: TensorProto, nodes: list[NodeProto], how: How) -> None:
    """Store one tensor in fewer bits, and have it widened where it is used."""
    weights = numpy_helper.to_array(tensor)
    axis = _channel(nodes[0])
    if how.levels == "uniform":
        if how.bits == 8 and all(_is_lookup(node) for node in nodes):
            _looked_up(model, tensor, weights, nodes, how)
            return
        _stepped(model, tensor, weights, nodes, axis, how)
        return
    shape, scale = _scales(weights, axis, how)
    scaled = weights.reshape(shape) / scale
    book = _normal(how.bits) if how.levels == "normal-float" else _means(scaled, how)
    middles = (book[1:] + book[:-1]) / 2
    codes = np.searchsorted(middles, scaled.ravel()).astype(np.uint8).reshape(shape)
    name = tensor.name
    _store(model, name, [
        _codes(f"{name}_codes", codes, how.bits),
        numpy_helper.from_array(book.astype(np.float32), f"{name}_book"),
        numpy_helper.from_array(scale.astype(np.float32), f"{name}_scale"),
        numpy_helper.from_array(np.array(weights.shape, np.int64), f"{name}_shape"),
    ], [
        helper.make_node("Cast", [f"{name}_codes"], [f"{name}_index"], f"{name}_index", to=TensorProto.INT32),
        helper.make_node("Gather", [f"{name}_book", f"{name}_index"], [f"{name}_level"], f"{name}_level"),
        helper.make_node("Mul", [f"{name}_level", f"{name}_scale"], [f"{name}_wide"], f"{name}_wide"),
        helper.make_node("Reshape", [f"{name}_wide", f"{name}_shape"], [name], f"{name}_widen"),
    ])  # fmt: skip


def _stepped(
    model: ModelProto, tensor: TensorProto, weights: Array, nodes: list[NodeProto], axis: int, how: How
) -> None:
    """Equal steps: what ONNX Runtime multiplies as integers where it can, and widens once where it cannot."""
    name, most = tensor.name, 2 ** (how.bits - 1) - 1
    scale = _largest(weights, axis if how.per_channel else None) / most
    codes = np.clip(np.rint(weights / scale), -most, most).astype(np.int8)
    kind = TensorProto.INT8 if how.bits == 8 else TensorProto.INT4
    stored = [helper.make_tensor(f"{name}_codes", kind, weights.shape, _packed(codes, how.bits), raw=True)]
    matrix = weights.ndim == 2 and all(node.op_type == "MatMul" for node in nodes)
    if matrix:
        flat = scale.ravel() if how.per_channel else scale.reshape(())
        stored.append(numpy_helper.from_array(flat.astype(np.float32), f"{name}_scale"))
        made = [
            helper.make_node("DequantizeLinear", [f"{name}_codes", f"{name}_scale"], [name], f"{name}_widen", axis=axis)
        ]
    else:
        stored.append(numpy_helper.from_array(scale.astype(np.float32), f"{name}_scale"))
        made = [
            helper.make_node("Cast", [f"{name}_codes"], [f"{name}_plain"], f"{name}_plain", to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{name}_plain", f"{name}_scale"], [name], f"{name}_widen"),
        ]
    _store(model, name, stored, made)


def _looked_up(model: ModelProto, tensor: TensorProto, weights: Array, nodes: list[NodeProto], how: How) -> None:
    """Only the rows that are looked up are widened."""
    name = tensor.name
    scale = _largest(weights, 0) / 127
    codes = np.clip(np.rint(weights / scale), -127, 127).astype(np.int8)
    model.graph.initializer.extend([
        numpy_helper.from_array(codes, f"{name}_codes"),
        numpy_helper.from_array(scale.astype(np.float32), f"{name}_scale"),
    ])  # fmt: skip
    for node in nodes:
        at, out, ids = list(model.graph.node).index(node), node.output[0], node.input[1]
        model.graph.node.remove(node)
        for step in reversed([
            helper.make_node("Gather", [f"{name}_codes", ids], [f"{out}_codes"], node.name),
            helper.make_node("Gather", [f"{name}_scale", ids], [f"{out}_scale"], f"{node.name}_scale"),
            helper.make_node("Cast", [f"{out}_codes"], [f"{out}_plain"], f"{node.name}_plain", to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{out}_plain", f"{out}_scale"], [out], f"{node.name}_widen"),
        ]):  # fmt: skip
            model.graph.node.insert(at, step)


def _store(model: ModelProto, name: str, tensors: list[TensorProto], nodes: list[NodeProto]) -> None:
    """These in place of the stored tensor ``name``, which the last of the nodes makes."""
    old = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    model.graph.initializer.remove(old)
    model.graph.initializer.extend(tensors)
    for node in reversed(nodes):
        model.graph.node.insert(0, node)


def _codes(name: str, codes: Array, bits: int) -> TensorProto:
    kind = TensorProto.UINT4 if bits == 4 else TensorProto.UINT8
    return helper.make_tensor(name, kind, codes.shape, _packed(codes, bits), raw=True)


def _packed(codes: Array, bits: int) -> bytes:
    """Two to a byte where they have 4 bits, the first in the lower half."""
    if bits == 8:
        return codes.tobytes()
    flat = codes.ravel().view(np.uint8) & 0xF
    flat = np.append(flat, np.zeros(flat.size % 2, np.uint8))
    return (flat[::2] | (flat[1::2] << 4)).tobytes()


def _channel(node: NodeProto) -> int:
    """The dimension of a layer's weights that counts what it gives."""
    if node.op_type == "Gemm":
        turned = next((found.i for found in node.attribute if found.name == "transB"), 0)
        return 0 if turned else 1
    return {"Conv": 0, "ConvTranspose": 1, "MatMul": -1, "Gather": 0}[node.op_type]


def _is_lookup(node: NodeProto) -> bool:
    return node.op_type == "Gather" and not next((found.i for found in node.attribute if found.name == "axis"), 0)


def _largest(weights: Array, axis: int | None) -> Array:
    """The largest absolute value of each entry of a dimension, or of all; never 0."""
    others = None if axis is None else tuple(at for at in range(weights.ndim) if at != axis % weights.ndim)
    found = np.abs(weights).max(axis=others, keepdims=True)
    return np.asarray(np.where(found == 0, 1.0, found))


def _scales(weights: Array, axis: int, how: How) -> tuple[tuple[int, ...], Array]:
    """The shape in which weights are divided by scales, and these."""
    if how.levels == "normal-float" and weights.size % how.group == 0:
        rows = weights.reshape(-1, how.group)
        return rows.shape, _largest(rows, 0)
    return weights.shape, _largest(weights, axis if how.per_channel else None)


def _normal(bits: int) -> Array:
    """Quantiles of a normal distribution from -1 to 1, with 0 among them: one more above it than below."""
    half, outermost = 2 ** (bits - 1), 0.9677083
    above = norm.ppf(np.linspace(outermost, 0.5, half + 1)[:-1])
    below = -norm.ppf(np.linspace(outermost, 0.5, half)[:-1])
    found = np.sort(np.concatenate([above, [0.0], below]))
    return np.asarray(found / np.abs(found).max())


def _means(scaled: Array, how: How) -> Array:
    """The values that k-means finds, in order."""
    values = scaled.ravel()
    if values.size > _LOOKED_AT:
        values = np.random.default_rng(how.seed).choice(values, _LOOKED_AT, replace=False)
    wanted = min(2**how.bits, len(np.unique(values)))
    begin = np.quantile(values, (np.arange(wanted) + 0.5) / wanted)[:, None]
    fitted = KMeans(wanted, init=begin, n_init=1, max_iter=50, random_state=how.seed).fit(values[:, None])
    found: Array = np.sort(fitted.cluster_centers_[:, 0])
    return found
