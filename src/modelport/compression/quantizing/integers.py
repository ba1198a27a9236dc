"""Layers that compute with 8-bit integers: ``static`` (ranges of activations are known beforehand, from rows) and
``dynamic`` (they are looked at while the model runs).

The mechanics are ONNX Runtime's: activations become unsigned, weights signed, which is what its kernels are quick at.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
from onnx import ModelProto, NodeProto
from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.calibrate import (
    CalibrationDataReader,
    CalibrationMethod,
    create_calibrator,
    save_tensors_data,
)

from modelport.compression.quantizing import graph
from modelport.engine.runtimes.onnx import LOAD_ERRORS, clean_message, session_options
from modelport.errors import InvalidInput
from modelport.tensors import Array

_METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
#: Operators whose activations are integers too, so that those between two layers are not turned back and forth.
_STATIC = ["Conv", "ConvTranspose", "Gemm", "MatMul", "Gather", "Add", "Mul", "Relu", "Clip", "LeakyRelu", "Sigmoid",
           "MaxPool", "AveragePool", "GlobalAveragePool", "Concat", "Reshape", "Transpose", "Squeeze", "Unsqueeze",
           "Flatten", "Resize", "Pad", "Split", "Slice"]  # fmt: skip
_DYNAMIC = ["MatMul", "Gather"]
_FLOAT = onnx.TensorProto.FLOAT

Feeds = Callable[[], Iterable[dict[str, Array]]]
"""Begins anew to give what the model takes, batch by batch."""


class _OneBatch(CalibrationDataReader):
    """What the library asks for rows."""

    def __init__(self, feed: dict[str, Array]) -> None:
        self._feeds: Iterator[dict[str, Array]] = iter((feed,))

    def get_next(self) -> Any:
        return next(self._feeds, None)


def calibrate(
    model: Path, feeds: Feeds, method: str, percentile: float, folder: Path, threads: int, told: Callable[[int], None]
) -> Path:
    """See which values activations take; the file that says so. Raises InvalidInput for rows that the model refuses."""
    found = folder / "ranges.json"
    extra = {"percentile": percentile} if method == "percentile" else {}
    augmented = (folder / "augmented.onnx").as_posix()
    with graph.quiet():
        calibrator = create_calibrator(model, _STATIC, augmented, _METHODS[method], extra_options=extra)
        calibrator.infer_session = ort.InferenceSession(
            augmented, _plainly(threads), providers=["CPUExecutionProvider"]
        )
        rows = 0
        for feed in feeds():
            try:
                calibrator.collect_data(_OneBatch(feed))
            except LOAD_ERRORS as error:
                raise InvalidInput(f"calibration: the model cannot run a row: {clean_message(error)}") from None
            if method == "minmax":
                calibrator.compute_data()
                calibrator.clear_collected_data()
            rows += len(next(iter(feed.values())))
            told(rows)
        if not rows:
            raise InvalidInput("calibration: there are no rows to look at; give data with rows, or say mode dynamic")
        save_tensors_data(calibrator.compute_data(), found)
    Path(augmented).unlink()
    return found


def _plainly(threads: int) -> ort.SessionOptions:
    """Every activation as the model's file has it, nothing put together."""
    options = session_options(threads)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def static(
    model: Path, ranges: Path, chosen: list[NodeProto], method: str, per_channel: bool, folder: Path
) -> ModelProto:
    """The fused model with these layers as integers, and what lies between them."""
    fused = onnx.load(model)
    end = graph.tail(fused)
    wanted = {node.name for node in chosen}
    left_out = [node.name for node in graph.layers(fused) if node.name not in wanted]
    path = folder / "static.onnx"
    with graph.quiet():
        quantize_static(
            model, path, None, per_channel=per_channel, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            op_types_to_quantize=_STATIC, nodes_to_exclude=[*left_out, *sorted(end)], calibrate_method=_METHODS[method],
            calibration_cache_path=ranges,
            extra_options={"DefaultTensorType": _FLOAT, "ForceQuantizeNoInputCheck": False},
        )  # fmt: skip
    made = onnx.load(path)
    path.unlink()
    _free_the_answer(made, end)
    return made


def _free_the_answer(model: ModelProto, end: set[str]) -> None:
    """What the last layers give goes on as they compute it: rounded to 256 values, scores would be alike too often."""
    found = model.graph
    producers = {name: node for node in found.node for name in node.output}
    stored = {one.name for one in found.initializer}
    outputs = {one.name for one in found.output}
    for back in [node for node in found.node if node.op_type == "DequantizeLinear"]:
        there = producers.get(back.input[0])
        if there is None or there.op_type != "QuantizeLinear" or there.input[0] in stored:
            continue
        plain, name = there.input[0], back.output[0]
        users = [node for node in found.node if name in node.input]
        if any(node.name not in end for node in users) or (not users and name not in outputs):
            continue
        if name in outputs:
            _rename(found.node, plain, name)
        else:
            for node in users:
                node.input[:] = [plain if one == name else one for one in node.input]
        found.node.remove(back)
        if not any(there.output[0] in node.input for node in found.node):
            found.node.remove(there)


def _rename(nodes: Iterable[NodeProto], name: str, new: str) -> None:
    for node in nodes:
        if node.op_type == "DequantizeLinear" and node.output[0] == new:
            continue
        node.input[:] = [new if one == name else one for one in node.input]
        node.output[:] = [new if one == name else one for one in node.output]


def dynamic(model: ModelProto, chosen: list[NodeProto], per_channel: bool, folder: Path) -> ModelProto:
    """The fused model with the weights of these layers as integers, and activations made such as they come."""
    wanted = {node.name for node in chosen}
    left_out = [node.name for node in graph.layers(model) if node.name not in wanted]
    left_out += [f"{name}_MatMul" for name in left_out]  # what the library makes of a Gemm
    path = folder / "dynamic.onnx"
    with graph.quiet():
        quantize_dynamic(
            copy.deepcopy(model), path, op_types_to_quantize=_DYNAMIC, per_channel=per_channel,
            weight_type=QuantType.QInt8, nodes_to_exclude=left_out, extra_options={"DefaultTensorType": _FLOAT},
        )  # fmt: skip
    made = onnx.load(path)
    path.unlink()
    return made


def becomes_dynamic(node: NodeProto) -> bool:
    """Whether a layer can be computed so: convolutions would become slower."""
    return node.op_type in (*_DYNAMIC, "Gemm")
