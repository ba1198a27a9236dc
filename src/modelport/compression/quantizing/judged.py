"""What a model answers to rows, and how good that is: the same rows for the model as it was and as it becomes.

Answers are told by the same rules as in ``evaluate``; rows are held in memory, so there are not many.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from modelport.compression.asking import answer_of, codes_of, probabilities, task_of
from modelport.compression.feeding import Fed
from modelport.compression.inputs import model_signature
from modelport.compression.method import Model
from modelport.engine.runtime import LoadOptions
from modelport.engine.runtimes.onnx import OnnxRuntime
from modelport.errors import ArtifactRefused, InvalidInput
from modelport.evaluation.rows import texts_of
from modelport.evaluation.score import main_figure, score
from modelport.tensors import Array

Answers = list[dict[str, Array]]


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
        task = task_of(self._model)
        answer = answer_of(self._model, task, need_scores=False)
        values = np.concatenate(
            [_by_row(found[answer.output], fed) for found, fed in zip(answers, self.fed, strict=True)]
        )
        truth = [value for fed in self.fed for value in fed.truth or ()]
        if not answer.scored:
            texts = [one.decode() if isinstance(one, bytes) else str(one) for one in values.reshape(-1).tolist()]
            return {"accuracy": float((np.array(texts_of(pa.array(truth))) == np.array(texts)).mean())}
        codes = codes_of(truth, task, answer)
        if task == "classification":
            predicted = probabilities(values)
            if codes.max() >= predicted.shape[1]:
                raise InvalidInput(f"target: the data has more classes than the model's {predicted.shape[1]} scores")
            return score(task, codes, predicted)
        return score(task, codes, values.astype(np.float64).reshape(codes.shape))

    def main(self, figures: dict[str, float]) -> str:
        """The name of the figure that tells most."""
        found = main_figure(task_of(self._model), figures)
        assert found is not None
        return found


def _rowwise(alike: Any, rows: int) -> Array:
    found = np.asarray(alike)
    whole = found.size and found.size % rows == 0
    return np.asarray(found.reshape(rows, -1).all(1) if whole else np.ones(rows, bool))


def _by_row(values: Array, fed: Fed) -> Array:
    return values if len(values) == len(fed.rows) else values.reshape(len(fed.rows), -1)
