"""A torch network as an ONNX file that is proven to answer alike.

The file holds names of classes where there are any, and nothing of the machine it was made on. Knows no recipe.
"""

from __future__ import annotations

import inspect
import json
import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import nn

from modelport.engine.formats.onnx_origin import without_origin
from modelport.errors import InvalidInput
from modelport.tensors import Array

_TWO_GB = (2 << 30) - (16 << 20)


@dataclass(slots=True)
class Parity:
    """How far the file's answers are from the network's."""

    rows: int = 0
    max_difference: float = 0.0
    """The largest, of all outputs, relative to what is larger than 1."""
    agreement: float = 1.0
    """Share of the rows with the same largest value in the first output."""


def export(
    network: nn.Module, inputs: Mapping[str, torch.Tensor], outputs: Sequence[str], path: Path,
    dynamic: Mapping[str, Mapping[int, str]] | None = None, labels: Sequence[str] | None = None,
) -> None:  # fmt: skip
    """Write ``network``, called with ``inputs`` in their order.

    ``dynamic`` names the dimensions of an input that vary; by default the first of each, ``rows``. The example has to
    have at least 2 of what varies. With ``labels`` the first output is scores [rows, classes], and a further one,
    ``label``, is the name of the best. Raises InvalidInput when torch cannot put the network into ONNX.
    """
    dims = {name: {0: "rows"} for name in inputs} if dynamic is None else dynamic
    made = {name: torch.export.Dim(name) for found in dims.values() for name in found.values()}
    shapes: tuple[Any, ...] = tuple({at: made[name] for at, name in dims.get(given, {}).items()} for given in inputs)
    if any(one.kind is one.VAR_POSITIONAL for one in inspect.signature(network.forward).parameters.values()):
        shapes = (shapes,)
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network.eval(), tuple(inputs.values()), dynamo=True, input_names=list(inputs),
                output_names=list(outputs), dynamic_shapes=shapes, verbose=False,
            )  # fmt: skip
    except Exception as error:  # the exporter raises many kinds
        raise InvalidInput(
            f"the network cannot be put into ONNX: {_first_line(error)}; use operators that torch.export knows, "
            "without branches that depend on values"
        ) from None
    finally:
        quiet.setLevel(level)
    assert program is not None
    model = program.model_proto
    without_origin(model)
    if labels is not None:
        onnx.helper.set_model_props(model, {"labels": json.dumps(list(labels), ensure_ascii=False)})
        _name_the_best(model.graph, labels)
    if model.ByteSize() > _TWO_GB:
        onnx.save_model(model, path, save_as_external_data=True, location=f"{path.stem}.data")
    else:
        onnx.save_model(model, path)


def check_parity(
    path: Path, batches: Iterable[tuple[Mapping[str, torch.Tensor], Sequence[torch.Tensor]]], tolerance: float = 1e-3
) -> dict[str, Any]:
    """Compare with the network's own answers: batches of inputs and of outputs in their order.

    Raises InvalidInput when a value is further off than ``tolerance``.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    found, same = Parity(), 0
    for inputs, expected in batches:
        names = [output.name for output in session.get_outputs()][: len(expected)]  # the label comes behind them
        answers = session.run(names, {name: _numpy(value) for name, value in inputs.items()})
        for answer, tensor in zip(answers, expected, strict=True):
            found.max_difference = max(found.max_difference, _difference(answer, _numpy(tensor)))
        first = _numpy(expected[0])
        found.rows += len(first)
        if first.ndim > 1:
            same += int((answers[0].argmax(-1) == first.argmax(-1)).reshape(len(first), -1).all(1).sum())
        else:
            same += len(first)
    found.agreement = same / max(found.rows, 1)
    if not found.max_difference <= tolerance:
        raise InvalidInput(
            f"the network as ONNX answers differently: by {found.max_difference:.3g} on {found.rows} validation rows, "
            f"and {tolerance:g} is allowed; use operators that do the same in ONNX Runtime"
        )
    return asdict(found)


def _name_the_best(graph: onnx.GraphProto, labels: Sequence[str]) -> None:
    """Add the output ``label``: the name of the class with the highest score."""
    scores, rows = graph.output[0], onnx.helper.make_tensor_value_info("label", onnx.TensorProto.STRING, ["rows"])
    names = onnx.helper.make_tensor(
        "label_names", onnx.TensorProto.STRING, [len(labels)], [label.encode() for label in labels]
    )
    graph.initializer.append(names)
    graph.node.extend(
        [
            onnx.helper.make_node("ArgMax", [scores.name], ["label_best"], "label_best", axis=1, keepdims=0),
            onnx.helper.make_node("Gather", [names.name, "label_best"], [rows.name], "label"),
        ]
    )
    graph.output.append(rows)


def _numpy(tensor: torch.Tensor) -> Array:
    return np.asarray(tensor.detach().cpu().contiguous())


def _difference(answer: Array, expected: Array) -> float:
    if answer.shape != expected.shape:
        return float("inf")
    if not answer.size:
        return 0.0
    if not np.array_equal(np.isnan(answer), np.isnan(expected)):
        return float("inf")
    off = np.abs(answer.astype(np.float64) - expected) / np.maximum(np.abs(expected), 1.0)
    return float(np.nanmax(off)) if not np.isnan(off).all() else 0.0


def _first_line(error: Exception) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    text = str(cause).strip().partition("\n")[0] or type(cause).__name__
    return text[:300]
