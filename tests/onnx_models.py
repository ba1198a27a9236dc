"""Builders of small real ONNX models for the tests: each returns the bytes of a model, ready for ONNX Runtime.

Unless said otherwise inputs are called ``input`` and outputs ``output``, the first dimension is dynamic and named
``batch``, and a run takes microseconds. Knows nothing of Modelport.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

OPSET, IR_VERSION = 21, 10

#: V2 data type name to ONNX element type.
ELEMENT_TYPES: dict[str, int] = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
    "BF16": TensorProto.BFLOAT16,
}


def value(name: str, datatype: str, shape: Sequence[int | str | None] | None) -> ValueInfoProto:
    """An input or output; -1 becomes a named dynamic dimension, ``batch`` when it is the first."""
    if shape is not None:
        shape = [("batch" if i == 0 else f"dim{i}") if dim == -1 else dim for i, dim in enumerate(shape)]
    return helper.make_tensor_value_info(name, ELEMENT_TYPES[datatype], shape)


def constant(name: str, array: Any) -> TensorProto:
    """An initializer."""
    return numpy_helper.from_array(np.asarray(array), name)


def model(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    initializers: Sequence[TensorProto] = (),
    *,
    domains: Sequence[str] = (),
) -> ModelProto:
    """A checked-by-nobody model, so that hostile ones can be built from it too."""
    graph = helper.make_graph(list(nodes), "graph", list(inputs), list(outputs), list(initializers))
    imports = [helper.make_opsetid("", OPSET), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION, producer_name="tests")


def identity(datatype: str = "FP32", shape: Sequence[int | str | None] = (-1, 3)) -> bytes:
    """Gives back what it got, in any V2 data type."""
    node = helper.make_node("Identity", ["input"], ["output"])
    return model([node], [value("input", datatype, shape)], [value("output", datatype, shape)]).SerializeToString()


def add_sub(datatype: str = "FP32", width: int = 4) -> bytes:
    """``sum`` and ``difference`` of ``a`` and ``b``, each [-1, width]."""
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["difference"])]
    inputs = [value(name, datatype, (-1, width)) for name in ("a", "b")]
    outputs = [value(name, datatype, (-1, width)) for name in ("sum", "difference")]
    return model(nodes, inputs, outputs).SerializeToString()


def scalar() -> bytes:
    """FP32 in, its double out; both of shape []."""
    nodes = [helper.make_node("Add", ["input", "input"], ["output"])]
    return model(nodes, [value("input", "FP32", ())], [value("output", "FP32", ())]).SerializeToString()


def without_inputs() -> bytes:
    """No input; ``output`` FP32 [2] is always [1, 2]."""
    numbers = helper.make_tensor("numbers", TensorProto.FLOAT, [2], [1.0, 2.0])
    nodes = [helper.make_node("Constant", [], ["output"], value=numbers)]
    return model(nodes, [], [value("output", "FP32", (2,))]).SerializeToString()


def dynamic_dims() -> bytes:
    """``input`` FP32 [batch, length]; ``total`` [batch] sums the rows, ``doubled`` is [batch, length]."""
    nodes = [
        helper.make_node("ReduceSum", ["input", "axes"], ["total"], keepdims=0),
        helper.make_node("Add", ["input", "input"], ["doubled"]),
    ]
    inputs = [value("input", "FP32", ("batch", "length"))]
    outputs = [value("total", "FP32", ("batch",)), value("doubled", "FP32", ("batch", "length"))]
    return model(nodes, inputs, outputs, [constant("axes", np.array([1]))]).SerializeToString()


def mlp(sizes: Sequence[int] = (4, 8, 3), seed: int = 0) -> bytes:
    """Dense layers with ReLU between them and softmax at the end: FP32 [-1, sizes[0]] to [-1, sizes[-1]]."""
    random, nodes, weights, last = np.random.default_rng(seed), [], [], "input"
    for layer, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        w, b = random.normal(0, fan_in**-0.5, (fan_in, fan_out)), random.normal(0, 0.1, fan_out)
        weights += [constant(f"w{layer}", w.astype(np.float32)), constant(f"b{layer}", b.astype(np.float32))]
        nodes.append(helper.make_node("Gemm", [last, f"w{layer}", f"b{layer}"], [f"z{layer}"]))
        nodes.append(helper.make_node("Relu", [f"z{layer}"], [f"h{layer}"]))
        last = f"h{layer}"
    nodes[-1] = helper.make_node("Softmax", [nodes[-2].output[0]], ["output"], axis=-1)
    return model(
        nodes, [value("input", "FP32", (-1, sizes[0]))], [value("output", "FP32", (-1, sizes[-1]))], weights
    ).SerializeToString()


def mean_of_embeddings(tokens: int, classes: Sequence[str], table: np.ndarray | None = None) -> bytes:
    """A text classifier: INT64 [batch, tokens] ``input_ids`` and ``attention_mask`` to FP32 ``scores``.

    ``table`` [tokens, classes] says how much a token speaks for a class; made up without it.
    """
    if table is None:
        table = np.random.default_rng(0).normal(0, 1, (tokens, len(classes)))
    table = table.astype(np.float32)
    steps = [
        ("Gather", ["table", "input_ids"], "vectors", {}),
        ("Cast", ["attention_mask"], "mask", {"to": TensorProto.FLOAT}),
        ("Unsqueeze", ["mask", "last"], "weights", {}),
        ("Mul", ["vectors", "weights"], "kept", {}),
        ("ReduceSum", ["kept", "middle"], "total", {"keepdims": 0}),
        ("ReduceSum", ["weights", "middle"], "count", {"keepdims": 0}),
        ("Div", ["total", "count"], "mean", {}),
        ("Softmax", ["mean"], "scores", {"axis": -1}),
    ]
    nodes = [helper.make_node(kind, given, [made], **options) for kind, given, made, options in steps]
    inputs = [value(name, "INT64", ("batch", "tokens")) for name in ("input_ids", "attention_mask")]
    constants = [constant("table", table), constant("last", np.array([2])), constant("middle", np.array([1]))]
    outputs = [value("scores", "FP32", ("batch", len(classes)))]
    return model(nodes, inputs, outputs, constants).SerializeToString()


def not_batchable() -> bytes:
    """Softmax down the columns of FP32 [-1, 3]: looks batchable, but each row depends on the others."""
    nodes = [helper.make_node("Softmax", ["input"], ["output"], axis=0)]
    return model(nodes, [value("input", "FP32", (-1, 3))], [value("output", "FP32", (-1, 3))]).SerializeToString()


def fixed_batch(rows: int = 2, width: int = 3) -> bytes:
    """FP32 [rows, width] doubled: no dynamic dimension at all."""
    nodes = [helper.make_node("Add", ["input", "input"], ["output"])]
    shape = (rows, width)
    return model(nodes, [value("input", "FP32", shape)], [value("output", "FP32", shape)]).SerializeToString()


def fails_on(number: int = 13) -> bytes:
    """INT64 [-1, 1] given back; ONNX Runtime raises (integer division by zero) when any element is ``number``."""
    nodes = [
        helper.make_node("Sub", ["input", "number"], ["distance"]),
        helper.make_node("Div", ["one", "distance"], ["quotient"]),
        helper.make_node("Mul", ["quotient", "zero"], ["nothing"]),
        helper.make_node("Add", ["input", "nothing"], ["output"]),
    ]
    numbers = [constant("number", np.int64(number)), constant("one", np.int64(1)), constant("zero", np.int64(0))]
    return model(
        nodes, [value("input", "INT64", (-1, 1))], [value("output", "INT64", (-1, 1))], numbers
    ).SerializeToString()


#: What kills the process that runs ``crasher``: its negation does not fit, and the processor traps (SIGFPE).
CRASHING_INPUT = int(np.iinfo(np.int64).min)


def crasher() -> bytes:
    """INT64 [-1, 1] negated by a division; an element that is ``CRASHING_INPUT`` kills the process."""
    nodes = [helper.make_node("Div", ["input", "minus"], ["output"])]
    return model(
        nodes,
        [value("input", "INT64", (-1, 1))],
        [value("output", "INT64", (-1, 1))],
        [constant("minus", np.int64(-1))],
    ).SerializeToString()


def _loop(trips: TensorProto, condition: Sequence[NodeProto], size: int) -> ModelProto:
    """FP32 [-1, 1] given back after ``trips`` multiplications of size × size matrices while ``go`` (a BOOL) holds."""
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state_in", "state_in"], ["product"]),
            helper.make_node("Identity", ["go_in"], ["go_out"]),
            helper.make_node("Tanh", ["product"], ["state_out"]),
        ],
        "body",
        [value("trip", "INT64", ()), value("go_in", "BOOL", ()), value("state_in", "FP32", (size, size))],
        [value("go_out", "BOOL", ()), value("state_out", "FP32", (size, size))],
    )
    nodes = [
        *condition,
        helper.make_node("Loop", ["trips", "go", "matrix"], ["last"], body=body),
        helper.make_node("ReduceMax", ["last"], ["most"], keepdims=0),
        helper.make_node("Mul", ["most", "zero"], ["nothing"]),
        helper.make_node("Add", ["input", "nothing"], ["output"]),
    ]
    matrix = np.full((size, size), 1 / size, np.float32)
    numbers = [trips, constant("matrix", matrix), constant("zero", np.float32(0))]
    return model(nodes, [value("input", "FP32", (-1, 1))], [value("output", "FP32", (-1, 1))], numbers)


def _always(trips: int) -> bytes:
    go = helper.make_node("Constant", [], ["go"], value=constant("yes", np.bool_(True)))
    return _loop(constant("trips", np.int64(trips)), [go], 64).SerializeToString()


@cache
def _trips_per_ms() -> float:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    trips = 500
    session = ort.InferenceSession(_always(trips), options, providers=["CPUExecutionProvider"])
    feed = {"input": np.zeros((1, 1), np.float32)}
    best = float("inf")
    for _ in range(4):
        start = time.perf_counter()
        session.run(None, feed)
        best = min(best, time.perf_counter() - start)
    return trips / (best * 1e3)


def slow(ms: float) -> bytes:
    """FP32 [-1, 1] given back after about ``ms`` milliseconds of one thread's work, however many rows there are."""
    return _always(max(1, round(ms * _trips_per_ms())))


def hangs_on_negative() -> bytes:
    """FP32 [-1, 1] given back at once; works for years when any element is below zero."""
    condition = [
        helper.make_node("ReduceMin", ["input"], ["least"], keepdims=0),
        helper.make_node("Less", ["least", "zero"], ["go"]),
    ]
    return _loop(constant("trips", np.int64(1 << 60)), condition, 64).SerializeToString()


def string_labels(names: Sequence[str] = ("ant", "bee", "cat")) -> bytes:
    """A linear classifier of FP32 [-1, 2]: ``label`` is BYTES [-1], ``probabilities`` FP32 [-1, len(names)]."""
    angles = np.linspace(0, 2 * np.pi, len(names), endpoint=False)
    node = helper.make_node(
        "LinearClassifier",
        ["input"],
        ["label", "probabilities"],
        domain="ai.onnx.ml",
        classlabels_strings=list(names),
        coefficients=np.stack([np.cos(angles), np.sin(angles)], 1).reshape(-1).astype(np.float32).tolist(),
        intercepts=[0.0] * len(names),
        multi_class=1,
        post_transform="SOFTMAX",
    )
    outputs = [value("label", "BYTES", (-1,)), value("probabilities", "FP32", (-1, len(names)))]
    return model([node], [value("input", "FP32", (-1, 2))], outputs, domains=["ai.onnx.ml"]).SerializeToString()


def sklearn_classifier_onnx(zipmap: bool = False, *, strings: bool = False) -> bytes:
    """A logistic regression on the iris data, converted by skl2onnx; ``zipmap`` gives a map of probabilities per row.

    Input FP32 ``X`` [-1, 4]; outputs ``label`` and ``probabilities``, or, as skl2onnx names them when there is a
    zipmap, ``output_label`` and ``output_probability``.
    """
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    iris = load_iris()
    target = iris.target_names[iris.target] if strings else iris.target
    classifier = LogisticRegression(max_iter=500).fit(iris.data, target)
    converted = convert_sklearn(
        classifier,
        initial_types=[("X", FloatTensorType([None, 4]))],
        options={"zipmap": zipmap},
        target_opset={"": OPSET, "ai.onnx.ml": 3},
    )
    return converted.SerializeToString()


def with_external_data(folder: Path, name: str = "model.onnx", weights: str = "weights.bin") -> Path:
    """Writes an MLP of FP32 [-1, 64] to [-1, 10] whose weights lie in a second file; returns the model's path."""
    path = folder / name
    loaded = onnx.load_model_from_string(mlp((64, 32, 10)))
    onnx.save_model(loaded, path, save_as_external_data=True, location=weights, size_threshold=0)
    return path


def big(mb: float = 16) -> bytes:
    """A model of about ``mb`` megabytes: FP32 [-1, 1] plus the first of its many weights, which is 0."""
    weights = np.random.default_rng(0).random(round(mb * 1e6 / 4), dtype=np.float32)
    weights[0] = 0
    nodes = [
        helper.make_node("Gather", ["weights", "first"], ["nothing"]),
        helper.make_node("Add", ["input", "nothing"], ["output"]),
    ]
    initializers = [constant("weights", weights), constant("first", np.array([0]))]
    return model(
        nodes, [value("input", "FP32", (-1, 1))], [value("output", "FP32", (-1, 1))], initializers
    ).SerializeToString()
