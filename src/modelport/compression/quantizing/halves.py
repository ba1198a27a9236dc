"""Numbers of 16 bits: the whole model in float16, or its weights kept as bfloat16 and computed with as float32."""

from __future__ import annotations

import copy

import numpy as np
import onnx
from ml_dtypes import bfloat16
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from modelport.compression.quantizing import graph

_LARGEST = 65504.0
"""Of float16."""


def float16(model: ModelProto, chosen: list[NodeProto]) -> ModelProto:
    """Weights and activations of 16 bits; what goes in and out stays as it is. Layers that are not chosen do too."""
    kept = [node.name for node in graph.layers(model) if node.name not in {one.name for one in chosen}]
    with graph.quiet():
        made: ModelProto = convert_float_to_float16(
            copy.deepcopy(model), keep_io_types=True, node_block_list=kept, disable_shape_infer=False
        )
    return made


def too_large(model: ModelProto) -> list[str]:
    """Names of the weights that float16 cannot hold."""
    return [
        name
        for name, tensor in graph.floats(model).items()
        if float(np.abs(numpy_helper.to_array(tensor)).max()) > _LARGEST
    ]


def bfloat16_weights(model: ModelProto, chosen: list[NodeProto]) -> ModelProto:
    """The weights of layers as bfloat16, each widened where it is used: ONNX Runtime does that once, when it loads."""
    made = copy.deepcopy(model)
    graph.add_opset(made, "", 13)
    wanted = {graph.weights_of(node) for node in chosen}
    for tensor in [one for one in made.graph.initializer if one.name in wanted]:
        narrow = helper.make_tensor(
            f"{tensor.name}_bfloat16", TensorProto.BFLOAT16, list(tensor.dims),
            numpy_helper.to_array(tensor).astype(bfloat16).tobytes(), raw=True,
        )  # fmt: skip
        made.graph.initializer.append(narrow)
        made.graph.initializer.remove(tensor)
        made.graph.node.insert(
            0, helper.make_node("Cast", [narrow.name], [tensor.name], f"{tensor.name}_widen", to=onnx.TensorProto.FLOAT)
        )
    return made
