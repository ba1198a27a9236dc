"""Single weights of a network set to zero: at once, more and more while it trains, or as the training itself learns.

The masks and all that is counted are buffers of the network while it trains, so that its checkpoints hold them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from modelport.compression.keeping import keep_story
from modelport.compression.method import Model
from modelport.compression.methods.prune import PruneOptions
from modelport.compression.pruning import opened as networks
from modelport.compression.pruning.masks import masks_below, masks_of, share_of_zeros
from modelport.compression.pruning.scores import own, scores
from modelport.compression.pruning.zipped import zipped
from modelport.errors import InvalidInput
from modelport.training.recipe import Trained, TrainingData, TrainingRun
from modelport.training.reopen import Reopened

_EPOCHS = 5
_DONE_AT = 0.5
"""Of the training, when as much is gone as is to be gone."""
_PULL = 0.005
"""How fast learned masks move, in the mean score of a layer."""
_TINY = 1e-12
_MISSING = 1000.0
"""What a missing share of zeros adds to the loss that the best epoch is found by."""
_FIGURE = "pruned_loss"


def compress(run: TrainingRun, model: Model, data: TrainingData, options: PruneOptions) -> Trained:
    """Prune, train, write."""
    found = networks.opened(run, model, data)
    networks.check_names(found.network, options.keep, "keep")
    layers = {name: layer for name, layer in networks.weighted(found.network) if not _is_kept(name, options.keep)}
    if not layers:
        raise InvalidInput("options.keep: no layer is left that could be pruned")
    before, first = networks.figures(found), networks.counted(found.network, networks.example(found))
    run.progress(0, None, f"looking for what matters least, by {options.by}", "layers")
    matters = scores(found, layers, options.by, options.rows)
    masked = _Masked(found, layers, matters, options)
    pruned = networks.figures(found)
    epochs = _EPOCHS if options.epochs is None else options.epochs
    history, metrics = [], {}
    if epochs:
        masked.steps = epochs * _steps_an_epoch(found)
        watched = replace(found, figures=masked.figures(found.figures))
        fit = networks.trained_on(
            run, watched, "pruned", epochs, options.learning_rate, masked.loss(found), {"monitor": _FIGURE}
        )
        history, metrics = fit.history, fit.figures
    masks = masked.settle()
    made = found.write(found.network, run)
    keep_story(model, run)
    made.metrics |= metrics
    file = run.out / "model.onnx"
    made.report |= {
        "by": options.by, "when": options.when, "history": history, "pruned": pruned,
        "before": before | {"parameters": first["parameters"], "zipped_bytes": zipped(model.folder / "model.onnx")},
        "after": networks.figures(found) | {
            "parameters": first["parameters"], "zero": round(share_of_zeros(masks), 6), "zipped_bytes": zipped(file),
        },
        "layers": {name: {"zero": round(share_of_zeros({name: one}), 4)} for name, one in masks.items()},
    }  # fmt: skip
    return made


class Kept(nn.Module):
    """A weight's mask, and what decides on it while the network trains."""

    mask: torch.Tensor
    score: torch.Tensor
    gathered: torch.Tensor

    def __init__(self, mask: torch.Tensor, score: torch.Tensor, learned: bool) -> None:
        super().__init__()
        self.register_buffer("mask", mask)
        self.register_buffer("score", score)
        self.register_buffer("gathered", torch.zeros_like(score) if learned else torch.zeros(0))
        self.learned = learned

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """With learned masks, the gradient reaches the weights that are out as well."""
        held = weight * self.mask
        return weight + (held - weight).detach() if self.learned and self.training else held

    def gather(self, weight: torch.Tensor, gradient: torch.Tensor) -> None:
        """A step of AdaGrad (Duchi et al. 2011) on the score, by the loss's gradient of the mask (Sanh et al. 2020,
        https://arxiv.org/abs/2005.07683)."""
        pull = gradient * weight
        self.gathered.add_(pull.square())
        self.score.sub_(_PULL * pull / (self.gathered.sqrt() + _TINY))


class _Masked:
    """The masks of a network's layers while it trains."""

    def __init__(
        self, found: Reopened, layers: Mapping[str, Any], matters: Mapping[str, torch.Tensor], options: PruneOptions
    ) -> None:
        self._options, self._layers, self._found = options, layers, found
        self._learned = options.when == "learned"
        self.steps = 1
        first = self._masks(matters, options.share if options.when != "gradual" else 0.0)
        for name, layer in layers.items():
            score = matters[name] / matters[name].mean().clamp_min(_TINY) if self._learned else torch.zeros(0)
            parametrize.register_parametrization(layer, "weight", Kept(first[name], score, self._learned))
            if self._learned:
                self._kept(layer).train(found.network.training)
        found.network.register_buffer("pruning_step", torch.zeros((), dtype=torch.int64))
        self._network: Any = found.network
        if self._learned:
            for layer in layers.values():
                own(layer).register_hook(self._gatherer(layer))

    def loss(self, found: Reopened) -> Callable[[nn.Module, Any], torch.Tensor]:
        """The recipe's; masks change before it is asked for, every so many steps."""

        def asked(network: nn.Module, batch: Any) -> torch.Tensor:
            self._advance()
            return found.loss(network(*found.inputs(batch)), batch)

        return asked

    def figures(self, own: Callable[[nn.Module], Mapping[str, float]]) -> Callable[[nn.Module], Mapping[str, float]]:
        """With one that is best when as much is gone as was asked for, and the loss is least."""

        def asked(network: nn.Module) -> Mapping[str, float]:
            figures = dict(own(network))
            missing = 0.0
            if self._options.when != "once":
                missing = max(self._options.share - share_of_zeros(self.masks), 0.0)
            return figures | {_FIGURE: figures["loss"] + (_MISSING * missing if missing > 0.005 else 0.0)}

        return asked

    @property
    def masks(self) -> dict[str, torch.Tensor]:
        """As they are now."""
        return {name: self._kept(layer).mask for name, layer in self._layers.items()}

    def settle(self) -> dict[str, torch.Tensor]:
        """Leave the weights as they are with their masks, and nothing else."""
        masks = {name: one.clone() for name, one in self.masks.items()}
        self._network.eval()
        for layer in self._layers.values():
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
        del self._network.pruning_step
        return masks

    def _advance(self) -> None:
        """Before a batch: what goes is looked at anew when it is time."""
        step = int(self._network.pruning_step)
        self._network.pruning_step.add_(1)
        done = min(step / (self.steps * _DONE_AT), 1.0)
        last = step <= self.steps * _DONE_AT + self._options.every
        if self._options.when == "once" or step % self._options.every or not last:
            return
        if self._learned:
            now = {name: self._kept(layer).score for name, layer in self._layers.items()}
            masks = self._masks(now, self._options.share)
        else:
            masks = self._masks(self._matters(), self._options.share * (1 - (1 - done) ** 3))
        for name, layer in self._layers.items():
            self._kept(layer).mask.copy_(masks[name])

    def _matters(self) -> dict[str, torch.Tensor]:
        """As the network is now. By size, weights that are out may come back; by what the loss or the inputs tell of a
        network without them, they cannot."""
        if self._options.by == "magnitude":
            return {name: own(layer).detach().abs() for name, layer in self._layers.items()}
        training = self._network.training
        gradients = {name: one.grad for name, one in self._network.named_parameters()}
        found = scores(self._found, self._layers, self._options.by, self._options.rows)
        for name, one in self._network.named_parameters():
            one.grad = gradients[name]
        self._network.train(training)
        return {name: one * self._kept(self._layers[name]).mask for name, one in found.items()}

    def _masks(self, matters: Mapping[str, torch.Tensor], share: float) -> dict[str, torch.Tensor]:
        options = self._options
        if options.threshold is not None:
            return masks_below(matters, options.threshold, options.block)
        by_row = options.by == "activation" and options.block == (1, 1)
        return masks_of(matters, share, options.block, by_layer=options.by_layer, by_row=by_row)

    def _kept(self, layer: Any) -> Any:
        return layer.parametrizations.weight[0]

    def _gatherer(self, layer: Any) -> Callable[[torch.Tensor], None]:
        def gather(gradient: torch.Tensor) -> None:
            self._kept(layer).gather(own(layer).detach(), gradient)

        return gather


def _steps_an_epoch(found: Reopened) -> int:
    return -(-len(found.learning) // found.loop.batch_size)


def _is_kept(name: str, keep: list[str]) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in keep)
