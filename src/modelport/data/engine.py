"""Daft, which works on whole tables: distinct counts, quantiles, hashes, joins. The one file that imports it.

Its local engine streams; ``ray`` runs the same on a Ray cluster. It reports nothing to anybody.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelport.errors import MissingExtra
from modelport.tensors import Array

os.environ.update(DAFT_ANALYTICS_ENABLED="0", DO_NOT_TRACK="true", SCARF_NO_ANALYTICS="true", DAFT_PROGRESS_BAR="0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
import daft

#: Batches that may wait between the engine and whoever takes them.
_WAITING = 1
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


@cache
def use_runner(name: str) -> None:
    """``native`` (this process) or ``ray`` (the cluster of RAY_ADDRESS, or one of this machine's own); once, before
    anything runs. Raises MissingExtra."""
    if name == "ray":
        if find_spec("ray") is None:
            raise MissingExtra("ray", "the setting data.engine: ray")
        daft.set_runner_ray(noop_if_initialized=True)
    else:
        daft.set_runner_native()


def frame_of(files: Sequence[Path]) -> Any:
    """The rows of Parquet files, one file after another, as a lazy table."""
    return daft.read_parquet([str(file) for file in files])


def met(left: Any, right: Any, keys: Sequence[str], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """``columns`` of the rows of two lazy tables whose keys are equal, in no order; a missing key meets nothing."""
    joined = left.join(right, on=[daft.col(key) for key in keys], how="inner")
    return batches_of(joined.select(*columns))


def batches_of(frame: Any) -> Iterator[pa.RecordBatch]:
    """A lazy table's rows in their order, piece by piece."""
    return frame.to_arrow_iter(results_buffer_size=_WAITING)  # type: ignore[no-any-return]


def sketch(
    files: Sequence[Path], distinct: Sequence[str], numbers: Sequence[str], quantiles: Sequence[float] = QUANTILES
) -> dict[str, Any]:
    """Estimates over all rows: ``distinct:NAME`` by HyperLogLog, ``quantiles:NAME`` by DDSketch (error 1 %)."""
    asked = [daft.col(name).approx_count_distinct().alias(f"distinct:{name}") for name in distinct]
    for name in numbers:
        number = daft.col(name).cast(daft.DataType.float64())
        clean = number.fill_nan(daft.lit(None).cast(daft.DataType.float64()))
        asked.append(clean.approx_percentiles(list(quantiles)).alias(f"quantiles:{name}"))
    if not asked or not files:
        return {}
    found = frame_of(files).agg(asked).to_pydict()
    return {name: values[0] for name, values in found.items()}


def row_hashes(files: Sequence[Path], columns: Sequence[str]) -> Iterator[Array]:
    """128 bits for each row's values in ``columns``, in the order of the rows: uint64 arrays of shape [rows, 2].

    Columns are hashed apart and mixed here: to Daft a missing value is an empty one, and forgets its seed.
    """
    asked = []
    for index, name in enumerate(columns):
        column = daft.col(name)
        for seed in (0, 1):
            asked.append(column.hash(daft.lit(seed).cast(daft.DataType.uint64())).alias(f"h{seed}-{index}"))
        asked.append(column.is_null().alias(f"null-{index}"))
    for batch in batches_of(frame_of(files).select(*asked)):
        mixed = np.zeros((len(batch), 2), np.uint64)
        for index in range(len(columns)):
            missing = batch.column(f"null-{index}").to_numpy(zero_copy_only=False)
            for seed in (0, 1):
                hashes = pc.fill_null(batch.column(f"h{seed}-{index}"), 0).to_numpy(zero_copy_only=False)
                own = np.where(missing, np.uint64(0xA0761D6478BD642F), hashes.astype(np.uint64))
                mixed[:, seed] = _mixed(mixed[:, seed] ^ _mixed(own + np.uint64(2 * index + seed)))
        yield mixed


def _mixed(values: Array) -> Array:
    """The finalizer of splitmix64 (Steele, Lea, Flood 2014): every bit depends on every bit."""
    values = (values + np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Array = values ^ (values >> np.uint64(31))
    return mixed
