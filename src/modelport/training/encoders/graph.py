"""An ONNX graph that grows node by node. Knows operators and names; knows no column."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, compose, helper, numpy_helper

OPSET, ML_OPSET, IR = 21, 3, 10
ELEMENTS = {"FP32": TensorProto.FLOAT, "FP64": TensorProto.DOUBLE, "BOOL": TensorProto.BOOL,
            "BYTES": TensorProto.STRING, "INT64": TensorProto.INT64}  # fmt: skip
_ML = {"LabelEncoder", "ArrayFeatureExtractor", "TreeEnsembleRegressor"}
_MICROSOFT = {"Tokenizer", "MurmurHash3"}


class Graph:
    """Nodes, constants, inputs; every name that it makes begins with ``/``, so that columns keep theirs."""

    def __init__(self) -> None:
        self.inputs: list[ValueInfoProto] = []
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []

    def input(self, name: str, datatype: str, width: int | str = 1) -> str:
        """An input of shape [rows, width]."""
        self.inputs.append(helper.make_tensor_value_info(name, ELEMENTS[datatype], ["rows", width]))
        return name

    def constant(self, values: Any, dtype: Any = None) -> str:
        """A constant tensor; texts as an object array."""
        array = np.asarray(values, dtype)
        name = f"/c{len(self._constants)}"
        if array.dtype.kind in "OU":
            raw = [str(text).encode() for text in array.reshape(-1).tolist()]
            self._constants.append(helper.make_tensor(name, TensorProto.STRING, array.shape, raw))
        else:
            self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
        return name

    def add(self, operator: str, *inputs: str, called: str = "", outputs: int = 1, **attributes: Any) -> Any:
        """Add a node; the name of its output, or a list of them. ``called`` is what errors name it."""
        made = [f"/t{len(self._nodes)}.{index}" for index in range(outputs)]
        domain = "ai.onnx.ml" if operator in _ML else "com.microsoft" if operator in _MICROSOFT else ""
        name = called or f"{operator}{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), made, name=name, domain=domain, **attributes))
        return made if outputs > 1 else made[0]

    def cast(self, tensor: str, to: str, called: str = "") -> str:
        """The tensor with elements of another type."""
        return str(self.add("Cast", tensor, called=called, to=ELEMENTS[to]))

    def shaped(self, tensor: str, *shape: int) -> str:
        """The tensor in another shape; 0 keeps a dimension, -1 is what is left."""
        return str(self.add("Reshape", tensor, self.constant(shape, np.int64)))

    def columns(self, tensor: str, start: int, end: int) -> str:
        """Some columns of [rows, width]."""
        at = (self.constant([value], np.int64) for value in (start, end, 1))
        return str(self.add("Slice", tensor, *at))

    def embed(self, model: ModelProto, **inputs: str) -> list[str]:
        """Put another model's nodes in, with these tensors for its inputs; the names of its outputs."""
        prefix = f"/m{len(self._nodes)}/"
        part = compose.add_prefix(model, prefix).graph
        self._nodes += [helper.make_node("Identity", [tensor], [prefix + name]) for name, tensor in inputs.items()]
        self._nodes += part.node
        self._constants += part.initializer
        return [output.name for output in part.output]

    def model(self, outputs: dict[str, tuple[str, str, list[int | str]]]) -> ModelProto:
        """The model; ``outputs`` has tensor, data type and shape by name."""
        nodes = [*self._nodes, *(helper.make_node("Identity", [t], [n]) for n, (t, _, _) in outputs.items())]
        infos = [helper.make_tensor_value_info(n, ELEMENTS[kind], shape) for n, (_, kind, shape) in outputs.items()]
        graph = helper.make_graph(nodes, "model", self.inputs, infos, self._constants)
        return helper.make_model(graph, opset_imports=opsets(), ir_version=IR, producer_name="modelport")


def opsets() -> list[Any]:
    """What every model here is written in."""
    return [helper.make_opsetid(d, v) for d, v in (("", OPSET), ("ai.onnx.ml", ML_OPSET), ("com.microsoft", 1))]
