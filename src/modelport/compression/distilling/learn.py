"""A student learns what teachers answer: soft labels with a temperature, the truth beside them, layers if wanted.

Hinton, Vinyals and Dean 2015: alpha · T² · KL(teacher at T || student at T) + (1 - alpha) · the recipe's own loss. For
numbers the first part is the mean squared difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from modelport.compression.distilling import student as students
from modelport.compression.distilling import teachers
from modelport.compression.distilling.matching import Matching, Watched, matching
from modelport.compression.method import Model
from modelport.errors import InvalidInput
from modelport.training import randomness
from modelport.training.loop import LoopOptions
from modelport.training.recipe import Trained, TrainingData, TrainingRun
from modelport.training.reopen import Reopened, reopen
from modelport.training.trainer import Fit, Trainer


class Pupil(nn.Module):
    """A student, and what it needs beside itself to compare its layers."""

    def __init__(self, student: nn.Module, matched: Matching | None) -> None:
        super().__init__()
        self.student = student
        self.matched = matched


def distil(run: TrainingRun, model: Model, data: TrainingData, options: Any) -> Trained:
    """Write the student's version."""
    run.progress(0, None, "taking up the network", "steps")
    opened = reopen(run, model.start, data)
    teachers.check(model, options.teachers, opened.task)
    if options.match != "none" and teachers.SELF not in options.teachers:
        raise InvalidInput("options.match: layers are matched with the version's own; name self among the teachers")
    student, size, copied = begun(run, opened, options)
    alone = list(options.teachers) == [teachers.SELF]
    table = None
    if not alone or (options.match == "none" and teachers.is_the_same_each_time(opened)):
        table = teachers.table(run, opened, model, data, options.teachers, teachers.labels_of(model))
    pupil = Pupil(student, _matching(run, opened, student, options))
    lesson = _Lesson(opened, options, table)
    fit = Trainer(
        run, loop_of(opened, options), pupil, lesson.loss, teachers.Taught(opened.learning, table),
        lambda found: opened.figures(found.student), name="distil",
    ).fit()  # fmt: skip
    lesson.close()
    trained = written(run, opened, student, size, copied, fit)
    trained.report |= {"teachers": list(options.teachers), "match": options.match}
    return trained


def begun(run: TrainingRun, opened: Reopened, options: Any) -> tuple[nn.Module, dict[str, Any], float]:
    """The student before it learns, its size, and the share of its weights that it took over."""
    randomness.settle(run.seed, run.threads)
    student, size = students.proposed(opened, options)
    copied = 0.0
    if options.weights == "copied" and options.student != "same":
        copied = students.copy_from(student, opened.network)
    return student, size, copied


def loop_of(opened: Reopened, options: Any) -> LoopOptions:
    """As the version was trained, but for what the options say."""
    names = ("epochs", "learning_rate", "batch_size")
    wanted = {name: value for name in names if (value := getattr(options, name)) is not None}
    return LoopOptions.model_validate(opened.loop.model_dump() | wanted)


def softened(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """T² · KL(teacher || student) of logits [rows, classes], the mean over the rows."""
    found = functional.kl_div(
        functional.log_softmax(student / temperature, -1), functional.log_softmax(teacher / temperature, -1),
        log_target=True, reduction="batchmean",
    )  # fmt: skip
    return found * temperature**2


def written(
    run: TrainingRun, opened: Reopened, student: nn.Module, size: Mapping[str, Any], copied: float, fit: Fit
) -> Trained:
    """The student's version, with what there is to say about it."""
    student = student.cpu().eval()
    teacher = opened.network.cpu().eval()
    figures = [dict(opened.figures(network)) for network in (teacher, student)]
    run.progress(1, 1, "writing and proving the model", "steps")
    trained = opened.write(student, run)
    trained.metrics |= fit.figures
    trained.report |= {
        "history": fit.history, "size": dict(size), "copied": round(copied, 4),
        "before": {"parameters": students.parameters(teacher)} | figures[0],
        "after": {"parameters": students.parameters(student)} | figures[1],
    }  # fmt: skip
    return trained


def _matching(run: TrainingRun, opened: Reopened, student: nn.Module, options: Any) -> Matching | None:
    if options.match == "none":
        return None
    batch = opened.plain.batch(torch.arange(min(2, len(opened.plain))), 0)
    torch.manual_seed(run.seed)
    return matching(options.match, opened.network, student, opened.inputs(batch))


class _Lesson:
    """The loss, and the teacher that is asked batch by batch where there is no table of its answers."""

    def __init__(self, opened: Reopened, options: Any, table: torch.Tensor | None) -> None:
        self._opened, self._options = opened, options
        self._asks = table is None or options.match != "none"
        self._teacher = opened.network.eval().requires_grad_(False)
        self._theirs = Watched(self._teacher) if options.match != "none" else None
        self._mine: Watched | None = None

    def loss(self, pupil: nn.Module, given: Any) -> torch.Tensor:
        """Of a batch of ``Taught``."""
        opened, options = self._opened, self._options
        batch, said = given
        inputs = opened.inputs(batch)
        if self._theirs is not None and self._mine is None:
            self._mine = Watched(pupil.student)
        for watched in (self._theirs, self._mine):
            if watched is not None:
                watched.begin()
        if self._asks:
            with torch.no_grad():
                asked = teachers.scores_of(opened, self._teacher.to(inputs[0].device)(*inputs))
            said = asked if said is None else said
        output = pupil.student(*inputs)
        found = teachers.scores_of(opened, output)
        if opened.task == "classification":
            soft = softened(found, said, options.temperature)
        else:
            soft = functional.mse_loss(found, said.reshape(found.shape))
        loss = options.alpha * soft
        if options.alpha < 1:
            loss = loss + (1 - options.alpha) * opened.loss(output, batch)
        if self._theirs is not None and self._mine is not None:
            loss = loss + options.match_weight * pupil.matched(self._mine.end(), self._theirs.end())
        return loss

    def close(self) -> None:
        """Look at no layers any more."""
        for watched in (self._theirs, self._mine):
            if watched is not None:
                watched.close()
