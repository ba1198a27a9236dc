"""From rows and the caller's network to a version: tensors, fit, ONNX with an input for each raw column, proof."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from modelport.errors import InvalidInput
from modelport.schemas.training import Task
from modelport.tensors import Array
from modelport.training import onnx_export, randomness, targets, weights
from modelport.training.batches import in_turn
from modelport.training.images.pixels import Shape
from modelport.training.loop import LoopOptions
from modelport.training.modules.code import Built, Code, ModuleData
from modelport.training.modules.rows import RowExamples, Rows, Scaling, Wanted, example, read, scaled_target, scaling_of
from modelport.training.modules.served import Served
from modelport.training.outline import Outline, outline
from modelport.training.recipe import Trained, TrainingData, TrainingRun
from modelport.training.recipes.module import ModuleOptions, columns_of
from modelport.training.reopen import Reopened
from modelport.training.tabular import leaks
from modelport.training.trainer import Trainer, check_predictions

_PROVEN = 256
_LOOKED_AT = 20_000
"""Rows that are searched for columns that give the target away."""


@dataclass(slots=True)
class _Kept:
    """What a version keeps, so that another training can go on from it."""

    columns: list[str]
    vectors: dict[str, int]
    image: list[int] | None
    classes: list[str] | None
    scaling: dict[str, Any]
    module: str
    recipe: str = "module"


@dataclass(slots=True)
class _Lesson:
    """Rows, read and looked at."""

    wanted: Wanted
    train: Rows
    validation: Rows
    examples: RowExamples
    judged: RowExamples
    truth: Array
    classes: list[str] | None
    scaling: Scaling
    replayed: int
    warnings: list[str]

    @property
    def data(self) -> ModuleData:
        """As the caller's function is told."""
        shape = self.wanted.shape
        vectors = {name: int(self.train.vectors[name].shape[1]) for name in self.wanted.vectors}
        image = (shape.channels, shape.height, shape.width) if shape and self.wanted.image else None
        return ModuleData(list(self.wanted.numbers), vectors, image, self.classes, len(self.examples))


@dataclass(frozen=True, slots=True)
class _Begun:
    """All that a fit needs."""

    run: TrainingRun
    task: Task
    options: ModuleOptions
    lesson: _Lesson
    code: Code
    built: Built
    plan: Outline
    """Of the network as the caller's code built it."""


def train(run: TrainingRun, data: TrainingData, options: ModuleOptions, task: Task) -> Trained:
    """Learn; raises InvalidInput for rows that do not fit, or when the caller's code fails."""
    begun = _begin(run, data, options, task)
    trainer = Trainer(
        run, options, begun.built.network, lambda network, batch: _loss(begun, lambda: network(**batch[0]), batch),
        begun.lesson.examples, lambda network: _figures(begun, network), groups=begun.built.groups,
    )  # fmt: skip
    fit = trainer.fit()
    report = {"history": fit.history, "rows": len(begun.lesson.examples), "replayed": begun.lesson.replayed}
    return _version(begun, run, begun.built.network, fit.figures, report)


def reopen(run: TrainingRun, data: TrainingData, options: ModuleOptions, task: Task) -> Reopened:
    """The network of ``run.start`` with its rows; raises InvalidInput for rows that do not fit it."""
    if run.code is None:
        raise InvalidInput(
            "this version's network is built by code of its owner's, and there is none; give the files that it was "
            "trained with"
        )
    begun = _begin(run, replace(data, replay=()), options, task)

    def build(size: Mapping[str, Any]) -> nn.Module:
        raise InvalidInput("only the code that builds this network knows other sizes of it; train a smaller one")

    return Reopened(
        network=begun.built.network.eval(), task=task, inputs=_by_place(begun),
        truth=lambda batch: batch[1], loss=lambda output, batch: _loss(begun, lambda: output, batch),
        learning=begun.lesson.examples,
        plain=begun.lesson.examples, judged=begun.lesson.judged, figures=lambda network: _figures(begun, network),
        write=lambda network, run: _version(begun, run, network, {}, {}), build=build, sizes=(),
        loop=LoopOptions.model_validate(options.model_dump(include=set(LoopOptions.model_fields))),
    )  # fmt: skip


def _begin(run: TrainingRun, data: TrainingData, options: ModuleOptions, task: Task) -> _Begun:
    """Read the rows, call the caller's code, try what it gave, put in the weights of the version before."""
    randomness.settle(run.seed, run.threads)
    kept = weights.kept_of(run.start, _Kept, "module") if run.start is not None else None
    lesson = _lesson(run, data, options, task, kept)
    code = Code(run.code, options.build)
    torch.manual_seed(run.seed)
    built = code.build(lesson.data, options.params)
    begun = _Begun(run, task, options, lesson, code, built, outline(built.network))
    _leave_out(built.network, lesson)
    _try(code, built, lesson)
    if run.start is not None:
        weights.reshape(built.network, run.start)
        weights.put(built.network, weights.kept_tensors(run.start), what="start")
    return begun


def _version(
    begun: _Begun, run: TrainingRun, network: nn.Module, metrics: dict[str, float], report: dict[str, Any]
) -> Trained:
    """Write all files of a version with this network."""
    lesson, network = begun.lesson, network.cpu()
    report = report | {
        "parity": _write(run, begun.code, network, lesson),
        "parameters": sum(one.numel() for one in network.parameters()), "versions": {"torch": torch.__version__},
    }  # fmt: skip
    warnings = lesson.warnings
    if not _keep(run, begun, network):
        warnings = [*warnings, "its network is another one than its code builds, so training cannot go on from it"]
    shape = lesson.wanted.shape
    step = [shape.step(scale=1 / 255) | {"name": lesson.wanted.image}] if shape and lesson.wanted.image else []
    return Trained(
        task=begun.task, preprocessing=step, class_labels=lesson.classes, inputs=_served(lesson, network).columns,
        metrics=metrics, warnings=warnings, report=report,
    )  # fmt: skip


def _by_place(begun: _Begun) -> Callable[[Any], tuple[Any, ...]]:
    """What the network is called with by place, where it is called by name; raises InvalidInput when it cannot be."""
    given = begun.lesson.judged.batch(torch.arange(1), 0)[0]
    asked = list(inspect.signature(begun.built.network.forward).parameters.values())
    places = [one for one in asked if one.kind is one.POSITIONAL_OR_KEYWORD]
    while places and places[-1].name not in given:
        places.pop()
    if set(given) != {one.name for one in places if one.name in given}:
        raise InvalidInput(
            "the network's forward takes inputs by name alone (**, or after *), and here it has to take them by "
            "place too; name them one by one in its signature"
        )
    return lambda batch: tuple(batch[0].get(one.name, one.default) for one in places)


def _lesson(run: TrainingRun, data: TrainingData, options: ModuleOptions, task: Task, kept: _Kept | None) -> _Lesson:
    numbers, vectors, image = columns_of(data, options)
    size = options.image_size if isinstance(options.image_size, tuple) else (options.image_size,) * 2
    shape = Shape(*size, 1 if options.channels == "L" else 3) if image is not None else None
    wanted = Wanted(numbers, vectors, image, shape, str(data.target))
    learn = read(data.train, wanted, run.folder, "training")
    judge = read(data.validation, wanted, run.folder, "validation")
    if not len(judge):
        raise InvalidInput("the validation part has no rows; give a larger share, or another part")
    replay = read(data.replay, wanted, run.folder, "replay") if data.replay else None
    scaling = Scaling(**kept.scaling) if kept is not None else scaling_of(learn.numbers, options.scale)
    if kept is not None and (kept.columns != numbers or list(kept.vectors) != vectors):
        raise InvalidInput(f"start: that version looks at the columns {', '.join(kept.columns)[:300]}; give the same")
    classes = None
    if task == "classification":
        values = [*learn.values, *(replay.values if replay is not None else ())]
        classes = kept.classes if kept is not None and kept.classes else targets.classes_of(values, wanted.target)
    learnt = _targets(learn, classes, wanted.target, "training")
    truth = _targets(judge, classes, wanted.target, "validation")
    if classes is None and options.scale and kept is None:
        scaling = scaled_target(scaling, learnt)
    rows, aims, replayed = [(learn, np.arange(len(learn)))], [learnt], 0
    if replay is not None:
        replayed = min(len(replay), int(options.replay_share * len(learn)))
        chosen = np.sort(np.random.default_rng(run.seed).permutation(len(replay))[:replayed])
        rows.append((replay, chosen))
        aims.append(_targets(replay, classes, wanted.target, "replayed")[chosen])
    examples = RowExamples(rows, scaling, _aims(np.concatenate(aims), classes, scaling))
    judged = RowExamples([(judge, np.arange(len(judge)))], scaling, _aims(truth, classes, scaling))
    warnings = _leaks(learn, wanted, learnt, task, run.seed)
    return _Lesson(wanted, learn, judge, examples, judged, truth, classes, scaling, replayed, warnings)


def _targets(rows: Rows, classes: list[str] | None, name: str, part: str) -> Array:
    """Int64 codes, or float32 numbers; raises InvalidInput for gaps."""
    if classes is not None:
        codes = targets.codes_of(rows.values, classes, name, part)
        gaps = int((codes < 0).sum())
    else:
        codes = np.array([np.nan if value is None else value for value in rows.values], np.float32)
        gaps = int((~np.isfinite(codes)).sum())
    if gaps:
        raise InvalidInput(
            f"target: column {name!r} lacks {gaps} of {len(codes)} values of the {part} rows; remove those"
        )
    return codes


def _aims(values: Array, classes: list[str] | None, scaling: Scaling) -> torch.Tensor:
    """What the loss is given."""
    aims = torch.from_numpy(values)
    return aims if classes is not None else (aims - scaling.target_mean) / scaling.target_deviation


def _leaks(rows: Rows, wanted: Wanted, learnt: Array, task: Task, seed: int) -> list[str]:
    """Columns that alone tell the target."""
    if not wanted.numbers:
        return []
    some = np.nan_to_num(rows.numbers[:_LOOKED_AT].numpy())
    return leaks.told(
        leaks.leaking(some, [(name, name) for name in wanted.numbers], learnt[:_LOOKED_AT], task, seed), task
    )


def _leave_out(network: nn.Module, lesson: _Lesson) -> None:
    """Columns that the network's ``forward`` does not ask for by name; warned of."""
    asked = inspect.signature(network.forward).parameters.values()
    if any(one.kind is one.VAR_KEYWORD for one in asked):
        return
    wanted, names = lesson.wanted, {one.name for one in asked}
    numbers = wanted.numbers if "numbers" in names else []
    vectors = [name for name in wanted.vectors if name in names]
    image = wanted.image if "image" in names else None
    had = [*wanted.numbers, *wanted.vectors, *([wanted.image] if wanted.image else [])]
    left = [name for name in had if name not in (*numbers, *vectors, image)]
    if left:
        lesson.wanted = replace(wanted, numbers=numbers, vectors=vectors, image=image)
        lesson.examples.leave_only(names)
        lesson.judged.leave_only(names)
        lesson.warnings.append(f"the network does not ask for the columns {', '.join(left)[:300]}; they are left out")


def _try(code: Code, built: Built, lesson: _Lesson) -> None:
    """Give the network two rows before work begins; raises InvalidInput when it gives something else than it should."""
    inputs, target = lesson.judged.batch(torch.arange(min(2, len(lesson.judged))), 0)
    built.network.eval()
    with code.told(), torch.no_grad():
        found = built.network(**inputs)
        loss = built.loss(found, target)
    rows, classes = len(target), lesson.classes
    shapes = [(rows, len(classes))] if classes is not None else [(rows,), (rows, 1)]
    if not isinstance(found, torch.Tensor) or tuple(found.shape) not in shapes:
        gave = list(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        wanted = f"[rows, {len(classes)}], a score for each class" if classes is not None else "[rows]"
        raise InvalidInput(f"options.build: for {rows} rows the network gave {gave}; it has to give {wanted}")
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        raise InvalidInput("options.build: the loss has to be one number (a tensor), the mean over the rows")


def _loss(begun: _Begun, output: Callable[[], torch.Tensor], batch: Any) -> torch.Tensor:
    with begun.code.told():
        return begun.built.loss(output(), batch[1])


def _figures(begun: _Begun, network: nn.Module) -> Mapping[str, float]:
    device, lesson = next(network.parameters()).device, begun.lesson
    outputs, total = [], 0.0
    with begun.code.told():
        for inputs, target in in_turn(lesson.judged, 256):
            found = network(**{name: value.to(device) for name, value in inputs.items()})
            total += float(begun.built.loss(found, target.to(device))) * len(target)
            outputs.append(found.double().cpu())
    together = torch.cat(outputs)
    predicted = torch.softmax(together, 1) if lesson.classes is not None else lesson.scaling.predicted(together)
    check_predictions(predicted.numpy())
    return {"loss": total / len(together)} | begun.run.score(begun.task, lesson.truth, predicted.numpy())


def _served(lesson: _Lesson, network: nn.Module) -> Served:
    wanted, classes = lesson.wanted, lesson.classes is not None
    served = Served(network, wanted.numbers, wanted.vectors, wanted.image is not None, lesson.scaling, classes)
    served.eval()
    return served


def _write(run: TrainingRun, code: Code, network: nn.Module, lesson: _Lesson) -> dict[str, Any]:
    """The model that is served, proven on raw validation rows."""
    run.progress(1, 1, "writing and proving the model", "steps")
    served, rows, path = _served(lesson, network), lesson.validation, run.out / "model.onnx"
    wanted = lesson.wanted
    vectors = {name: rows.vectors[name] for name in wanted.vectors}
    raw = served.raw(rows.numbers, vectors, rows.pixels if wanted.image is not None else None)
    with code.told():
        onnx_export.export(
            served, example({name: raw[name] for name in served.inputs}),
            ["probabilities" if lesson.classes is not None else "prediction"], path, labels=lesson.classes,
        )  # fmt: skip
    batches = []
    for start in range(0, min(len(rows), _PROVEN), 64):
        inputs = {name: raw[name][start : start + 64] for name in served.inputs}
        given, _ = lesson.judged.batch(torch.arange(start, start + len(next(iter(inputs.values())))), 0)
        with torch.no_grad():
            found = network(**given).float()
        expected = torch.softmax(found, 1) if lesson.classes is not None else lesson.scaling.predicted(found)
        batches.append((inputs, [expected]))
    return onnx_export.check_parity(path, batches)


def _keep(run: TrainingRun, begun: _Begun, network: nn.Module) -> bool:
    data = begun.lesson.data
    image = list(data.image) if data.image else None
    scaling = asdict(begun.lesson.scaling)
    kept = _Kept(data.columns, data.vectors, image, data.classes, scaling, begun.options.build)
    return weights.keep(network, kept, run.out, begun.plan)
