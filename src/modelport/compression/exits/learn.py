"""A head half-way: trained on the same rows, as sure as validation rows say it may be, written into the served file.

The network itself stays as it is, so what does not leave early is answered as before.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import torch

from modelport.compression.asking import Asked, model_file, session
from modelport.compression.exits.graph import LEFT, divide
from modelport.compression.exits.head import AtExit, Head, Place, Recalled, WithExit, place_at, places, sure
from modelport.compression.feeding import Feeder
from modelport.compression.method import Model
from modelport.compression.methods.early_exit import EarlyExitOptions
from modelport.compression.pruning import opened as networks
from modelport.errors import InvalidInput
from modelport.tensors import Array
from modelport.training.batches import in_turn
from modelport.training.optimizers import Group
from modelport.training.recipe import Trained, TrainingData, TrainingRun
from modelport.training.reopen import Reopened
from modelport.training.trainer import Trainer

_NEVER = 10**9
_TRIED = 200
_APART = 1e-4
_PROVEN, _ALONE = 256, 16
_TOLERANCE = 1e-3
_FIGURE = "accuracy"
_TRAINING = ("training.json", "model.json", "weights.safetensors", "shape.json")


def compress(run: TrainingRun, model: Model, data: TrainingData | None, options: EarlyExitOptions) -> Trained:
    """Train, choose, write; raises InvalidInput where no row may leave."""
    found = networks.opened(run, model, data)
    if found.task != "classification" or found.is_probabilities:
        raise InvalidInput(f"early-exit: a head needs scores of classes, and this version is for {found.task}")
    assert data is not None
    inputs = networks.example(found)
    counted = networks.counted(found.network, inputs)
    macs = {name: one["macs"] for name, one in counted["layers"].items()}
    place = place_at(places(found.network, inputs, macs), options.at, options.place)
    with torch.no_grad():
        classes = found.network(*inputs).shape[1]
    torch.manual_seed(run.seed)
    leaving = AtExit(found.network, place.name, Head(place.features, options.hidden, classes))
    fit = _trained(run, found, leaving, options)
    threshold, told = _threshold(found, leaving, place, options)
    made = found.write(WithExit(found.network, place.name, leaving.head.eval(), threshold).eval(), run)
    parity = _with_a_way_out(run, model, data)
    _keep_training(run, model)
    made.warnings = [one for one in made.warnings if not one.startswith("its network is another one")]
    head = sum(one.numel() for one in (leaving.head.first.weight, leaving.head.last.weight))
    mean = counted["macs"] * (place.share + (1 - place.share) * (1 - told["left_early"])) + head
    made.metrics |= fit.figures
    made.report |= told | {
        "at": place.name, "before_exit": round(place.share, 4), "threshold": threshold, "history": fit.history,
        "exit_parity": parity,
        "before": told["before"] | {"macs": counted["macs"], "parameters": counted["parameters"]},
        "after": told["after"] | {"macs": round(mean), "parameters": counted["parameters"] + _weights(leaving.head)},
        "times_fewer_macs": round(counted["macs"] / mean, 3),
    }  # fmt: skip
    return made


def _trained(run: TrainingRun, found: Reopened, leaving: AtExit, options: EarlyExitOptions) -> Any:
    """The head learns, what is before it does not even count."""
    loop = found.loop.model_copy(
        update={"epochs": options.epochs, "learning_rate": options.learning_rate, "patience": None, "monitor": "loss"}
    )
    return Trainer(
        run, loop, leaving, lambda network, batch: found.loss(network(*found.inputs(batch)), batch), found.learning,
        found.figures, groups=[Group([leaving.head]), Group([leaving.network], 1.0, _NEVER)], name="exit",
    ).fit()  # fmt: skip


def _threshold(
    found: Reopened, leaving: AtExit, place: Place, options: EarlyExitOptions
) -> tuple[float, dict[str, Any]]:
    """How sure the head has to be, by the validation rows; and what that costs and saves there."""
    first, last = _scores(found, leaving)
    surest = torch.softmax(first.float(), 1).amax(1)
    whole, alone = _figures(found, last), _figures(found, first)

    def judged(threshold: float) -> tuple[float, Mapping[str, float]]:
        left = sure(first, threshold)
        return float(left.float().mean()), _figures(found, torch.where(left[:, None], first, last))

    threshold = options.threshold
    if threshold is None:
        levels = _levels(surest)
        within = [one for one in levels if judged(one)[1][_FIGURE] >= whole[_FIGURE] - options.max_drop - 1e-9]
        steady = [one for one in within if all(other in within for other in levels if other > one)]
        threshold = float(min(steady)) if steady else 1.0
    share, both = judged(threshold)
    if not share:
        raise InvalidInput(
            f"after {place.name} no validation row may leave: the head alone has {_FIGURE} {alone[_FIGURE]:.4g}, and "
            f"{whole[_FIGURE] - options.max_drop:.4g} is asked for; take a later place, more epochs, or more max_drop"
        )
    return threshold, {
        "left_early": round(share, 6), "before": dict(whole), "after": dict(both), "head_alone": dict(alone),
    }  # fmt: skip


def _levels(surest: torch.Tensor) -> list[float]:
    """Half-way between rows, where they are apart: none changes sides by an error of rounding."""
    values = surest.double().sort().values
    apart = ((values[1:] - values[:-1]) > _APART).nonzero()[:, 0]
    between = [0.0, *((values[apart] + values[apart + 1]) / 2).tolist()]
    return between[:: max(len(between) // _TRIED, 1)]


def _scores(found: Reopened, leaving: AtExit) -> tuple[torch.Tensor, torch.Tensor]:
    """Of all validation rows, of the head and of the network."""
    first, last = [], []
    leaving.eval()
    with torch.no_grad():
        for batch in in_turn(found.judged, 64):
            inputs = found.inputs(batch)
            first.append(leaving(*inputs))
            last.append(leaving.network(*inputs))
    return torch.cat(first), torch.cat(last)


def _figures(found: Reopened, scores: torch.Tensor) -> dict[str, float]:
    with torch.no_grad():
        return {name: round(float(one), 6) for name, one in found.figures(Recalled(scores).eval()).items()}


def _with_a_way_out(run: TrainingRun, model: Model, data: TrainingData) -> dict[str, float]:
    """Change the file; prove on real rows, together and alone, that it answers as it did."""
    path = run.out / model_file(model).relative_to(model.folder)
    before = path.read_bytes()
    proto = onnx.load(path)
    divide(proto)
    onnx.save_model(proto, path)
    rows = Asked(model, data, data.validation, _PROVEN, run.seed)
    old, new = session(before, run.threads), session(path, run.threads)
    names = [one.name for one in old.get_outputs() if one.type == "tensor(float)"]
    expected, found = rows.run(old, names), rows.run(new, [*names, LEFT])
    singly = _one_by_one(model, data, old, new)
    worst = max([_off(expected[name], found[name]) for name in names] + [singly])
    if not worst <= _TOLERANCE:
        raise InvalidInput(f"the file with its way out answers differently: by {worst:.3g}; name another layer")
    return {"rows": len(rows), "max_difference": worst, "left_early": float(found[LEFT].mean())}


def _one_by_one(model: Model, data: TrainingData, old: Any, new: Any) -> float:
    names = [one.name for one in old.get_outputs() if one.type == "tensor(float)"]
    taken = {one.name for one in old.get_inputs()}
    worst = 0.0
    for batch in Feeder(model, data).batches(data.validation, 1, _ALONE):
        inputs = {name: value for name, value in batch.inputs.items() if name in taken}
        for one, other in zip(old.run(names, inputs), new.run(names, inputs), strict=True):
            worst = max(worst, _off(one, other))
    return worst


def _off(one: Array, other: Array) -> float:
    return float(np.abs(one - other).max()) if one.shape == other.shape else float("inf")


def _keep_training(run: TrainingRun, model: Model) -> None:
    """Training can go on from the network without the head."""
    (run.out / "training").mkdir(exist_ok=True)
    for name in _TRAINING:
        if (model.folder / "training" / name).exists():
            shutil.copyfile(model.folder / "training" / name, run.out / "training" / name)


def _weights(head: Head) -> int:
    return sum(one.numel() for one in head.parameters())
