"""A search with Optuna, kept in a file: what to try next, whether to go on with it, what came of it.

One process has the file. After it was killed the same file goes on: what has ended is not asked again, what ran is told
by ``running`` and may be run again under its number. Each choice is seeded by its number and made from what has ended,
so that, with one trial at a time, a search that was interrupted chooses what an undisturbed one does. Knows no recipe.
"""

from __future__ import annotations

import json
import logging
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, PartialFixedSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as State

from modelport.schemas.tuning import Choices, Pruner, Range, Sampler, Trial, TrialState
from modelport.training.tuning.space import Space, combinations, place_of

_NAME = "study"
_STATES: dict[State, TrialState] = {
    State.COMPLETE: "complete", State.PRUNED: "pruned", State.FAIL: "failed", State.RUNNING: "running"
}  # fmt: skip
_SEED_STEP = 1_000_003
_LONGEST_MESSAGE = 500
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class How:
    """How a search looks."""

    sampler: Sampler
    pruner: Pruner
    direction: Literal["maximize", "minimize"]
    seed: int
    warm_up: int
    start: Mapping[str, Any]
    """Values of the first trial, as far as they are known."""


class Study:
    """The search."""

    def __init__(self, file: Path, space: Space, how: How) -> None:
        self._space, self._how = space, how
        self._distributions = distributions_of(space)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        _mend(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._study = optuna.create_study(
                storage=JournalStorage(JournalFileBackend(str(file))), study_name=_NAME, load_if_exists=True,
                direction=how.direction, pruner=_pruner(how),
            )  # fmt: skip
        self._live_ones: dict[int, optuna.trial.Trial] = {}
        self._forget_unasked()
        self._rows = {one.user_attrs["place"]: one.number for one in self._all() if "place" in one.user_attrs}
        """Optuna's number by ours, which counts only what was asked."""
        self._ended_ones: dict[int, Trial] = {}
        self._ended_ones = {one.number: one for one in self.trials() if one.state != "running"}

    # -- asking -------------------------------------------------------------------------------------------------------

    def running(self) -> list[Trial]:
        """Those that were asked for and have not ended."""
        return [one for one in self.trials() if one.state == "running"]

    def ask(self) -> Trial | None:
        """What to try next; None when the grid is done."""
        place = len(self._rows)
        fixed: Mapping[str, Any] = {}
        if self._how.sampler == "grid":
            found = next((one for number, one in enumerate(combinations(self._space)) if number == place), None)
            if found is None:
                return None
            fixed = found
        elif place == 0:
            fixed = self._how.start
        self._study.sampler = self._sampler((self._how.seed + place * _SEED_STEP) % 2**32, fixed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trial = self._study.ask(self._distributions)
        trial.set_user_attr("place", place)
        self._rows[place], self._live_ones[place] = trial.number, trial
        return self._shown(self._frozen(place))

    def twin(self, asked: Trial) -> Trial | None:
        """An earlier trial of the same values that ended well, or that is under way."""
        alike = [one for one in self.trials() if one.options == asked.options and one.number < asked.number]
        ended = next((one for one in alike if one.state == "complete"), None)
        return ended or next((one for one in alike if one.state == "running"), None)

    # -- telling ------------------------------------------------------------------------------------------------------

    def goes_on(self, number: int, step: int, value: float) -> bool:
        """Whether a trial may go on that has told its figure after ``step`` epochs (1, 2 …)."""
        trial = self._live(number)
        known = self._frozen(number).intermediate_values
        if step not in known:
            trial.report(value, step)
        elif step < max(known):
            return True  # it was said before: an attempt that was killed told it
        return not trial.should_prune()

    def complete(self, number: int, value: float, seconds: float) -> None:
        """It has ended well."""
        self._end(number, State.COMPLETE, seconds, value)

    def same_as(self, number: int, twin: Trial) -> None:
        """It has the values of an earlier one, and so its figure."""
        assert twin.value is not None
        self._live(number).set_user_attr("same_as", twin.number)
        self._end(number, State.COMPLETE, 0, twin.value)

    def pruned(self, number: int, seconds: float) -> None:
        """It was stopped early."""
        self._end(number, State.PRUNED, seconds)

    def failed(self, number: int, why: str, seconds: float) -> None:
        """It has no figure."""
        self._live(number).set_user_attr("why", why[:_LONGEST_MESSAGE])
        self._end(number, State.FAIL, seconds)

    # -- what is known ------------------------------------------------------------------------------------------------

    def trials(self) -> list[Trial]:
        """All, by number."""
        every = self._all()
        return [self._ended_ones.get(place) or self._shown(every[row]) for place, row in self._rows.items()]

    def best(self) -> Trial | None:
        """The best that ended well; the first of several."""
        return best_of(self.trials(), self._how.direction)

    # -- beneath ------------------------------------------------------------------------------------------------------

    def _all(self) -> Sequence[FrozenTrial]:
        found: Sequence[FrozenTrial] = self._study.get_trials(deepcopy=False)
        return found

    def _frozen(self, number: int) -> FrozenTrial:
        return self._all()[self._rows[number]]

    def _live(self, number: int) -> optuna.trial.Trial:
        if number not in self._live_ones:
            self._study.sampler = RandomSampler(seed=0)  # all its values are there
            self._live_ones[number] = optuna.trial.Trial(self._study, self._frozen(number)._trial_id)
        return self._live_ones[number]

    def _end(self, number: int, state: State, seconds: float, value: float | None = None) -> None:
        trial = self._live(number)
        trial.set_user_attr("seconds", round(seconds, 3))
        self._study.tell(trial, value, state)
        del self._live_ones[number]
        self._ended_ones[number] = self._shown(self._frozen(number))

    def _forget_unasked(self) -> None:
        """A kill came between a trial's row and its values: they are chosen again, in the same way."""
        for one in self._all():
            if one.state == State.RUNNING and "place" not in one.user_attrs:
                self._study.tell(one.number, state=State.FAIL)

    def _sampler(self, seed: int, fixed: Mapping[str, Any]) -> BaseSampler:
        base: BaseSampler = TPESampler(seed=seed) if self._how.sampler == "tpe" else RandomSampler(seed=seed)
        named = labelled(self._space, fixed)
        if not named:
            return base
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is experimental
            return PartialFixedSampler(named, base)

    def _shown(self, one: FrozenTrial) -> Trial:
        options = {name: _unlabel(self._space[name], value) for name, value in one.params.items()}
        value = one.value if one.state == State.COMPLETE else None
        if value is None and one.intermediate_values:
            value = one.intermediate_values[max(one.intermediate_values)]
        return Trial(
            number=one.user_attrs.get("place", -1), state=_STATES[one.state], steps=len(one.intermediate_values),
            options={name: options[name] for name in self._space if name in options},
            value=None if value is None or not math.isfinite(value) else value,
            seconds=one.user_attrs.get("seconds"), message=one.user_attrs.get("why"),
            same_as=one.user_attrs.get("same_as"),
        )  # fmt: skip


def best_of(trials: Sequence[Trial], direction: str) -> Trial | None:
    """The best that ended well; the first of several."""
    ended = [one for one in trials if one.state == "complete" and one.value is not None]
    sign = -1 if direction == "maximize" else 1
    return min(ended, key=lambda one: (sign * (one.value or 0.0), one.number), default=None)


def distributions_of(space: Space, write: Callable[[str], str] = str) -> dict[str, BaseDistribution]:
    """As Optuna has them; choices are texts, as ``write`` writes them."""
    return {name: _distribution(dimension, write) for name, dimension in space.items()}


def labelled(space: Space, values: Mapping[str, Any], write: Callable[[str], str] = str) -> dict[str, Any]:
    """Values as Optuna has them."""
    return {
        name: _labels(one, write)[place_of(one.choices, value)] if isinstance(one := space[name], Choices) else value
        for name, value in values.items()
    }


def _mend(file: Path) -> None:
    """What a kill left: half a line at the end, a lock."""
    file.with_name(f"{file.name}.lock").unlink(missing_ok=True)
    if not file.exists():
        return
    content = file.read_bytes()
    if not content.endswith(b"\n"):
        _log.warning("the study's last line was cut off by a kill, and is left out")
        whole = file.with_suffix(".part")
        whole.write_bytes(content[: content.rfind(b"\n") + 1])
        whole.replace(file)


def _pruner(how: How) -> optuna.pruners.BasePruner:
    if how.pruner == "asha":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=how.warm_up, reduction_factor=3)
    if how.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=how.warm_up)
    return optuna.pruners.NopPruner()


def _distribution(dimension: Range | Choices, write: Callable[[str], str]) -> BaseDistribution:
    if isinstance(dimension, Choices):
        return CategoricalDistribution(_labels(dimension, write))
    if dimension.is_whole:
        low, high = int(dimension.low), int(dimension.high)
        return IntDistribution(low, high, log=dimension.log, step=int(dimension.step or 1))
    low_, high_ = float(dimension.low), float(dimension.high)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the last step may end below high
        return FloatDistribution(low_, high_, log=dimension.log, step=dimension.step)


def _labels(dimension: Choices, write: Callable[[str], str] = str) -> list[str]:
    """Choices as different texts."""
    plain = [write(choice if isinstance(choice, str) else json.dumps(choice)) for choice in dimension.choices]
    if len(set(plain)) == len(plain):
        return plain
    return [f"{number}: {text}" for number, text in enumerate(plain)]


def _unlabel(dimension: Range | Choices, value: Any) -> Any:
    return dimension.choices[_labels(dimension).index(value)] if isinstance(dimension, Choices) else value
