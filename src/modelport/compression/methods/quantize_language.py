"""Method ``quantize-language``: a model that writes becomes a GGUF file of fewer bits. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any, Literal

from pydantic import Field

from modelport.compression.method import Form, Model
from modelport.errors import InvalidInput
from modelport.training.recipe import Options, Trained, TrainingData, TrainingRun

Kind = Literal["f16", "q8_0", "q4_0", "q4_1"]


class QuantizeLanguageOptions(Options):
    """What numbers a language model is stored in."""

    type: Kind = "q8_0"
    """Of the weights: ``f16``, 16 bits; ``q8_0``, 8 and a scale for every 32 weights; ``q4_0``, 4 and a scale;
    ``q4_1``, 4 with a scale and a lowest value, a little larger and more exact."""
    embedding: Kind | None = None
    """Of the table of tokens, and of the layer that scores them. [q8_0 for the types of 4 bits, else the same]"""
    importance: bool = True
    """For 4 bits: find each block's scale by what its weights do to activations of training rows, and let the weights
    behind make up for what rounding leaves; without rows, or with false, by the weights alone."""
    text: Annotated[str, Field(min_length=1, max_length=300)] | None = None
    """The column of plain texts. [the only text column, when there is no ``messages``]"""
    messages: Annotated[str, Field(min_length=1, max_length=300)] | None = None
    """The column of conversations, as for the recipe language-model. [``messages``, if there]"""
    max_length: Annotated[int, Field(ge=8, le=1_000_000)] = 512
    """Tokens of one text that are looked at, at most."""
    rows: Annotated[int, Field(ge=1, le=100_000)] = 64
    """Training rows that importance is seen in, at most."""
    validation_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 200
    """Validation rows that perplexity is measured on before and after, at most."""
    max_rise: Annotated[float, Field(ge=0, le=100)] | None = None
    """How much perplexity may rise, as a share of what it was; where it rises more, nothing is made. [not looked at]"""


class QuantizeLanguage:
    """A Hugging Face folder or a GGUF file in, a GGUF file out."""

    summary = "Quantize a language model to a GGUF file of 16, 8 or 4 bits, with its perplexity before and after"
    extra = "finetune"
    needs = ("torch", "transformers", "tokenizers", "gguf", "pyarrow")
    forms: tuple[Form, ...] = ("language",)
    data = False
    Options: type[Options] = QuantizeLanguageOptions

    def check(self, model: Model, data: TrainingData | None, options: QuantizeLanguageOptions) -> list[str]:
        """What options and columns tell."""
        if options.embedding is not None and options.type == "f16" and options.embedding != "f16":
            raise InvalidInput("options.embedding: type f16 keeps everything in 16 bits; say another type")
        if options.max_rise is not None and data is None:
            raise InvalidInput("options.max_rise: perplexity is measured on texts; give a dataset")
        if data is None:
            return ["perplexity is not measured, for there are no texts; give a dataset"]
        columns = import_module("modelport.training.language.columns")
        columns.conversation_or_text(data, options.messages, options.text)
        return []

    def compress(
        self, run: TrainingRun, model: Model, data: TrainingData | None, options: QuantizeLanguageOptions
    ) -> Trained:
        """Measure, quantize, measure again."""
        made: Trained = import_module("modelport.compression.quantizing.language").compress(run, model, data, options)
        return made

    def strengths(self, model: Model) -> Sequence[Mapping[str, Any]]:
        """From 16 bits to 4."""
        return ({"type": "f16"}, {"type": "q8_0"}, {"type": "q4_1"}, {"type": "q4_0"},
                {"type": "q4_0", "embedding": "q4_0"})  # fmt: skip
