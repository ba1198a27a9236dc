"""The three models of the benchmark, written with the ``onnx`` package alone, the same bytes every time.

    m1  MLP 64-128-10: microseconds a run, so nearly everything measured is the server
    m2  MobileNetV2 at 224 x 224 (0.3 billion multiply-adds): about 8 ms on one thread, 602 kB a request
    m3  MLP 1024-4096-1024: reads 34 MB of weights a run, so 32 rows cost little more than one

Weights are drawn from a seed (scaled so that values keep their size through the layers); the speed of a model does not
depend on what it has learnt. Knows nothing of servers.

    python benchmarks/models.py [FOLDER]      writes them and prints their hashes
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 9
FOLDER = Path(__file__).parent / ".models"

#: MobileNetV2's table: expansion, channels, repeats, stride of the first.
_MOBILENET = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


@dataclass(frozen=True)
class Model:
    """A model file, and the one row that is sent to it over and over."""

    name: str
    title: str
    file: Path
    row: np.ndarray[Any, np.dtype[np.float32]]  # without the batch dimension


class _Graph:
    """Nodes and weights as they are added; each method returns the name of what it computes."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
        return output

    def weight(self, shape: tuple[int, ...], scale: float) -> str:
        return self.constant((self._rng.standard_normal(shape) * scale).astype(np.float32))

    def constant(self, array: np.ndarray[Any, Any]) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def dense(self, x: str, inputs: int, outputs: int) -> str:
        return self.add("Gemm", x, self.weight((inputs, outputs), (2 / inputs) ** 0.5), self.weight((outputs,), 0.1))

    def conv(self, x: str, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> str:
        """A convolution with its batch norm folded in, as an export for inference has it."""
        fan_in = kernel * kernel * inputs // groups
        kernels = self.weight((outputs, inputs // groups, kernel, kernel), (2 / fan_in) ** 0.5)
        pads = [kernel // 2] * 4
        return self.add(
            "Conv", x, kernels, self.weight((outputs,), 0.1),
            kernel_shape=[kernel, kernel], strides=[stride, stride], pads=pads, group=groups,
        )  # fmt: skip

    def bytes(self, output: str, inputs: tuple[int, ...], outputs: int) -> bytes:
        """The model, its output renamed and its first dimension free."""
        self.nodes.append(helper.make_node("Identity", [output], ["output"]))
        graph = helper.make_graph(
            self.nodes,
            "benchmark",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", *inputs])],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", outputs])],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString(deterministic=True))


def mlp(sizes: tuple[int, int, int], seed: int) -> bytes:
    """Two dense layers with a ReLU between them."""
    graph = _Graph(seed)
    hidden = graph.add("Relu", graph.dense("input", sizes[0], sizes[1]))
    return graph.bytes(graph.dense(hidden, sizes[1], sizes[2]), (sizes[0],), sizes[2])


def mobilenet(seed: int) -> bytes:
    """MobileNetV2, width 1.0, 1000 classes (Sandler et al. 2018, table 2)."""
    graph = _Graph(seed)
    limits = graph.constant(np.float32(0)), graph.constant(np.float32(6))

    def relu6(x: str) -> str:
        return graph.add("Clip", x, *limits)

    x, channels = relu6(graph.conv("input", 3, 32, 3, stride=2)), 32
    for expansion, outputs, repeats, first_stride in _MOBILENET:
        for index in range(repeats):
            stride = first_stride if index == 0 else 1
            wide = channels * expansion
            y = relu6(graph.conv(x, channels, wide, 1)) if expansion > 1 else x
            y = graph.conv(relu6(graph.conv(y, wide, wide, 3, stride, groups=wide)), wide, outputs, 1)
            x = graph.add("Add", x, y) if stride == 1 and channels == outputs else y
            channels = outputs
    x = graph.add("GlobalAveragePool", relu6(graph.conv(x, channels, 1280, 1)))
    return graph.bytes(graph.dense(graph.add("Flatten", x), 1280, 1000), (3, 224, 224), 1000)


def _row(*shape: int, decimals: int = 8) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(0).random(shape, dtype=np.float32).round(decimals)


def write(folder: Path = FOLDER) -> dict[str, Model]:
    """Write the models that are not there yet; by name."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {
        "m1": ("tiny MLP 64-128-10", lambda: mlp((64, 128, 10), 1), _row(64, decimals=4)),
        "m2": ("MobileNetV2 3x224x224", lambda: mobilenet(2), _row(3, 224, 224)),
        "m3": ("MLP 1024-4096-1024", lambda: mlp((1024, 4096, 1024), 3), _row(1024)),
    }
    found = {}
    for name, (title, build, row) in made.items():
        file = folder / f"{name}.onnx"
        if not file.exists():
            file.write_bytes(build())
        found[name] = Model(name, title, file, row)
    return found


def main() -> None:
    """Write them and say what they are."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    for model in write(folder).values():
        digest = hashlib.sha256(model.file.read_bytes()).hexdigest()
        print(f"{model.file}  {model.file.stat().st_size / 1e6:6.2f} MB  {digest[:16]}  {model.title}")


if __name__ == "__main__":
    main()
