"""A network that is pruned: taken up again, counted, and trained on without what was taken out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from modelport.compression.method import Model
from modelport.errors import InvalidInput
from modelport.plugins import nearest
from modelport.training.recipe import TrainingData, TrainingRun
from modelport.training.reopen import Reopened, reopen
from modelport.training.trainer import Fit, Trainer

_BATCH = 64


def opened(run: TrainingRun, model: Model, data: TrainingData | None) -> Reopened:
    """The version's network and its rows; raises InvalidInput where there are none."""
    if data is None:
        raise InvalidInput("data: this method needs rows to learn from; give a dataset")
    run.progress(0, None, "taking up the network", "steps")
    found = reopen(run, model.start, data)
    if not len(found.plain):
        raise InvalidInput("data: there are no rows to learn from")
    return found


def batches(found: Reopened, rows: int, size: int = _BATCH) -> Iterator[Any]:
    """Of at most ``rows`` training rows, as they are; chosen evenly over all."""
    total = len(found.plain)
    wanted = min(rows, total)
    chosen = torch.arange(wanted) * total // wanted
    for part in chosen.split(size):
        yield found.plain.batch(part, 0)


def example(found: Reopened) -> tuple[Any, ...]:
    """What the network is called with, for two rows (the same one twice where there is one)."""
    return found.inputs(found.plain.batch(torch.tensor([0, min(1, len(found.plain) - 1)]), 0))


def counted(network: nn.Module, inputs: tuple[Any, ...]) -> dict[str, Any]:
    """``parameters``, ``macs`` (multiplications of convolutions and linear layers for one row) and both by layer."""
    layers: dict[str, dict[str, Any]] = {}
    rows = next(one.shape[0] for one in inputs if isinstance(one, torch.Tensor))

    def seen(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def look(module: Any, given: Any, output: torch.Tensor) -> None:
            weight = module.weight
            channels = given[0] if getattr(module, "transposed", False) else output
            entry = layers.setdefault(name, {"parameters": weight.numel(), "macs": 0, "shape": list(weight.shape)})
            entry["macs"] += channels.numel() // rows // weight.shape[0] * weight.numel()

        return look

    hooks = [module.register_forward_hook(seen(name)) for name, module in weighted(network)]
    was = network.training
    try:
        with torch.no_grad():
            network.eval()(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
        network.train(was)
    return {
        "parameters": sum(one.numel() for one in network.parameters()),
        "macs": sum(one["macs"] for one in layers.values()), "layers": layers,
    }  # fmt: skip


def weighted(network: nn.Module) -> list[tuple[str, Any]]:
    """Convolutions and linear layers by name."""
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    return [(name, module) for name, module in network.named_modules() if isinstance(module, kinds)]


def check_names(network: nn.Module, names: Sequence[str], option: str) -> None:
    """Raise InvalidInput for a layer that is not there, with the nearest name."""
    known = [name for name, _ in network.named_modules() if name]
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        raise InvalidInput(f"options.{option}: the network has no layer {unknown[:100]!r}{nearest(unknown, known)}")


def trained_on(
    run: TrainingRun, found: Reopened, name: str, epochs: int, rate: float | None,
    loss: Callable[[nn.Module, Any], torch.Tensor] | None = None, changes: Mapping[str, Any] | None = None,
) -> Fit:  # fmt: skip
    """Train the network on, with its recipe's loss unless another is given; goes on after a crash."""
    wish: dict[str, Any] = {"epochs": epochs, "patience": None, **(changes or {})}
    if rate is not None:
        wish["learning_rate"] = rate

    def own(network: nn.Module, batch: Any) -> torch.Tensor:
        return found.loss(network(*found.inputs(batch)), batch)

    options = found.loop.model_copy(update=wish)
    return Trainer(run, options, found.network, loss or own, found.learning, found.figures, name=name).fit()


def figures(found: Reopened) -> dict[str, float]:
    """Of the validation rows."""
    found.network.eval()
    with torch.no_grad():
        return {name: round(float(value), 6) for name, value in found.figures(found.network).items()}


def mean_loss(found: Reopened, rows: int) -> float:
    """Of some training rows as they are."""
    total, seen = 0.0, 0
    with torch.no_grad():
        for batch in batches(found, rows):
            inputs = found.inputs(batch)
            count = next(one.shape[0] for one in inputs if isinstance(one, torch.Tensor))
            total += float(found.loss(found.network(*inputs), batch)) * count
            seen += count
    return total / seen


def gradients(found: Reopened, rows: int) -> None:
    """Leave the loss's gradients over some training rows in the network's parameters."""
    found.network.zero_grad(set_to_none=True)
    seen = list(batches(found, rows))
    for batch in seen:
        (found.loss(found.network(*found.inputs(batch)), batch) / len(seen)).backward()
