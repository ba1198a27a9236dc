"""What a model answers to rows, and how good that is: the same rows for the model as it was and as it becomes.

Answers are told by the same rules as in ``evaluate``; rows are held in memory, so there are not many.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from modelport.compression.feeding import Fed
from modelport.compression.inputs import model_signature
from modelport.compression.method import Model
from modelport.data.outputs import wanted
from modelport.engine.runtime import LoadOptions
from modelport.engine.runtimes.onnx import OnnxRuntime
from modelport.errors import ArtifactRefused, InvalidInput
from modelport.evaluation.answers import Picked, pick
from modelport.evaluation.rows import classes_of
from modelport.evaluation.score import less_is_better, main_figure, score
from modelport.schemas.training import Task
from modelport.tensors import Array
from modelport.training.targets import texts_of

Answers = list[dict[str, Array]]
_TASKS: tuple[Task, ...] = get_args(Task)


@dataclass(frozen=True, slots=True)
class Difference:
    """How far answers are from others."""

    rows: int
    largest: float
    """Of all numbers, relative to what is larger than 1."""
    mean_square: float
    agreement: float
    """Share of the rows with the same largest value (in outputs of several), or text."""


class Judged:
    """Rows that models of one signature are asked about."""

    def __init__(self, model: Model, rows: Iterable[Fed], threads: int) -> None:
        self._model, self._threads = model, threads
        self.fed = list(rows)
        """Batch by batch."""

    @property
    def rows(self) -> int:
        """How many."""
        return sum(len(fed.rows) for fed in self.fed)

    def answers(self, path: Path, rows: int | None = None) -> Answers:
        """Of an ONNX file, batch by batch, to all rows or the first ones; raises InvalidInput when it cannot run."""
        try:
            runtime = OnnxRuntime.load(
                LoadOptions(path.parent, (path.name,), model_signature(self._model), {}, self._threads)
            )
        except ArtifactRefused as error:
            raise InvalidInput(f"the quantized model cannot be run here: {error.message}") from None
        found: Answers = []
        left = self.rows if rows is None else rows
        for fed in self.fed:
            if left <= 0:
                break
            found.append(runtime.infer(fed.inputs))
            left -= len(fed.rows)
        return found

    def differences(self, before: Answers, after: Answers) -> Difference:
        """Of the same rows' answers."""
        largest, square, numbers, rows, same = 0.0, 0.0, 0, 0, 0
        for old, new, fed in zip(before, after, self.fed, strict=False):
            rows += len(fed.rows)
            alike = np.ones(len(fed.rows), bool)
            for name, left in old.items():
                right = new[name]
                if left.dtype.kind not in "fV":
                    alike &= _rowwise(left == right, len(alike))
                    continue
                one, other = left.astype(np.float64), right.astype(np.float64)
                if one.shape != other.shape:
                    return Difference(rows, float("inf"), float("inf"), 0.0)
                off = np.nan_to_num(np.abs(one - other), nan=0.0, posinf=1e30)
                if off.size:
                    largest = max(largest, float((off / np.maximum(np.nan_to_num(np.abs(one)), 1.0)).max()))
                square, numbers = square + float((off**2).sum()), numbers + off.size
                if one.ndim > 1 and one.shape[-1] > 1:
                    alike &= _rowwise(one.argmax(-1) == other.argmax(-1), len(alike))
            same += int(alike.sum())
        return Difference(rows, largest, square / max(numbers, 1), same / max(rows, 1))

    def figures(self, answers: Answers) -> dict[str, float]:
        """Of answers to all rows whose truth is known; raises InvalidInput when it is not told what the answer is."""
        picked, task, columns = self._picked()
        output = columns[self._place(picked)].output.name
        values = np.concatenate([_by_row(found[output], fed) for found, fed in zip(answers, self.fed, strict=True)])
        truth = [value for fed in self.fed for value in fed.truth or ()]
        if picked.probabilities is None and task == "classification":
            texts = [one.decode() if isinstance(one, bytes) else str(one) for one in values.reshape(-1).tolist()]
            right = np.array(texts_of(truth), object) == np.array(texts, object)
            return {"accuracy": float(right.mean())}
        if task == "classification":
            values = values.reshape(len(values), -1).astype(np.float64)
            return score(task, self._codes(truth, picked.labels, values.shape[1]), _chances(values))
        numbers = np.array(truth, np.float64)
        return score(task, numbers, values.astype(np.float64).reshape(numbers.shape))

    def main(self, figures: dict[str, float]) -> str:
        """The name of the figure that tells most."""
        found = main_figure(self._picked()[1], figures)
        assert found is not None
        return found

    def _picked(self) -> tuple[Picked, Task, Sequence[Any]]:
        manifest = self._model.manifest
        task = next((known for known in _TASKS if known == manifest.task), None)
        if task is None:
            task = "classification" if manifest.labels else "regression"
        named = [spec for spec in manifest.signature.outputs if manifest.labels.get(spec.name)]
        columns = wanted(
            manifest.signature, manifest.labels, (), number=False, probabilities=len(named) == 1, record=False,
            has_rows=True,
        )  # fmt: skip
        return pick(task, columns), task, columns.columns

    @staticmethod
    def _place(picked: Picked) -> int:
        place = picked.probabilities if picked.probabilities is not None else picked.prediction
        assert place is not None
        return place

    @staticmethod
    def _codes(truth: Sequence[Any], labels: Sequence[str] | None, classes: int) -> Array:
        texts = [str(text) for text in texts_of(truth)]
        known = list(labels) if labels is not None else classes_of(texts)
        if labels is None and len(known) > max(classes, 2):
            raise InvalidInput(f"target: {len(known)} classes in the data, and the model has scores of {classes}")
        place = {label: at for at, label in enumerate(known)}
        unknown = next((text for text in texts if text not in place), None)
        if unknown is not None:
            raise InvalidInput(f"target: the model does not know the class {unknown[:100]!r}; is it the right column?")
        return np.array([place[text] for text in texts], np.int64)


def drop(name: str, before: float, after: float) -> float:
    """How much worse a figure became, as a share of what it was; negative where it became better."""
    worse = after - before if less_is_better(name) else before - after
    return worse / max(abs(before), 1e-12)


def _rowwise(alike: Any, rows: int) -> Array:
    found = np.asarray(alike)
    whole = found.size and found.size % rows == 0
    return np.asarray(found.reshape(rows, -1).all(1) if whole else np.ones(rows, bool))


def _by_row(values: Array, fed: Fed) -> Array:
    return values if len(values) == len(fed.rows) else values.reshape(len(fed.rows), -1)


def _chances(values: Array) -> Array:
    """Scores as probabilities, as ``evaluate`` makes them."""
    if values.shape[1] == 1:
        one = values if values.min() >= 0 and values.max() <= 1 else 1 / (1 + np.exp(-values))
        return np.concatenate([1 - one, one], axis=1)
    if values.min() >= -1e-6 and values.max() <= 1 + 1e-6:
        return values
    raised = np.exp(values - values.max(axis=1, keepdims=True))
    found: Array = raised / raised.sum(axis=1, keepdims=True)
    return found
