"""Recipe ``text``: learns to tell classes of texts apart, from a base model or from nothing."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any, Literal

from pydantic import Field

from modelport.schemas.training import Task
from modelport.training.language import columns
from modelport.training.loop import LoopOptions, Precision, ScheduleName
from modelport.training.recipe import Options, Trained, TrainingData, TrainingRun


class TextOptions(LoopOptions):
    """How a classifier of texts is trained. Where a default is empty, it depends on the model."""

    text: str | None = None
    """The column of the texts. [the only text column]"""
    model: Literal["auto", "base", "small"] = "auto"
    """``base``: a Hugging Face folder among the files, or the version that training starts from; ``small``: an encoder
    that needs no weights and learns its own pieces of words; ``auto``: ``base`` where there is one."""
    max_length: Annotated[int, Field(ge=4, le=65_536)] | None = None
    """Tokens that are kept of a text. [256, or what the base model takes]"""
    epochs: Annotated[int, Field(ge=1, le=100_000)] | None = None  # type: ignore[assignment]
    """Passes over the training rows, at most. [3 for a base model, 15 for the small one]"""
    learning_rate: Annotated[float, Field(gt=0, le=1000)] | None = None  # type: ignore[assignment]
    """[1e-4 for a base model, 2e-3 for the small one]"""
    schedule: ScheduleName = "linear"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    clip: Annotated[float, Field(gt=0, le=1e9)] | None = 1.0
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 16
    freeze: Annotated[int, Field(ge=-1, le=1000)] = 0
    """Layers of the base model, from the bottom, that keep their weights (with the word vectors); -1 for all."""
    unfreeze_epoch: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """The epoch (from 1 on) in which the frozen layers begin to learn. [never]"""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """A layer's rate is so many times the rate of the one above it."""
    head_rate: Annotated[float, Field(gt=0, le=10_000)] = 1.0
    """The new head's rate, in rates of the top layer."""
    class_weights: Literal["none", "balanced"] | dict[str, Annotated[float, Field(ge=0, le=1e6)]] = "none"
    """What a row of each class counts: ``balanced`` lets rare classes count more, or say it by class."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Share of a row's weight that goes to all classes alike. [0 for a base model, 0.1 for the small one]"""
    vocabulary: Annotated[int, Field(ge=300, le=200_000)] = 8000
    """Pieces of words that ``small`` knows, at most."""
    lower: bool = True
    """Whether ``small`` reads capitals as small letters."""
    width: Annotated[int, Field(ge=8, le=4096, multiple_of=8)] = 128
    """Numbers in a word vector of ``small``."""
    layers: Annotated[int, Field(ge=0, le=48)] = 1
    """Layers of ``small``."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Of ``small``; a base model has its own."""
    replay_share: Annotated[float, Field(gt=0, le=10)] = 0.5
    """Older rows that are mixed in, at most, in rows of the new ones."""
    precision: Precision = "fp32"


class TextRecipe:
    """Texts in, probabilities of classes out."""

    summary = "Text classification: fine-tunes a transformer, or learns a small encoder from nothing"
    extra = "finetune"
    needs = ("torch", "transformers", "tokenizers", "onnxscript")
    code = False
    Options: type[Options] = TextOptions

    def task(self, data: TrainingData, options: TextOptions) -> Task:
        """Always the same."""
        return "classification"

    def check(self, data: TrainingData, options: TextOptions) -> list[str]:
        """What columns and statistics tell."""
        column = columns.text_column(data, options.text)
        return columns.check_classes(data) + columns.check_has_texts(data.facts, column)

    def train(self, run: TrainingRun, data: TrainingData, options: TextOptions) -> Trained:
        """Learn."""
        trained: Trained = import_module("modelport.training.language.classify").train(run, data, options)
        return trained

    def reopen(self, run: TrainingRun, data: TrainingData, options: TextOptions) -> Any:
        """The network of a version (``training.reopen.Reopened``)."""
        return import_module("modelport.training.language.classify").reopen(run, data, options)


def filled(options: TextOptions, *, base: bool) -> Any:
    """The options with the model's own defaults where none were given."""
    usual: dict[str, float] = {"epochs": 3, "learning_rate": 1e-4, "label_smoothing": 0.0}
    if not base:
        usual = {"epochs": 15, "learning_rate": 2e-3, "label_smoothing": 0.1}
    given = {name: value for name in usual if (value := getattr(options, name)) is not None}
    return options.model_copy(update=usual | given)
