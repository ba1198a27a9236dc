"""Projected gradient descent: the worst change of an input that stays within a small distance (Madry et al. 2018).

Each value may go ``eps`` up or down, and never out of the range that values of real rows have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from modelport.errors import InvalidInput
from modelport.training.batches import in_turn
from modelport.training.reopen import Reopened

Inputs = tuple[torch.Tensor, ...]
_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Limits:
    """Where the values of an input lie in real rows, and how far each may be moved: [1, …] beside the input."""

    low: torch.Tensor
    high: torch.Tensor
    eps: torch.Tensor


def limits(opened: Reopened, eps: float) -> list[Limits | None]:
    """For each input; None for one that holds no numbers to be moved. ``eps`` is a share of a value's range, by channel
    of an image and by column else. Raises InvalidInput when there is none that can be."""
    low: list[torch.Tensor | None] = []
    high: list[torch.Tensor | None] = []
    for batch in in_turn(opened.plain, _AT_ONCE):
        for at, given in enumerate(opened.inputs(batch)):
            if at == len(low):
                low.append(None)
                high.append(None)
            if not given.dtype.is_floating_point:
                continue
            places = [0, *range(2, given.dim())] if given.dim() > 2 else [0]
            least, most = given.amin(places, keepdim=True), given.amax(places, keepdim=True)
            before, after = low[at], high[at]
            low[at] = least if before is None else torch.minimum(before, least)
            high[at] = most if after is None else torch.maximum(after, most)
    found = [
        None if least is None or most is None else Limits(least, most, eps * (most - least))
        for least, most in zip(low, high, strict=True)
    ]
    if not any(found):
        raise InvalidInput(
            "the network takes no numbers or images that could be changed a little (texts are not); use the method "
            "distil"
        )
    return found


def attacked(
    inputs: Inputs, bounds: Sequence[Limits | None], steps: int, objective: Callable[[Inputs], torch.Tensor],
    generator: torch.Generator | None = None,
) -> Inputs:  # fmt: skip
    """The inputs, changed so that ``objective`` (one number) becomes large. Begins at a random place nearby."""
    moved = list(inputs)
    for at, limit in enumerate(bounds):
        if limit is not None:
            start = torch.rand(inputs[at].shape, generator=generator).to(inputs[at]) * 2 - 1
            moved[at] = _inside(inputs[at] + start * limit.eps, inputs[at], limit)
    places = [at for at, limit in enumerate(bounds) if limit is not None]
    for _ in range(steps):
        for at in places:
            moved[at] = moved[at].detach().requires_grad_(True)
        with torch.enable_grad():
            gradients = torch.autograd.grad(objective(tuple(moved)), [moved[at] for at in places])
        for at, gradient in zip(places, gradients, strict=True):
            limit = bounds[at]
            assert limit is not None
            step = limit.eps * max(2.5 / max(steps, 1), 0.1)
            moved[at] = _inside(moved[at].detach() + step * gradient.sign(), inputs[at], limit)
    return tuple(one.detach() for one in moved)


def _inside(moved: torch.Tensor, plain: torch.Tensor, limit: Limits) -> torch.Tensor:
    """Within the distance, and within the range."""
    near = torch.maximum(torch.minimum(moved, plain + limit.eps), plain - limit.eps)
    # a value that lies outside of the range by itself may stay there
    return torch.maximum(torch.minimum(near, torch.maximum(limit.high, plain)), torch.minimum(limit.low, plain))


def under_attack(
    opened: Reopened, network: nn.Module, bounds: Sequence[Limits | None], steps: int, rows: int, seed: int
) -> dict[str, float]:
    """``pgd_accuracy`` and ``pgd_loss`` of a network on changed validation rows: each change raises the network's own
    loss on that row."""
    assert opened.truth is not None
    network.eval()
    generator = torch.Generator().manual_seed(seed % 2**63)
    right, total, count = 0, 0.0, 0
    for batch in in_turn(opened.judged, _AT_ONCE):
        if count >= rows:
            break
        truth = opened.truth(batch)
        found = attacked(
            opened.inputs(batch), bounds, steps, lambda given, batch=batch: opened.loss(network(*given), batch),  # type: ignore[misc]
            generator,
        )  # fmt: skip
        with torch.no_grad():
            output = network(*found)
            total += float(opened.loss(output, batch)) * len(truth)
        right += int((output.argmax(-1) == truth).sum())
        count += len(truth)
    return {"pgd_accuracy": right / count, "pgd_loss": total / count}
