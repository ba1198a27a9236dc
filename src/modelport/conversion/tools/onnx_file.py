"""Edits of an ONNX model that converters share: names of its ends, shapes of its outputs, and what they cannot hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from onnx import ModelProto, TensorProto, helper

from modelport.errors import InvalidInput

FILE = "model.onnx"
_OPSET = 15
_TWO_GB = (2 << 30) - (16 << 20)


def rename(model: ModelProto, names: Mapping[str, str]) -> None:
    """Call inputs and outputs otherwise, wherever they are used."""
    for node in model.graph.node:
        for ends in (node.input, node.output):
            for place, name in enumerate(ends):
                ends[place] = names.get(name, name)
    for info in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        info.name = names.get(info.name, info.name)


def as_vector(model: ModelProto, name: str) -> None:
    """Make an output [rows, 1] one of [rows]."""
    output = next(found for found in model.graph.output if found.name == name)
    dims = output.type.tensor_type.shape.dim
    if len(dims) != 2 or dims[1].dim_value != 1:
        return
    inner = f"{name}_column"
    for node in model.graph.node:
        for place, given in enumerate(node.output):
            if given == name:
                node.output[place] = inner
    if not any(not known.domain or known.domain == "ai.onnx" for known in model.opset_import):
        model.opset_import.append(helper.make_opsetid("", _OPSET))  # a model of trees alone has none
    model.graph.initializer.append(helper.make_tensor(f"{name}_shape", TensorProto.INT64, [1], [-1]))
    model.graph.node.append(helper.make_node("Reshape", [inner, f"{name}_shape"], [name]))
    del dims[1]


def without_texts(model: ModelProto, target: str) -> list[str]:
    """Leave out outputs that are texts, and what only they need; their names. Raises InvalidInput for text inputs."""
    graph = model.graph
    for given in graph.input:
        if given.type.tensor_type.elem_type == TensorProto.STRING:
            raise InvalidInput(
                f"input {given.name!r} is text, and {target} takes numbers only; serve the model as ONNX"
            )
    texts = [found for found in graph.output if found.type.tensor_type.elem_type == TensorProto.STRING]
    for found in texts:
        graph.output.remove(found)
    if not graph.output:
        raise InvalidInput(f"the model answers by text alone, and {target} gives numbers only; serve the model as ONNX")
    needed = {found.name for found in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
            for attribute in node.attribute:
                for body in (attribute.g, *attribute.graphs):
                    needed.update(name for inner in body.node for name in inner.input)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in needed]:
        graph.initializer.remove(tensor)
    return [found.name for found in texts]


def free_rows(model: ModelProto, names: Sequence[str]) -> None:
    """Let the first dimension of inputs and outputs vary."""
    for info in (*model.graph.input, *model.graph.output):
        dims = info.type.tensor_type.shape.dim
        if info.name in names and len(dims):
            dims[0].Clear()
            dims[0].dim_param = "rows"


def write(model: ModelProto, out: Path) -> None:
    """As the version's file, with its weights beside it where it is too large for one."""
    if model.ByteSize() > _TWO_GB:
        onnx.save_model(model, out / FILE, save_as_external_data=True, location="model.data")
    else:
        onnx.save_model(model, out / FILE)


def facts(model: ModelProto) -> dict[str, object]:
    """What a report says of it."""
    return {"opset": {found.domain or "ai.onnx": found.version for found in model.opset_import}}


def read(folder: Path, files: Sequence[str]) -> tuple[ModelProto, str]:
    """The one model of a version, and its file."""
    from modelport.engine.formats.onnx_wire import find_model  # noqa: PLC0415  (not in environments of their own)

    name = find_model(folder, tuple(files))
    if name is None:
        raise InvalidInput("there is no ONNX model among the version's files")
    return onnx.load(str(folder / name)), name


def set_labels(model: ModelProto, labels: Sequence[str]) -> None:
    """Write the classes where inspection looks for them."""
    helper.set_model_props(model, {"labels": json.dumps(list(labels), ensure_ascii=False)})


def labels_of(model: ModelProto) -> list[str] | None:
    """The classes that ``set_labels``, or a recipe, has written."""
    for entry in model.metadata_props:
        if entry.key in ("labels", "classes"):
            try:
                found = json.loads(entry.value)
            except ValueError:
                continue
            if isinstance(found, list):
                return [str(name) for name in found]
    return None
