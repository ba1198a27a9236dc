"""From rows of image files to a network that is served: plan, pixels, fit, perhaps a second fit, ONNX, proof."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from modelport.data.writing import read_parts
from modelport.engine.preprocessing.image import ImageInput
from modelport.errors import InvalidInput
from modelport.schemas.preprocessing import ImageStep
from modelport.tensors import Array, Signature, TensorSpec
from modelport.training import onnx_export, randomness, targets, weights
from modelport.training.batches import in_turn
from modelport.training.images import network as networks
from modelport.training.images import pixels as pixel_files
from modelport.training.images.architectures import ARCHITECTURES
from modelport.training.images.augment import Augmenter
from modelport.training.images.examples import Batch, ImageExamples
from modelport.training.images.network import Kept
from modelport.training.images.pixels import Pixels, Shape
from modelport.training.images.pseudo import Chosen, choose
from modelport.training.loop import LoopOptions, is_lower_better
from modelport.training.outline import outline
from modelport.training.recipe import Trained, TrainingData, TrainingRun
from modelport.training.recipes.image import AUGMENTS, Augment, ImageOptions, PseudoLabels, image_column
from modelport.training.reopen import Reopened
from modelport.training.trainer import Fit, Trainer, check_predictions

_SMALLEST_SHOWN = 224
_OTHERWISE = 96
_PROVEN = 256
"""Validation rows that the served model is compared on."""
_LARGEST_SAMPLE = 200_000


@dataclass(slots=True)
class _Lesson:
    """All that a fit needs."""

    run: TrainingRun
    options: ImageOptions
    column: str
    """Of the image files."""
    shape: Shape
    classes: list[str]
    scaling: tuple[list[float], list[float]]
    train: Pixels
    codes: Array
    judged: torch.Tensor
    """Pixels of all validation rows, those without a label too."""
    validation: ImageExamples
    truth: Array
    replay: Pixels | None
    replayed: Array
    """Which of its rows."""
    replay_codes: Array
    kept: Kept | None


def train(run: TrainingRun, data: TrainingData, options: ImageOptions) -> Trained:
    """Learn; raises InvalidInput for rows, weights or options that do not fit."""
    randomness.settle(run.seed, run.threads)
    column = image_column(data, options)
    lesson = _lesson(run, data, options, column)
    warnings = [*_check(lesson, data), *_seen_twice(lesson)]
    network, fit = _fit(lesson, "first", None)
    report: dict[str, Any] = {"history": fit.history}
    if options.pseudo_labels:
        network, fit = _second(lesson, network, fit, report)
    report["replayed"] = len(lesson.replayed)
    return _version(lesson, network, data, fit.figures, warnings, report)


def _version(
    lesson: _Lesson, network: nn.Module, data: TrainingData, metrics: dict[str, float], warnings: list[str],
    report: dict[str, Any],
) -> Trained:  # fmt: skip
    """Write all files of a version with this network."""
    run, options, labels, kept = lesson.run, lesson.options, lesson.classes, _kept(lesson)
    plan = networks.drawn(options, kept.model, lesson.shape, len(labels), **kept.shares)
    if not weights.keep(network, kept, run.out, outline(plan)):
        warnings = [*warnings, "its network is another one than the recipe builds, so training cannot go on from it"]
    step = lesson.shape.step(*lesson.scaling, scale=1 / 255) | {"name": lesson.column}
    parity = _served(lesson, network, step, data)
    counts = np.bincount(lesson.codes[lesson.codes >= 0], minlength=len(labels))
    report = report | {
        "parity": parity, "model": kept.model, "size": [lesson.shape.height, lesson.shape.width],
        "channels": lesson.shape.channels, "classes": dict(zip(labels, counts.tolist(), strict=True)),
        "versions": {"torch": torch.__version__}, **networks.parameters(network),
    }  # fmt: skip
    return Trained(
        task="classification", preprocessing=[step], class_labels=labels, sample=_sample(data, lesson.column),
        metrics=metrics, warnings=warnings, report=report,
    )  # fmt: skip


def reopen(run: TrainingRun, data: TrainingData, options: ImageOptions) -> Reopened:
    """The network of ``run.start`` with its rows; raises InvalidInput for rows that do not fit it."""
    randomness.settle(run.seed, run.threads)
    lesson = _lesson(run, replace(data, replay=()), options, image_column(data, options))
    kept = lesson.kept
    assert kept is not None
    new = sorted(set(lesson.classes) - set(kept.classes))
    if new:
        raise InvalidInput(
            f"data: the rows have a class that the version does not know, {new[0][:100]!r}; leave those rows out, or "
            "train a version with it first"
        )
    network = _network(lesson)
    warnings = _seen_twice(lesson)
    loss = _loss(options)

    def write(network: Any, run: TrainingRun) -> Trained:
        shares = getattr(network, "shares", kept.shares)
        own = replace(lesson, run=run, kept=replace(kept, shares=dict(shares)))
        return _version(own, network, data, {}, warnings, {})

    def build(size: Mapping[str, Any]) -> nn.Module:
        torch.manual_seed(run.seed)
        network = networks.build(options, kept.model, lesson.shape, len(kept.classes), **size)
        network.shares = dict(size)
        return network

    return Reopened(
        network=network.eval(), task="classification", inputs=lambda batch: (batch[0],), loss=loss,
        truth=lambda batch: batch[1], learning=_examples(lesson), plain=_examples(lesson, changed=False),
        judged=lesson.validation,
        figures=lambda network: _figures(lesson, network), write=write, build=build,
        sizes=networks.sizes(options, kept, networks.parameters(network)["parameters"]),
        loop=LoopOptions.model_validate(options.model_dump(include=set(LoopOptions.model_fields))),
    )  # fmt: skip


def _lesson(run: TrainingRun, data: TrainingData, options: ImageOptions, column: str) -> _Lesson:
    """Read all rows; settle sizes, classes, scaling."""
    target = str(data.target)
    kept = weights.kept_of(run.start, Kept, "image") if run.start is not None else None
    shape = _shape(data, options, column, kept)
    run.progress(0, None, "decoding images", "rows")
    learn = pixel_files.read(data.train, column, target, shape, run.folder, "training")
    judge = pixel_files.read(data.validation, column, target, shape, run.folder, "validation")
    replay = pixel_files.read(data.replay, column, target, shape, run.folder, "replay") if data.replay else None
    values = [*learn.values, *(replay.values if replay else ())]
    classes = targets.classes_of(values, target)
    if kept is not None:
        classes = _sorted({*classes, *kept.classes})
    codes = targets.codes_of(learn.values, classes, target)
    truth = targets.codes_of(judge.values, classes, target)
    known = torch.from_numpy(np.flatnonzero(truth >= 0))
    if not len(known):
        raise InvalidInput("the validation part has no rows with a label; give a larger share, or another part")
    scaling = _scaling(options, shape, learn.pixels, kept)
    truth = truth[truth >= 0]
    validation = ImageExamples([judge.pixels], [known], torch.from_numpy(truth), torch.ones(len(truth)), scaling)
    replayed, replay_codes = _replayed(run, options, replay, classes, target, len(codes))
    return _Lesson(
        run, options, column, shape, classes, scaling, learn, codes, judge.pixels, validation, truth, replay, replayed,
        replay_codes, kept,
    )  # fmt: skip


def _shape(data: TrainingData, options: ImageOptions, column: str, kept: Kept | None) -> Shape:
    if kept is not None:
        return Shape(kept.height, kept.width, kept.channels)
    common, grey = pixel_files.looked_at(data.train, column)
    pretrained = options.weights is not None
    channels = {"RGB": 3, "L": 1, "auto": 1 if grey and not pretrained else 3}[options.channels]
    if options.size is not None:
        height, width = (options.size,) * 2 if isinstance(options.size, int) else options.size
    elif pretrained:
        height = width = ARCHITECTURES[options.model].size
    elif common is not None and max(common) <= _SMALLEST_SHOWN and min(common) >= ARCHITECTURES[options.model].smallest:
        height, width = common
    else:
        height = width = _OTHERWISE
    return Shape(height, width, channels)


def _check(lesson: _Lesson, data: TrainingData) -> list[str]:
    """Raise InvalidInput for rows without a label that nobody asked for; warnings about rare classes."""
    codes, options = lesson.codes, lesson.options
    gaps = int((codes < 0).sum())
    if gaps and not options.pseudo_labels:
        raise InvalidInput(
            f"target: {gaps} of {len(codes)} training rows have no value in column {str(data.target)!r}; remove them, "
            "or learn from them with options.pseudo_labels"
        )
    if options.pseudo_labels and not gaps:
        raise InvalidInput("options.pseudo_labels: every training row has a label; there is nothing to guess")
    return targets.told_of_few(codes, lesson.classes)


def _seen_twice(lesson: _Lesson) -> list[str]:
    """Validation images that are learnt from as well make every figure too good."""
    learn, judge = lesson.train.pixels, lesson.judged
    known = {row.tobytes() for row in learn.numpy()} if learn.numel() < 1 << 30 else set()
    twice = sum(row.tobytes() in known for row in judge.numpy())
    return (
        [f"{twice} validation images are among the training images too; figures on them are too good"] if twice else []
    )


def _sorted(classes: set[str]) -> list[str]:
    """Numbers as numbers."""
    whole = all(label.lstrip("-").isdecimal() for label in classes)
    return sorted(classes, key=int) if whole else sorted(classes)


def _scaling(
    options: ImageOptions, shape: Shape, pixels: torch.Tensor, kept: Kept | None
) -> tuple[list[float], list[float]]:
    if kept is not None:
        return kept.mean, kept.deviation
    published = ARCHITECTURES[options.model].scaling
    if options.weights is None or published is None:
        return pixel_files.mean_and_deviation(pixels)
    mean, deviation = published
    return list(mean[: shape.channels]), list(deviation[: shape.channels])


def _replayed(
    run: TrainingRun, options: ImageOptions, replay: Pixels | None, classes: Sequence[str], target: str, rows: int
) -> tuple[Array, Array]:
    """Older rows to mix in, drawn by the seed, and their codes."""
    if replay is None:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    codes = targets.codes_of(replay.values, classes, target, "replayed")
    known = np.flatnonzero(codes >= 0)
    wanted = min(len(known), int(options.replay_share * rows))
    chosen = np.sort(np.random.default_rng(run.seed).permutation(known)[:wanted])
    return chosen, codes[chosen]


def _network(lesson: _Lesson) -> Any:
    """As it is before the first step: the same each time."""
    run, options = lesson.run, lesson.options
    torch.manual_seed(run.seed)
    kept = lesson.kept
    model, shares = (kept.model, kept.shares) if kept else (options.model, {})
    network = networks.build(options, model, lesson.shape, len(lesson.classes), **shares)
    if run.start is not None and lesson.kept is not None:
        networks.fill_from_start(network, run.start, lesson.kept, lesson.classes)
    elif options.weights is not None:
        networks.fill_from_file(network, options, run.code)
    return network


def _fit(lesson: _Lesson, name: str, guessed: Chosen | None) -> tuple[nn.Module, Fit]:
    run, options = lesson.run, lesson.options
    network, loss = _network(lesson), _loss(options)
    pretrained = options.weights is not None or lesson.kept is not None
    trainer = Trainer(
        run, options, network, lambda model, batch: loss(model(batch[0]), batch), _examples(lesson, guessed),
        lambda model: _figures(lesson, model), groups=networks.groups(network, options, pretrained), name=name,
    )  # fmt: skip
    return network, trainer.fit()


def _examples(lesson: _Lesson, guessed: Chosen | None = None, *, changed: bool = True) -> ImageExamples:
    """All rows to learn from; ``changed``: as the options say."""
    run, options = lesson.run, lesson.options
    known = np.flatnonzero(lesson.codes >= 0)
    rows, codes, counts = [known], [lesson.codes[known]], [np.ones(len(known), np.float32)]
    if guessed is not None:
        rows[0] = np.concatenate([known, guessed.rows])
        codes.append(guessed.codes)
        counts.append(np.full(len(guessed.rows), guessed.weight, np.float32))
    stores = [lesson.train.pixels]
    if lesson.replay is not None and len(lesson.replayed):
        stores.append(lesson.replay.pixels)
        rows.append(lesson.replayed)
        codes.append(lesson.replay_codes)
        counts.append(np.ones(len(lesson.replayed), np.float32))
    all_codes, all_counts = np.concatenate(codes), np.concatenate(counts)
    by_class = targets.class_weights(options.class_weights, lesson.classes, all_codes)
    if by_class is not None:
        all_counts = all_counts * by_class[all_codes]
    how = options.augment if isinstance(options.augment, Augment) else AUGMENTS[options.augment]
    return ImageExamples(
        stores, [torch.from_numpy(one) for one in rows], torch.from_numpy(all_codes), torch.from_numpy(all_counts),
        lesson.scaling, Augmenter(how, run.seed) if changed and how != Augment() else None,
    )  # fmt: skip


def _loss(options: ImageOptions) -> Callable[[torch.Tensor, Batch], torch.Tensor]:
    """Of scores [rows, classes] and their batch."""

    def loss(scores: torch.Tensor, batch: Batch) -> torch.Tensor:
        _, truth, counts = batch
        each = functional.cross_entropy(scores, truth, reduction="none", label_smoothing=options.label_smoothing)
        return (each * counts).mean()

    return loss


def _figures(lesson: _Lesson, network: nn.Module) -> Mapping[str, float]:
    found = predicted(network, lesson.validation, lesson.options.batch_size)
    check_predictions(found)
    own = found[np.arange(len(found)), lesson.truth]
    loss = float(-np.log(np.maximum(own, 1e-12)).mean())
    return {"loss": loss} | lesson.run.score("classification", lesson.truth, found)


def predicted(network: nn.Module, examples: ImageExamples, batch_size: int) -> Array:
    """Float64 [rows, classes] probabilities."""
    device = next(network.parameters()).device
    network.eval()
    with torch.no_grad():
        found = [
            torch.softmax(network(pixels.to(device)).double(), 1).cpu()
            for pixels, _, _ in in_turn(examples, max(batch_size, 64))
        ]
    chances: Array = torch.cat(found).numpy()
    return chances


def _second(lesson: _Lesson, network: nn.Module, fit: Fit, report: dict[str, Any]) -> tuple[nn.Module, Fit]:
    """Label what has none, learn again from the beginning, keep what is better on the validation rows."""
    options = lesson.options
    how = options.pseudo_labels if isinstance(options.pseudo_labels, PseudoLabels) else PseudoLabels()
    unknown = np.flatnonzero(lesson.codes < 0)
    nothing = torch.zeros(len(unknown), dtype=torch.int64)
    examples = ImageExamples(
        [lesson.train.pixels], [torch.from_numpy(unknown)], nothing, torch.ones(len(unknown)), lesson.scaling
    )
    chosen = choose(predicted(network, examples, options.batch_size), unknown, how)
    told = {"unlabelled": len(unknown), "labelled": len(chosen.rows), "by_class": {
        label: int((chosen.codes == code).sum()) for code, label in enumerate(lesson.classes)
    }}  # fmt: skip
    report["pseudo_labels"] = told
    if not len(chosen.rows):
        told["kept"] = "first"
        return network, fit
    again, second = _fit(lesson, "second", chosen)
    figure = f"validation_{options.monitor}"
    before, after = (one.history[one.best_epoch - 1][figure] for one in (fit, second))
    better = after <= before if is_lower_better(options.monitor) else after >= before
    told |= {"kept": "second" if better else "first", "before": before, "after": after, "figure": options.monitor}
    report["history"] = (second if better else fit).history
    return (again, second) if better else (network, fit)


def _kept(lesson: _Lesson) -> Kept:
    mean, deviation = lesson.scaling
    shape, start = lesson.shape, lesson.kept
    model, shares = (start.model, start.shares) if start else (lesson.options.model, {})
    return Kept(
        model, shape.height, shape.width, shape.channels, mean, deviation, lesson.classes, shares=shares,
    )  # fmt: skip


def _served(lesson: _Lesson, network: nn.Module, step: dict[str, Any], data: TrainingData) -> dict[str, Any]:
    """Write the model that is served, and prove it on image files of the validation part as they are."""
    run, shape = lesson.run, lesson.shape
    run.progress(1, 1, "writing and proving the model", "steps")
    network = networks.Probabilities(network.cpu()).eval()
    size = (shape.channels, shape.height, shape.width)
    path = run.out / "model.onnx"
    onnx_export.export(network, {"pixels": torch.zeros(2, *size)}, ["probabilities"], path, labels=lesson.classes)
    spec = TensorSpec("pixels", "FP32", (-1, *size))
    decoder = ImageInput(ImageStep.model_validate(step).model_dump(), Signature((spec,), ()))
    decoder.open(run.out)
    rows, batches, first = lesson.validation, [], 0
    known = {index for index, value in enumerate(_values(data, lesson.column)) if value is not None}
    files = _files(data, lesson.column, sorted(known)[:_PROVEN])
    for start in range(0, len(files), 64):
        given = decoder.apply(files[start : start + 64])["pixels"]
        places = torch.arange(first, first + len(given))
        with torch.no_grad():
            expected = network(rows.batch(places, 0)[0])
        batches.append(({"pixels": torch.from_numpy(given)}, [expected]))
        first += len(given)
    return onnx_export.check_parity(path, batches)


def _values(data: TrainingData, column: str) -> list[Any]:
    return [value for batch in read_parts(data.validation, [str(data.target)]) for value in batch.column(0).to_pylist()]


def _files(data: TrainingData, column: str, rows: Sequence[int]) -> list[bytes]:
    """The image files of some validation rows, in order."""
    found, wanted, first = [], iter(rows), 0
    at = next(wanted, None)
    for batch in read_parts(data.validation, [column]):
        while at is not None and at < first + len(batch):
            found.append(batch.column(0)[at - first].as_py())
            at = next(wanted, None)
        first += len(batch)
        if at is None:
            break
    return found


def _sample(data: TrainingData, column: str) -> dict[str, Any] | None:
    file = _files(data, column, [0])
    if not file or len(file[0]) > _LARGEST_SAMPLE:
        return None
    text = base64.b64encode(file[0]).decode()
    return {"inputs": [{"name": column, "datatype": "BYTES", "shape": [1], "data": [text]}]}
