"""Whether a checked program would change its own parameters, or a caller's tensors, when it runs.

A program in torch's training dialect says so only by its operators: one whose name ends with an underscore writes into
its first argument, and batch_norm in training mode into its statistics. Needs only the standard library.
"""

from __future__ import annotations

from typing import Any

from modelport.errors import ArtifactRefused

#: Operators whose result may share memory with their first argument.
_VIEWS = {
    "alias", "as_strided", "chunk", "contiguous", "detach", "diagonal", "expand", "expand_as", "flatten",
    "getitem", "movedim", "narrow", "permute", "reshape", "select", "slice", "split", "split_with_sizes",
    "squeeze", "swapaxes", "t", "to", "transpose", "unbind", "unflatten", "unfold", "unsqueeze", "view",
    "view_as", "real", "imag",
}  # fmt: skip


def check_stateless(program: dict[str, Any]) -> None:
    """Raise ArtifactRefused when answers could depend on earlier callers."""
    _check_graph(program["graph_module"]["graph"])


def _check_graph(graph: dict[str, Any]) -> None:
    """One graph, and those inside it (branches, blocks without gradients), whose inputs may all be state."""
    kept = {name for argument in graph["inputs"] for name in _names(argument)}
    for node in graph["nodes"]:
        operator = _operator(node["target"])
        first = _names(node["inputs"][0]["arg"]) if node["inputs"] else set()
        writes = operator.endswith("_") and not operator.endswith("__") and first & kept
        if writes or (operator == "batch_norm" and _is_training(node)):
            raise ArtifactRefused(
                "the program changes its own state or inputs when it runs, so answers would depend on earlier callers: "
                "call model.eval() before torch.export.export, or return the state as an output"
            )
        if operator in _VIEWS and first & kept:
            kept |= {name for argument in node["outputs"] for name in _names(argument)}
        for entry in node["inputs"]:
            if "as_graph" in entry["arg"]:
                _check_graph(entry["arg"]["as_graph"]["graph"])


def _operator(target: str) -> str:
    """``add_`` of ``torch.ops.aten.add_.Tensor``."""
    parts = target.split(".")
    return parts[3] if target.startswith("torch.ops.") else parts[-1]


def _names(argument: dict[str, Any]) -> set[str]:
    """The tensors that an argument names."""
    if "as_tensor" in argument:
        return {argument["as_tensor"]["name"]}
    return {tensor["name"] for tensor in argument.get("as_tensors", ())}


def _is_training(node: dict[str, Any]) -> bool:
    statistics = [entry for entry in node["inputs"] if entry["name"] == "running_mean" and "as_tensor" in entry["arg"]]
    training = any(entry["name"] == "training" and entry["arg"].get("as_bool") for entry in node["inputs"])
    return bool(statistics) and training
