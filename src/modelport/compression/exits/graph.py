"""An ONNX file that computes two answers and takes one, so changed that the second is computed only where it is needed.

``Where(sure, first, last)`` becomes an ``If``: when all rows are sure, nothing more is done; else what is missing is
done for the other rows alone, and put to their places. Knows no network.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from onnx import TensorProto, helper

from modelport.errors import InvalidInput

LEFT = "left_early"
_REST = "rest_of_"
_WORK = ("Conv", "ConvTranspose", "MatMul", "Gemm", "Attention", "LSTM", "GRU", "If", "Loop", "Scan")
"""What is not done twice."""


def divide(proto: onnx.ModelProto) -> None:
    """Change the file's last ``Where``; adds the output ``left_early``, [rows] bool.

    Raises InvalidInput when what the rest needs is not one tensor of rows or several.
    """
    graph = proto.graph
    makers = {name: node for node in graph.node for name in node.output}
    choice = _choice(graph)
    sure, first, last = choice.input
    front = _before([sure, first], makers)
    rest = [node for node in graph.node if id(node) in _before([last], makers) and id(node) not in front]
    if not rest:
        raise InvalidInput("the head looks at the network's last layer; there is nothing left to save after it")
    crossing, again = _crossing(graph, rest, makers)
    result = choice.output[0]
    classes = next(one for one in graph.output if one.type.tensor_type.elem_type == TensorProto.FLOAT)
    shape = ["rows", classes.type.tensor_type.shape.dim[1].dim_value]
    graph.initializer.append(helper.make_tensor("left_shape", TensorProto.INT64, [1], [-1]))
    before = [
        helper.make_node("Reshape", [sure, "left_shape"], [LEFT], LEFT),
        helper.make_node("Cast", [LEFT], ["left_counts"], "left_counts", to=TensorProto.INT32),
        helper.make_node("ReduceMin", ["left_counts"], ["left_least"], "left_least", keepdims=0),
        helper.make_node("Cast", ["left_least"], ["left_all"], "left_all", to=TensorProto.BOOL),
    ]
    done = helper.make_graph(
        [helper.make_node("Identity", [first], [f"{result}_then"], "all_left")], "all_left", [],
        [helper.make_tensor_value_info(f"{result}_then", TensorProto.FLOAT, shape)],
    )  # fmt: skip
    either = helper.make_node(
        "If", ["left_all"], [result], "early_exit", then_branch=done,
        else_branch=_go_on(graph, rest, crossing, again, first, last, result, shape),
    )  # fmt: skip
    moved, nodes = {id(node) for node in rest}, []
    for node in graph.node:
        if node is choice or node == choice:
            nodes += [*before, either]
        elif id(node) not in moved:
            nodes.append(node)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
    del graph.value_info[:]
    graph.output.append(helper.make_tensor_value_info(LEFT, TensorProto.BOOL, ["rows"]))
    onnx.checker.check_model(proto)


def _choice(graph: onnx.GraphProto) -> onnx.NodeProto:
    found = [node for node in graph.node if node.op_type == "Where"]
    if not found:
        raise InvalidInput("the network as ONNX does not choose between two answers; its exporter has changed")
    return found[-1]


def _before(names: Iterable[str], makers: dict[str, onnx.NodeProto]) -> set[int]:
    """Nodes that something needs."""
    found: set[int] = set()
    waiting = list(names)
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and id(node) not in found:
            found.add(id(node))
            waiting += node.input
    return found


def _crossing(
    graph: onnx.GraphProto, rest: list[onnx.NodeProto], makers: dict[str, onnx.NodeProto]
) -> tuple[list[str], list[onnx.NodeProto]]:
    """What of rows the rest is given by what comes before; and nodes to be done again for fewer rows (sizes).

    Raises InvalidInput where that would be work.
    """
    known = {one.name: one for one in (*graph.value_info, *graph.input, *graph.output)}
    fixed = {one.name for one in graph.initializer} | {name for node in rest for name in node.output}
    found: dict[str, None] = {}
    again: set[int] = set()
    waiting = [name for node in rest for name in node.input]
    while waiting:
        name = waiting.pop(0)
        dims = known[name].type.tensor_type.shape.dim if name in known else ()
        if not name or name in fixed or name in found:
            continue
        if dims and dims[0].dim_param == "rows":
            found[name] = None
        elif name not in makers or makers[name].op_type in _WORK:
            made = makers[name].op_type if name in makers else "an input"
            raise InvalidInput(
                f"options.at: what comes after this layer needs what has no rows ({made}); name another layer"
            )
        elif id(makers[name]) not in again:
            again.add(id(makers[name]))
            waiting += makers[name].input
    return list(found), [node for node in graph.node if id(node) in again]


def _go_on(
    graph: onnx.GraphProto, rest: list[onnx.NodeProto], crossing: list[str], again: list[onnx.NodeProto], first: str,
    last: str, result: str, shape: list[str | int],
) -> onnx.GraphProto:  # fmt: skip
    """The rest, for the rows that are left; weights that nobody else needs go with it."""
    compressed = {name: f"{_REST}{name}" for name in crossing}
    renamed = compressed | {name: f"{_REST}{name}" for node in again for name in node.output if name}
    nodes = [helper.make_node("Not", [LEFT], ["stay"], "stay")]
    nodes += [
        helper.make_node("Compress", [name, "stay"], [new], new, axis=0) for name, new in compressed.items()
    ]  # fmt: skip
    for node in (*again, *rest):
        copy = onnx.NodeProto.FromString(node.SerializeToString())
        for at, name in enumerate(copy.input):
            copy.input[at] = renamed.get(name, name)
        for at, name in enumerate(copy.output):
            copy.output[at] = renamed.get(name, name)
        nodes.append(copy)
    nodes += [
        helper.make_node("NonZero", ["stay"], ["stay_at"], "stay_at"),
        helper.make_node("Transpose", ["stay_at"], ["stay_places"], "stay_places", perm=[1, 0]),
        helper.make_node("ScatterND", [first, "stay_places", last], [f"{result}_else"], "put_back"),
    ]
    inside = {name for node in rest for name in node.input}
    moved = {id(node) for node in rest}
    outside = {name for node in graph.node if id(node) not in moved for name in node.input}
    mine = [one for one in graph.initializer if one.name in inside - outside]
    weights = [TensorProto.FromString(one.SerializeToString()) for one in mine]
    names = {one.name for one in mine}
    left = [TensorProto.FromString(one.SerializeToString()) for one in graph.initializer if one.name not in names]
    del graph.initializer[:]
    graph.initializer.extend(left)
    end = [helper.make_tensor_value_info(f"{result}_else", TensorProto.FLOAT, shape)]
    return helper.make_graph(nodes, "goes_on", [], end, weights)
