"""What an ONNX model says about its stored tensors, held against the bytes that are there.

ONNX Runtime reads external data where the model points: so every location must be a file of the artifact, and every
declared size must fit the tensor and the file. Nothing is read but sizes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from modelport.errors import ArtifactRefused

_NUMBER = re.compile(r"[0-9]{1,18}")
_MOST_ELEMENTS = 1 << 44
_BITS = {
    **dict.fromkeys(("UINT2", "INT2"), 2),
    **dict.fromkeys(("UINT4", "INT4", "FLOAT4E2M1"), 4),
    **dict.fromkeys(("FLOAT6E2M3", "FLOAT6E3M2"), 6),
    **dict.fromkeys(("BOOL", "UINT8", "INT8", "FLOAT8E8M0"), 8),
    **dict.fromkeys(("FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ"), 8),
    **dict.fromkeys(("UINT16", "INT16", "FLOAT16", "BFLOAT16"), 16),
    **dict.fromkeys(("UINT32", "INT32", "FLOAT"), 32),
    **dict.fromkeys(("UINT64", "INT64", "DOUBLE", "COMPLEX64"), 64),
    "COMPLEX128": 128,
}


def nodes_of(model: ModelProto) -> Iterator[NodeProto]:
    """Every node: of the graph, of graphs inside nodes, of functions, of training information."""
    for graph in _graphs(model):
        yield from graph.node
    for function in model.functions:
        yield from function.node
        for node in function.node:
            for graph in _graphs_of_node(node):
                yield from graph.node


def _graphs(model: ModelProto) -> Iterator[GraphProto]:
    roots = [model.graph]
    for training in model.training_info:
        roots += [training.initialization, training.algorithm]
    for root in roots:
        yield from _graphs_within(root)


def _graphs_within(graph: GraphProto) -> Iterator[GraphProto]:
    """The graph itself, and those inside its nodes; protobuf's own limit bounds the depth."""
    yield graph
    for node in graph.node:
        yield from _graphs_of_node(node)


def _graphs_of_node(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield from _graphs_within(attribute.g)
        for graph in attribute.graphs:
            yield from _graphs_within(graph)


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    for graph in _graphs(model):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in nodes_of(model):
        for attribute in node.attribute:
            yield from _tensors_of_attribute(attribute)
    for function in model.functions:
        for attribute in function.attribute_proto:
            yield from _tensors_of_attribute(attribute)
        for node in function.node:
            for graph in _graphs_of_node(node):
                yield from graph.initializer


def _tensors_of_attribute(attribute: AttributeProto) -> Iterator[TensorProto]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    for sparse in (*attribute.sparse_tensors, attribute.sparse_tensor):
        yield from (sparse.values, sparse.indices)


def parameter_count(model: ModelProto) -> int:
    """The number of elements of the graph's initializers."""
    return sum(math.prod(tensor.dims) for tensor in model.graph.initializer)


def check_tensors(model: ModelProto, folder: Path, files: tuple[str, ...], model_file: str) -> None:
    """Refuse tensors with impossible dimensions, and external data that is not wholly inside a file of the artifact."""
    data_folder = PurePosixPath(model_file).parent
    missing: list[str] = []
    for tensor in _tensors(model):
        size = _byte_size(tensor)
        if tensor.data_location != TensorProto.EXTERNAL:
            if tensor.HasField("raw_data") and size is not None and len(tensor.raw_data) != size:
                raise ArtifactRefused(f"{_title(tensor)} says {size} bytes and holds {len(tensor.raw_data)}")
            continue
        entry = {pair.key: pair.value for pair in tensor.external_data}
        location = _location(tensor, entry, data_folder)
        if location == model_file:
            raise ArtifactRefused(f"{_title(tensor)} takes its external data from the model file itself")
        if location not in files:
            missing.append(location)
            continue
        _check_extent(tensor, entry, size, location, (folder / location).stat().st_size)
    if missing:
        names = sorted(set(missing))
        shown = ", ".join(repr(name[:120]) for name in names[:5]) + (" …" if len(names) > 5 else "")
        raise ArtifactRefused(f"external data is missing: {shown}; push the folder that holds all of it")


def _location(tensor: TensorProto, entry: dict[str, str], data_folder: PurePosixPath) -> str:
    """The path, inside the artifact, of a tensor's external data."""
    location = entry.get("location", "")
    parts = location.split("/")
    while parts[:1] == ["."]:
        parts = parts[1:]
    if not location or "\\" in location or ":" in location or not location.isprintable():
        raise ArtifactRefused(
            f"{_title(tensor)} has the external data location {location[:120]!r}, which is no file name"
        )
    if any(part in ("", ".", "..") for part in parts):
        raise ArtifactRefused(
            f"{_title(tensor)} has the external data location {location[:120]!r}, which leaves the folder: "
            "it must be a plain relative path"
        )
    return str(data_folder.joinpath(*parts))


def _check_extent(tensor: TensorProto, entry: dict[str, str], size: int | None, location: str, file_size: int) -> None:
    if size is None:
        raise ArtifactRefused(f"{_title(tensor)} is external, but its element type cannot be")
    for key in ("offset", "length"):
        if key in entry and _NUMBER.fullmatch(entry[key]) is None:
            raise ArtifactRefused(f"{_title(tensor)} has the external data {key} {entry[key][:40]!r}")
    offset = int(entry.get("offset", 0))
    length = int(entry.get("length", size))
    if length != size:
        raise ArtifactRefused(f"{_title(tensor)} needs {size} bytes, its external data length says {length}")
    if offset + length > file_size:
        raise ArtifactRefused(
            f"{_title(tensor)} wants bytes {offset} to {offset + length} of {location[:120]!r}, which has {file_size}"
        )


def _byte_size(tensor: TensorProto) -> int | None:
    """Bytes of the tensor's content when stored raw; None for types without a fixed size."""
    elements = math.prod(tensor.dims)
    if any(dim < 0 for dim in tensor.dims) or elements > _MOST_ELEMENTS:
        raise ArtifactRefused(f"{_title(tensor)} has impossible dimensions {list(tensor.dims)[:8]}")
    values = TensorProto.DataType.values()
    bits = _BITS.get(TensorProto.DataType.Name(tensor.data_type)) if tensor.data_type in values else None
    return None if bits is None else (elements * bits + 7) // 8


def _title(tensor: TensorProto) -> str:
    return f"tensor {tensor.name[:80]!r}"


def without_external_data(model: ModelProto) -> ModelProto:
    """A copy whose external tensors are empty: the checker has its own ideas about files, which are settled here."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in _tensors(copy):
        if tensor.data_location == TensorProto.EXTERNAL:
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
            tensor.dims[:] = [0]
    return copy
