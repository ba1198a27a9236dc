"""Recipe ``embedding``: fine-tunes a sentence encoder on pairs, scored pairs or classes. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Literal

from pydantic import Field

from modelport.errors import InvalidInput
from modelport.schemas.training import Task
from modelport.training.language import columns
from modelport.training.loop import LoopOptions, ScheduleName
from modelport.training.recipe import Options, Trained, TrainingData, TrainingRun

Loss = Literal["ranking", "cosine", "triplet"]
_NUMBERS = ("int", "uint", "float", "double")


class EmbeddingOptions(LoopOptions):
    """How a sentence encoder is fine-tuned. Its base is a Hugging Face or sentence-transformers folder among the
    files, or the version that training starts from."""

    first: str | None = None
    """The column of one text of a pair, such as questions. [the first text column]"""
    second: str | None = None
    """The column of the text that belongs to it. [the second text column]"""
    score: str | None = None
    """The column that says how alike the two are. [the target, where it is a number]"""
    loss: Literal["auto", "ranking", "cosine", "triplet"] = "auto"
    """``ranking``: a text's own partner before all others of the batch (pairs); ``cosine``: the cosine of a pair is its
    score, from the lowest as 0 to the highest as 1; ``triplet``: nearer to the farthest of its own class than to the
    nearest of another (one text column, the target a class). ``auto``: by the columns."""
    scale: Annotated[float, Field(gt=0, le=1000)] = 20.0
    """What cosines are multiplied by, in ``ranking``."""
    margin: Annotated[float, Field(gt=0, le=2)] = 0.3
    """How much nearer, in ``triplet``; distances are 1 - cosine."""
    max_length: Annotated[int, Field(ge=4, le=65_536)] | None = None
    """Tokens that are kept of a text. [256, or what the base model takes]"""
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 1
    learning_rate: Annotated[float, Field(gt=0, le=1000)] = 5e-5
    schedule: ScheduleName = "linear"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    clip: Annotated[float, Field(gt=0, le=1e9)] | None = 1.0
    freeze: Annotated[int, Field(ge=-1, le=1000)] = 0
    """Layers of the base model, from the bottom, that keep their weights (with the word vectors); -1 for all."""
    unfreeze_epoch: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """The epoch (from 1 on) in which the frozen layers begin to learn. [never]"""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """A layer's rate is so many times the rate of the one above it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is learnt from which columns."""

    loss: Loss
    texts: tuple[str, ...]
    """One column, or two."""
    value: str | None
    """The column of scores or classes."""


class EmbeddingRecipe:
    """Texts in, vectors out: texts that belong together lie near one another."""

    summary = "Embeddings: fine-tunes a sentence encoder on pairs, scored pairs or classes of texts"
    extra = "finetune"
    needs = ("torch", "transformers", "tokenizers", "onnxscript")
    code = False
    Options: type[Options] = EmbeddingOptions

    def task(self, data: TrainingData, options: EmbeddingOptions) -> Task:
        """Always the same."""
        return "embedding"

    def check(self, data: TrainingData, options: EmbeddingOptions) -> list[str]:
        """What columns and statistics tell."""
        plan = plan_of(data, options)
        if options.loss not in ("auto", plan.loss):
            raise InvalidInput(f"options.loss: the columns do not fit {options.loss!r}: {_needs(options.loss)}")
        if plan.loss == "triplet":
            columns.check_classes(data)
        if plan.loss == "ranking" and options.batch_size < 2:
            raise InvalidInput("options.batch_size: 'ranking' compares the rows of a batch; say at least 2")
        return [text for column in plan.texts for text in columns.check_has_texts(data.facts, column)]

    def train(self, run: TrainingRun, data: TrainingData, options: EmbeddingOptions) -> Trained:
        """Learn."""
        trained: Trained = import_module("modelport.training.language.sentences").train(run, data, options)
        return trained


def plan_of(data: TrainingData, options: EmbeddingOptions) -> Plan:
    """Which columns are what; raises InvalidInput when they do not tell."""
    texts = [name for name, kind in data.features.items() if kind == columns.TEXT]
    first, second = options.first, options.second
    for name, option in ((first, "first"), (second, "second")):
        if name is not None:
            columns.checked_column(data.features, name, option)
    if first is None and second is None and len(texts) == 2:
        first, second = texts
    elif (second is None and options.loss == "triplet") or len(texts) == 1:
        return Plan("triplet", (columns.text_column(data, first, "first"),), _classes(data))
    if first is None or second is None or first == second:
        raise InvalidInput(
            f"options.first, options.second: say which two of the text columns ({', '.join(texts[:8]) or 'none'}) "
            "belong together"
        )
    value = options.score
    if value is None and (data.target_type or "").startswith(_NUMBERS):
        value = data.target
    known = dict(data.features) | ({data.target: data.target_type or ""} if data.target else {})
    if value is not None and not known.get(value, "").startswith(_NUMBERS):
        raise InvalidInput(
            f"options.score: column {value[:100]!r} is {known.get(value, 'not there')}; a score is a number"
        )
    if options.loss == "ranking":
        value = None
    return Plan("ranking" if value is None else "cosine", (first, second), value)


def _classes(data: TrainingData) -> str:
    if data.target is None:
        raise InvalidInput(
            "data: there is one text column and no target: an encoder learns from two text columns, or from one and "
            "its classes (target)"
        )
    return data.target


def _needs(loss: str) -> str:
    return {
        "ranking": "it takes two text columns",
        "cosine": "it takes two text columns and a number for each pair (score, or the target)",
        "triplet": "it takes one text column (first) and a class as target",
    }[loss]
