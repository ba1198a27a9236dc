"""LiteRT models written with LiteRT's own FlatBuffer schema: small networks of float and of int8, no TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np

FLOAT32, INT8 = 0, 9


def _tensor(schema: Any, name: str, shape: list[int], kind: int, buffer: int, dynamic: bool = False) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name.encode(), shape, kind, buffer
    if dynamic:
        tensor.shapeSignature = [-1, *shape[1:]]
    return tensor


def _scaled(schema: Any, tensor: Any, scale: float, zero: int) -> Any:
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [zero]
    return tensor


def _operator(schema: Any, code: int, inputs: list[int], outputs: list[int], kind: int = 0, options: Any = None) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = code, inputs, outputs
    operator.builtinOptionsType, operator.builtinOptions = kind, options
    return operator


def _code(schema: Any, builtin: int, version: int = 1) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), version
    return code


def _signature(schema: Any, key: str, inputs: dict[str, int], outputs: dict[str, int]) -> Any:
    def maps(names: dict[str, int]) -> list[Any]:
        made = []
        for name, index in names.items():
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = name.encode(), index
            made.append(entry)
        return made

    found = schema.SignatureDefT()
    found.signatureKey, found.subgraphIndex = key.encode(), 0
    found.inputs, found.outputs = maps(inputs), maps(outputs)
    return found


def _finish(
    schema: Any, tensors: list[Any], ends: tuple[list[int], list[int]], operators: list[Any], **parts: Any
) -> bytes:
    import flatbuffers

    graph = schema.SubGraphT()
    graph.tensors, (graph.inputs, graph.outputs), graph.operators, graph.name = tensors, ends, operators, b"main"
    model = schema.ModelT()
    model.version, model.subgraphs, model.description = 3, [graph], b"tests"
    model.operatorCodes, model.buffers = parts["codes"], parts["buffers"]
    model.signatureDefs = parts.get("signatures")
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _buffers(schema: Any, *contents: np.ndarray | None) -> list[Any]:
    made = []
    for content in contents:
        buffer = schema.BufferT()
        if content is not None:
            buffer.data = np.frombuffer(content.tobytes(), np.uint8)
        made.append(buffer)
    return made


def dense(dynamic: bool = True, signature: str | None = "serving_default", custom: bool = False) -> bytes:
    """``softmax(x @ W.T + b)`` for ``x`` FP32 [-1, 4], with three classes; the weights are weights()."""
    from ai_edge_litert import schema_py_generated as schema

    weights, bias = dense_weights()
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    tensors = [
        _tensor(schema, "x:0", [1, 4], FLOAT32, 0, dynamic),
        _tensor(schema, "W", [3, 4], FLOAT32, 1),
        _tensor(schema, "b", [3], FLOAT32, 2),
        _tensor(schema, "logits", [1, 3], FLOAT32, 0, dynamic),
        _tensor(schema, "Identity", [1, 3], FLOAT32, 0, dynamic),
    ]
    operators = [
        _operator(
            schema, 0, [0, 1, 2], [3], schema.BuiltinOptions.FullyConnectedOptions, schema.FullyConnectedOptionsT()
        ),
        _operator(schema, 1, [3], [4], schema.BuiltinOptions.SoftmaxOptions, options),
    ]
    codes = [_code(schema, schema.BuiltinOperator.FULLY_CONNECTED), _code(schema, schema.BuiltinOperator.SOFTMAX)]
    if custom:
        codes[1] = _code(schema, schema.BuiltinOperator.CUSTOM)
        codes[1].customCode = b"MyOwnOperator"
        operators[1] = _operator(schema, 1, [3], [4])
    return _finish(
        schema, tensors, ([0], [4]), operators, codes=codes, buffers=_buffers(schema, None, weights, bias),
        signatures=[_signature(schema, signature, {"x": 0}, {"scores": 4})] if signature else None,
    )  # fmt: skip


def dense_weights() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(7)
    return random.normal(size=(3, 4)).astype(np.float32), random.normal(size=3).astype(np.float32)


def quantised() -> bytes:
    """INT8 in [-1, 6] with scale 0.1, INT8 out: ReLU, in LiteRT's own integer arithmetic."""
    from ai_edge_litert import schema_py_generated as schema

    tensors = [
        _scaled(schema, _tensor(schema, "image", [1, 6], INT8, 0, True), 0.1, -3),
        _scaled(schema, _tensor(schema, "relu", [1, 6], INT8, 0, True), 0.05, -128),
    ]
    return _finish(
        schema, tensors, ([0], [1]), [_operator(schema, 0, [0], [1])],
        codes=[_code(schema, schema.BuiltinOperator.RELU, 2)], buffers=_buffers(schema, None),
    )  # fmt: skip
