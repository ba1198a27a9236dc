"""The options of every recipe that trains a network: steps, rates, precision, when to stop, when to keep a checkpoint.

Knows no network and imports no torch: the server reads these before work begins.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from modelport.training.recipe import Options

OptimizerName = Literal["sgd", "momentum", "adam", "adamw"]
ScheduleName = Literal["constant", "linear", "cosine", "step", "plateau"]
Precision = Literal["fp32", "bf16", "fp16"]
_LOWER = ("loss", "brier", "mae", "rmse", "mse", "mape", "smape", "mase", "perplexity")
_LOWER_ENDINGS = ("_loss", "_error", "_perplexity")


class LoopOptions(Options):
    """How a network is trained."""

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 20
    """Passes over the training rows, at most."""
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 32
    """Rows that go through the network at once."""
    accumulate: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Batches whose gradients are added up before the weights change."""
    optimizer: OptimizerName = "adamw"
    learning_rate: Annotated[float, Field(gt=0, le=1000)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.01
    """Pull of the weights towards 0; biases and norms are left alone."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of ``momentum``; the others do not look at it."""
    schedule: ScheduleName = "cosine"
    """The rate over time: ``constant``; down to 0 in a ``linear`` or ``cosine`` line; times ``step_factor`` every
    ``step_epochs``; or times ``step_factor`` when the figure has not improved for ``step_epochs`` (``plateau``)."""
    step_epochs: Annotated[int, Field(ge=1, le=100_000)] = 5
    step_factor: Annotated[float, Field(gt=0, lt=1)] = 0.3
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of all steps in which the rate rises in a line from 0."""
    clip: Annotated[float, Field(gt=0, le=1e9)] | None = None
    """The gradients' norm is scaled down to this where it is larger."""
    precision: Precision = "fp32"
    """``bf16``: where torch holds it safe, half the bits; ``fp16``: the same with scaled losses, on GPUs alone."""
    patience: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Stop after so many epochs without an improvement."""
    monitor: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_@.]{0,59}$")] = "loss"
    """The figure of the validation rows that decides which epoch is the best."""
    checkpoint_every: Annotated[float, Field(gt=0, le=86_400)] = 30.0
    """Seconds between checkpoints: what a crash costs at most."""
    checkpoint_steps: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Keep one every so many steps as well."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda|cuda:[0-9]{1,2})$")] = "auto"
    """``auto``: a GPU where there is one."""

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.precision == "fp16" and self.device == "cpu":
            raise ValueError("precision fp16 needs a GPU; say bf16")
        return self


def is_lower_better(figure: str) -> bool:
    """Whether a smaller value of a figure is a better one."""
    return figure in _LOWER or figure.endswith(_LOWER_ENDINGS)
