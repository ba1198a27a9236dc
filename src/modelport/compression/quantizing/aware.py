"""The method ``quantize-aware`` at work: learn with rounding, settle the weights, have the file computed in integers.

What is proven: the file's answers to the validation rows beside those of the network that was trained with rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from onnx import ModelProto
from torch import nn

from modelport.compression.feeding import Feeder
from modelport.compression.method import Model
from modelport.compression.methods.quantize_aware import QuantizeAwareOptions
from modelport.compression.quantizing import graph, integers, weights
from modelport.compression.quantizing.judged import Judged
from modelport.compression.quantizing.rounding import RoundingNetwork
from modelport.errors import InvalidInput
from modelport.tensors import Array
from modelport.training.recipe import Trained, TrainingData, TrainingRun
from modelport.training.reopen import Reopened, reopen
from modelport.training.trainer import Trainer

_BATCH = 32
_SLOWER = 0.1
"""Of the rate that the network was trained with."""
Mode = Literal["static", "dynamic", "weights"]


def compress(
    run: TrainingRun, model: Model, data: TrainingData | None, options: QuantizeAwareOptions, mode: Mode
) -> Trained:
    """Write the quantized version's files into ``run.out``."""
    assert data is not None
    if model.manifest.format != "onnx":
        raise InvalidInput(f"the version is served as {model.manifest.format}, not as ONNX, so no integers compute it")
    run.progress(0, None, "taking up the network", "steps")
    found = reopen(run, model.start, data)
    if not len(found.plain):
        raise InvalidInput("data: there are no rows to learn from; give a part with some")
    before = _figures(found, found.network)
    rounding = RoundingNetwork(found.network, options.bits, mode)
    rounding.look(_batches(found, options.rows))
    untrained = _figures(found, rounding)
    fit = Trainer(
        run, _loop(found, options), rounding, _loss(found, rounding, options.stay), found.learning, found.figures,
        name="rounding",
    ).fit()  # fmt: skip
    rounding.look(_batches(found, options.rows))
    learnt, answers = _figures(found, rounding), _answers(found, rounding)
    made = found.write(rounding.settle(), run)
    path = run.out / graph.FILE
    size = path.stat().st_size
    _quantize(run, model, data, options, mode, found, path)
    made.metrics |= fit.figures
    made.report |= {
        "mode": mode, "bits": options.bits, "history": fit.history,
        "before": {**before, "model_bytes": size, "bits_per_weight": 32},
        "rounded": untrained, "learnt": learnt,
        "after": {"model_bytes": path.stat().st_size, "bits_per_weight": options.bits},
        "parity": _parity(run, model, data, found, path, answers),
    }  # fmt: skip
    return made


def _loop(found: Reopened, options: QuantizeAwareOptions) -> Any:
    wish: dict[str, Any] = {
        "epochs": options.epochs, "patience": None, "precision": "fp32",
        "learning_rate": options.learning_rate or (found.loop.learning_rate or 1e-3) * _SLOWER,
    }  # fmt: skip
    if options.weight_decay is not None:
        wish["weight_decay"] = options.weight_decay
    return found.loop.model_copy(update=wish)


def _loss(found: Reopened, rounding: RoundingNetwork, stay: float) -> Any:
    """The recipe's, and what it costs to leave the weights that learning begins with."""
    begun = [one.detach().clone() for one in rounding.weights()] if stay else []

    def loss(network: nn.Module, batch: Any) -> torch.Tensor:
        plain = found.loss(network(*found.inputs(batch)), batch)
        if not stay:
            return plain
        apart = [((now - then) ** 2).sum() for now, then in zip(rounding.weights(), begun, strict=True)]
        return plain + stay / 2 * torch.stack(apart).sum()

    return loss


def _places(found: Reopened, rows: int) -> torch.Tensor:
    """Rows to see ranges in, evenly over all."""
    total = len(found.plain)
    wanted = min(rows, total)
    return torch.arange(wanted) * total // wanted


def _batches(found: Reopened, rows: int) -> Iterator[tuple[torch.Tensor, ...]]:
    for part in _places(found, rows).split(_BATCH):
        yield found.inputs(found.plain.batch(part, 0))


def _figures(found: Reopened, network: nn.Module) -> dict[str, float]:
    network.eval()
    with torch.no_grad():
        return {name: round(float(value), 6) for name, value in found.figures(network).items()}


def _answers(found: Reopened, network: nn.Module) -> Array:
    """Of the validation rows, as the file gives them [rows, …]."""
    network.eval()
    answers = []
    with torch.no_grad():
        for part in torch.arange(len(found.judged)).split(_BATCH):
            scores = network(*found.inputs(found.judged.batch(part, 0)))
            is_scores = found.task == "classification" and not found.is_probabilities
            answers.append((torch.softmax(scores, -1) if is_scores else scores).numpy())
    return np.concatenate(answers)


def _quantize(
    run: TrainingRun, model: Model, data: TrainingData, options: QuantizeAwareOptions, mode: Mode, found: Reopened,
    path: Path,
) -> None:  # fmt: skip
    """Have integers in the place of the rounded numbers."""
    original = graph.read(path)
    fused = graph.fused(original, run.folder)
    whole = run.folder / "fused.onnx"
    graph.save(fused, whole)
    chosen = graph.layers(fused)
    if not chosen:
        raise graph.no_layers(fused)
    made: ModelProto
    if mode == "static":
        feeder = Feeder(model, data)
        places = np.asarray(_places(found, options.rows))

        def feeds() -> Iterator[dict[str, Array]]:
            for fed in feeder.batches(data.train, _BATCH, places=places):
                yield fed.inputs

        told = partial(_told, run, len(places))
        ranges = integers.calibrate(whole, feeds, "minmax", 0, run.folder, run.threads, told)
        made = integers.static(whole, ranges, chosen, "minmax", True, run.folder)
    elif mode == "dynamic":
        made = integers.dynamic(fused, [n for n in chosen if integers.becomes_dynamic(n)], True, run.folder)
    else:
        made = weights.smaller(fused, chosen, weights.How(options.bits, "uniform", True, 0))
    graph.save(graph.restored(made, original), path)


def _told(run: TrainingRun, total: int, rows: int) -> None:
    run.progress(rows, total, "seeing which values activations take", "rows")


def _parity(
    run: TrainingRun, model: Model, data: TrainingData, found: Reopened, path: Path, expected: Array
) -> dict[str, Any]:
    """How far the file's answers are from the rounding network's; raises InvalidInput when they have another shape."""
    judged = Judged(model, Feeder(model, data).batches(data.validation, _BATCH), run.threads)
    batches = judged.answers(path)
    output = next(name for name, value in batches[0].items() if value.dtype.kind == "f")
    answers = np.concatenate([batch[output] for batch in batches])
    if len(answers) != len(expected):  # rows without a truth are not among those that the network was judged by
        known = [value is not None for fed in judged.fed for value in fed.truth or ()]
        answers = answers[np.array(known)]
    if answers.shape != expected.shape:
        raise InvalidInput(f"the quantized file answers {list(answers.shape)}, the network {list(expected.shape)}")
    off = np.abs(answers.astype(np.float64) - expected)
    same = answers.argmax(-1) == expected.argmax(-1) if answers.ndim > 1 else np.ones(len(answers), bool)
    return {
        "rows": len(answers), "max_difference": float(off.max()), "mean_difference": float(off.mean()),
        "agreement": float(same.reshape(len(answers), -1).all(1).mean()),
    }  # fmt: skip
