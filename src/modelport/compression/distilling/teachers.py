"""What teachers answer to the rows that a student learns from: one number for each, or chances of classes.

The version's own network is asked batch by batch where rows are changed at random, else once; other versions are asked
once by their ONNX files, whatever they are: a forest can teach a network. Several teachers are averaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from modelport.compression.asking import Asked, answer_of, model_file, probabilities, session, task_of
from modelport.compression.method import Model
from modelport.errors import InvalidInput
from modelport.storage.disk import flush
from modelport.tensors import Array
from modelport.training.batches import Examples, in_turn
from modelport.training.recipe import TrainingData, TrainingRun
from modelport.training.reopen import Reopened

SELF = "self"
_LEAST = 1e-7
_AT_ONCE = 64


class Taught:
    """Examples whose batches come with what teachers said about their rows, and the rows' numbers.

    A batch is ``(batch, said)``; ``said`` is the table's rows, or None without a table.
    """

    def __init__(self, examples: Examples, table: torch.Tensor | None) -> None:
        self._examples, self._table = examples, table

    def __len__(self) -> int:
        return len(self._examples)

    def batch(self, rows: torch.Tensor, epoch: int) -> tuple[Any, torch.Tensor | None]:
        """The rows, and what was said of them."""
        return self._examples.batch(rows, epoch), None if self._table is None else self._table[rows]


def scores_of(opened: Reopened, output: torch.Tensor) -> torch.Tensor:
    """Logits of classes [rows, classes], or numbers, of a network's output."""
    found = output.float()
    if opened.task == "classification" and opened.is_probabilities:
        return found.clamp(min=_LEAST).log()
    return found


def answers(opened: Reopened, network: nn.Module, examples: Examples) -> torch.Tensor:
    """What a network scores for all rows in their order."""
    network.eval()
    with torch.no_grad():
        found = [scores_of(opened, network(*opened.inputs(batch))) for batch in in_turn(examples, _AT_ONCE)]
    return torch.cat(found)


def is_the_same_each_time(opened: Reopened) -> bool:
    """Whether rows are not changed at random."""
    rows = torch.arange(min(len(opened.plain), 8))
    plain = opened.inputs(opened.plain.batch(rows, 0))
    return all(
        one.shape == other.shape and torch.equal(one, other)
        for epoch in (0, 1)
        for one, other in zip(plain, opened.inputs(opened.learning.batch(rows, epoch)), strict=True)
    )


def table(
    run: TrainingRun, opened: Reopened, model: Model, data: TrainingData, names: Sequence[str], labels: Sequence[str]
) -> torch.Tensor:
    """The mean of what all teachers say to each training row: logarithms of chances, or numbers. Asked once, also when
    the run was killed and goes on."""
    path = run.folder / "said.npy"
    if not path.exists():
        with (half := path.with_suffix(".half")).open("wb") as file:
            np.save(file, _mean(run, opened, model, data, names, labels).numpy())
        flush(half)
        half.rename(path)
    return torch.from_numpy(np.load(path, allow_pickle=False))


def _mean(
    run: TrainingRun, opened: Reopened, model: Model, data: TrainingData, names: Sequence[str], labels: Sequence[str]
) -> torch.Tensor:
    found = []
    for number, name in enumerate(names):
        run.progress(number, len(names), f"asking teacher {name}", "teachers")
        if name == SELF:
            said = answers(opened, opened.network, opened.plain)
            found.append(torch.softmax(said, -1) if opened.task == "classification" else said)
        else:
            found.append(torch.from_numpy(_said(run, opened, model.others[name], data, name, labels)).float())
    mean = torch.stack([one.reshape(found[0].shape) for one in found]).mean(0)
    return mean.clamp(min=_LEAST).log() if opened.task == "classification" else mean


def check(model: Model, names: Sequence[str], task: str) -> None:
    """Raise InvalidInput for teachers that answer something else than the version."""
    if len(set(names)) != len(names) or not names:
        raise InvalidInput("options.teachers: name each once, one at least; self is the version itself")
    own = {tuple(sorted(one)) for one in model.manifest.labels.values()}
    for name in names:
        if name == SELF:
            continue
        if task != "classification":
            raise InvalidInput("options.teachers: other versions teach classes alone; for numbers say self")
        other = model.others.get(name)
        if other is None:
            continue
        theirs = {tuple(sorted(one)) for one in other.manifest.labels.values()}
        if own and theirs and not own & theirs:
            raise InvalidInput(
                f"options.teachers: {name} tells other classes apart ({_some(other)}) than the version ({_some(model)})"
            )


def _said(
    run: TrainingRun, opened: Reopened, other: Model, data: TrainingData, name: str, labels: Sequence[str]
) -> Array:
    """[rows, classes] chances, in the order of the version's classes."""
    if task_of(other) != "classification":
        raise InvalidInput(f"options.teachers: {name} tells no classes apart")
    asked = Asked(other, data, data.train)
    if len(asked) != len(opened.plain):
        raise InvalidInput(
            f"options.teachers: {name} answers {len(asked)} training rows, and the version learns from "
            f"{len(opened.plain)} of them; leave out rows without a value first"
        )
    answer = answer_of(other, "classification")
    found = probabilities(asked.run(session(model_file(other), run.threads), [answer.output])[answer.output])
    if answer.labels is None or found.shape[1] != len(labels) or set(answer.labels) != set(labels):
        raise InvalidInput(f"options.teachers: {name} tells other classes apart than the version")
    order = [answer.labels.index(label) for label in labels]
    return np.ascontiguousarray(found[:, order])


def labels_of(model: Model) -> list[str]:
    """The version's classes in the order of its scores; empty where it has none."""
    return list(next(iter(model.manifest.labels.values()), []))


def _some(model: Model) -> str:
    labels: Mapping[str, Sequence[str]] = model.manifest.labels
    return ", ".join(next(iter(labels.values()), [])[:5])
