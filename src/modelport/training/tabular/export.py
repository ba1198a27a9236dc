"""An encoder and a fitted estimator as one ONNX file, proven on raw rows to answer as they do.

Classes: ``label`` [rows] and ``probabilities`` [rows, classes]; numbers: ``prediction`` [rows]; a rare event's
probability: ``score`` [rows].
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import ModelProto
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType

from modelport.errors import InvalidInput
from modelport.tensors import Array
from modelport.training.encoders.encoder import Encoder, sample_of
from modelport.training.encoders.graph import ML_OPSET, OPSET, Graph
from modelport.training.encoders.table import Rows, count
from modelport.training.tabular.calibration import IsotonicCalibrated

FILE = "model.onnx"
#: What float32 may differ from float64: of a probability, and of a number beside the spread of the numbers.
TOLERANCE = 1e-3
#: Of the rows, for a tree whose threshold lies between two float32 numbers.
_ROWS_OFF = 0.002
_MOST_ROWS = 5000
_CHUNK = 1000

#: Adds an estimator's nodes behind a tensor [rows, width] FP32: the tensors of its outputs.
Nodes = Callable[[Graph, str], list[str]]


def estimator_nodes(estimator: Any, width: int) -> Nodes:
    """By skl2onnx: for a classifier label and probabilities, else the prediction. Raises InvalidInput."""
    if isinstance(estimator, IsotonicCalibrated):
        inner = estimator_nodes(estimator.estimator, width)
        return lambda graph, tensor: [estimator.nodes(graph, graph.cast(inner(graph, tensor)[-1], "FP32"))]
    try:
        options = {"zipmap": False} if hasattr(estimator, "predict_proba") else {}
        model = to_onnx(
            estimator,
            initial_types=[("X", FloatTensorType([None, width]))],
            options={id(estimator): options} if options else None,
            target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET},
        )
    except Exception as error:
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InvalidInput(
            f"{type(estimator).__name__} with these parameters cannot be written as ONNX: {said[:300]}; "
            "take other parameters or another model"
        ) from None
    return lambda graph, tensor: graph.embed(model, X=tensor)


def classifier(encoder: Encoder, nodes: Nodes, classes: Sequence[int] | Sequence[str]) -> ModelProto:
    """Raw columns in, ``label`` and ``probabilities`` out."""
    graph = Graph()
    chances = nodes(graph, encoder.nodes(graph))[-1]
    # flattened, for the estimator's own classes are codes, and whoever reads the file follows them along other nodes
    chances = graph.add("Flatten", graph.cast(chances, "FP32"), axis=1)
    best = graph.shaped(graph.add("ArgMax", chances, axis=1, keepdims=0), -1)
    whole = all(isinstance(name, int) for name in classes)
    names = graph.constant([list(classes)], np.int64 if whole else object)
    label = graph.shaped(graph.add("ArrayFeatureExtractor", names, best), -1)
    taken = {info.name for info in graph.inputs}
    outputs: dict[str, tuple[str, str, list[int | str]]] = {
        free("label", taken): (label, "INT64" if whole else "BYTES", ["rows"]),
        free("probabilities", taken): (chances, "FP32", ["rows", len(classes)]),
    }
    model = graph.model(outputs)
    entry = model.metadata_props.add()
    entry.key, entry.value = "classes", json.dumps([str(name) for name in classes])
    return model


def ranker(encoder: Encoder, nodes: Nodes, positive: int) -> ModelProto:
    """Raw columns in, the probability of one class as ``score`` out."""
    graph = Graph()
    chances = graph.cast(nodes(graph, encoder.nodes(graph))[-1], "FP32")
    found = graph.shaped(graph.columns(chances, positive, positive + 1), -1)
    return graph.model({free("score", {info.name for info in graph.inputs}): (found, "FP32", ["rows"])})


def regressor(encoder: Encoder, nodes: Nodes) -> ModelProto:
    """Raw columns in, ``prediction`` out."""
    graph = Graph()
    found = graph.shaped(nodes(graph, encoder.nodes(graph))[-1], -1)
    name = free("prediction", {info.name for info in graph.inputs})
    return graph.model({name: (graph.cast(found, "FP32"), "FP32", ["rows"])})


def free(name: str, taken: set[str]) -> str:
    """The name, or one like it that no column has."""
    while name in taken:
        name = f"predicted_{name}"
    return name


def write(model: ModelProto, out: Path) -> None:
    """As the version's one file; raises InvalidInput when it is larger than ONNX allows."""
    if model.ByteSize() >= 2**31 - 1:
        raise InvalidInput("the model is larger than 2 GB, which ONNX cannot hold; take fewer or smaller trees")
    (out / FILE).write_bytes(model.SerializeToString())


def served(out: Path, rows: Rows, threads: int) -> dict[str, Array]:
    """What the file answers to raw rows, by output."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    session = ort.InferenceSession(out / FILE, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    feed = {found.name: rows[found.name] for found in session.get_inputs()}
    feed = {name: values if values.ndim > 1 else values[:, None] for name, values in feed.items()}
    pieces = [
        session.run(names, {name: values[at : at + _CHUNK] for name, values in feed.items()})
        for at in range(0, count(rows), _CHUNK)
    ]
    return {name: np.concatenate([piece[at] for piece in pieces]) for at, name in enumerate(names)}


def prove(out: Path, rows: Rows, wanted: Callable[[Rows], Array], seed: int, threads: int) -> dict[str, Any]:
    """Compare the file's last output with ``wanted``, on raw rows; the differences. Raises InvalidInput."""
    sample = sample_of(rows, _MOST_ROWS, seed)
    expected = wanted(sample)
    found = list(served(out, sample, threads).values())[-1].astype(np.float64)
    chances = expected.ndim == 2 and bool((np.abs(expected.sum(axis=1) - 1) < 1e-6).all())
    scale = 1.0 if chances else max(float(np.ptp(expected)), 1e-9)
    differences = np.abs(found.reshape(expected.shape) - expected).reshape(len(expected), -1).max(axis=1) / scale
    off = float((differences > TOLERANCE).mean())
    proof: dict[str, Any] = {
        "rows": len(differences),
        "max_difference": float(differences.max()),
        "rows_off": off,
        "tolerance": TOLERANCE,
    }
    if chances:
        proof["label_agreement"] = float((found.argmax(axis=1) == expected.argmax(axis=1)).mean())
    if off > _ROWS_OFF or not np.isfinite(found).all():
        raise InvalidInput(
            f"the ONNX file does not answer as the model that was learnt: {off:.2%} of {len(differences)} rows differ "
            f"by more than {TOLERANCE:g} (the most: {float(differences.max()):.3g}); take another model"
        )
    return proof
