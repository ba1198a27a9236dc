"""Whole channels, heads and layers taken out of a network, so that what is left is smaller and faster anywhere.

Which layers have to lose the same channels is found by Torch-Pruning (https://arxiv.org/abs/2301.12900); what the
network gives and takes stays as it is. Knows no recipe.
"""

from __future__ import annotations

import math
import warnings
from copy import deepcopy
from typing import Any

import torch
import torch_pruning
from torch import nn

from modelport.compression.keeping import keep_story
from modelport.compression.method import Model
from modelport.compression.methods.prune_structured import PruneStructuredOptions
from modelport.compression.pruning import opened as networks
from modelport.compression.pruning.heads import attentions
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
    """Take channels and heads out, as many as are to be gone after this step of ``options.steps``.

    Layers whose number of channels other code counts on are found out by trying, and left alone.
    """
    if options.heads:
        _prune_heads(found, inputs, options, step)
    if not (options.wanted or options.ratio or options.layers):
        return
    gave, before = _shape_of(found.network.eval(), inputs), deepcopy(found.network)
    least = macs / options.wanted ** (step / options.steps) if options.wanted else 0.0
    try:
        left = _prune_channels(run, found, inputs, options, least, step, [])
    except _DoesNotRun:
        found.network = before
        alone = _stubborn(found.network, inputs, options)
        left = _prune_channels(run, found, inputs, options, least, step, alone)
    found.network.zero_grad(set_to_none=True)
    if options.wanted and left > least:
        raise InvalidInput(
            f"options.macs: {options.wanted:g} times fewer multiplications cannot be reached: {macs / left:.2f} times "
            f"is what is left when layers have {1 - _MOST:.0%} of their channels; ask for less, or drop_layers too"
        )
    if _shape_of(found.network, inputs) != gave:
        raise InvalidInput("the network gives something else without these channels; name fewer of them in layers")


def _prune_channels(
    run: TrainingRun, found: Reopened, inputs: tuple[Any, ...], options: PruneStructuredOptions, least: float,
    step: int, alone: list[str],
) -> int:  # fmt: skip
    """The multiplications that are left."""
    network = found.network
    pruner = _pruner(found, inputs, options, step, alone)
    left, rounds = networks.counted(network, inputs)["macs"], pruner.iterative_steps
    for at in range(rounds):
        if left <= least:
            break
        if options.importance == "taylor" and at % (rounds // 4) == 0:
            networks.gradients(found, options.rows)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for group in pruner.step(interactive=True):
                group.prune()
                _shape_of(network, inputs)
                left = networks.counted(network, inputs)["macs"]
                if left <= least:
                    break
        run.progress(at + 1, rounds, f"taking out what matters least, step {step} of {options.steps}", "rounds")
    return int(left)


def _prune_heads(found: Reopened, inputs: tuple[Any, ...], options: PruneStructuredOptions, step: int) -> None:
    """The same share of each attention's heads; raises InvalidInput where there are none, or none would be left."""
    network, share = found.network.eval(), _now(options.heads, options, step)
    seen = attentions(network)
    if not seen:
        raise InvalidInput("options.heads: the network has no attention whose heads could be told by their names")
    for one in seen:
        if math.ceil(share * one.heads) >= one.heads:
            raise InvalidInput(f"options.heads: none of {one.heads} heads would be left; ask for less than {share:g}")
    asking = {layer for one in seen for layer in one.asking}
    others = [layer for _, layer in networks.weighted(network) if layer not in asking]
    if options.importance == "taylor":
        networks.gradients(found, options.rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruner = torch_pruning.pruner.BasePruner(
            network, inputs, _importance(options), pruning_ratio=0.5, ignored_layers=others, forward_fn=called,
            num_heads={layer: one.heads for one in seen for layer in one.asking}, prune_num_heads=True,
            prune_head_dims=False, head_pruning_ratio=share,
        )  # fmt: skip
        pruner.step()
    network.zero_grad(set_to_none=True)
    for one in seen:
        one.settle(pruner.num_heads)
    _shape_of(network, inputs)


def _now(share: float, options: PruneStructuredOptions, step: int) -> float:
    """Of what is there now, where ``share`` of what there was is gone after the last of the steps."""
    before, after = (1 - share * done / options.steps for done in (step - 1, step))
    return 1 - after / before


def _importance(options: PruneStructuredOptions) -> Any:
    found = torch_pruning.importance
    return found.GroupTaylorImportance() if options.importance == "taylor" else found.GroupMagnitudeImportance(p=2)


def _pruner(
    found: Reopened, inputs: tuple[Any, ...], options: PruneStructuredOptions, step: int, alone: list[str]
) -> Any:
    """Knows which channels go together; its ``step`` takes out some."""
    network = found.network
    kept = [*_untouched(network, inputs, options), *(network.get_submodule(name) for name in alone)]
    ratio = _MOST if options.wanted else _now(options.ratio or 0.0, options, step)
    own = {network.get_submodule(name): _now(one, options, step) for name, one in options.layers.items() if one > 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch_pruning.pruner.BasePruner(
            network, inputs, _importance(options), global_pruning=options.scope == "global", pruning_ratio=ratio,
            pruning_ratio_dict=own, max_pruning_ratio=_MOST, iterative_steps=_FINE if options.wanted else 4,
            ignored_layers=kept, round_to=options.multiple, forward_fn=called, prune_head_dims=False,
            num_heads={layer: one.heads for one in attentions(network) for layer in one.asking},
        )  # fmt: skip


def _stubborn(network: nn.Module, inputs: tuple[Any, ...], options: PruneStructuredOptions) -> list[str]:
    """Layers without some of whose channels the network does not run, each tried on a copy."""
    gave, found = _shape_of(network, inputs), []
    for name, _ in networks.weighted(network):
        copy = deepcopy(network)
        graph, _ = _graph(copy, inputs)
        layer = copy.get_submodule(name)
        some = min(options.multiple, graph.get_out_channels(layer) // 2)
        taken = graph.get_pruning_group(layer, graph.get_pruner_of_module(layer).prune_out_channels, list(range(some)))
        try:
            taken.prune()
            if _shape_of(copy, inputs) != gave:
                found.append(name)
        except (_DoesNotRun, RuntimeError, ValueError, AssertionError, IndexError):
            found.append(name)
    return found


def _graph(network: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, list[Any]]:
    """What hangs together, and all groups of it; raises InvalidInput for a network that cannot be followed."""
    graph = torch_pruning.DependencyGraph()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph.build_dependency(network, inputs, forward_fn=called, verbose=False)
            return graph, list(graph.get_all_groups())
    except Exception as error:  # what the caller's network does is not known
        raise InvalidInput(
            "the network's layers cannot be followed from its inputs to its output "
            f"({type(error).__name__}: {str(error)[:200]}); the method prune needs no such knowledge"
        ) from None


def _untouched(network: nn.Module, inputs: tuple[Any, ...], options: PruneStructuredOptions) -> list[nn.Module]:
    """Layers that keep all they give: those whose output is the network's, those that the caller named, and those that
    add to embeddings (a transformer's hidden size)."""
    graph, groups = _graph(network, inputs)
    kept = []
    for group in groups:
        giving = [dep.target for dep, _ in group if graph.is_out_channel_pruning_fn(dep.handler)]
        gives = [target.module for target in giving]
        last = any(not target.outputs for target in giving)
        if last or any(isinstance(one, nn.Embedding) for one in gives):
            kept += [one for one in gives if isinstance(one, nn.Module)]
    kept += [network.get_submodule(name) for name, ratio in options.layers.items() if not ratio]
    return kept


class _DoesNotRun(InvalidInput):
    """Some of the network's own code counts on a number of channels."""


def _shape_of(network: nn.Module, inputs: tuple[Any, ...]) -> list[int]:
    try:
        with torch.no_grad():
            return list(network(*inputs).shape)
    except (RuntimeError, ValueError) as error:
        raise _DoesNotRun(
            f"the network does not run without these channels ({str(error)[:200]}): some of its code counts on their "
            "number; leave its layers alone (options.layers NAME: 0), or take the method prune"
        ) from None
