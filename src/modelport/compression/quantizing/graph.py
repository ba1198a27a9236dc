"""An ONNX model while its numbers are made smaller: opened, fused, its layers named, written again.

A *layer* is a node that multiplies with weights, or looks rows up in them. What the file says of itself (classes, names
and sizes of what goes in and out) is the same afterwards. Knows no bits.
"""

from __future__ import annotations

import contextlib
import fnmatch
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto
from onnxruntime.quantization.onnx_model import ONNXModel
from onnxruntime.quantization.shape_inference import quant_pre_process

from modelport.compression.method import Model
from modelport.engine.formats.onnx_wire import find_model
from modelport.engine.runtimes.onnx import clean_message
from modelport.errors import InvalidInput
from modelport.plugins import nearest
from modelport.storage.disk import told_of_disk
from modelport.training.memory import available

#: Which input of a node is its weights.
WEIGHTS = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1, "Gather": 0}
#: Layers that stay as they are, although they have weights.
_OTHERS = ("LSTM", "GRU", "RNN", "TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor", "SVMClassifier",
           "SVMRegressor", "LinearClassifier", "LinearRegressor")  # fmt: skip
_SMALLEST = 64
"""Weights of a layer that are worth the trouble, at least."""
_TWO_GB = (2 << 30) - (16 << 20)
_TIMES = 6
"""Copies of a model that are in memory at once, at most."""
FILE = "model.onnx"
_NOTES = ("onnx.quant.pre_process", "onnx.infer")


def opened(model: Model) -> ModelProto:
    """The version's ONNX model with all its weights, its nodes named; raises InvalidInput for one too large."""
    name = name_of(model)
    size = sum((model.folder / entry).stat().st_size for entry in (name, *external(model)))
    free = available()
    if size > _TWO_GB:
        raise InvalidInput(f"the model has {size / 1e9:.1f} GB; models beyond 2 GB cannot be rewritten here")
    if free is not None and size * _TIMES > free:
        raise InvalidInput(
            f"too little memory: rewriting a model of {size >> 20} MB takes about {size * _TIMES >> 20} MB, and "
            f"{free >> 20} MB are free; use a larger machine"
        )
    return read(model.folder / name)


def read(path: Path) -> ModelProto:
    """A file's model, its nodes named."""
    found = onnx.load(path)
    del found.graph.value_info[:]  # what exporters noted may contradict what is fused
    taken = {node.name for node in found.graph.node}
    counts = Counter[str]()
    for node in found.graph.node:
        while not node.name:
            counts[node.op_type] += 1
            wish = f"{node.op_type}_{counts[node.op_type]}"
            node.name = wish if wish not in taken else ""
    return found


def name_of(model: Model) -> str:
    name = find_model(model.folder, [entry.path for entry in model.manifest.files])
    if name is None:
        raise InvalidInput("there is no ONNX model among the version's files")
    return name


def external(model: Model) -> list[str]:
    """The files that hold weights beside the model's own."""
    found = onnx.load(model.folder / name_of(model), load_external_data=False)
    places = [
        {entry.key: entry.value for entry in tensor.external_data}.get("location", "")
        for tensor in found.graph.initializer
        if tensor.data_location == TensorProto.EXTERNAL
    ]
    folder = Path(name_of(model)).parent
    return sorted({(folder / place).as_posix() for place in places if place})


def fused(model: ModelProto, folder: Path) -> ModelProto:
    """What can be computed before a row is seen is, and normalisation becomes part of the convolution before it."""
    before, after = folder / "before.onnx", folder / "fused.onnx"
    save(model, before)
    with quiet():
        quant_pre_process(before, after, skip_symbolic_shape=True)
    found = onnx.load(after)
    known = {node.domain for node in found.graph.node} | {"", *(f.domain for f in found.functions)}
    kept = [one for one in found.opset_import if one.domain in known or (not one.domain and "ai.onnx" in known)]
    del found.opset_import[:]
    found.opset_import.extend(kept)
    before.unlink()
    after.unlink()
    return found


def layers(model: ModelProto) -> list[NodeProto]:
    """The nodes whose weights lie in the file, in the order that they are computed in."""
    constants = floats(model)
    return [
        node
        for node in model.graph.node
        if (at := WEIGHTS.get(node.op_type)) is not None and len(node.input) > at and node.input[at] in constants
    ]


def weights_of(node: NodeProto) -> str:
    """The name of a layer's weights."""
    return str(node.input[WEIGHTS[node.op_type]])


def floats(model: ModelProto) -> dict[str, TensorProto]:
    """The tensors of floating point that are worth the trouble."""
    return {
        tensor.name: tensor
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) > 1 and count(tensor) >= _SMALLEST
    }


def count(tensor: TensorProto) -> int:
    """How many numbers it has."""
    total = 1
    for size in tensor.dims:
        total *= size
    return total


def stays(model: ModelProto) -> list[str]:
    """Layers that no kind of quantization here touches, as ``OPERATOR NAME``."""
    return [f"{node.op_type} {node.name}" for node in model.graph.node if node.op_type in _OTHERS]


def no_layers(model: ModelProto) -> InvalidInput:
    """What is said of a model without a layer."""
    kinds = Counter(node.op_type for node in model.graph.node)
    made_of = ", ".join(sorted(kinds, key=lambda kind: (kind not in _OTHERS, -kinds[kind]))[:6])
    return InvalidInput(
        f"the model has no layer whose weights could be quantized ({', '.join(WEIGHTS)}); it is made of {made_of}: "
        "trees are made smaller by the methods trees and prune, a model of few numbers by mode table"
    )


def picked(model: ModelProto, include: Sequence[str] | None, exclude: Sequence[str]) -> list[NodeProto]:
    """The layers that are meant (``*`` stands for anything); raises InvalidInput with the nearest name."""
    found = layers(model)
    if not found:
        raise no_layers(model)
    names = [node.name for node in found]
    for option, wanted in (("include", include or ()), ("exclude", exclude)):
        for pattern in wanted:
            if not fnmatch.filter(names, pattern):
                raise InvalidInput(f"options.{option}: there is no layer {pattern[:100]!r}{nearest(pattern, names)}")
    chosen = [
        node
        for node in found
        if (include is None or any(fnmatch.fnmatchcase(node.name, pattern) for pattern in include))
        and not any(fnmatch.fnmatchcase(node.name, pattern) for pattern in exclude)
    ]
    if not chosen:
        raise InvalidInput("options.exclude: no layer is left to quantize; leave some of them out of exclude")
    return chosen


def tail(model: ModelProto) -> set[str]:
    """Names of the nodes behind the last layers, which make the answer of what these computed."""
    ends = {node.name for node in layers(model)}
    consumers: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    leads: set[str] = set()
    for node in reversed(model.graph.node):  # consumers come behind, so they are known already
        after = [one for output in node.output for one in consumers.get(output, ())]
        if any(one.name in ends or one.name in leads for one in after):
            leads.add(node.name)
    return {node.name for node in model.graph.node} - leads - ends


def add_opset(model: ModelProto, domain: str, version: int) -> None:
    """Have operators of a domain, of at least this version."""
    for found in model.opset_import:
        if found.domain == domain or (not domain and found.domain == "ai.onnx"):
            found.version = max(found.version, version)
            return
    model.opset_import.append(onnx.helper.make_opsetid(domain, version))


def drop_unused(graph: GraphProto) -> None:
    """Take out the stored tensors that no node asks for any more."""
    asked = {name for node in _all_nodes(graph) for name in node.input} | {one.name for one in graph.output}
    for tensor in [one for one in graph.initializer if one.name not in asked]:
        graph.initializer.remove(tensor)


def _all_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _all_nodes(inner)


def restored(made: ModelProto, original: ModelProto) -> ModelProto:
    """With what the original says of itself: its notes, its inputs and outputs by name, type and sizes."""
    del made.metadata_props[:]
    made.metadata_props.extend(pair for pair in original.metadata_props if pair.key not in _NOTES)
    del made.graph.value_info[:]
    for mine, its in ((made.graph.input, original.graph.input), (made.graph.output, original.graph.output)):
        if [one.name for one in mine] != [one.name for one in its]:
            raise InvalidInput("the library renamed inputs or outputs of this model; export it with plain names")
        del mine[:]
        mine.extend(its)
    drop_unused(made.graph)
    ONNXModel(made).topological_sort()
    return made


def save(model: ModelProto, path: Path) -> int:
    """Write one file; its bytes."""
    with told_of_disk():
        onnx.save_model(model, path)
    return path.stat().st_size


@contextlib.contextmanager
def told_of_library(what: str) -> Iterator[None]:
    """What a library stumbles over is the model's fault, and nothing was made; its own message says where."""
    try:
        yield
    except (ValueError, RuntimeError, KeyError, TypeError, AttributeError, IndexError, AssertionError) as error:
        cause = clean_message(error) or type(error).__name__
        raise InvalidInput(
            f"{what} cannot be done with this model: {cause}; exclude the layer that is named, or say another mode"
        ) from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what libraries remark on their work."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
