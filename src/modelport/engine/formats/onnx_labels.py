"""Which classes an ONNX classifier's scores stand for, in the order of the scores' last dimension.

They are looked for where converters leave them: in the classifier's own node, in a ZipMap, in the constant that an
ArgMax picks the label from, in the model's metadata. A model that says nothing has no labels; nothing is guessed.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable

from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from modelport.errors import ArtifactRefused
from modelport.tensors import Signature, TensorSpec

_MOST_LABELS, _LONGEST_LABEL, _LONGEST_METADATA = 100_000, 300, 1 << 20
_ML = "ai.onnx.ml"
#: Operators after which the last dimension still stands for the same classes.
_SAME_CLASSES = {
    *("Identity", "Cast", "Reshape", "Clip", "Softmax", "LogSoftmax", "Sigmoid", "Normalizer"),
    *("Exp", "Log", "Add", "Sub", "Mul", "Div"),
}
#: Operators between the best score's index and the label.
_SAME_INDEX = {"Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze"}
_METADATA_KEYS = ("names", "labels", "classes", "class_names", "class_labels")


def zipmap_classes(node: NodeProto) -> list[str]:
    """The classes of a ZipMap, sorted as the runtime sorts its columns; raises ArtifactRefused when there are none."""
    classes = _classes_of_node(node)
    if not classes or len(set(classes)) != len(classes):
        raise ArtifactRefused("a ZipMap has no classes, or the same class twice: convert again with zipmap=False")
    return [str(found) for found in sorted(classes)]


def class_labels(model: ModelProto, signature: Signature) -> tuple[dict[str, list[str]], list[str]]:
    """Labels by output, and the classes that the metadata names although no output has them as last dimension."""
    scores = _scores(model)
    labels: dict[str, list[str]] = {}
    for spec in signature.outputs:
        classes = scores.get(spec.name)
        if classes and _fits(spec, len(classes)):
            labels[spec.name] = classes
    named = _metadata_classes(model)
    if named and not labels:
        floats = [spec for spec in signature.outputs if spec.datatype.startswith(("FP", "BF"))]
        labels = {spec.name: named for spec in floats if spec.shape[-1:] == (len(named),)}
        if not labels and len(floats) == 1 and len(floats[0].shape) == 2 and floats[0].shape[-1] == -1:
            labels = {floats[0].name: named}
    return labels, [] if labels else named


def _fits(spec: TensorSpec, count: int) -> bool:
    return spec.datatype.startswith(("FP", "BF")) and spec.shape[-1:] in ((count,), (-1,))


def _scores(model: ModelProto) -> dict[str, list[str]]:
    """Tensor name to the classes of its last dimension."""
    nodes = model.graph.node
    producers = {output: node for node in nodes for output in node.output if output}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    scores: dict[str, list[str]] = {}
    for node in nodes:
        if node.domain == _ML and node.op_type == "ArrayFeatureExtractor" and len(node.input) == 2:
            best = _scores_behind(node.input[1], producers)
            if best is not None and node.input[0] in constants:
                scores[best] = _classes_of_constant(constants[node.input[0]])
    for node in nodes:
        if node.domain == _ML and node.op_type == "ZipMap":
            scores[node.output[0]] = zipmap_classes(node)
        elif node.domain == _ML and len(node.output) > 1 and (classes := _classes_of_node(node)):
            scores[node.output[1]] = [str(found) for found in classes]
        elif node.op_type in _SAME_CLASSES and node.input and node.input[0] in scores:
            scores[node.output[0]] = scores[node.input[0]]
    return scores


def _scores_behind(name: str, producers: dict[str, NodeProto]) -> str | None:
    """The tensor whose ArgMax leads to this index, if one does."""
    for _ in range(8):
        node = producers.get(name)
        if node is None or not node.input:
            return None
        name = node.input[0]
        if node.op_type == "ArgMax":
            return name
        if node.op_type not in _SAME_INDEX:
            return None
    return None


def _classes_of_node(node: NodeProto) -> list[int] | list[str]:
    for attribute in node.attribute:
        if attribute.name in ("classlabels_int64s", "classlabels_ints") and attribute.ints:
            return list(attribute.ints[:_MOST_LABELS])
        if attribute.name == "classlabels_strings" and attribute.strings:
            return [raw.decode()[:_LONGEST_LABEL] for raw in attribute.strings[:_MOST_LABELS]]
    return []


def _classes_of_constant(tensor: TensorProto) -> list[str]:
    if tensor.data_type == TensorProto.STRING:
        return [raw.decode()[:_LONGEST_LABEL] for raw in tensor.string_data[:_MOST_LABELS]]
    if tensor.data_type in (TensorProto.INT64, TensorProto.INT32):
        return [str(number) for number in numpy_helper.to_array(tensor).reshape(-1)[:_MOST_LABELS].tolist()]
    return []


def _metadata_classes(model: ModelProto) -> list[str]:
    metadata = {pair.key: pair.value for pair in model.metadata_props if len(pair.value) <= _LONGEST_METADATA}
    for key in _METADATA_KEYS:
        if metadata.get(key):
            return _parse_classes(metadata[key])
    return []


def _parse_classes(text: str) -> list[str]:
    """A JSON list, a Python or JSON mapping from number to name (as Ultralytics writes it), or names between commas."""
    found: object = None
    for parse in (json.loads, ast.literal_eval):
        try:
            found = parse(text)
            break
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    names: Iterable[object]
    if isinstance(found, dict):
        try:
            names = [found[key] for key in sorted(found, key=int)]
        except (TypeError, ValueError):
            return []
    elif isinstance(found, list | tuple):
        names = found
    elif found is None and "," in text:
        names = (part.strip() for part in text.split(","))
    else:
        return []
    return [str(name)[:_LONGEST_LABEL] for name in names][:_MOST_LABELS]
