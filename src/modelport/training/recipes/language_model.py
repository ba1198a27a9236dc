"""Recipe ``language-model``: goes on training a model that writes, on texts or conversations. Imports no torch."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any, Literal

from pydantic import Field

from modelport.errors import InvalidInput
from modelport.schemas.training import Task
from modelport.training.language import columns
from modelport.training.loop import LoopOptions, ScheduleName
from modelport.training.recipe import Options, Trained, TrainingData, TrainingRun


class LanguageModelOptions(LoopOptions):
    """How a causal language model is fine-tuned. Its base is a Hugging Face folder or a GGUF file among the files, or
    the version that training starts from."""

    text: str | None = None
    """The column of plain texts. [the only text column, when there is no ``messages``]"""
    messages: str | None = None
    """The column of conversations: lists of ``role`` and ``content``, or the same as JSON. [``messages``, if there]"""
    method: Literal["lora", "full"] = "lora"
    """``lora``: small matrices beside the frozen weights learn; ``full``: all weights do."""
    rank: Annotated[int, Field(ge=1, le=1024)] = 8
    """Width of LoRA's matrices."""
    alpha: Annotated[float, Field(gt=0, le=10_000)] = 16.0
    """What LoRA's part is multiplied by, times the rank."""
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Annotated[list[Annotated[str, Field(min_length=1, max_length=100)]], Field(max_length=100)] | None = None
    """Names of the layers that get LoRA's matrices, such as ``q_proj``. [all linear layers but the last]"""
    output: Literal["merged", "adapter"] = "merged"
    """``merged``: a whole model; ``adapter``: LoRA's matrices alone, to be put on the same base."""
    weights: Literal["fp32", "bf16"] = "fp32"
    """How the frozen weights are held: ``bf16`` takes half the memory and is less exact; LoRA's are ``fp32``."""
    max_length: Annotated[int, Field(ge=8, le=1_000_000)] | None = None
    """Tokens of one example; longer texts are cut into several, of longer conversations the rest is left out. [512]"""
    packing: bool = True
    """Put several short texts into one example; they do not see one another."""
    answers_only: bool = True
    """Of a conversation learn what the assistant says, not what it is asked."""
    checkpointing: bool = False
    """Compute activations again instead of keeping them: less memory, about a third more time."""
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 1
    learning_rate: Annotated[float, Field(gt=0, le=1000)] | None = None  # type: ignore[assignment]
    """[2e-4 for lora, 2e-5 for full]"""
    schedule: ScheduleName = "cosine"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.03
    clip: Annotated[float, Field(gt=0, le=1e9)] | None = 1.0
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 4
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.0
    validation_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """Validation rows that perplexity is measured on, at most."""


class LanguageModelRecipe:
    """Texts or conversations in, a better model of them out."""

    summary = "Language model: fine-tunes a causal language model by LoRA or as a whole"
    extra = "finetune"
    needs = ("torch", "transformers", "tokenizers", "peft")
    code = False
    Options: type[Options] = LanguageModelOptions

    def task(self, data: TrainingData, options: LanguageModelOptions) -> Task:
        """Always the same."""
        return "language"

    def check(self, data: TrainingData, options: LanguageModelOptions) -> list[str]:
        """What columns and statistics tell."""
        if options.method == "full" and options.output == "adapter":
            raise InvalidInput("options.output: 'full' changes every weight, there is no adapter; say merged, or lora")
        if options.method == "full" and options.weights == "bf16":
            raise InvalidInput("options.weights: bf16 is for frozen weights; with 'full' say precision bf16 instead")
        column, _ = columns.conversation_or_text(data, options.messages, options.text)
        return columns.check_has_texts(data.facts, column)

    def train(self, run: TrainingRun, data: TrainingData, options: LanguageModelOptions) -> Trained:
        """Learn."""
        trained: Trained = import_module("modelport.training.language.causal").train(run, data, options)
        return trained


def filled(options: LanguageModelOptions) -> Any:
    """The options with the method's own rate where none was given."""
    if options.learning_rate is not None:
        return options
    return options.model_copy(update={"learning_rate": 2e-4 if options.method == "lora" else 2e-5})
