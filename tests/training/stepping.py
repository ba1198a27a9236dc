"""A recipe for tests that learns epoch by epoch and says so: softmax regression of columns of numbers, as ONNX.

It enters by the plug-in door. It keeps a checkpoint after every epoch, notes every epoch that it makes, and can be told
to die.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from modelport.errors import InvalidInput
from modelport.schemas.training import Task
from modelport.training import recipe
from modelport.training.recipe import Trained, TrainingData, TrainingRun

ROOT = Path(__file__).parents[2]


def install(folder: Path) -> list[str]:
    """Entries of PYTHONPATH for processes that are to know the recipe."""
    info = folder / "modelport_test_recipes-1.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: modelport-test-recipes\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[modelport.recipes]\nstepping = tests.training.stepping:Stepping\n"
        "[modelport.jobs]\ntune = modelport.control.work.tune:Tune\n"
    )
    return [str(folder), str(ROOT), str(ROOT / "src")]


class SteppingOptions(recipe.Options):
    rate: float = 0.1
    epochs: int = 9
    decay: float = 0.0
    kind: str = "softmax"
    notes: str = ""
    """A file that gets a line for every epoch."""
    pause_s: float = 0.0
    die: str = ""
    """A file: where it is missing, the process makes it, and dies after three epochs."""
    broken: bool = False
    """Every figure that it tells is NaN."""
    refuse: str = ""
    """``always``, or the kind that it does not like."""


class Stepping:
    summary = "Softmax regression for tests."
    extra = "train"
    needs: tuple[str, ...] = ("onnx",)
    code = False
    Options: type[recipe.Options] = SteppingOptions

    def task(self, data: TrainingData, options: Any) -> Task:
        return "classification"

    def check(self, data: TrainingData, options: Any) -> list[str]:
        return []

    def train(self, run: TrainingRun, data: TrainingData, options: Any) -> Trained:
        if options.refuse in ("always", options.kind):
            raise InvalidInput(f"options.refuse: {options.kind} is not liked")
        x, y = _rows(data, data.train)
        held, truth = _rows(data, data.validation)
        classes = int(max(y.max(), truth.max())) + 1
        kept = run.folder / "weights.npz"
        begun, weights = 0, np.zeros((x.shape[1] + 1, classes))
        if kept.exists():
            with np.load(kept) as found:
                begun, weights = int(found["epoch"]), found["weights"]
        onehot = np.eye(classes)[y]
        for epoch in range(begun + 1, options.epochs + 1):
            step = x.T @ (_softmax(x @ weights[:-1] + weights[-1]) - onehot) / len(x) + options.decay * weights[:-1]
            weights[:-1] -= options.rate * step
            if options.notes:
                with Path(options.notes).open("a") as notes:
                    notes.write(f"{options.rate} {epoch}\n")
            for name, value in run.score("classification", truth, _softmax(held @ weights[:-1] + weights[-1])).items():
                run.metric(f"validation_{name}", np.nan if options.broken else value, epoch * 10)
            beside = run.folder / "weights.part.npz"
            np.savez(beside, epoch=epoch, weights=weights)
            beside.replace(kept)
            time.sleep(options.pause_s)
            if options.die and epoch == 3 and not Path(options.die).exists():
                Path(options.die).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        _write(run.out, list(data.features), weights)
        return Trained("classification", class_labels=[str(number) for number in range(classes)])


def _softmax(values: Any) -> Any:
    found = np.exp(values - values.max(axis=1, keepdims=True))
    return found / found.sum(axis=1, keepdims=True)


def _rows(data: TrainingData, parts: Any) -> tuple[Any, Any]:
    import pyarrow as pa

    from modelport.data.writing import read_parts

    table = pa.Table.from_batches(read_parts(parts, [*data.features, str(data.target)]))
    x = np.column_stack([table[name].to_numpy() for name in data.features]).astype(float) / 16
    return x, table[str(data.target)].to_numpy().astype(int)


def _write(out: Path, names: list[str], weights: Any) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in names]
    nodes = [
        helper.make_node("Concat", names, ["x"], axis=1),
        helper.make_node("Gemm", ["x", "w", "b"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    given = [
        numpy_helper.from_array((weights[:-1] / 16).astype("f4"), "w"),
        numpy_helper.from_array(weights[-1].astype("f4"), "b"),
    ]
    output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, weights.shape[1]])
    graph = helper.make_graph(nodes, "softmax", inputs, [output], given)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(made, out / "model.onnx")
