"""Method ``distil-language``: a smaller model that writes like the version.

Only what manifest and options tell is looked at here; the work is in ``compression.distilling``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any, Literal

from pydantic import Field

from modelport.compression.method import Form, Model
from modelport.errors import InvalidInput
from modelport.training.language import columns
from modelport.training.recipe import Options, Trained, TrainingData, TrainingRun


class LanguageOptions(Options):
    """Which student there is, and what it learns from."""

    mode: Literal["rows", "sequence", "reverse"] = "rows"
    """``rows``: at each token of the rows what the teacher would say (forward KL); ``sequence``: of texts that the
    teacher writes, begun as the rows begin; ``reverse``: half of the time what the teacher thinks of what the student
    itself writes (reverse KL), so that it does not say what its teacher would not."""
    layers: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Layers of the student: every second (third …) of the teacher's. [the most that fit ``ratio``]"""
    feed: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Width of its feed-forward parts, as a share of the teacher's."""
    ratio: Annotated[float, Field(gt=1, le=1000)] | None = None
    """So many times fewer weights, at least. [1.5 without ``layers``]"""
    text: str | None = None
    """The column of plain texts. [the only text column, when there is no ``messages``]"""
    messages: str | None = None
    """The column of conversations. [``messages``, if there]"""
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5
    """What the teacher's answers count; the rest is for the tokens of the rows."""
    temperature: Annotated[float, Field(gt=0, le=100)] = 1.0
    """Softens the chances that are learnt."""
    prompt: Annotated[int, Field(ge=1, le=10_000)] = 8
    """Tokens of a row that teacher or student go on from."""
    written: Annotated[int, Field(ge=1, le=10_000)] = 32
    """Tokens that they write."""
    max_length: Annotated[int, Field(ge=8, le=1_000_000)] = 256
    """Tokens of one example."""
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 3
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 8
    learning_rate: Annotated[float, Field(gt=0, le=1000)] = 3e-4
    validation_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 500
    """Validation rows that perplexity is measured on, at most."""


class DistilLanguage:
    """A student that writes."""

    summary = "Distillation of a language model: fewer layers that write like the whole"
    extra = "finetune"
    needs: tuple[str, ...] = ("torch", "transformers", "tokenizers", "peft")
    forms: tuple[Form, ...] = ("language",)
    data = True
    Options: type[Options] = LanguageOptions

    def check(self, model: Model, data: TrainingData | None, options: Any) -> list[str]:
        """The column of the texts."""
        if options.layers is not None and options.ratio is not None:
            raise InvalidInput("options.ratio: layers already say how small the student is; leave one out")
        if data is None:
            return []
        column, _ = columns.conversation_or_text(data, options.messages, options.text)
        return columns.check_has_texts(data.facts, column)

    def compress(self, run: TrainingRun, model: Model, data: TrainingData | None, options: Any) -> Trained:
        """Learn."""
        assert data is not None
        work = import_module("modelport.compression.distilling.language")
        trained: Trained = work.distil(run, model, data, options)
        return trained

    def strengths(self, model: Model) -> Sequence[Mapping[str, Any]]:
        """Budgets."""
        return [{"ratio": ratio} for ratio in (1.3, 1.6, 2)]
