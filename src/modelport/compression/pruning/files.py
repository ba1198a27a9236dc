"""Single weights of an ONNX file set to zero, whoever made it: those of its convolutions and products with matrices.

What they matter is their size, or their size times the norm of what they are given when the file is run on real rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from modelport.compression.asking import model_file, session, task_of
from modelport.compression.feeding import Feeder
from modelport.compression.keeping import kept_as_it_was
from modelport.compression.method import Model
from modelport.compression.methods.prune import PruneOptions
from modelport.compression.pruning.masks import masks_below, masks_of, share_of_zeros
from modelport.compression.pruning.zipped import zipped
from modelport.errors import InvalidInput
from modelport.plugins import nearest
from modelport.tensors import Array
from modelport.training.recipe import Trained, TrainingData, TrainingRun

_WEIGHT = 1
"""The place of the weights among a node's inputs."""
_MATRIX = 2
_TWO_GB = (2 << 30) - (16 << 20)


@dataclass(frozen=True, slots=True)
class _Weight:
    """A node's weights, as rows of outputs."""

    node: onnx.NodeProto
    tensor: onnx.TensorProto
    turned: bool
    """Whether they lie as [inputs, outputs]."""

    def matrix(self) -> torch.Tensor:
        """[outputs, inputs, …]"""
        found = torch.from_numpy(np.array(numpy_helper.to_array(self.tensor)))
        return found.T.contiguous() if self.turned else found


def compress(run: TrainingRun, model: Model, data: TrainingData | None, options: PruneOptions) -> Trained:
    """Prune once; raises InvalidInput for layers that are not there and files without weights of this kind."""
    path = model_file(model)
    proto = onnx.load(path)
    weights = {one.node.name: one for one in _weights(proto.graph)}
    unknown = next((name for name in options.keep if name not in weights), None)
    if unknown is not None:
        hint = nearest(unknown, list(weights))
        raise InvalidInput(f"options.keep: the file has no node with weights named {unknown[:100]!r}{hint}")
    chosen = {name: one for name, one in weights.items() if name not in options.keep}
    if not chosen:
        raise InvalidInput("the file has no Conv, Gemm or MatMul with 32-bit weights of its own that could be pruned")
    matters = {name: one.matrix().abs() for name, one in chosen.items()}
    if options.by == "activation":
        assert data is not None
        for name, norms in _norms(run, model, data, path, chosen, options.rows).items():
            matters[name] = matters[name] * _spread(chosen[name], norms, matters[name])
    by_row = options.by == "activation" and options.block == (1, 1)
    masks = (
        masks_below(matters, options.threshold, options.block) if options.threshold is not None
        else masks_of(matters, options.share, options.block, by_layer=options.by_layer, by_row=by_row)
    )  # fmt: skip
    for name, one in chosen.items():
        left = (one.matrix() * masks[name]).numpy()
        values = np.ascontiguousarray(left.T if one.turned else left)
        one.tensor.CopyFrom(numpy_helper.from_array(values, one.tensor.name))
    file = run.out / path.relative_to(model.folder)
    made = kept_as_it_was(model, run, task_of(model))
    file.parent.mkdir(parents=True, exist_ok=True)
    _save(proto, file)
    made.report = {
        "by": options.by, "when": "once", "before": {"zipped_bytes": _packed(path)},
        "after": {"zipped_bytes": _packed(file), "zero": round(share_of_zeros(masks), 6)},
        "layers": {name: {"zero": round(share_of_zeros({name: one}), 4)} for name, one in masks.items()},
    }  # fmt: skip
    return made


def _weights(graph: onnx.GraphProto) -> Iterator[_Weight]:
    """Of nodes whose second input is an initializer of floats that nobody else uses."""
    tensors = {one.name: one for one in graph.initializer if one.data_type == onnx.TensorProto.FLOAT}
    used = [name for node in graph.node for name in node.input]
    for at, node in enumerate(graph.node):
        tensor = tensors.get(node.input[_WEIGHT]) if len(node.input) > _WEIGHT else None
        if tensor is None or used.count(tensor.name) > 1 or len(tensor.dims) < _MATRIX:
            continue
        if node.op_type not in ("Conv", "Gemm", "MatMul") or (node.op_type == "MatMul" and len(tensor.dims) > _MATRIX):
            continue
        turned = node.op_type == "MatMul" or (node.op_type == "Gemm" and not _attribute(node, "transB", 0))
        if not node.name:
            node.name = f"{node.op_type}_{at}"
        yield _Weight(node, tensor, turned)


def _norms(
    run: TrainingRun, model: Model, data: TrainingData, path: Path, chosen: Mapping[str, _Weight], rows: int
) -> dict[str, torch.Tensor]:
    """The root of the mean square of each node's inputs, by channel, over real rows."""
    run.progress(0, rows, "running the file on real rows", "rows")
    watched, outside = onnx.load(path), {one.name for one in onnx.load(path, load_external_data=False).graph.input}
    given = {name: one.node.input[0] for name, one in chosen.items()}
    there = {one.name for one in watched.graph.output}
    for name in sorted(set(given.values()) - there - outside):
        watched.graph.output.append(onnx.ValueInfoProto(name=name))
    opened = session(_opened(watched, run.folder), run.threads)
    asked = sorted(set(given.values()) - outside)
    squares: dict[str, Array] = {}
    counts: dict[str, int] = {}
    taken = {one.name for one in opened.get_inputs()}
    for batch in Feeder(model, data).batches(data.train, 32, rows, run.seed):
        inputs = {name: value for name, value in batch.inputs.items() if name in taken}
        found = dict(zip(asked, opened.run(asked, inputs), strict=True)) | inputs
        for name, one in chosen.items():
            value = found[given[name]]
            flat = np.moveaxis(value, 1 if one.node.op_type == "Conv" else -1, -1)
            flat = flat.reshape(-1, flat.shape[-1]).astype(np.float64)
            squares[name] = squares.get(name, 0) + np.square(flat).sum(0)
            counts[name] = counts.get(name, 0) + len(flat)
    if not counts:
        raise InvalidInput("data: there are no rows to look at; give a dataset that has some")
    return {name: torch.from_numpy(np.sqrt(squares[name] / counts[name])).float() for name in chosen}


def _spread(weight: _Weight, norms: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """By input channel, in the shape of the weights."""
    if weight.node.op_type != "Conv":
        return norms.expand_as(like)
    groups = _attribute(weight.node, "group", 1)
    by_group = norms.view(groups, 1, -1).expand(-1, like.shape[0] // groups, -1)
    return by_group.reshape(like.shape[0], like.shape[1], *[1] * (like.dim() - 2)).expand_as(like)


def _attribute(node: onnx.NodeProto, name: str, otherwise: Any) -> Any:
    return next((onnx.helper.get_attribute_value(one) for one in node.attribute if one.name == name), otherwise)


def _opened(proto: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "watched.onnx"
    _save(proto, path)
    return path


def _save(proto: onnx.ModelProto, path: Path) -> None:
    if proto.ByteSize() > _TWO_GB:
        onnx.save_model(proto, path, save_as_external_data=True, location=f"{path.stem}.data")
    else:
        onnx.save_model(proto, path)


def _packed(path: Path) -> int:
    """With the weights that lie in a file of their own."""
    beside = path.with_name(f"{path.stem}.data")
    return zipped(path) + (zipped(beside) if beside.exists() else 0)
