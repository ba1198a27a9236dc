"""Proposes sequences of methods, one at a time, the next by what became of those before: a seeded Bayesian search.

Optuna's TPE over the family (which methods) and the strength of each of its methods. What is told is a score
(``budget.score``); how it came about is none of its business. Told the same, it proposes the same, so that a killed
search goes on where it was.
"""

from __future__ import annotations

from collections.abc import Sequence

import optuna
from optuna.trial import Trial, TrialState

from modelport.compression.chains import Family
from modelport.schemas.compression import MethodStep

_FAMILY = "family"
_REPEATS = 20
"""Proposals that were made before, after which the search ends."""


class Search:
    """One search, told in the order in which it proposed."""

    def __init__(self, families: Sequence[Family], seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._families = list(families)
        startup = max(4, min(10, len(self._families)))
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup)
        self._study = optuna.create_study(sampler=sampler)
        self._told: dict[tuple[int, ...], float] = {}
        for number, family in enumerate(self._families):  # each family once, in the middle of its strengths
            middle = {self._name(family, step): len(known) // 2 for step, known in enumerate(family.strengths)}
            self._study.enqueue_trial({_FAMILY: number, **middle})

    def ask(self) -> list[MethodStep] | None:
        """Something that was not proposed yet; None when there seems to be nothing more."""
        for _ in range(_REPEATS + len(self._families)):
            trial = self._study.ask()
            place = self._place(trial)
            if place not in self._told:
                self._trial, self._at = trial, place
                return self._families[place[0]].steps(place[1:])
            self._study.tell(trial, self._told[place])
        return None

    def tell(self, score: float) -> None:
        """What came of the last proposal."""
        self._told[self._at] = score
        self._study.tell(self._trial, score, state=TrialState.COMPLETE)

    def _place(self, trial: Trial) -> tuple[int, ...]:
        number = trial.suggest_categorical(_FAMILY, list(range(len(self._families))))
        family = self._families[number]
        strengths = [
            trial.suggest_int(self._name(family, step), 0, len(known) - 1)
            for step, known in enumerate(family.strengths)
        ]
        return (number, *strengths)

    def _name(self, family: Family, step: int) -> str:
        return f"{'>'.join(family.methods)}.{step}"
