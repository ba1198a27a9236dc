"""ONNX: one model file, alone or in a folder with its external data.

Says which tensors go in and out, which classes a classifier's scores stand for, and refuses what ONNX Runtime would
not run. Everything read here is untrusted: it runs in the inspection process only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError

from modelport.engine.formats.onnx_labels import class_labels, zipmap_classes
from modelport.engine.formats.onnx_tensors import check_tensors, nodes_of, parameter_count, without_external_data
from modelport.engine.formats.onnx_wire import likeness
from modelport.engine.runtime import Format, Inspected, Trust
from modelport.engine.runtimes.onnx import LOAD_ERRORS, clean_message, session_options
from modelport.errors import ArtifactRefused
from modelport.tensors import Signature, TensorSpec

_DATATYPES = {
    "FLOAT": "FP32",
    "DOUBLE": "FP64",
    "FLOAT16": "FP16",
    "BFLOAT16": "BF16",
    "STRING": "BYTES",
    **{name: name for name in ("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64")},
}
#: Operators that ONNX Runtime's plain build knows, besides a model's own functions.
_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc"}
_TWO_GB = 2**31 - 1


class OnnxFormat(Format):
    """``model.onnx`` under any name, with or without external data files beside it."""

    name = "onnx"

    def recognises(self, folder: Path, files: tuple[str, ...]) -> bool:
        """Whether a file is, or was before it was damaged, an ONNX model."""
        return any(likeness(folder / name) != "other" for name in files)

    def inspect(self, folder: Path, files: tuple[str, ...], trust: Trust) -> Inspected:
        """Read the one model of the folder; raises ArtifactRefused with the cause and the next step."""
        name = _only_model(folder, files)
        model = _parse(folder / name)
        try:
            return self._inspect_model(folder, files, name, model)
        except UnicodeDecodeError:
            raise ArtifactRefused("a name in the model is not UTF-8 text") from None

    def _inspect_model(self, folder: Path, files: tuple[str, ...], name: str, model: onnx.ModelProto) -> Inspected:
        check_tensors(model, folder, files, name)
        _check_domains(model)
        parameters = parameter_count(model)
        model = without_external_data(model)
        signature = _signature(model)
        _check(model)
        labels, classes = class_labels(model, signature)
        details: dict[str, Any] = {
            "model_file": name,
            "ir_version": model.ir_version,
            "opset": {found.domain or "ai.onnx": found.version for found in model.opset_import},
            "producer": f"{model.producer_name} {model.producer_version}".strip()[:200],
            "parameters": parameters,
        }
        if classes:
            details["classes"] = classes
        del model
        _check_loads(folder / name)
        return Inspected(self.name, "onnx", signature, labels, details)


def _only_model(folder: Path, files: tuple[str, ...]) -> str:
    found = {name: likeness(folder / name) for name in files}
    models = [name for name, like in found.items() if like == "model"]
    if len(models) > 1:
        raise ArtifactRefused(
            f"the folder holds {len(models)} ONNX models ({', '.join(models[:5])}): push them one by one"
        )
    if not models:
        damaged = next(name for name, like in found.items() if like == "damaged")
        raise ArtifactRefused(
            f"{damaged!r} begins like an ONNX model but is truncated or damaged: export or copy it again"
        )
    return models[0]


def _parse(path: Path) -> onnx.ModelProto:
    if path.stat().st_size > _TWO_GB:
        raise ArtifactRefused(
            "an ONNX file cannot be larger than 2 GB: save it with onnx.save_model(..., save_as_external_data=True)"
        )
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError:
        raise ArtifactRefused("the ONNX model is damaged, or nested too deeply: it cannot be parsed") from None
    return model


def _check_domains(model: onnx.ModelProto) -> None:
    """Refuse operators that need a custom library, naming them."""
    own = {(function.domain, function.name) for function in model.functions}
    for node in nodes_of(model):
        if (node.domain, node.op_type) in own:
            continue
        if node.domain not in _DOMAINS:
            raise ArtifactRefused(
                f"operator {node.op_type[:80]!r} of domain {node.domain[:80]!r} needs a custom library, "
                "which is not loaded here: export the model with standard operators"
            )


def _check(model: onnx.ModelProto) -> None:
    """Hold the model against ONNX's rules, but for one: outputs whose rank is unknown are fine here."""
    for output in model.graph.output:
        if output.type.WhichOneof("value") == "tensor_type":
            output.type.tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ArtifactRefused(f"the ONNX model is not valid: {clean_message(error)}") from None


def _check_loads(path: Path) -> None:
    """Open a session once: only ONNX Runtime knows whether it has each operator for each type."""
    options = session_options(1)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_cpu_mem_arena = False
    try:
        ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except LOAD_ERRORS as error:
        raise ArtifactRefused(
            f"ONNX Runtime {ort.__version__} cannot load the model: {clean_message(error)}; "
            "export it with operators, an opset and an IR version that this release supports"
        ) from None


def _signature(model: onnx.ModelProto) -> Signature:
    graph = model.graph
    initial = {tensor.name for tensor in graph.initializer} | {s.values.name for s in graph.sparse_initializer}
    if not all(output.type.tensor_type.HasField("shape") for output in graph.output):
        graph = _with_inferred_shapes(model)
    inputs = tuple(_input_spec(found) for found in graph.input if found.name not in initial)
    outputs = tuple(_output_spec(found, graph) for found in graph.output)
    for kind, specs in (("input", inputs), ("output", outputs)):
        names = [spec.name for spec in specs]
        if len(set(names)) != len(names):
            raise ArtifactRefused(f"two {kind}s of the model have the same name")
        bad = next((name for name in names if not name or len(name) > 1000 or not name.isprintable()), None)
        if bad is not None:
            raise ArtifactRefused(f"{kind} name {bad[:80]!r} is empty, too long or has control characters")
    if not outputs:
        raise ArtifactRefused("the model has no output")
    return Signature(inputs, outputs)


def _with_inferred_shapes(model: onnx.ModelProto) -> onnx.GraphProto:
    try:
        return onnx.shape_inference.infer_shapes(model).graph
    except (onnx.shape_inference.InferenceError, ValueError):  # too large to copy, or contradictory
        return model.graph


def _input_spec(found: onnx.ValueInfoProto) -> TensorSpec:
    kind = found.type.WhichOneof("value")
    if kind != "tensor_type":
        what = (kind or "untyped").removesuffix("_type").replace("_", " ")
        raise ArtifactRefused(
            f"input {found.name[:80]!r} is a {what}, and only tensors can be sent: export the model with tensor inputs"
        )
    if not found.type.tensor_type.HasField("shape"):
        raise ArtifactRefused(
            f"input {found.name[:80]!r} does not say its number of dimensions: "
            "give it a shape (dynamic dimensions may be named) and export again"
        )
    return _tensor_spec(found, "input")


def _output_spec(found: onnx.ValueInfoProto, graph: onnx.GraphProto) -> TensorSpec:
    kind = found.type.WhichOneof("value")
    if kind == "tensor_type":
        return _tensor_spec(found, "output")
    node = next((node for node in graph.node if found.name in node.output), None)
    if kind == "sequence_type" and node is not None and node.op_type == "ZipMap" and node.domain == "ai.onnx.ml":
        classes = zipmap_classes(node)
        return TensorSpec(found.name, "FP32", (-1, len(classes)))
    what = (kind or "untyped").removesuffix("_type").replace("_", " ")
    raise ArtifactRefused(
        f"output {found.name[:80]!r} is a {what}, and only tensors and ZipMap's probabilities can be answered: "
        "export the model with tensor outputs"
    )


def _tensor_spec(found: onnx.ValueInfoProto, kind: str) -> TensorSpec:
    """The specification of a tensor; an output of unknown rank becomes shape (-1,) with the dims ("...",)."""
    tensor = found.type.tensor_type
    element = _element_name(tensor.elem_type)
    datatype = _DATATYPES.get(element)
    if datatype is None:
        raise ArtifactRefused(
            f"{kind} {found.name[:80]!r} has elements of type {element}, which the inference protocols cannot carry: "
            "add a Cast at the model's edge"
        )
    if not tensor.HasField("shape"):
        return TensorSpec(found.name, datatype, (-1,), ("...",))
    shape, names = [], []
    for dim in tensor.shape.dim:
        fixed = dim.WhichOneof("value") == "dim_value"
        if fixed and dim.dim_value < -1:
            raise ArtifactRefused(f"{kind} {found.name[:80]!r} has a dimension of {dim.dim_value}")
        shape.append(dim.dim_value if fixed else -1)
        names.append(dim.dim_param if 0 < len(dim.dim_param) <= 100 and dim.dim_param.isprintable() else None)
    return TensorSpec(found.name, datatype, tuple(shape), tuple(names) if any(names) else ())


def _element_name(number: int) -> str:
    values = onnx.TensorProto.DataType.values()
    return onnx.TensorProto.DataType.Name(number) if number in values else f"number {number}"
