"""What a method of compression is, what it is given, and what it gives back.

A method is a plug-in of the group ``modelport.methods``: a class without arguments. It is asked (``check``) in the
server before work begins, where heavy libraries must not be imported, and works (``compress``) in a process of its own
that may be killed at any instant and begun again with the same folder. What it makes is a version's files, so that
methods can follow one another. Knows no job, no registry and no budget.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from modelport import plugins
from modelport.schemas.models import Manifest
from modelport.training import recipe
from modelport.training.recipe import Options, Start, Trained, TrainingData, TrainingRun

GROUP = "methods"

Form = Literal["onnx", "network", "sklearn", "language"]
"""What a method works on: ``onnx``, a served ONNX file; ``network``, a PyTorch network that its recipe takes up again
(``training.reopen``); ``sklearn``, an estimator that is served by skops; ``language``, a model that writes text (a
Hugging Face folder, or GGUF)."""


@dataclass(frozen=True)
class Model:
    """A version, or what a method made of one: its files and what was found out about them."""

    folder: Path
    """Its files, to be read only."""
    manifest: Manifest
    """``signature`` is what callers send (raw rows), ``model_signature`` what the file itself takes."""
    others: Mapping[str, Model] = field(default_factory=dict)
    """Other versions that the options name (``Consults``), by the names they have there."""

    @property
    def start(self) -> Start:
        """As a recipe is given it."""
        manifest = self.manifest
        steps = [step.model_dump() for step in manifest.preprocessing]
        return Start(self.folder, manifest.details, manifest.labels, steps)

    @cached_property
    def story(self) -> Mapping[str, Any]:
        """How it was trained (``recipe``, ``params``, ``report`` …); empty where nobody wrote it down."""
        try:
            return dict(json.loads((self.folder / "training" / "training.json").read_text()))
        except (OSError, ValueError):
            return {}


@runtime_checkable
class Method(Protocol):
    """A way to make a model smaller or faster."""

    summary: str
    """One line."""
    extra: str
    """The extra of Modelport that brings what it needs."""
    needs: tuple[str, ...]
    """Modules without which it cannot work."""
    forms: tuple[Form, ...]
    """What it works on."""
    data: bool
    """Whether it needs rows whatever its options are; else ``check`` says when it does."""
    Options: type[Options]

    def check(self, model: Model, data: TrainingData | None, options: Any) -> list[str]:
        """Warnings; raises InvalidInput for what can be known to be wrong by manifest and columns alone.

        ``model.folder`` may be empty yet, and ``data`` has no files yet.
        """
        ...

    def compress(self, run: TrainingRun, model: Model, data: TrainingData | None, options: Any) -> Trained:
        """Write the smaller version's files into ``run.out``: all of them, those that stay as they were too.

        Raises InvalidInput for what is wrong with model, rows or options. ``Trained.report`` says what was done, layer
        by layer where that helps, and ``before`` and ``after`` where it counted something (parameters, MACs, bits).
        """
        ...

    def strengths(self, model: Model) -> Sequence[Mapping[str, Any]]:
        """Options for a search to try, from the gentlest to the strongest; empty when a search should not try it."""
        ...


@runtime_checkable
class Previews(Protocol):
    """A method that takes long, and can show quickly what would become of a model."""

    def preview(self, model: Model, options: Any) -> Options:
        """The same options, but for how long it learns: quality will be a little worse than in the end."""
        ...


@runtime_checkable
class Consults(Protocol):
    """A method that looks at other versions too, such as further teachers."""

    def consulted(self, options: Any) -> Sequence[str]:
        """What the options call them: ``NAME``, ``NAME:2``, ``NAME@alias``. They come as ``Model.others``."""
        ...


def method_of(name: str) -> Method:
    """A method by its name; raises InvalidInput with the nearest name, or all."""
    method: Method = plugins.asked_for(GROUP, name, "method", "method")
    return method


def check_installed(method: Method) -> None:
    """Raise MissingExtra when the method cannot work here."""
    recipe.check_installed(method, "compression")
