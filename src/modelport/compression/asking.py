"""Rows of a dataset put to a version's ONNX file, or to another one with the same inputs: answers and figures.

The rows are prepared once and kept, so that many files can be asked about them. Knows no method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pyarrow as pa

from modelport.compression.feeding import Fed, Feeder, model_signature
from modelport.compression.method import Model
from modelport.data.outputs import wanted
from modelport.engine.formats.onnx_wire import find_model
from modelport.engine.runtimes.onnx import session_options
from modelport.errors import InvalidInput
from modelport.evaluation.answers import pick
from modelport.evaluation.rows import chances, classes_of, texts_of
from modelport.evaluation.rows import codes_of as places_of
from modelport.evaluation.score import main_figure
from modelport.schemas.training import Task
from modelport.tensors import Array
from modelport.training.recipe import TrainingData, TrainingRun

_SIZE = 256


def task_of(model: Model) -> Task:
    """What a version is for, by its manifest; classes where its outputs have labels."""
    said = model.manifest.task
    if said:
        return said  # type: ignore[return-value]
    return "classification" if model.manifest.labels else "regression"


def model_file(model: Model) -> Path:
    """The version's ONNX file; raises InvalidInput when it has none."""
    name = find_model(model.folder, [one.path for one in model.manifest.files])
    if name is None:
        raise InvalidInput(f"the version is served as {model.manifest.format}, and this method works on ONNX files")
    return model.folder / name


@dataclass(frozen=True, slots=True)
class Answer:
    """The output that a version is judged by."""

    output: str
    labels: tuple[str, ...] | None
    """Names of the classes in the order of their scores; None where nobody knows them."""
    scored: bool = True
    """Whether classes have scores; else the answer is a class."""


def answer_of(model: Model, task: Task, need_scores: bool = True) -> Answer:
    """Scores of classes (or, where ``need_scores`` is false, the class alone), or the number; raises InvalidInput
    where that cannot be told."""
    columns = wanted(
        model_signature(model), model.manifest.labels, (), number=False, probabilities=False, record=False,
        has_rows=True,
    )  # fmt: skip
    given = list(columns.columns)
    if task == "classification":
        scored = next((column for column in given if column.part), None)
        if scored is not None:
            return Answer(scored.output.name, scored.labels)
        found = pick(task, columns)
        if found.probabilities is not None:
            return Answer(given[found.probabilities].output.name, None)
        if need_scores or found.prediction is None:
            raise InvalidInput("the version answers with classes alone, and scores of them are needed; serve them too")
        return Answer(given[found.prediction].output.name, None, scored=False)
    found = pick(task, columns)
    at = found.prediction if found.prediction is not None else found.probabilities
    assert at is not None
    return Answer(given[at].output.name, None)


def session(source: Path | bytes, threads: int) -> ort.InferenceSession:
    """As a replica opens it."""
    given = source if isinstance(source, bytes) else str(source)
    return ort.InferenceSession(given, session_options(threads), providers=["CPUExecutionProvider"])


class Asked:
    """Rows with their truth, as one version's model takes them."""

    def __init__(self, model: Model, data: TrainingData, parts: Sequence[Path], rows: int | None = None, seed: int = 0):
        """At most ``rows`` of them, chosen by ``seed``. Raises InvalidInput when there are none."""
        self._batches: list[Fed] = list(Feeder(model, data).batches(parts, _SIZE, rows, seed))
        if not self._batches:
            raise InvalidInput("the data has no row in one of its parts; give another part, or a larger share")

    def __len__(self) -> int:
        return sum(len(batch.rows) for batch in self._batches)

    @property
    def truth(self) -> list[Any]:
        """The target's values; empty where the data has no target."""
        return [value for batch in self._batches for value in batch.truth or ()]

    def run(self, opened: ort.InferenceSession, outputs: Sequence[str]) -> dict[str, Array]:
        """What a file answers to all rows, [rows, …] by output."""
        given = {one.name for one in opened.get_inputs()}
        pieces = [
            opened.run(list(outputs), {name: value for name, value in batch.inputs.items() if name in given})
            for batch in self._batches
        ]
        return {name: np.concatenate([piece[at] for piece in pieces]) for at, name in enumerate(outputs)}


class Judge:
    """Figures of files that answer like one version, on rows that are kept."""

    def __init__(self, run: TrainingRun, model: Model, asked: Asked) -> None:
        """Raises InvalidInput for rows without a truth that fits the model's classes."""
        self._run, self._asked = run, asked
        self.task = task_of(model)
        self.answer = answer_of(model, self.task)
        self.truth = codes_of(asked.truth, self.task, self.answer)

    def predicted(self, source: Path | bytes) -> Array:
        """[rows, classes] probabilities, or [rows] numbers."""
        found = self._asked.run(session(source, self._run.threads), [self.answer.output])[self.answer.output]
        return probabilities(found) if self.task == "classification" else found.reshape(len(found), -1)[:, 0]

    def figures(self, source: Path | bytes) -> dict[str, float]:
        """As ``evaluate`` gives them."""
        return self.figures_of(self.predicted(source))

    def figures_of(self, predicted: Array) -> dict[str, float]:
        """Of answers to all rows."""
        return self._run.score(self.task, self.truth, predicted)

    def main(self, figures: Mapping[str, float]) -> tuple[str, float]:
        """The one that tells most."""
        name = main_figure(self.task, dict(figures))
        assert name is not None
        return name, figures[name]


def codes_of(truth: Sequence[Any], task: Task, answer: Answer) -> Array:
    """Places among the classes, or numbers; raises InvalidInput for gaps and for unknown classes."""
    if not truth or any(value is None for value in truth):
        raise InvalidInput("target: rows without a truth cannot be judged; name the target, and leave such rows out")
    if task != "classification":
        return np.asarray(truth, np.float64)
    texts = texts_of(pa.array(truth))
    labels = answer.labels or classes_of(texts)
    strange = next((text for text in texts if text not in set(labels)), None)
    if strange is not None:
        raise InvalidInput(
            f"target: class {strange[:100]!r} is none of the model's ({', '.join(labels[:8])}); is it the right column?"
        )
    return places_of(texts, labels)


def probabilities(scores: Array) -> Array:
    """[rows, classes], as ``evaluate`` makes them of scores of another kind."""
    return chances(scores.astype(np.float64).reshape(len(scores), -1))[0]
