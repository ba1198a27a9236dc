"""Splits a table into parts: by chance, by strata, by groups that stay together, or by time; and looks for leaks.

Every row goes to exactly one part, in its old order; the same rows and seed give the same parts. Equal rows (what a
row is called, ``path``, does not count) in two parts are a leak.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelport.data import engine
from modelport.data.clean import label_codes, same_rows
from modelport.data.writing import PartWriter, read_parts, rows_in, schema_of
from modelport.errors import InvalidInput
from modelport.schemas.datasets import SplitParams
from modelport.storage.disk import check_room
from modelport.tensors import Array


def split(parts: Sequence[Path], wanted: SplitParams, folder: Path) -> tuple[dict[str, int], dict[str, Any]]:
    """Write each part below ``folder/NAME``; rows by part, and the report.

    Raises InvalidInput when a part would have no row, or rows leak and that is not allowed.
    """
    check_room(folder.parent, sum(part.stat().st_size for part in parts) // 2, "split: the rows")
    rows = sum(rows_in(part) for part in parts)
    names, ratios = list(wanted.ratios), np.array(list(wanted.ratios.values()))
    if rows < len(names):
        raise InvalidInput(f"{rows} rows cannot be split into {len(names)} parts")
    twins = _twins(parts)
    groups, kept_together = _groups(parts, wanted, twins)
    assigned = _assign(groups, _strata(parts, wanted, rows), ratios, wanted)
    counts = np.bincount(assigned, minlength=len(names))
    if not counts.all():
        empty = names[int(np.flatnonzero(counts == 0)[0])]
        raise InvalidInput(
            f"part {empty!r} would have no row: {rows} rows in {len(np.unique(groups))} groups are too few for "
            f"{wanted.ratios[empty]:g}; change ratios or groups"
        )
    leaks = _leaks(twins, assigned)
    if leaks and wanted.leaks == "fail":
        raise InvalidInput(f"{leaks} rows are equal to rows of another part; --leaks move keeps equal rows together")
    _write(parts, names, assigned, folder)
    report = {"rows": rows, "groups": len(np.unique(groups)), "leaking_rows": leaks, "kept_together": kept_together}
    if wanted.group is not None:
        report["groups_in_two_parts"] = _leaks(groups, assigned)
    return dict(zip(names, (int(count) for count in counts), strict=True)), report


def _twins(parts: Sequence[Path]) -> Array:
    """A number for each row; equal rows have the same one."""
    schema = schema_of(parts)
    columns = [name for name in schema.names if name != "path"] or schema.names
    order, same = same_rows(parts, columns)
    twins = np.empty(len(order), np.int64)
    twins[order] = np.concatenate([[0], np.cumsum(~same)]) if len(order) else []
    return twins


def _groups(parts: Sequence[Path], wanted: SplitParams, twins: Array) -> tuple[Array, int]:
    """What must stay together, as a number for each row; and how many rows are together only for they are equal."""
    name = wanted.group or wanted.time
    if name is not None:
        if wanted.time is not None:
            return _times(parts, name), 0
        hashes = np.concatenate(list(engine.row_hashes(list(parts), [name])))
        return np.unique(hashes[:, 0] ^ (hashes[:, 1] << np.uint64(1)), return_inverse=True)[1], 0
    if wanted.leaks == "move":
        return twins, len(twins) - len(np.unique(twins))
    return np.arange(len(twins)), 0


def _times(parts: Sequence[Path], name: str) -> Array:
    column = pa.chunked_array([batch.column(0) for batch in read_parts(parts, [name])]).combine_chunks()
    if column.null_count:
        raise InvalidInput(f"time: column {name!r} lacks {column.null_count} values; clean it first")
    ranks: Array = pc.rank(column, sort_keys="ascending", tiebreaker="dense").to_numpy().astype(np.int64)
    return ranks - 1


def _strata(parts: Sequence[Path], wanted: SplitParams, rows: int) -> Array:
    if wanted.stratify is None:
        return np.zeros(rows, np.int64)
    codes, classes = label_codes(parts, wanted.stratify)
    if len(classes) > max(100, rows // 2):
        raise InvalidInput(f"stratify: column {wanted.stratify!r} has {len(classes)} values; choose one with classes")
    return codes


def _assign(groups: Array, strata: Array, ratios: Array, wanted: SplitParams) -> Array:
    """The part of each row: within a stratum, groups in a drawn order (or that of time) fill one part after another."""
    random = np.random.default_rng(wanted.seed)
    _, firsts, sizes = np.unique(groups, return_index=True, return_counts=True)
    group_of = np.unique(groups, return_inverse=True)[1]
    stratum_of = strata[firsts]
    part_of = np.empty(len(firsts), np.int64)
    for stratum in np.unique(stratum_of):
        members = np.flatnonzero(stratum_of == stratum)
        order = members if wanted.time is not None else random.permutation(members)
        part_of[order] = _filled(sizes[order], ratios)
    return part_of[group_of]


def _filled(sizes: Array, ratios: Array) -> Array:
    """The part of each group: where the middle of its rows falls."""
    middles = np.cumsum(sizes) - sizes / 2
    edges = np.cumsum(ratios)[:-1] * sizes.sum()
    return np.searchsorted(edges, middles, side="right")


def _leaks(groups: Array, assigned: Array) -> int:
    """Rows whose equals are in another part too."""
    if not len(groups):
        return 0
    low, high = np.full(groups.max() + 1, np.iinfo(np.int64).max), np.full(groups.max() + 1, -1)
    np.minimum.at(low, groups, assigned)
    np.maximum.at(high, groups, assigned)
    return int((low[groups] != high[groups]).sum())


def _write(parts: Sequence[Path], names: Sequence[str], assigned: Array, folder: Path) -> None:
    schema, start = schema_of(parts), 0
    with ExitStack() as stack:
        writers = [stack.enter_context(PartWriter(folder / name, schema)) for name in names]
        for batch in read_parts(parts):
            own = assigned[start : start + len(batch)]
            start += len(batch)
            for index, writer in enumerate(writers):
                writer.write(batch.filter(pa.array(own == index)))
