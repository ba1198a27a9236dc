"""What a job that tunes takes: the parameters of training, and the options' values to try; and what a trial was."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, model_validator

from modelport.schemas.training import TrainParams

_Number = StrictInt | StrictFloat
_RANGE = re.compile(r"([^.:|]+(?:\.[^.:|]+)?)\.\.([^.:|]+(?:\.[^.:|]+)?)((?::[a-z]+(?:=[^:]+)?)*)")
Sampler = Literal["tpe", "random", "grid"]
Pruner = Literal["asha", "median", "none"]
TrialState = Literal["complete", "pruned", "failed", "running"]


class Range(BaseModel):
    """Numbers between two ends, both of them possible; whole ones when both ends (and the step) are whole."""

    model_config = ConfigDict(extra="forbid")

    low: _Number
    high: _Number
    log: StrictBool = False
    """As likely between 0.001 and 0.01 as between 0.01 and 0.1."""
    step: _Number | None = None
    """Distance of the values, from ``low`` on."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise ValueError("low and high have to be finite")
        if self.low >= self.high:
            raise ValueError(f"low ({self.low:g}) has to be less than high ({self.high:g})")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range has to begin above 0, and low is {self.low:g}")
        if self.step is not None:
            if self.log:
                raise ValueError("give log or step, not both")
            if not (0 < self.step <= self.high - self.low):
                raise ValueError(f"step ({self.step:g}) has to be above 0 and at most high - low")
        return self

    @property
    def is_whole(self) -> bool:
        """Whether its values are whole numbers."""
        return all(isinstance(value, int) for value in (self.low, self.high, 1 if self.step is None else self.step))


class Choices(BaseModel):
    """Values to choose among."""

    model_config = ConfigDict(extra="forbid")

    choices: Annotated[list[Any], Field(min_length=1, max_length=1000)]

    @model_validator(mode="after")
    def _different(self) -> Self:
        for number, choice in enumerate(self.choices):
            if any(type(choice) is type(other) and choice == other for other in self.choices[:number]):
                raise ValueError(f"{choice!r} is among the choices twice"[:200])
        return self


def _parse(value: Any) -> Any:
    """The short form as the long one: ``1e-4..1e-1:log``, ``2..8``, ``50..500:step=50``, ``forest|boosting``."""
    if isinstance(value, dict) and "choices" in value:
        return Choices.model_validate(value)
    if isinstance(value, dict):
        return Range.model_validate(value)
    if isinstance(value, list):
        return Choices(choices=value)
    if not isinstance(value, str):
        return value
    if found := _RANGE.fullmatch(value.strip()):
        return Range.model_validate(_range(found[1], found[2], found[3]))
    if ".." in value:
        raise ValueError(f"{value[:100]!r} is no range; write LOW..HIGH, LOW..HIGH:log or LOW..HIGH:step=STEP")
    return Choices(choices=[_value(part.strip()) for part in value.split("|")])


def _range(low: str, high: str, options: str) -> dict[str, Any]:
    found: dict[str, Any] = {"low": _number(low), "high": _number(high)}
    for option in filter(None, options.split(":")):
        name, _, value = option.partition("=")
        if name == "log" and not value:
            found["log"] = True
        elif name == "step" and value:
            found["step"] = _number(value)
        else:
            raise ValueError(f"{option[:60]!r}: a range takes :log and :step=STEP")
    return found


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text[:60]!r} is no number") from None


def _value(text: str) -> Any:
    """A choice as a command line means it."""
    plain = {"true": True, "false": False, "null": None}
    if text in plain:
        return plain[text]
    try:
        return _number(text)
    except ValueError:
        return text


Dimension = Annotated[Range | Choices, BeforeValidator(_parse)]
#: An option of the recipe, or a key in one that holds a mapping: ``params.max_depth``.
OptionName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^.\s=]+(\.[^.\s=]+){0,9}$")]
Space = Annotated[dict[OptionName, Dimension], Field(min_length=1, max_length=100)]


class TuneParams(TrainParams):
    """Parameters of the job ``tune``: those of ``train``, whose ``options`` are where the search begins."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "recipe": "tabular",
                    "data": "wine:1",
                    "space": {"model": "forest|boosting", "class_weight": {"choices": ["balanced", None]}},
                    "trials": 20,
                }
            ]
        },
    )

    space: Space
    """What to try for which option: ``{"low": 1e-4, "high": 0.1, "log": true}``, ``{"choices": [64, 128]}``, or the
    short forms ``1e-4..1e-1:log``, ``2..8``, ``50..500:step=50``, ``forest|boosting``."""
    trials: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """How many models to train. [50; with the sampler ``grid`` every combination]"""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Trials that run at once, each in a process of its own with its share of the job's cores and memory. With one,
    the same seed gives the same study."""
    metric: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    """The figure on the validation rows that decides. [the task's main figure]"""
    direction: Literal["maximize", "minimize"] | None = None
    """[by the figure]"""
    sampler: Sampler = "tpe"
    """How values are chosen: by what did well so far (TPE), by chance, or each combination in turn."""
    pruner: Pruner = "asha"
    """How trials that do badly are stopped early: by successive halving, or when worse than the median. Only recipes
    that tell the figure epoch by epoch can be stopped."""
    warm_up: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    """Epochs that every trial may have."""
    timeout_s: Annotated[float, Field(gt=0, le=365 * 86_400)] | None = None
    """Seconds after which no trial begins any more; those that run are ended."""


class Trial(BaseModel):
    """One model that was tried."""

    number: int
    state: TrialState
    options: dict[str, Any]
    """Values of the options that are tuned."""
    value: float | None = None
    """The figure on the validation rows; of a pruned one the last that it told."""
    steps: int = 0
    """Epochs after which it told the figure."""
    seconds: float | None = None
    message: str | None = None
    """Why it failed."""
    same_as: int | None = None
    """The earlier trial of the same options, whose figure it has without having been trained."""
