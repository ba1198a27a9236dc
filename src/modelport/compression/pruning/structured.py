"""Whole channels, heads and layers taken out of a network, so that what is left is smaller and faster anywhere.

Which layers have to lose the same channels is found by Torch-Pruning (https://arxiv.org/abs/2301.12900); what the
network gives and takes stays as it is. Knows no recipe.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch_pruning
from torch import nn

from modelport.compression.keeping import keep_story
from modelport.compression.method import Model
from modelport.compression.methods.prune_structured import PruneStructuredOptions
from modelport.compression.pruning import opened as networks
from modelport.compression.pruning.heads import Attention, attentions
from modelport.compression.pruning.layers import leave_out_layers
from modelport.compression.pruning.tracing import called
from modelport.errors import InvalidInput
from modelport.training.recipe import Trained, TrainingData, TrainingRun
from modelport.training.reopen import Reopened

_FINE = 100
"""Steps in which channels are looked at anew; the target is met to about one of them."""
_MOST = 0.95
"""Of a layer's channels, this share may go."""


def compress(
    run: TrainingRun, model: Model, data: TrainingData | None, options: PruneStructuredOptions
) -> Trained:  # fmt: skip
    """Prune, train, write; raises InvalidInput for layers that are not there and networks that cannot be followed."""
    found = networks.opened(run, model, data)
    networks.check_names(found.network, list(options.layers), "layers")
    inputs = networks.example(found)
    before = networks.counted(found.network, inputs)
    figures_before = networks.figures(found)
    left_out = leave_out_layers(run, found, options.drop_layers, options.rows)
    history = []
    for step in range(1, options.steps + 1):
        prune(run, found, inputs, options, before["macs"], step)
        if step < options.steps:
            fit = networks.trained_on(run, found, f"pruned-{step}", options.step_epochs, options.learning_rate)
            history += [entry | {"pruned": step} for entry in fit.history]
    figures_pruned, metrics = networks.figures(found), {}
    if options.epochs:
        fit = networks.trained_on(run, found, "pruned", options.epochs, options.learning_rate)
        history += [entry | {"pruned": options.steps} for entry in fit.history]
        metrics = fit.figures
    after = networks.counted(found.network, inputs)
    made = found.write(found.network, run)
    keep_story(model, run)
    made.metrics |= metrics
    layers_before, layers_after = before.pop("layers"), after.pop("layers")
    made.report |= {
        "before": before | figures_before, "after": after | networks.figures(found), "pruned": figures_pruned,
        "times_fewer_macs": round(before["macs"] / after["macs"], 3), "left_out": left_out,
        "times_fewer_parameters": round(before["parameters"] / after["parameters"], 3), "history": history,
        "layers": {
            name: {"before": was["shape"], "after": layers_after.get(name, {}).get("shape")}
            for name, was in layers_before.items()
        },
    }  # fmt: skip
    return made


def prune(
    run: TrainingRun, found: Reopened, inputs: tuple[Any, ...], options: PruneStructuredOptions, macs: int, step: int
) -> None:
    """Take channels and heads out, as many as are to be gone after this step of ``options.steps``."""
    network = found.network.eval()
    if not (options.wanted or options.ratio or options.layers or options.heads):
        return
    gave = _shape_of(network, inputs)
    least = macs / options.wanted ** (step / options.steps) if options.wanted else 0.0
    pruner = _pruner(found, inputs, options, step)
    left, rounds = macs, pruner.iterative_steps
    for at in range(rounds):
        if left <= least:
            break
        if options.importance == "taylor" and at % (rounds // 4) == 0:
            networks.gradients(found, options.rows)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for group in pruner.step(interactive=True):
                group.prune()
                for one in pruner.attentions:
                    one.settle()
                _shape_of(network, inputs)
                left = networks.counted(network, inputs)["macs"]
                if left <= least:
                    break
        run.progress(at + 1, rounds, f"taking out what matters least, step {step} of {options.steps}", "rounds")
    network.zero_grad(set_to_none=True)
    if options.wanted and left > least:
        raise InvalidInput(
            f"options.macs: {options.wanted:g} times fewer multiplications cannot be reached: {macs / left:.2f} times "
            f"is what is left when every layer has {1 - _MOST:.0%} of its channels; ask for less, or drop_layers too"
        )
    if _shape_of(network, inputs) != gave:
        raise InvalidInput("the network gives something else without these channels; name fewer of them in layers")


def _pruner(found: Reopened, inputs: tuple[Any, ...], options: PruneStructuredOptions, step: int) -> Any:
    """Knows which channels go together; its ``step`` takes out some."""

    def now(share: float) -> float:
        """Of what is there now, where ``share`` of what there was is gone after the last of the steps."""
        before, after = (1 - share * done / options.steps for done in (step - 1, step))
        return 1 - after / before

    network = found.network
    seen = attentions(network)
    kept = _untouched(network, inputs, options, seen)
    ratio = _MOST if options.wanted else now(options.ratio or 0.0)
    own = {network.get_submodule(name): now(one) for name, one in options.layers.items() if one > 0}
    importance = (
        torch_pruning.importance.GroupTaylorImportance() if options.importance == "taylor"
        else torch_pruning.importance.GroupMagnitudeImportance(p=2)
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruner = torch_pruning.pruner.BasePruner(
            network, inputs, importance, global_pruning=options.scope == "global", pruning_ratio=ratio,
            pruning_ratio_dict=own, max_pruning_ratio=_MOST, iterative_steps=_FINE if options.wanted else 4,
            ignored_layers=kept, round_to=options.multiple, forward_fn=called,
            num_heads={layer: one.heads for one in seen for layer in one.asking}, prune_num_heads=options.heads > 0,
            prune_head_dims=False, head_pruning_ratio=now(options.heads),
        )  # fmt: skip
    pruner.attentions = [one.known_to(pruner.num_heads) for one in seen]
    return pruner


def _untouched(
    network: nn.Module, inputs: tuple[Any, ...], options: PruneStructuredOptions, seen: list[Attention]
) -> list[nn.Module]:
    """Layers that keep all they give: those whose output is the network's, those that the caller named, and those that
    add to a transformer's embeddings (its hidden size)."""
    graph = torch_pruning.DependencyGraph()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph.build_dependency(network, inputs, forward_fn=called, verbose=False)
            groups = list(graph.get_all_groups())
    except Exception as error:  # what the caller's network does is not known
        raise InvalidInput(
            "the network's layers cannot be followed from its inputs to its output "
            f"({type(error).__name__}: {str(error)[:200]}); the method prune needs no such knowledge"
        ) from None
    kept = []
    for group in groups:
        giving = [dep.target for dep, _ in group if graph.is_out_channel_pruning_fn(dep.handler)]
        gives = [target.module for target in giving]
        last = any(not target.outputs for target in giving)
        embedded = bool(seen) and any(isinstance(one, nn.Embedding) for one in gives)
        if last or embedded:
            kept += [one for one in gives if isinstance(one, nn.Module)]
    kept += [network.get_submodule(name) for name, ratio in options.layers.items() if not ratio]
    return kept


def _shape_of(network: nn.Module, inputs: tuple[Any, ...]) -> list[int]:
    try:
        with torch.no_grad():
            return list(network(*inputs).shape)
    except (RuntimeError, ValueError) as error:
        raise InvalidInput(
            f"the network does not run without these channels ({str(error)[:200]}): some of its code counts on their "
            "number; leave its layers alone (options.layers NAME: 0), or take the method prune"
        ) from None
