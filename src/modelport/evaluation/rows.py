"""Rows whose truth is known, with what a model answered: to Parquet, and from there to arrays that can be judged.

A file has ``truth``, ``prediction`` and, of a classification, ``probabilities`` (a list in the order of the labels);
further quantiles that were told are called ``quantile.LEVEL``, columns of the data that were kept ``data.NAME``. All
rows are held in memory. Knows Arrow; knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modelport.data.outputs import Wanted
from modelport.data.writing import parts_in
from modelport.errors import InvalidInput
from modelport.evaluation.answers import Picked, listed
from modelport.evaluation.score import check_numbers
from modelport.schemas.training import Task
from modelport.storage.disk import told_of_disk
from modelport.tensors import Array

_YES = ("1", "true", "yes", "y")
TRUTH, PREDICTION, PROBABILITIES, KEPT = "truth", "prediction", "probabilities", "data."
QUANTILE = "quantile."


@dataclass(slots=True)
class Answered:
    """Rows as they were answered."""

    table: pa.Table
    warnings: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.table)

    def has_texts(self) -> bool:
        """Whether the truth is text."""
        kind = self.table.schema.field(TRUTH).type
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))

    def kept(self, name: str) -> Any:
        """A column of the data; raises InvalidInput."""
        if f"{KEPT}{name}" not in self.table.column_names:
            raise InvalidInput(f"column {name[:100]!r} was not kept beside the predictions")
        return self.table.column(f"{KEPT}{name}").combine_chunks()

    def weights(self, name: str | None) -> Array:
        """How much each row counts [rows]; raises InvalidInput for what is no weight."""
        if name is None:
            return np.ones(self.rows)
        found = _floats(self.kept(name), f"weight: column {name[:100]!r}")
        if (found < 0).any() or not found.any():
            raise InvalidInput(f"weight: column {name[:100]!r} has negative numbers or only zeros; weights are above 0")
        return found


def read_answers(parts: Sequence[Path], truth_name: str = TRUTH) -> Answered:
    """All rows; raises InvalidInput for none, and for rows without a truth or a prediction."""
    table = pa.concat_tables([pq.read_table(part) for part in parts])
    if not len(table):
        raise InvalidInput("there are no rows, so there is nothing to judge")
    for name, what, hint in (
        (TRUTH, f"column {truth_name[:100]!r}", "leave such rows out with `modelport data clean`"),
        (PREDICTION, "the prediction", "the model gave no answer, or NaN, for them; look at them with `predict-batch`"),
    ):
        missing = pc.is_null(table.column(name).combine_chunks(), nan_is_null=True).to_numpy(zero_copy_only=False)
        if missing.any():
            raise InvalidInput(
                f"{what} is missing in row {int(np.argmax(missing))} ({int(missing.sum())} of {len(table)} rows have "
                f"none): {hint}"
            )
    return Answered(table)


def numbers_of(answered: Answered, name: str, what: str) -> Array:
    """A column of numbers [rows], or of lists of equally many [rows, steps]; raises InvalidInput."""
    return _floats(answered.table.column(name).combine_chunks(), what)


def found_among(answered: Answered, positive: str | None) -> Array:
    """1.0 for rows of what is looked for (``1``, ``true``, ``yes``, or the rarer of two), else 0.0 [rows]."""
    texts = texts_of(answered.table.column(TRUTH).combine_chunks())
    known = classes_of(texts)
    if positive is None:
        if len(known) != 2:
            raise InvalidInput(
                f"positive: the truth has {len(known)} classes; say which is looked for: {listed(known)}"
            )
        usual = [name for name in known if name.lower() in _YES]
        positive = usual[0] if len(usual) == 1 else min(known, key=texts.count)
        answered.warnings.append(f"{positive!r} is taken for what is looked for; say another with positive")
    if positive not in known:
        raise InvalidInput(f"positive: there is no class {positive[:60]!r}; there are {listed(known)}")
    return np.array([float(text == positive) for text in texts])


def texts_of(column: Any) -> list[str]:
    """Classes as text: whole numbers without a point, whatever their type; ``true`` and ``false``."""
    if pa.types.is_boolean(column.type):
        return ["true" if value else "false" for value in column.to_pylist()]
    if pa.types.is_floating(column.type):
        values = column.to_numpy(zero_copy_only=False)
        if np.all(values == np.round(values)) and np.all(np.abs(values) < 2**53):
            column = pa.array(values.astype(np.int64))
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return [value.decode(errors="backslashreplace") for value in column.to_pylist()]
    return [str(value) for value in column.to_pylist()]


def classes_of(texts: Sequence[str]) -> list[str]:
    """The different ones in order; whole numbers by their size."""
    found = set(texts)
    try:
        return sorted(found, key=int)
    except ValueError:
        return sorted(found)


def codes_of(texts: Sequence[str], labels: Sequence[str]) -> Array:
    """Places among the labels [rows]."""
    place = {label: at for at, label in enumerate(labels)}
    return np.array([place[text] for text in texts], np.int64)


def labels_for(
    truth: Sequence[str], predicted: Sequence[str], known: Sequence[str] | None, told: list[str]
) -> list[str]:
    """The classes of a judgement: those that the model knows, then others that the truth has (which it warns of)."""
    if known is None:
        return classes_of([*truth, *predicted])
    strange = classes_of([text for text in {*truth, *predicted} if text not in set(known)])
    if strange and len(strange) == len(set(truth)):
        raise InvalidInput(
            f"none of the classes in the truth ({listed(strange)}) is one that the model knows ({listed(known)}): "
            "is it the right column, and the right model?"
        )
    if strange:
        count = sum(text in set(strange) for text in truth)
        told.append(f"{count} rows have classes that the model does not know, and count as wrong: {listed(strange)}")
    return [*known, *strange]


def probabilities_of(answered: Answered, known: Sequence[str] | None, labels: Sequence[str]) -> Array | None:
    """Probabilities [rows, labels]; None where there are none. Scores of another kind are made such, and warned of."""
    if PROBABILITIES not in answered.table.column_names:
        return None
    found = _floats(answered.table.column(PROBABILITIES).combine_chunks(), "the probabilities", np.float32)
    found = found.reshape(answered.rows, -1)
    of_two = found.shape[1] == 1 and len(labels) == 2
    if not of_two and (known is None or found.shape[1] != len(known)):
        answered.warnings.append(f"{found.shape[1]} scores for {len(labels)} classes: which is whose cannot be told")
        return None
    # the one class that a model knows is sure
    found, changed = (np.ones_like(found), "") if found.shape[1] == 1 and not of_two else chances(found)
    if changed:
        answered.warnings.append(changed)
    return np.pad(found, ((0, 0), (0, len(labels) - found.shape[1])))


def chances(scores: Array) -> tuple[Array, str]:
    """Scores [rows, classes] as probabilities, one column as that of the second of two classes; and how they were made
    such, where they were something else."""
    if scores.shape[1] == 1:
        is_share = scores.min() >= 0 and scores.max() <= 1
        found = scores if is_share else 1 / (1 + np.exp(-scores))
        told = "" if is_share else "scores are no probabilities: their logistic function was taken"
        return np.concatenate([1 - found, found], axis=1), told
    if scores.min() < -1e-6 or scores.max() > 1 + 1e-6:
        raised = np.exp(scores - scores.max(axis=1, keepdims=True))
        return raised / raised.sum(axis=1, keepdims=True), "scores are no probabilities: their softmax was taken"
    sums = scores.sum(axis=1, keepdims=True)
    if np.abs(sums - 1).max() <= 1e-2:
        return scores, ""
    shares = np.divide(scores, sums, out=np.full_like(scores, 1 / scores.shape[1]), where=sums > 0)
    return shares, "scores do not sum to 1: each was divided by its row's sum"


def _floats(column: Any, what: str, kind: Any = np.float64) -> Array:
    if pa.types.is_list(column.type):
        lengths = pc.unique(pc.list_value_length(column))
        if len(lengths) != 1:
            raise InvalidInput(f"{what} are lists of different lengths; they have to be alike")
        flat: Array = _floats(column.flatten(), what, kind).reshape(len(column), -1)
        return flat
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)):
        raise InvalidInput(f"{what} is {column.type}, which is no number; say the task, or give another column")
    if column.null_count:
        raise InvalidInput(f"{what}: {column.null_count} values are missing; leave such rows out")
    found: Array = column.to_numpy(zero_copy_only=False).astype(kind)
    check_numbers(found, what)
    return found


# Writing


def write_answers(
    results: Path, folder: Path, columns: Wanted, picked: Picked, task: Task, truth: str, keep: Sequence[str]
) -> list[Path]:
    """The shards of results as ``rows`` wants them, a file for each; its files."""
    folder.mkdir(exist_ok=True)
    first = len(columns.beside)
    for part in parts_in(results):
        table = pq.read_table(part)
        beside = {name: table.column(at) for at, name in enumerate(columns.beside)}
        answers = table.columns[first:]
        prediction, chances = _answer(answers, picked, task)
        found = {TRUTH: beside[truth], PREDICTION: prediction}
        if chances is not None:
            found[PROBABILITIES] = chances
        found |= {f"{QUANTILE}{level}": answers[at] for level, at in picked.quantiles}
        found |= {f"{KEPT}{name}": beside[name] for name in keep}
        with told_of_disk():
            pq.write_table(pa.table(found), folder / part.name)
    return parts_in(folder)


def _answer(answers: Sequence[Any], picked: Picked, task: Task) -> tuple[Any, Any]:
    """Prediction and probabilities of a shard."""
    chances = None
    if picked.probabilities is not None:
        chances = answers[picked.probabilities].combine_chunks()
    if chances is not None and task != "classification":
        return pc.list_element(chances, len(picked.labels or ()) - 1), None  # of two classes the second
    if picked.prediction is not None:
        return answers[picked.prediction], chances
    return _likeliest(chances, picked.labels), chances


def _likeliest(chances: Any, labels: Sequence[str] | None) -> Any:
    """The class with the highest score; null where a score is no number."""
    rows = len(chances)
    flat = chances.flatten() if pa.types.is_list(chances.type) else chances
    scores = flat.to_numpy(zero_copy_only=False).astype(np.float64).reshape(rows, -1)
    best = (scores[:, 0] > 0.5).astype(np.int64) if scores.shape[1] == 1 else np.argmax(scores, axis=1)
    unknown = np.isnan(scores).any(axis=1)
    names = labels if labels is not None else [str(at) for at in range(max(scores.shape[1], 2))]
    return pa.array(
        [None if nan else names[at] for at, nan in zip(best.tolist(), unknown.tolist(), strict=True)], pa.string()
    )
