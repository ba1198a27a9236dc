"""Whole blocks left out: of those that repeat and keep the shape, the ones that the loss misses least."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from modelport.compression.pruning import opened as networks
from modelport.errors import InvalidInput
from modelport.training.outline import Skipped, leave_out
from modelport.training.recipe import TrainingRun
from modelport.training.reopen import Reopened


def leave_out_layers(run: TrainingRun, found: Reopened, wanted: int, rows: int) -> list[dict[str, Any]]:
    """Leave out so many, one after the other; their names and the loss without them.

    Raises InvalidInput when there are fewer that could go.
    """
    told: list[dict[str, Any]] = []
    network = found.network.eval()
    for at in range(wanted):
        candidates = skippable(network, networks.example(found))
        if not candidates:
            raise InvalidInput(
                f"options.drop_layers: {at} of this network's layers can be left out, and {wanted} were asked for; a "
                "block can go when it gives the shape that it takes and another of its kind is left"
            )
        losses = {}
        for name in candidates:
            block = network.get_submodule(name)
            leave_out(network, name)
            losses[name] = networks.mean_loss(found, rows)
            _put_back(network, name, block)
        least = min(losses, key=lambda name: losses[name])
        leave_out(network, least)
        told.append({"layer": least, "loss": round(losses[least], 6)})
        run.progress(at + 1, wanted, f"left out {least}", "layers")
    return told


def skippable(network: nn.Module, inputs: tuple[Any, ...]) -> list[str]:
    """Blocks in a list or a sequence that give one tensor of the shape of their first input, beside another such."""
    blocks = [
        f"{name}.{key}" if name else key
        for name, module in network.named_modules() if isinstance(module, nn.ModuleList | nn.Sequential)
        for key, child in module.named_children() if any(True for _ in child.parameters()) and list(child.children())
    ]  # fmt: skip
    same: list[str] = []

    def look(name: str) -> Any:
        def hook(module: nn.Module, given: Any, output: Any) -> None:
            first = given[0] if given else None
            if isinstance(first, torch.Tensor) and isinstance(output, torch.Tensor) and first.shape == output.shape:
                same.append(name)

        return hook

    hooks = [network.get_submodule(name).register_forward_hook(look(name)) for name in blocks]
    try:
        with torch.no_grad():
            network(*inputs)
    finally:
        for one in hooks:
            one.remove()
    found = [name for name in dict.fromkeys(same) if same.count(name) == 1]
    kinds = [type(network.get_submodule(name)) for name in blocks]
    return [
        name for name in found
        if kinds.count(type(network.get_submodule(name))) > 1 and not isinstance(network.get_submodule(name), Skipped)
    ]  # fmt: skip


def _put_back(network: nn.Module, name: str, block: nn.Module) -> None:
    owner, _, key = name.rpartition(".")
    network.get_submodule(owner)._modules[key] = block
