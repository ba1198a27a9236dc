"""What an exported program takes and gives: the signature in its JSON, with symbolic sizes as dynamic dimensions.

An input has the name of its argument; an output the place in what ``forward`` returns (``scores``, ``output_1``), since
the graph knows it only by its last operator. Needs only the standard library.
"""

from __future__ import annotations

import json
import re
from typing import Any

from modelport.errors import ArtifactRefused
from modelport.tensors import Signature, TensorSpec

#: torch's numbers of element types.
DATATYPES = {
    1: "UINT8", 2: "INT8", 3: "INT16", 4: "INT32", 5: "INT64", 6: "FP16", 7: "FP32", 8: "FP64", 12: "BOOL", 13: "BF16",
    28: "UINT16",
}  # fmt: skip
_SYMBOL = re.compile(r"Symbol\('(\w+)'.*\)")
_MOST = 10_000


def signature_of(program: dict[str, Any]) -> Signature:
    """The signature of a checked program; raises ArtifactRefused for what cannot be called with tensors alone."""
    module = program["graph_module"]
    tensors = module["graph"]["tensor_values"]
    found = module["signature"]
    inputs = [_input(spec) for spec in found["input_specs"] if set(spec) & {"user_input", "constant_input"}]
    outputs = [_output(spec) for spec in found["output_specs"]]
    names = _output_names(module["module_call_graph"][0], len(outputs))
    signature = Signature(
        tuple(_spec(name, name, tensors, "input") for name in inputs if name is not None),
        tuple(_spec(name, tensor, tensors, "output") for name, tensor in zip(names, outputs, strict=True) if tensor),
    )
    if not signature.inputs or not signature.outputs:
        raise ArtifactRefused(
            "the program takes or gives no tensor, so there is nothing to serve: export a forward with tensors"
        )
    return signature


def _input(spec: dict[str, Any]) -> str | None:
    """The tensor's name; None for an argument that was fixed when the program was exported."""
    if "constant_input" in spec:
        return None
    argument = spec["user_input"]["arg"]
    if "as_tensor" not in argument:
        raise ArtifactRefused("an argument of the program is a number, not a tensor: make it a tensor and export again")
    return str(argument["as_tensor"]["name"])


def _output(spec: dict[str, Any]) -> str | None:
    """The tensor's name; None for what is no tensor."""
    if "user_output" not in spec:
        raise ArtifactRefused(
            "the program changes its own state or inputs when it runs, so answers would depend on earlier callers: "
            "call model.eval() before torch.export.export, or return the state as an output"
        )
    argument = spec["user_output"]["arg"]
    return str(argument["as_tensor"]["name"]) if "as_tensor" in argument else None


def _spec(name: str, tensor: str, tensors: dict[str, Any], kind: str) -> TensorSpec:
    meta = tensors.get(tensor)
    if meta is None:
        raise ArtifactRefused(
            f"the program does not say what its {kind} {name[:80]!r} looks like: save it again with torch.export.save"
        )
    datatype = DATATYPES.get(meta["dtype"])
    if datatype is None:
        raise ArtifactRefused(
            f"{kind} {name[:80]!r} has elements that the inference protocols cannot carry (complex or 8-bit floats): "
            "convert it inside the model"
        )
    shape, dims = [], []
    for size in meta["sizes"]:
        symbol = _SYMBOL.fullmatch(size["as_expr"]["expr_str"]) if "as_expr" in size else None
        shape.append(-1 if "as_expr" in size else int(size["as_int"]))
        dims.append(symbol.group(1) if symbol else None)
    return TensorSpec(name, datatype, tuple(shape), tuple(dims) if any(dims) else ())


def _output_names(root: dict[str, Any], count: int) -> list[str]:
    """A name per returned leaf: the path of keys to it, or ``output`` with its number."""
    try:
        tree = json.loads(root["signature"]["out_spec"])[1]
        paths = _leaves(tree, ())
    except (KeyError, TypeError, ValueError, IndexError):
        paths = []
    if len(paths) != count:
        return [f"output_{number}" for number in range(count)]
    names = ["_".join(str(part) for part in path) or "output" for path in paths]
    names = [f"output_{name}" if name[:1].isdigit() else name for name in names]
    fine = len(set(names)) == count and all(name.isprintable() and len(name) <= 200 for name in names)
    return names if fine else [f"output_{number}" for number in range(count)]


def _leaves(tree: dict[str, Any], path: tuple[str | int, ...]) -> list[tuple[str | int, ...]]:
    if tree["type"] is None:
        return [path]
    children, keys = tree["children_spec"], None
    if tree.get("context") and str(tree["type"]).rpartition(".")[2] in ("dict", "OrderedDict", "ModelOutput"):
        keys = json.loads(tree["context"])
    if not isinstance(keys, list) or len(keys) != len(children) or not all(isinstance(k, str) for k in keys):
        keys = list(range(len(children)))
    if len(path) > 20 or len(children) > _MOST:
        raise ValueError
    return [leaf for key, child in zip(keys, children, strict=True) for leaf in _leaves(child, (*path, key))]
