"""Recipe ``module``: a torch network of the caller's own, ``file:function`` among the files that are given.

The function is called once, as ``build(data, **params)``:

* ``data`` tells what there is: ``data.columns`` (numbers, in their order), ``data.vectors`` (length by list column),
  ``data.image`` ((channels, height, width) or None), ``data.classes`` (their names, or None), ``data.rows``;
* it gives back ``(network, loss)``, or an object with these two as attributes, and perhaps ``groups``: a list of
  ``(modules, rate, from_epoch)`` that learn at ``rate`` times the learning rate, frozen until ``from_epoch``;
* ``network(**inputs)`` gets ``numbers`` (float32 [rows, columns], scaled, a missing one is 0), each list column by its
  name (float32 [rows, length], as it is) and ``image`` (float32 [rows, channels, height, width], from 0 to 1), as far
  as there are any and its ``forward`` asks for them by name;
* it gives scores [rows, classes], or numbers [rows] or [rows, 1]; ``loss(output, target)`` gives one number, the mean
  over the rows; ``target`` is int64 [rows] codes of ``data.classes``, or float32 [rows], scaled as numbers are.

Only what columns and statistics tell is looked at here; the learning is in ``training.modules``.
"""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any, Literal

from pydantic import Field

from modelport.errors import InvalidInput
from modelport.schemas.datasets import ColumnName
from modelport.schemas.training import Task
from modelport.training import targets
from modelport.training.loop import LoopOptions
from modelport.training.recipe import Options, Trained, TrainingData, TrainingRun
from modelport.training.recipes.image import Side
from modelport.training.recipes.tabular import check_target, target_has_classes

_NUMBERS = ("int", "uint", "float", "double", "halffloat", "bool")
_BINARY = ("binary", "large_binary")


class ModuleOptions(LoopOptions):
    """How a network of the caller's own is trained."""

    build: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]{0,199}:[A-Za-z_][A-Za-z0-9_]{0,99}$")]
    """The function that builds the network and its loss, such as ``net:build`` for ``build`` in the file net.py."""
    params: dict[str, Any] = Field(default_factory=dict)
    """What the function is given besides the data, by name."""
    task: Literal["auto", "classification", "regression"] = "auto"
    """``auto``: texts, true and false, and whole numbers with at most 20 values are classes."""
    scale: bool = True
    """Numbers less their mean, by their deviation, those that are to be predicted too; the served model does it, and
    undoes it for what it predicts."""
    image: ColumnName | None = None
    """The column of image files. [the only binary column]"""
    image_size: Side | tuple[Side, Side] = 64
    """Pixels that images are resized to: one number, or height and width."""
    channels: Literal["RGB", "L"] = "RGB"
    replay_share: Annotated[float, Field(gt=0, le=100)] = 0.5
    """Older rows that are mixed in, at most, in rows of the new ones."""


class ModuleRecipe:
    """Whatever the network takes and gives."""

    summary = "A torch network and a loss of your own"
    extra = "train"
    needs = ("torch", "onnxscript", "PIL", "pyarrow")
    code = True
    Options: type[Options] = ModuleOptions

    def task(self, data: TrainingData, options: ModuleOptions) -> Task:
        """Classification or regression, by the option or the target."""
        if options.task != "auto":
            return options.task
        return "classification" if target_has_classes(data) else "regression"

    def check(self, data: TrainingData, options: ModuleOptions) -> list[str]:
        """What columns and statistics tell."""
        numbers, vectors, image = columns_of(data, options)
        if not (numbers or vectors or image):
            raise InvalidInput("features: a network takes numbers, lists of numbers or image files; there are none")
        if self.task(data, options) == "classification":
            return targets.check_classes(data)
        return check_target(data, "regression")

    def train(self, run: TrainingRun, data: TrainingData, options: ModuleOptions) -> Trained:
        """Learn."""
        learn = import_module("modelport.training.modules.learn")
        trained: Trained = learn.train(run, data, options, self.task(data, options))
        return trained

    def reopen(self, run: TrainingRun, data: TrainingData, options: ModuleOptions) -> Any:
        """The network of a version (``training.reopen.Reopened``)."""
        learn = import_module("modelport.training.modules.learn")
        return learn.reopen(run, data, options, self.task(data, options))


def columns_of(data: TrainingData, options: ModuleOptions) -> tuple[list[str], list[str], str | None]:
    """Columns of numbers, of lists of numbers, and of image files; raises InvalidInput for what is none of them."""
    numbers, vectors, images = [], [], []
    for name, kind in data.features.items():
        if kind.startswith(_NUMBERS):
            numbers.append(name)
        elif kind.startswith("list<") and kind.partition(": ")[2].startswith(_NUMBERS):
            vectors.append(name)
        elif kind in _BINARY:
            images.append(name)
        else:
            raise InvalidInput(
                f"column {name!r} is {kind}, which no network takes; exclude it, or make it numbers with "
                "`modelport data features`"
            )
    if options.image is not None and options.image not in images:
        raise InvalidInput(f"options.image: {options.image!r} is no column of files (binary) to learn from")
    if len(images) > 1 and options.image is None:
        raise InvalidInput(f"several columns hold files: {', '.join(images)}; say options.image, exclude the others")
    taken = {"numbers", "image"} & set(vectors)
    if taken:
        raise InvalidInput(f"column {taken.pop()!r} has a name that the network's inputs need; rename it")
    return numbers, vectors, options.image or (images[0] if images else None)
