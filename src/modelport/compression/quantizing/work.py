"""The method ``quantize`` at work: open, fuse, quantize, compare with what it was, write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from onnx import ModelProto, NodeProto

from modelport.compression.budget import drop_of
from modelport.compression.feeding import Feeder, has_rows
from modelport.compression.inputs import model_signature
from modelport.compression.keeping import kept_as_it_was
from modelport.compression.method import Model
from modelport.compression.methods.quantize import Mode, QuantizeOptions
from modelport.compression.quantizing import graph, halves, integers, table, weights
from modelport.compression.quantizing.fallback import Kept, fall_back
from modelport.compression.quantizing.judged import Answers, Judged
from modelport.engine.runtimes.onnx import OnnxRuntime
from modelport.engine.runtimes.texts import to_texts
from modelport.errors import InvalidInput
from modelport.evaluation.score import less_is_better
from modelport.tensors import Array
from modelport.training.recipe import Trained, TrainingData, TrainingRun

_ALONE_ROWS = 64
"""Validation rows that a layer's harm is told by, at most."""
_COMPARED = 256
"""Rows that answers are compared on where nothing depends on it."""


@dataclass(slots=True)
class _Task:
    """All that is known while a model is quantized."""

    run: TrainingRun
    model: Model
    data: TrainingData | None
    options: QuantizeOptions
    mode: Mode
    original: ModelProto
    fused: ModelProto
    """What is quantized; ``path`` is the same as a file."""
    path: Path
    ranges: Path | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def percent(self) -> float:
        return self.options.percentile or 99.99

    @property
    def method(self) -> str:
        return self.options.calibration or "minmax"


def compress(
    run: TrainingRun, model: Model, data: TrainingData | None, options: QuantizeOptions, mode: Mode
) -> Trained:
    """Write the quantized version's files into ``run.out``."""
    run.progress(0, None, "reading and fusing the model", "steps")
    original = graph.opened(model)
    if mode == "table":
        assert data is not None
        return _finished_table(run, model, data, options, original)
    fused = graph.fused(original, run.folder)
    path = run.folder / "fused.onnx"
    graph.save(fused, path)
    task = _Task(run, model, data, options, mode, original, fused, path)
    chosen = _chosen(task)
    if mode == "static":
        task.ranges = _calibrated(task)
    judged, before = _judged(task)
    left, drops = _kept(task, chosen, judged, before)
    made = _built(task, left.chosen)
    target = run.out / graph.FILE
    graph.save(graph.restored(made, original), target)
    _check_runs(task, target)
    report = _report(task, chosen, left, target)
    if judged is not None:
        report["answers"] = asdict(judged.differences(before, judged.answers(target)))
    report |= drops
    return kept(run, model, report, task.warnings)


def _chosen(task: _Task) -> list[NodeProto]:
    """The layers that are to be quantized, and warnings about those that cannot be."""
    found = graph.picked(task.fused, task.options.include, task.options.exclude)
    left: list[str] = graph.stays(task.fused)
    if task.mode == "dynamic":
        left += [f"{node.op_type} {node.name}" for node in found if not integers.becomes_dynamic(node)]
        found = [node for node in found if integers.becomes_dynamic(node)]
        if not found:
            raise InvalidInput(
                f"mode: dynamic computes products of matrices and look-ups, and this model has none ({left[0]}); say "
                "mode static with a dataset, or weights"
            )
    if task.mode == "float16" and (large := halves.too_large(task.fused)):
        raise InvalidInput(f"mode: float16 cannot hold the weights {large[0]!r}; say bfloat16, or exclude their layer")
    if left:
        shown = ", ".join(left[:10]) + (f" and {len(left) - 10} more" if len(left) > 10 else "")
        task.warnings.append(f"these layers stay as they are, for mode {task.mode} does not quantize them: {shown}")
    return found


def _feeds(task: _Task) -> Iterator[dict[str, Array]]:
    """Training rows as ONNX Runtime's own door takes them."""
    assert task.data is not None
    texts = {spec.name for spec in model_signature(task.model).inputs if spec.datatype == "BYTES"}
    feeder = Feeder(task.model, task.data)
    for fed in feeder.batches(task.data.train, rows=task.options.rows, seed=task.run.seed):
        yield {name: to_texts(name, value) if name in texts else value for name, value in fed.inputs.items()}


def _calibrated(task: _Task) -> Path:
    assert task.data is not None
    if not has_rows(task.data.train):
        raise InvalidInput("data: the training part has no rows to calibrate with; give another part, or mode dynamic")

    def told(rows: int) -> None:
        task.run.progress(rows, task.options.rows, "seeing which values activations take", "rows")

    return integers.calibrate(
        task.path, partial(_feeds, task), task.method, task.percent, task.run.folder, task.run.threads, told
    )


def _judged(task: _Task) -> tuple[Judged | None, Answers]:
    """Rows to compare answers on, and the model's own; None without data."""
    data = task.data
    if data is None or not has_rows(data.validation):
        if task.options.max_drop is not None:
            raise InvalidInput("max_drop: the validation part has no rows to measure on; give another part")
        return None, []
    most = task.options.validation_rows if task.options.max_drop is not None else _COMPARED
    rows = Feeder(task.model, data).batches(data.validation, rows=most, seed=task.run.seed)
    judged = Judged(task.model, rows, task.run.threads)
    return judged, judged.answers(task.path)


def _kept(task: _Task, chosen: list[NodeProto], judged: Judged | None, before: Answers) -> tuple[Kept, dict[str, Any]]:
    """The layers that are quantized in the end, and what is told of it."""
    names = [node.name for node in chosen]
    if task.options.max_drop is None or judged is None:
        return Kept(names, [], {}), {}
    was = judged.figures(before)
    figure = judged.main(was)
    trial = task.run.folder / "trial" / "trial.onnx"
    trial.parent.mkdir(exist_ok=True)
    seen: dict[tuple[str, ...], float] = {}

    def answers(layers: Sequence[str], rows: int | None = None) -> Answers:
        graph.save(graph.restored(_built(task, layers), task.original), trial)
        return judged.answers(trial, rows)

    def lost(layers: Sequence[str]) -> float:
        task.run.progress(0, None, f"measuring with {len(layers)} of {len(names)} layers quantized", "layers")
        found = drop_of(was[figure], judged.figures(answers(layers))[figure], less_is_better(figure))
        seen[tuple(layers)] = found
        return found

    def harm(layer: str) -> float:
        return judged.differences(before, answers([layer], _ALONE_ROWS)).mean_square

    def told(done: int, total: int) -> None:
        task.run.progress(done, total, "quantizing each layer alone, to find those that hurt", "layers")

    kept = fall_back(names, lost, harm, task.options.max_drop, told)
    return kept, {
        "max_drop": task.options.max_drop, "figure": figure, "figure_before": was[figure],
        "drop": seen[tuple(kept.chosen)], "drop_of_all": seen[tuple(names)], "reverted": kept.reverted,
        "validation_rows": judged.rows,
    }  # fmt: skip


def _built(task: _Task, layers: Sequence[str]) -> ModelProto:
    """The fused model with these layers quantized."""
    with graph.told_of_library(f"mode {task.mode}"):
        return _made(task, layers)


def _made(task: _Task, layers: Sequence[str]) -> ModelProto:
    wanted = set(layers)
    chosen = [node for node in graph.layers(task.fused) if node.name in wanted]
    options, folder = task.options, task.run.folder
    per_channel = options.per == "channel"
    if task.mode == "static":
        assert task.ranges is not None
        return integers.static(task.path, task.ranges, chosen, task.method, per_channel, folder)
    if task.mode == "dynamic":
        return integers.dynamic(task.fused, chosen, per_channel, folder)
    if task.mode == "float16":
        return halves.float16(task.fused, chosen)
    if task.mode == "bfloat16":
        return halves.bfloat16_weights(task.fused, chosen)
    levels = options.levels or "uniform"
    bits = options.bits or (4 if levels == "normal-float" else 8)
    how = weights.How(bits, levels, per_channel, options.group or 32, task.run.seed)
    return weights.smaller(task.fused, chosen, how)


def _check_runs(task: _Task, path: Path) -> None:
    """Raise InvalidInput when ONNX Runtime has no way to compute what was made, before anybody registers it."""
    Judged(task.model, (), task.run.threads).answers(path)


def _report(task: _Task, chosen: Sequence[NodeProto], kept: Kept, path: Path) -> dict[str, Any]:
    tensors = {tensor.name: tensor for tensor in task.fused.graph.initializer}
    quantized = set(kept.chosen)
    layers = [
        {
            "name": node.name, "operator": node.op_type, "weights": graph.count(tensors[graph.weights_of(node)]),
            "quantized": node.name in quantized,
        }
        | ({"harm": kept.harm[node.name]} if node.name in kept.harm else {})
        for node in graph.layers(task.fused)
    ]  # fmt: skip
    bytes_before = sum(
        (task.model.folder / name).stat().st_size for name in (graph.name_of(task.model), *graph.external(task.model))
    )
    return {
        "mode": task.mode,
        "options": task.options.model_dump(mode="json", exclude_defaults=True),
        "layers": layers,
        "left_out": [node.name for node in graph.layers(task.fused) if node.name not in {n.name for n in chosen}],
        "before": {"model_bytes": bytes_before, "bits_per_weight": 32.0},
        "after": {"model_bytes": path.stat().st_size, "bits_per_weight": 8 * path.stat().st_size / _weights(task)},
        "versions": {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__},
    }


def _weights(task: _Task) -> int:
    return max(sum(graph.count(tensor) for tensor in task.fused.graph.initializer), 1)


def _finished_table(
    run: TrainingRun, model: Model, data: TrainingData, options: QuantizeOptions, original: ModelProto
) -> Trained:
    """The answers of the model at points of a grid, instead of the model."""
    path = run.folder / "model.onnx"
    graph.save(original, path)
    runtime = OnnxRuntime.load(table.load_options(path, model, run.threads))
    made, told = table.tabled(run, model, data, options, runtime.infer, original)
    target = run.out / graph.FILE
    graph.save(made, target)
    report: dict[str, Any] = {
        "mode": "table", "before": {"model_bytes": path.stat().st_size},
        "after": {"model_bytes": target.stat().st_size}, **told,
    }  # fmt: skip
    warnings = []
    if target.stat().st_size > path.stat().st_size:
        warnings.append("the table is larger than the model was; say fewer points")
    if has_rows(data.validation):
        rows = Feeder(model, data).batches(data.validation, rows=options.validation_rows, seed=run.seed)
        judged = Judged(model, rows, run.threads)
        before, after = judged.answers(path), judged.answers(target)
        report["answers"] = asdict(judged.differences(before, after))
        if options.max_drop is not None:
            was, now = judged.figures(before), judged.figures(after)
            figure = judged.main(was)
            lost = drop_of(was[figure], now[figure], less_is_better(figure))
            if lost > options.max_drop:
                raise InvalidInput(f"max_drop: the table loses {lost:.2%} of {figure}; say more points")
            report |= {"figure": figure, "drop": lost}
    return kept(run, model, report, warnings)


def kept(run: TrainingRun, model: Model, report: dict[str, Any], warnings: Sequence[str]) -> Trained:
    """The version's other files, and what is told of one whose inputs, outputs and classes are those that it had."""
    made = kept_as_it_was(model, run, model.manifest.task or "other")  # type: ignore[arg-type]
    for name in graph.external(model):
        (run.out / name).unlink(missing_ok=True)
    made.report, made.warnings = report, list(warnings)
    return made
