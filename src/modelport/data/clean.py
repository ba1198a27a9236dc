"""Applies a recipe's rules to a table, one after another, and reports the rows before and after each.

A rule reads the parts that the rule before it wrote, in pieces; a finished rule is not applied again when the work is
begun anew. Row order is kept.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelport.data import engine, recipe
from modelport.data.labels import label_errors
from modelport.data.statistics import quantiles
from modelport.data.values import TYPES, read_texts
from modelport.data.writing import PartWriter, parts_in, read_parts, rows_in, schema_of
from modelport.errors import InvalidInput
from modelport.tensors import Array

Parts = Sequence[Path]
Applied = tuple[pa.Schema, Iterator[pa.RecordBatch], dict[str, Any]]
"""The schema after a rule, its rows, and what the report says; the last is complete when the rows are through."""


def clean(
    wanted: recipe.Recipe, parts: Parts, folder: Path, scratch: Path, told: Callable[[int, int, str], object]
) -> list[dict[str, Any]]:
    """Apply the rules; the cleaned parts are in ``folder``. Returns the report, a line for each rule.

    Raises InvalidInput when a rule cannot be applied, or leaves no row.
    """
    report: list[dict[str, Any]] = []
    for index, rule in enumerate(wanted.rules):
        told(index, len(wanted.rules), rule.rule)
        stage, note = scratch / f"rule-{index}", scratch / f"rule-{index}.json"
        if not note.exists():
            shutil.rmtree(stage, ignore_errors=True)
            line = _apply(index, rule, parts, stage)
            note.with_suffix(".part").write_text(json.dumps(line))
            note.with_suffix(".part").replace(note)
        report.append(json.loads(note.read_text()))
        if index:
            shutil.rmtree(scratch / f"rule-{index - 1}", ignore_errors=True)
        parts = parts_in(stage)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(scratch / f"rule-{len(wanted.rules) - 1}", folder)
    return report


def _apply(index: int, rule: Any, parts: Parts, stage: Path) -> dict[str, Any]:
    before = sum(rows_in(part) for part in parts)
    try:
        schema, batches, details = _RULES[type(rule)](rule, parts)
        with PartWriter(stage, schema) as writer:
            for batch in batches:
                writer.write(batch)
    except InvalidInput as error:
        raise InvalidInput(f"recipe.rules.{index} ({rule.rule}): {error.message}") from None
    except pa.ArrowInvalid as error:
        raise InvalidInput(f"recipe.rules.{index} ({rule.rule}): {str(error)[:200]}; correct the rule") from None
    if not writer.rows:
        raise InvalidInput(f"recipe.rules.{index} ({rule.rule}): leaves none of {before} rows; loosen it")
    return {"rule": rule.rule, "before": before, "after": writer.rows, **details}


# One row, one answer


def _types(rule: recipe.Types, parts: Parts) -> Applied:
    old = schema_of(parts)
    schema = pa.schema(
        [pa.field(f.name, TYPES[rule.columns[f.name]] if f.name in rule.columns else f.type) for f in old]
    )
    details: dict[str, Any] = {"unreadable": 0}

    def rows() -> Iterator[pa.RecordBatch]:
        for batch in read_parts(parts):
            columns, wrong = [], np.zeros(len(batch), bool)
            for field, column in zip(schema, batch.columns, strict=True):
                made, bad = _as_type(column, field.type)
                if bad.any() and rule.on_error == "fail":
                    value = column[int(bad.nonzero()[0][0])].as_py()
                    raise InvalidInput(f"{str(value)[:80]!r} in column {field.name!r} is no {rule.columns[field.name]}")
                wrong |= bad
                columns.append(made)
            details["unreadable"] += int(wrong.sum())
            made_batch = pa.RecordBatch.from_arrays(columns, schema=schema)
            yield made_batch.filter(pa.array(~wrong)) if rule.on_error == "drop" and wrong.any() else made_batch

    return schema, rows(), details


def _as_type(column: Any, kind: Any) -> tuple[Any, Array]:
    if column.type.equals(kind):
        return column, np.zeros(len(column), bool)
    if pa.types.is_floating(column.type) and pa.types.is_integer(kind):
        column = pc.if_else(pc.is_nan(column), None, column)
    try:
        return pc.cast(column, kind), np.zeros(len(column), bool)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return read_texts(pc.cast(column, pa.string()), kind)


def _missing(rule: recipe.Missing, parts: Parts) -> Applied:
    schema = schema_of(parts)
    names = rule.columns or schema.names
    fill = (
        {name: _fill_value(rule, parts, schema, name) for name in names} if rule.how not in ("drop", "forward") else {}
    )
    shown = {name: value if isinstance(value, int | float | str | bool) else str(value) for name, value in fill.items()}
    details: dict[str, Any] = {"missing": 0, **({"filled_with": shown} if fill else {})}
    last: dict[str, Any] = {}

    def rows() -> Iterator[pa.RecordBatch]:
        for batch in read_parts(parts):
            gone = np.zeros(len(batch), bool)
            columns = list(batch.columns)
            for name in names:
                at = schema.get_field_index(name)
                column = _without_nan(columns[at])
                absent = pc.is_null(column).to_numpy(zero_copy_only=False)
                details["missing"] += int(absent.sum())
                gone |= absent
                if name in fill:
                    columns[at] = pc.fill_null(column, pa.scalar(fill[name], column.type))
                elif rule.how == "forward":
                    columns[at] = _forward(column, last, name)
            made = pa.RecordBatch.from_arrays(columns, schema=schema)
            yield made.filter(pa.array(~gone)) if rule.how == "drop" and gone.any() else made

    return schema, rows(), details


def _fill_value(rule: recipe.Missing, parts: Parts, schema: pa.Schema, name: str) -> Any:
    kind = schema.field(name).type
    if rule.how == "fill":
        try:
            return pa.scalar(rule.value, kind).as_py()
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
            made, bad = read_texts(pa.array([str(rule.value)]), kind)
            if bad.any():
                raise InvalidInput(f"value {rule.value!r} is no {kind}, as column {name!r} is") from None
            return made[0].as_py()
    if rule.how == "median":
        found: Any = quantiles(parts, name, [0.5])
        value = found[0] if found else None
    elif rule.how == "mean":
        value, _ = _mean_and_std(parts, name)
    else:
        counts: Counter[Any] = Counter()
        for batch in read_parts(parts, [name]):
            for item in pc.value_counts(pc.drop_null(_without_nan(batch.column(0)))):
                counts[item["values"].as_py()] += item["counts"].as_py()
        value = min(counts.items(), key=lambda pair: (-pair[1], str(pair[0])))[0] if counts else None
    if value is None:
        raise InvalidInput(f"column {name!r} has no value to take the {rule.how} of")
    return round(value) if pa.types.is_integer(kind) and rule.how != "mode" else value


def _forward(column: Any, last: dict[str, Any], name: str) -> Any:
    if last.get(name) is not None and len(column):
        column = pa.concat_arrays([pa.array([last[name]], column.type), column])
        made = pc.fill_null_forward(column).slice(1)
    else:
        made = pc.fill_null_forward(column)
    if len(made):
        last[name] = made[-1].as_py()
    return made


def _range(rule: recipe.Range, parts: Parts) -> Applied:
    return _bounded(parts, {rule.column: (rule.min, rule.max)}, rule.action)


def _outliers(rule: recipe.Outliers, parts: Parts) -> Applied:
    limits: dict[str, tuple[float | None, float | None]] = {}
    for name in rule.columns:
        if rule.method == "zscore":
            mean, std = _mean_and_std(parts, name)
            reach = (rule.factor or 3) * std
            limits[name] = (mean - reach, mean + reach) if mean is not None else (None, None)
            continue
        low, high = (0.25, 0.75) if rule.method == "iqr" else (rule.low, rule.high)
        found = quantiles(parts, name, [low, high])
        if not found:
            continue
        reach = (rule.factor or 1.5) * (found[1] - found[0]) if rule.method == "iqr" else 0.0
        limits[name] = (found[0] - reach, found[1] + reach)
    return _bounded(parts, limits, rule.action)


def _bounded(parts: Parts, limits: dict[str, tuple[float | None, float | None]], action: str) -> Applied:
    schema = schema_of(parts)
    shown = {name: [low, high] for name, (low, high) in limits.items()}
    details: dict[str, Any] = {"outside": 0, "limits": shown}

    def rows() -> Iterator[pa.RecordBatch]:
        for batch in read_parts(parts):
            gone, columns = np.zeros(len(batch), bool), list(batch.columns)
            for name, (low, high) in limits.items():
                at = schema.get_field_index(name)
                values = columns[at].cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
                outside = np.zeros(len(batch), bool)
                outside |= values < low if low is not None else False
                outside |= values > high if high is not None else False
                gone |= outside
                if action != "drop" and outside.any():
                    columns[at] = _limited(columns[at], values, outside, low, high, action)
            details["outside"] += int(gone.sum())
            made = pa.RecordBatch.from_arrays(columns, schema=schema)
            yield made.filter(pa.array(~gone)) if action == "drop" and gone.any() else made

    return schema, rows(), details


def _limited(column: Any, values: Array, outside: Array, low: float | None, high: float | None, action: str) -> Any:
    if action == "null":
        return pc.if_else(pa.array(~outside), column, pa.nulls(len(column), column.type))
    low, high = -np.inf if low is None else low, np.inf if high is None else high
    if pa.types.is_integer(column.type):
        low, high = np.ceil(low), np.floor(high)
    clipped = pa.array(np.clip(values, low, high)[outside]).cast(column.type, safe=False)
    return pc.replace_with_mask(column, pa.array(outside), clipped)


def _regex(rule: recipe.Regex, parts: Parts) -> Applied:
    schema = schema_of(parts)
    details: dict[str, Any] = {"matching": 0}

    def rows() -> Iterator[pa.RecordBatch]:
        at = schema.get_field_index(rule.column)
        for batch in read_parts(parts):
            matching = pc.fill_null(pc.match_substring_regex(batch.column(at), rule.pattern), False)
            details["matching"] += pc.sum(matching).as_py() or 0
            if rule.action == "replace":
                made = pc.replace_substring_regex(batch.column(at), rule.pattern, rule.value)
                yield batch.set_column(at, schema.field(at), made)
            else:
                yield batch.filter(matching if rule.action == "keep" else pc.invert(matching))

    return schema, rows(), details


def _select(rule: recipe.Select, parts: Parts) -> Applied:
    old = schema_of(parts)
    names = [name for name in old.names if (name in rule.columns) == (rule.action == "keep")]
    return pa.schema([old.field(name) for name in names]), read_parts(parts, names), {"columns": len(names)}


# All rows, one answer


def _duplicates(rule: recipe.Duplicates, parts: Parts) -> Applied:
    schema = schema_of(parts)
    gone = np.zeros(sum(rows_in(part) for part in parts), bool)
    order, same = same_rows(parts, rule.columns or schema.names)
    gone[order[1:][same] if rule.keep == "first" else order[:-1][same]] = True
    return schema, _picked(parts, (~gone).astype(np.int32)), {"duplicates": int(gone.sum())}


def same_rows(parts: Parts, columns: Sequence[str]) -> tuple[Array, Array]:
    """Row numbers so ordered that equal rows are neighbours, the earlier first; and whether each equals its neighbour
    before it (one fewer)."""
    pieces = list(engine.row_hashes(list(parts), columns))
    hashes = np.concatenate(pieces) if pieces else np.empty((0, 2), np.uint64)
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))
    ordered = hashes[order]
    return order, (ordered[1:] == ordered[:-1]).all(axis=1)


def _balance(rule: recipe.Balance, parts: Parts) -> Applied:
    codes, classes = label_codes(parts, rule.column)
    counts = np.bincount(codes[codes >= 0], minlength=len(classes))
    if len(classes) < 2:
        raise InvalidInput(f"column {rule.column!r} has {len(classes)} class; balance needs two")
    target, random = int(counts.min() if rule.how == "down" else counts.max()), np.random.default_rng(rule.seed)
    times = np.zeros(len(codes), np.int32)
    for code in range(len(classes)):
        rows = np.flatnonzero(codes == code)
        if rule.how == "down":
            times[random.choice(rows, target, replace=False)] = 1
        else:
            times[rows] = 1
            np.add.at(times, random.choice(rows, target - len(rows), replace=True), 1)
    shown = {str(name)[:100]: int(count) for name, count in zip(classes[:100], counts, strict=False)}
    return schema_of(parts), _picked(parts, times), {"classes_before": shown, "rows_per_class": target}


def label_codes(parts: Parts, column: str) -> tuple[Array, list[Any]]:
    """A column's classes, in the order of their texts, and each row's place among them (-1 for a missing one)."""
    values = pa.chunked_array([batch.column(0) for batch in read_parts(parts, [column])])
    encoded = values.combine_chunks().dictionary_encode()
    found = encoded.dictionary.to_pylist()
    order = sorted(range(len(found)), key=lambda index: str(found[index]))
    place = np.empty(len(found) + 1, np.int64)
    place[order] = np.arange(len(found))
    place[-1] = -1
    indices = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    return place[indices], [found[index] for index in order]


def _label_errors(rule: recipe.LabelErrors, parts: Parts) -> Applied:
    codes, classes = label_codes(parts, rule.column)
    found = label_errors(parts, codes, classes, rule)
    rows, schema = found.pop("rows"), schema_of(parts)
    if rule.action == "report":
        return schema, read_parts(parts), found
    times = np.ones(len(codes), np.int32)
    times[rows] = 0
    return schema, _picked(parts, times), found


def _picked(parts: Parts, times: Array) -> Iterator[pa.RecordBatch]:
    """Each row as often as it is to be there."""
    start = 0
    for batch in read_parts(parts):
        wanted = times[start : start + len(batch)]
        start += len(batch)
        yield batch.take(pa.array(np.repeat(np.arange(len(batch)), wanted)))


def _mean_and_std(parts: Parts, name: str) -> tuple[Any, float]:
    count, mean, squares = 0, 0.0, 0.0
    for batch in read_parts(parts, [name]):
        values = pc.drop_null(batch.column(0)).cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        values = values[np.isfinite(values)]
        if len(values):
            distance, whole = float(values.mean()) - mean, count + len(values)
            squares += float(values.var()) * len(values) + distance**2 * count * len(values) / whole
            mean += distance * len(values) / whole
            count = whole
    return (mean, float(np.sqrt(squares / count))) if count else (None, 0.0)


def _without_nan(column: Any) -> Any:
    return pc.if_else(pc.is_nan(column), None, column) if pa.types.is_floating(column.type) else column


_RULES: dict[type, Callable[[Any, Parts], Applied]] = {
    recipe.Types: _types,
    recipe.Missing: _missing,
    recipe.Duplicates: _duplicates,
    recipe.Outliers: _outliers,
    recipe.Range: _range,
    recipe.Regex: _regex,
    recipe.Select: _select,
    recipe.Balance: _balance,
    recipe.LabelErrors: _label_errors,
}
