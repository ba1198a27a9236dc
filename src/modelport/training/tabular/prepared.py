"""Rows of a dataset made ready: the target's codes, the columns' matrix, what was left out and what is suspicious."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modelport.errors import InvalidInput
from modelport.tensors import Array
from modelport.training import targets
from modelport.training.encoders import encoder
from modelport.training.encoders.encoder import Encoder, Wishes
from modelport.training.encoders.table import Rows, count, input_kind, read_rows
from modelport.training.recipe import TrainingData, TrainingRun
from modelport.training.tabular import leaks


@dataclass(slots=True)
class Prepared:
    """What is learnt from, and what it is judged by."""

    encoder: Encoder
    types: dict[str, str]
    """Number, flag, text or date, by column."""
    features: Array
    """[rows, width] float32."""
    target: Array
    """Codes of classes, or numbers."""
    classes: list[int] | list[str] | None
    held_features: Array
    held_target: Array
    held_rows: Rows
    """The validation's raw rows, as the served model gets them."""
    warnings: list[str] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Known:
    """What was settled by the version that training goes on from."""

    types: dict[str, str]
    classes: list[Any] | None
    encoder: Encoder


def prepare(
    run: TrainingRun, data: TrainingData, options: Any, task: str, keep_missing: bool, known: Known | None = None
) -> Prepared:
    """Read and encode; raises InvalidInput for what is wrong with the rows."""
    names = [name for name in data.features if options.columns.get(name) != "ignore"]
    target = str(data.target)
    rows, held = read_rows([*data.train, *data.replay], [*names, target]), read_rows(data.validation, [*names, target])
    truth, held_truth = rows.pop(target), held.pop(target)
    if not len(truth):
        raise InvalidInput("the training part has no row")
    if not len(held_truth):
        raise InvalidInput("the validation part has no row; give one, or a share of the training rows")
    warnings: list[str] = []
    if task == "classification":
        classes = classes_of(truth, target) if known is None else known.classes or []
        codes, held_codes = codes_of(truth, classes, target), codes_of(held_truth, classes, target)
        warnings += targets.told_of_few(codes, classes)
    else:
        classes, codes, held_codes = None, _numbers(truth, target), _numbers(held_truth, target)
    types = types_of(data, names, rows, held)
    if known is None:
        encoded, matrix = encoder.fit(rows, types, codes, wishes_of(options, keep_missing, run.seed))
    else:
        encoded, matrix = _as_before(known, types, rows)
    suspects = leaks.leaking(matrix, encoded.names, codes, task, run.seed)
    warnings += [*encoded.notes, *leaks.told(suspects, task)]
    report = {
        "rows": len(codes), "validation_rows": len(held_codes), "columns": encoded.columns,
        "matrix_width": matrix.shape[1], "leaks": suspects, "left_out": encoded.notes,
    }  # fmt: skip
    held_matrix = encoded.transform(held)
    return Prepared(encoded, types, matrix, codes, classes, held_matrix, held_codes, held, warnings, report)


def _as_before(known: Known, types: dict[str, str], rows: Rows) -> tuple[Encoder, Array]:
    """The encoders of the version that training goes on from, so that its numbers keep their meaning."""
    for name in known.encoder.columns:
        if name not in types:
            raise InvalidInput(f"start: the data has no column {name!r}, which the version was learnt from")
        if types[name] != known.types.get(name):
            raise InvalidInput(
                f"start: column {name!r} holds {types[name]}s, and held {known.types.get(name)}s when the version was "
                "learnt"
            )
    return known.encoder, known.encoder.transform(rows)


def wishes_of(options: Any, keep_missing: bool, seed: int) -> Wishes:
    """The options that say how columns become numbers."""
    return Wishes(
        options.columns, options.max_categories, options.high_cardinality, options.max_words,
        keep_missing=keep_missing, seed=seed,
    )  # fmt: skip


def types_of(data: TrainingData, names: Sequence[str], *tables: Rows) -> dict[str, str]:
    """Number, flag, text or date, by column; true and false with gaps are numbers."""
    types: dict[str, str] = {}
    for name in names:
        kind = input_kind(data.features[name])
        if kind is None:
            raise InvalidInput(f"column {name!r} is {data.features[name]}, which this recipe cannot learn from")
        whole = all(rows[name].dtype == bool for rows in tables if count(rows))
        types[name] = "number" if kind == "flag" and not whole else kind
    return types


def classes_of(truth: Array, name: str) -> list[int] | list[str]:
    """The classes, sorted: whole numbers as numbers, else as texts. Raises InvalidInput for one class, or gaps."""
    if truth.dtype.kind == "b":
        found: list[Any] = sorted({"true" if value else "false" for value in truth.tolist()})
    elif truth.dtype.kind == "f":
        _check_gaps(~np.isfinite(truth), name)
        if (truth != np.round(truth)).any():
            raise InvalidInput(f"target: column {name!r} has numbers with fractions, which are no classes")
        found = [int(value) for value in np.unique(truth)]
    else:
        _check_gaps(truth == "", name)
        found = sorted(set(truth.tolist()))
    if len(found) < 2:
        raise InvalidInput(f"target: the training rows have one class, {found[0]!r}; give rows of another too")
    return found


def codes_of(truth: Array, classes: Sequence[Any], name: str) -> Array:
    """The place of each row's class; raises InvalidInput for a class that the training rows have not."""
    if truth.dtype.kind == "b":
        texts: list[Any] = ["true" if value else "false" for value in truth.tolist()]
    else:
        if truth.dtype.kind == "f":
            _check_gaps(~np.isfinite(truth), name)
        texts = [int(value) if isinstance(value, float) else value for value in truth.tolist()]
    places = {each: at for at, each in enumerate(classes)}
    unknown = next((each for each in texts if each not in places), None)
    if unknown is not None:
        raise InvalidInput(
            f"target: class {str(unknown)[:100]!r} of column {name!r} is not among those that can be "
            "learnt: is it among the validation rows alone (split by strata), or new to the version that training goes "
            "on from (train anew)?"
        )
    return np.array([places[each] for each in texts], np.int64)


def _numbers(truth: Array, name: str) -> Array:
    if truth.dtype.kind != "f":
        raise InvalidInput(f"target: column {name!r} holds no numbers")
    _check_gaps(~np.isfinite(truth), name)
    if np.ptp(truth) == 0:
        raise InvalidInput(f"target: column {name!r} has one value in these rows; there is nothing to learn")
    return truth


def _check_gaps(gaps: Array, name: str) -> None:
    found = int(np.count_nonzero(gaps))
    if found:
        raise InvalidInput(f"target: column {name!r} lacks {found} of {len(gaps)} values; remove those rows first")


def class_weights(wanted: Any, classes: Sequence[Any] | None) -> Any:
    """Weights by class code; ``balanced`` and nothing as they are."""
    if not isinstance(wanted, dict):
        return wanted
    targets.check_weights(wanted, [str(each) for each in classes or ()], "class_weight")
    return {code: wanted.get(str(name), 1.0) for code, name in enumerate(classes or ())}
