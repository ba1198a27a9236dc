"""A network of a version, taken up again by the recipe that made it: with its rows, its loss and its way to be served.

What prunes, distils or trains with quantization in mind works on this, whatever the network is for. Knows no method.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from modelport.errors import InvalidInput
from modelport.schemas.training import Task
from modelport.training.loop import LoopOptions
from modelport.training.recipe import Options, Start, Trained, TrainingData, TrainingRun, options_of, recipe_of

if TYPE_CHECKING:  # the server asks which recipes can, and learns nothing itself
    import torch
    from torch import nn

    from modelport.training.batches import Examples


@dataclass(slots=True)
class Reopened:
    """A network and all that is needed to go on with it."""

    network: nn.Module
    """In evaluation mode, with its weights."""
    task: Task
    inputs: Callable[[Any], tuple[torch.Tensor, ...]]
    """What ``network`` is called with, positionally, from a batch of the examples."""
    loss: Callable[[torch.Tensor, Any], torch.Tensor]
    """Of the network's output and a batch: one number, the mean over its rows, as the recipe trains."""
    learning: Examples
    """Training rows, changed at random where the recipe does that."""
    plain: Examples
    """Training rows as they are."""
    judged: Examples
    """Validation rows."""
    figures: Callable[[nn.Module], Mapping[str, float]]
    """Of the validation rows, with ``loss``; the network is in evaluation mode then."""
    write: Callable[[nn.Module, TrainingRun], Trained]
    """Writes a version's files into ``run.out`` (ONNX proven against the network, what it keeps, preprocessing), for
    this network or another one with the same inputs and outputs. One that became smaller (``training.outline``) or came
    from ``build`` can be taken up again; of any other, no weights are kept, and ``warnings`` says so."""
    build: Callable[[Mapping[str, Any]], nn.Module]
    """A network of the same inputs and outputs with another size, with weights from nothing; see ``sizes``."""
    sizes: tuple[Mapping[str, Any], ...]
    """Smaller sizes that ``build`` takes, from the largest to the smallest; empty where it knows none."""
    loop: LoopOptions
    """How the version was trained."""
    truth: Callable[[Any], torch.Tensor] | None = None
    """The classes' codes, or the numbers, of a batch's rows."""
    is_probabilities: bool = False
    """Whether the network's output is probabilities; else scores (logits) of classes, or numbers."""


@runtime_checkable
class Reopens(Protocol):
    """A recipe whose networks can be taken up again."""

    def reopen(self, run: TrainingRun, data: TrainingData, options: Any) -> Reopened:
        """The network of ``run.start``; raises InvalidInput when that version keeps none."""
        ...


def recipe_and_options(start: Start) -> tuple[Any, Options, str]:
    """The recipe that made a version, its options and its name; raises InvalidInput where that is not known."""
    try:
        story = json.loads((start.folder / "training" / "training.json").read_text())
        recipe, params = str(story["recipe"]), story["params"]
    except (OSError, ValueError, KeyError):
        raise InvalidInput(
            "this version was not trained by Modelport, so its network cannot be taken up again; methods that work on "
            "its ONNX file can"
        ) from None
    found = recipe_of(recipe)
    return found, options_of(found, params.get("options", {})), recipe


def can_reopen(folder: Path) -> bool:
    """Whether a version's files look as if its recipe could take its network up again."""
    try:
        recipe, _, _ = recipe_and_options(Start(folder, {}, {}, []))
    except InvalidInput:
        return False
    return isinstance(recipe, Reopens)


def reopen(run: TrainingRun, start: Start, data: TrainingData) -> Reopened:
    """The network of a version; raises InvalidInput when its recipe cannot take it up again."""
    recipe, options, name = recipe_and_options(start)
    if not isinstance(recipe, Reopens):
        raise InvalidInput(f"a version of the recipe {name!r} has no network that can be taken up again")
    return recipe.reopen(replace(run, start=start), data, options)
