"""A model of a few numbers as a table: its answers at points of a grid, and the rule for what lies between them.

The grid goes from the smallest to the largest value of each input among the rows, in equal steps; what is outside gets
the border's answer. A missing value (NaN) has a place of its own behind the last point. Knows no model, only answers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from modelport.compression.feeding import Feeder
from modelport.compression.inputs import model_signature
from modelport.compression.method import Model
from modelport.engine.runtime import LoadOptions
from modelport.errors import InvalidInput, ModelRejectedInput
from modelport.storage.disk import told_of_disk
from modelport.tensors import Array, dtype_of
from modelport.training.recipe import TrainingData, TrainingRun

_LARGEST = 64 << 20
"""Bytes of a table."""
_AT_ONCE = 4096
_FLOATS = ("FP16", "FP32", "FP64", "BF16")
_ONNX = {"FP16": TensorProto.FLOAT16, "FP32": TensorProto.FLOAT, "FP64": TensorProto.DOUBLE,
         "BF16": TensorProto.BFLOAT16, "INT64": TensorProto.INT64, "INT32": TensorProto.INT32,
         "BYTES": TensorProto.STRING, "BOOL": TensorProto.BOOL}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Axis:
    """One number that the model takes."""

    input: str
    place: int
    """Among the input's values of a row."""
    low: float
    high: float


def load_options(path: Path, model: Model, threads: int) -> LoadOptions:
    """For a model that lies alone."""
    return LoadOptions(path.parent, (path.name,), model_signature(model), {}, threads)


def tabled(
    run: TrainingRun, model: Model, data: TrainingData, options: Any,
    ask: Callable[[dict[str, Array]], dict[str, Array]], original: ModelProto,
) -> tuple[ModelProto, dict[str, Any]]:  # fmt: skip
    """The table as an ONNX model with the same inputs and outputs, and what is told of it."""
    axes = _axes(run, model, data, options.rows)
    side = int(options.points) + 1  # and one for what is missing
    cells = side ** len(axes)
    _check_size(model, cells, options.points, len(axes))
    answers = _answers(run, model, axes, options.points, ask)
    with told_of_disk():
        made = _graph(original, model, axes, options, answers)
    told = {
        "points": options.points, "between": options.between, "cells": cells,
        "inputs": [{"input": axis.input, "place": axis.place, "low": axis.low, "high": axis.high} for axis in axes],
    }  # fmt: skip
    return made, told


def _check_size(model: Model, cells: int, points: int, inputs: int) -> None:
    """Raise InvalidInput, with the size, for a table that is too large."""
    width = sum(_row_size(spec.shape) for spec in model_signature(model).outputs)
    if cells * width * 4 > _LARGEST:
        raise InvalidInput(
            f"mode: a table of {points} points for each of {inputs} inputs would take {cells * width * 4 / 1e6:,.0f} "
            f"MB, and {_LARGEST >> 20} MB are the most; say fewer points, or mode dynamic or weights"
        )


def _row_size(shape: Sequence[int]) -> int:
    total = 1
    for size in shape[1:]:
        total *= max(size, 1)
    return total


def _axes(run: TrainingRun, model: Model, data: TrainingData, rows: int) -> list[Axis]:
    """The numbers, with the values that they have among the training rows."""
    low: dict[str, Array] = {}
    high: dict[str, Array] = {}
    for fed in Feeder(model, data).batches(data.train, size=_AT_ONCE, rows=rows, seed=run.seed):
        for name, values in fed.inputs.items():
            flat = values.reshape(len(values), -1).astype(np.float64)
            low[name] = np.fmin(low.get(name, np.inf), np.fmin.reduce(flat, axis=0))
            high[name] = np.fmax(high.get(name, -np.inf), np.fmax.reduce(flat, axis=0))
    if not low:
        raise InvalidInput("data: there are no training rows, so nothing is known of the inputs' values")
    found = [
        Axis(spec.name, place, float(small), float(large))
        for spec in model_signature(model).inputs
        for place, (small, large) in enumerate(zip(low[spec.name], high[spec.name], strict=True))
    ]
    for axis in found:
        if not np.isfinite([axis.low, axis.high]).all():
            raise InvalidInput(f"data: input {axis.input!r} has no finite values in the rows; a table needs some")
    return found


def _answers(
    run: TrainingRun, model: Model, axes: Sequence[Axis], points: int,
    ask: Callable[[dict[str, Array]], dict[str, Array]],
) -> dict[str, Array]:  # fmt: skip
    """Each output at all points [cells, …], the last axis the quickest."""
    lines = [np.append(np.linspace(axis.low, axis.high, points), np.nan) for axis in axes]
    grid = np.stack([one.ravel() for one in np.meshgrid(*lines, indexing="ij")], axis=1)
    found: dict[str, list[Array]] = {}
    for start in range(0, len(grid), _AT_ONCE):
        run.progress(start, len(grid), "asking the model at every point", "points")
        for name, values in _asked(model, axes, grid[start : start + _AT_ONCE], ask).items():
            found.setdefault(name, []).append(values)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _asked(
    model: Model, axes: Sequence[Axis], rows: Array, ask: Callable[[dict[str, Array]], dict[str, Array]]
) -> dict[str, Array]:
    """The model's answers; where it refuses missing values, those of the lowest point are taken."""
    try:
        return ask(_feed(model, axes, rows))
    except ModelRejectedInput:
        return ask(_feed(model, axes, np.where(np.isnan(rows), [axis.low for axis in axes], rows)))


def _feed(model: Model, axes: Sequence[Axis], rows: Array) -> dict[str, Array]:
    made = {}
    for spec in model_signature(model).inputs:
        columns = [at for at, axis in enumerate(axes) if axis.input == spec.name]
        shape = (len(rows), *(spec.shape[1:]))
        made[spec.name] = rows[:, columns].astype(dtype_of(spec.datatype)).reshape(shape)
    return made


# The table as nodes of ONNX


def _graph(
    original: ModelProto, model: Model, axes: Sequence[Axis], options: Any, answers: dict[str, Array]
) -> ModelProto:
    points = int(options.points)
    linear = options.between == "linear"
    nodes, stored = _places(model, axes, points)
    for spec in model_signature(model).outputs:
        values = answers[spec.name]
        smooth = linear and spec.datatype in _FLOATS
        _output(spec.name, _ONNX[spec.datatype], values, len(axes), points + 1, smooth, nodes, stored)
    old = original.graph
    made = helper.make_model(
        helper.make_graph(nodes, "table", list(old.input), list(old.output), stored),
        opset_imports=[helper.make_opsetid("", 20)], ir_version=min(original.ir_version, 10),
    )  # fmt: skip
    made.metadata_props.extend(original.metadata_props)
    onnx.checker.check_model(made)
    return made


def _places(model: Model, axes: Sequence[Axis], points: int) -> tuple[list[NodeProto], list[TensorProto]]:
    """Nodes that make ``low`` and ``high`` (the points beside, INT64 [rows, axes]), ``share`` (how far a row is
    between them, FLOAT [rows, axes, 1]) and ``near`` (the nearest one)."""
    steps = [max(axis.high - axis.low, 1e-30) / (points - 1) for axis in axes]
    stored = [
        numpy_helper.from_array(np.array([axis.low for axis in axes]), "table_start"),
        numpy_helper.from_array(np.array(steps), "table_step"),
        numpy_helper.from_array(np.array(0.0), "table_zero"),
        numpy_helper.from_array(np.array(float(points - 1)), "table_last"),
        numpy_helper.from_array(np.array(float(points)), "table_missing"),
        numpy_helper.from_array(np.array(1.0), "table_one"),
        numpy_helper.from_array(np.array([-1, len(axes)], np.int64), "table_flat"),
    ]
    nodes: list[NodeProto] = []

    def add(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    parts = []
    for spec in model_signature(model).inputs:
        count = sum(axis.input == spec.name for axis in axes)
        stored.append(numpy_helper.from_array(np.array([-1, count], np.int64), f"{spec.name}_table_rows"))
        wide = add("Cast", [spec.name], f"{spec.name}_table_wide", to=TensorProto.DOUBLE)
        parts.append(add("Reshape", [wide, f"{spec.name}_table_rows"], f"{spec.name}_table_values"))
    values = add("Concat", parts, "table_values", axis=1) if len(parts) > 1 else parts[0]
    gone = add("IsNaN", [values], "table_gone")
    filled = add("Where", [gone, "table_start", values], "table_filled")
    shifted = add("Div", [add("Sub", [filled, "table_start"], "table_above"), "table_step"], "table_far")
    inside = add("Clip", [shifted, "table_zero", "table_last"], "table_inside")
    below = add("Floor", [inside], "table_floor")
    above = add("Min", [add("Add", [below, "table_one"], "table_next"), "table_last"], "table_ceil")
    share = add("Sub", [inside, below], "table_between")
    near = add("Floor", [add("Add", [inside, _half(stored)], "table_up")], "table_round")
    for name, found in (("low", below), ("high", above), ("near", near)):
        kept = add("Where", [gone, "table_missing", found], f"table_{name}_place")
        add("Cast", [kept], f"table_{name}", to=TensorProto.INT64)
    add("Cast", [share], "table_share", to=TensorProto.FLOAT)
    return nodes, stored


def _half(stored: list[TensorProto]) -> str:
    stored.append(numpy_helper.from_array(np.array(0.5), "table_half"))
    return "table_half"


def _output(
    name: str, kind: int, values: Array, axes: int, side: int, smooth: bool, nodes: list[NodeProto],
    stored: list[TensorProto],
) -> None:  # fmt: skip
    """Nodes that look one output up."""
    shape, prefix = values.shape[1:], f"{name}_table"
    nodes_add = nodes.append
    factors = np.array([side ** (axes - 1 - at) for at in range(axes)], np.int64)
    stored.append(numpy_helper.from_array(factors, f"{prefix}_factors"))
    stored.append(numpy_helper.from_array(np.array([1], np.int64), f"{prefix}_last"))
    if not smooth:
        stored.append(_tensor(values, kind, f"{prefix}_answers"))
        cell = _cell(f"{prefix}_near", ["table_near"] * axes, prefix, nodes, stored)
        nodes_add(helper.make_node("Gather", [f"{prefix}_answers", cell], [name], f"{prefix}_look", axis=0))
        return
    flat = values.reshape(len(values), -1).astype(np.float32)
    stored.append(numpy_helper.from_array(flat, f"{prefix}_answers"))
    stored.append(numpy_helper.from_array(np.array([-1, *shape], np.int64), f"{prefix}_shape"))
    stored.append(numpy_helper.from_array(np.array(1.0, np.float32), f"{prefix}_whole"))
    nodes_add(helper.make_node("Sub", [f"{prefix}_whole", "table_share"], [f"{prefix}_rest"], f"{prefix}_rest"))
    terms = []
    for corner in itertools.product((0, 1), repeat=axes):
        at = f"{prefix}_{''.join(map(str, corner))}"
        cell = _cell(at, ["table_high" if up else "table_low" for up in corner], prefix, nodes, stored)
        nodes_add(helper.make_node("Gather", [f"{prefix}_answers", cell], [f"{at}_answer"], f"{at}_answer", axis=0))
        weight = f"{at}_answer"
        for axis, up in enumerate(corner):
            part = _column(f"{at}_{axis}", "table_share" if up else f"{prefix}_rest", axis, nodes, stored)
            nodes_add(helper.make_node("Mul", [weight, part], [f"{at}_{axis}_term"], f"{at}_{axis}_term"))
            weight = f"{at}_{axis}_term"
        terms.append(weight)
    nodes_add(helper.make_node("Sum", terms, [f"{prefix}_sum"], f"{prefix}_sum"))
    nodes_add(helper.make_node("Reshape", [f"{prefix}_sum", f"{prefix}_shape"], [f"{prefix}_shaped"], f"{prefix}_fit"))
    nodes_add(helper.make_node("Cast", [f"{prefix}_shaped"], [name], f"{prefix}_look", to=kind))


def _column(at: str, matrix: str, axis: int, nodes: list[NodeProto], stored: list[TensorProto]) -> str:
    """One column of a matrix, [rows, 1]."""
    stored.append(numpy_helper.from_array(np.array([axis], np.int64), f"{at}_axis"))
    nodes.append(helper.make_node("Gather", [matrix, f"{at}_axis"], [f"{at}_column"], f"{at}_column", axis=1))
    return f"{at}_column"


def _cell(at: str, places: Sequence[str], prefix: str, nodes: list[NodeProto], stored: list[TensorProto]) -> str:
    """The number of the cell whose place on each axis is told by these matrices, INT64 [rows]."""
    columns = [_column(f"{at}_place{axis}", matrix, axis, nodes, stored) for axis, matrix in enumerate(places)]
    whole = f"{at}_places"
    nodes.append(helper.make_node("Concat", columns, [whole], whole, axis=1))
    nodes.append(helper.make_node("Mul", [whole, f"{prefix}_factors"], [f"{at}_parts"], f"{at}_parts"))
    nodes.append(
        helper.make_node("ReduceSum", [f"{at}_parts", f"{prefix}_last"], [f"{at}_cell"], f"{at}_cell", keepdims=0)
    )
    return f"{at}_cell"


def _tensor(values: Array, kind: int, name: str) -> TensorProto:
    if kind == TensorProto.STRING:
        return helper.make_tensor(name, kind, values.shape, [bytes(one) for one in values.ravel().tolist()])
    if kind == TensorProto.BFLOAT16:
        return helper.make_tensor(name, kind, values.shape, values.tobytes(), raw=True)
    return numpy_helper.from_array(values, name)
