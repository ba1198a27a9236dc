"""A student that learns from examples made against it, and what that is worth beside plain distillation.

Of each batch the worst nearby examples are sought by projected gradients, and the student learns to answer them as its
teacher answers the unchanged rows (RSLAD, Zi et al. 2021; with ``against=truth`` the search of ARD, Goldblum et al.
2020). The best epoch is the one with the least loss on validation rows that are attacked.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from modelport.compression.distilling import attack, teachers
from modelport.compression.distilling.learn import begun, loop_of, softened, written
from modelport.compression.method import Model
from modelport.errors import InvalidInput
from modelport.training.loop import LoopOptions
from modelport.training.recipe import Trained, TrainingData, TrainingRun
from modelport.training.reopen import Reopened, reopen
from modelport.training.trainer import Trainer

_WATCHED_ROWS = 256
_WATCHED_STEPS = 5
_ALL = 1 << 30


def distil(run: TrainingRun, model: Model, data: TrainingData, options: Any) -> Trained:
    """Write the robust student's version."""
    run.progress(0, None, "taking up the network", "steps")
    opened = reopen(run, model.start, data)
    if opened.task != "classification" or opened.truth is None:
        raise InvalidInput("distil-robust is for networks that tell classes apart; use the method distil")
    bounds = attack.limits(opened, options.eps)
    student, size, copied = begun(run, opened, options)
    plain = copy.deepcopy(student) if options.beside else None
    teacher = opened.network.eval().requires_grad_(False)
    loop = loop_of(opened, options)
    table = teachers.answers(opened, teacher, opened.plain) if teachers.is_the_same_each_time(opened) else None
    taught = teachers.Taught(opened.learning, table)
    lesson = _Lesson(opened, teacher, bounds, options)
    if plain is not None:
        Trainer(run, loop, plain, lesson.plain, taught, opened.figures, name="plain").fit()

    def watched(network: nn.Module) -> Mapping[str, float]:
        found = attack.under_attack(opened, network, bounds, _WATCHED_STEPS, _WATCHED_ROWS, run.seed)
        return dict(opened.figures(network)) | found

    fit = Trainer(run, _by_attack(loop), student, lesson.robust, taught, watched, name="robust").fit()
    trained = written(run, opened, student, size, copied, fit)
    compared = {"teacher": teacher, "robust": student} | ({"plain": plain} if plain is not None else {})
    trained.report["attack"] = {"eps": options.eps, "steps": options.attack_steps} | {
        name: _told(opened, network, bounds, options.attack_steps, run.seed) for name, network in compared.items()
    }
    trained.metrics["validation_pgd_accuracy"] = trained.report["attack"]["robust"]["pgd_accuracy"]
    return trained


def _by_attack(loop: LoopOptions) -> LoopOptions:
    return loop.model_copy(update={"monitor": "pgd_loss"})


def _told(
    opened: Reopened, network: nn.Module, bounds: Sequence[attack.Limits | None], steps: int, seed: int
) -> dict[str, float]:
    """Accuracy of the validation rows as they are, and attacked."""
    figures = opened.figures(network.cpu().eval())
    found = attack.under_attack(opened, network, bounds, steps, _ALL, seed)
    return {"accuracy": float(figures.get("accuracy", float("nan")))} | found


class _Lesson:
    """Both losses of a student."""

    def __init__(
        self, opened: Reopened, teacher: nn.Module, bounds: Sequence[attack.Limits | None], options: Any
    ) -> None:
        self._opened, self._teacher, self._bounds, self._options = opened, teacher, bounds, options

    def plain(self, student: nn.Module, given: Any) -> torch.Tensor:
        """As the method ``distil`` teaches."""
        batch, said = given
        inputs = self._opened.inputs(batch)
        output = student(*inputs)
        return self._mixed(output, self._said(inputs, said), batch)

    def robust(self, student: nn.Module, given: Any) -> torch.Tensor:
        """The worst examples nearby, and the rows as they are."""
        opened, options = self._opened, self._options
        batch, said = given
        inputs = opened.inputs(batch)
        wanted = self._said(inputs, said)

        def objective(moved: attack.Inputs) -> torch.Tensor:
            output = student(*moved)
            if options.against == "truth":
                return opened.loss(output, batch)
            return softened(teachers.scores_of(opened, output), wanted, 1.0)

        student.eval()
        worst = attack.attacked(inputs, self._bounds, options.steps, objective)
        student.train()
        loss = (1 - options.clean) * self._mixed(student(*worst), wanted, batch)
        if options.clean:
            loss = loss + options.clean * self._mixed(student(*inputs), wanted, batch)
        return loss

    def _mixed(self, output: torch.Tensor, wanted: torch.Tensor, batch: Any) -> torch.Tensor:
        options = self._options
        soft = softened(teachers.scores_of(self._opened, output), wanted, options.temperature)
        return options.alpha * soft + (1 - options.alpha) * self._opened.loss(output, batch)

    def _said(self, inputs: attack.Inputs, said: torch.Tensor | None) -> torch.Tensor:
        if said is not None:
            return said
        with torch.no_grad():
            return teachers.scores_of(self._opened, self._teacher.to(inputs[0].device)(*inputs))
