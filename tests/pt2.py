"""A small torch.export archive written by hand, member by member, so that each can be falsified; needs no torch."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4) / 10
BIAS = np.array([0.5, -0.5, 0.0], np.float32)
ROWS = {"as_expr": {"expr_str": "Symbol('s77', positive=True, integer=True)", "hint": {"as_int": 2}}}


def _meta(*sizes: int | dict[str, Any], dtype: int = 7) -> dict[str, Any]:
    shape = [size if isinstance(size, dict) else {"as_int": size} for size in sizes]
    width = sizes[-1] if isinstance(sizes[-1], int) else 1
    strides = [{"as_int": width}, {"as_int": 1}][-len(shape) :]
    return {"dtype": dtype, "sizes": shape, "requires_grad": False, "device": {"type": "cpu", "index": None},
            "strides": strides, "storage_offset": {"as_int": 0}, "layout": 7}  # fmt: skip


def _named(name: str, value: str) -> dict[str, Any]:
    return {"name": name, "arg": {"as_tensor": {"name": value}}, "kind": 1}


def _tree(kind: str | None, context: str | None, *children: Any) -> dict[str, Any]:
    return {"type": kind, "context": context, "children_spec": list(children)}


def program() -> dict[str, Any]:
    """``{"scores": linear(x)}`` for ``x`` FP32 [-1, 4]."""
    leaf = _tree(None, None)
    takes = _tree("builtins.tuple", "null", _tree("builtins.tuple", "null", leaf), _tree("builtins.dict", "[]"))
    gives = _tree("builtins.dict", '["scores"]', leaf)
    graph = {
        "inputs": [{"as_tensor": {"name": name}} for name in ("p_weight", "p_bias", "x")],
        "outputs": [{"as_tensor": {"name": "linear"}}],
        "nodes": [{
            "target": "torch.ops.aten.linear.default",
            "inputs": [_named("input", "x"), _named("weight", "p_weight"), _named("bias", "p_bias")],
            "outputs": [{"as_tensor": {"name": "linear"}}], "metadata": {"stack_trace": "somewhere"},
            "is_hop_single_tensor_return": None, "name": "linear",
        }],
        "tensor_values": {"p_weight": _meta(3, 4), "p_bias": _meta(3), "x": _meta(ROWS, 4), "linear": _meta(ROWS, 3)},
        "sym_int_values": {}, "sym_bool_values": {}, "is_single_tensor_return": False, "custom_obj_values": {},
        "sym_float_values": {},
    }  # fmt: skip
    parameters = [{"parameter": {"arg": {"name": f"p_{name}"}, "parameter_name": name}} for name in ("weight", "bias")]
    signature = {
        "input_specs": [*parameters, {"user_input": {"arg": {"as_tensor": {"name": "x"}}}}],
        "output_specs": [{"user_output": {"arg": {"as_tensor": {"name": "linear"}}}}],
    }
    root = {"inputs": [], "outputs": [], "in_spec": json.dumps([1, takes]), "out_spec": json.dumps([1, gives]),
            "forward_arg_names": ["x"]}  # fmt: skip
    return {
        "graph_module": {
            "graph": graph, "signature": signature, "module_call_graph": [{"fqn": "", "signature": root}],
            "metadata": {}, "treespec_namedtuple_fields": {},
        },
        "opset_version": {"aten": 10}, "range_constraints": {"s77": {"min_val": 0, "max_val": 64}},
        "schema_version": {"major": 8, "minor": 20}, "verifiers": ["TRAINING"], "torch_version": "2.13.0",
        "guards_code": [],
    }  # fmt: skip


def weights() -> dict[str, Any]:
    """The list of the program's parameters."""
    return {"config": {
        name: {"path_name": f"weight_{i}", "is_param": True, "use_pickle": False, "tensor_meta": _meta(*array.shape)}
        for i, (name, array) in enumerate({"weight": WEIGHT, "bias": BIAS}.items())
    }}  # fmt: skip


def write(
    path: Path,
    change: Callable[[dict[str, Any]], Any] = lambda _: None,
    change_weights: Callable[[dict[str, Any]], Any] = lambda _: None,
    compression: int = zipfile.ZIP_STORED,
    **members: bytes | None,
) -> Path:
    """The archive, its program and its list of weights changed in place; ``members`` by path, with ``__`` for ``/``."""
    found, listed = program(), weights()
    change(found)
    change_weights(listed["config"])
    content: dict[str, bytes | None] = {
        "data/weights/weight_0": WEIGHT.tobytes(), "data/weights/weight_1": BIAS.tobytes(),
        "data/weights/model_weights_config.json": json.dumps(listed).encode(),
        "data/constants/model_constants_config.json": b'{"config": {}}',
        "models/model.json": json.dumps(found).encode(),
        "archive_format": b"pt2", "archive_version": b"0", "byteorder": b"little",
        **{name.replace("__", "/"): raw for name, raw in members.items()},
    }  # fmt: skip
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, raw in content.items():
            if raw is not None:
                archive.writestr(f"any/{name}", raw)
    return path
