"""A few rows, spread evenly over all of them, as the tensors that a model takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modelport.data.binding import bind
from modelport.data.model_inputs import read
from modelport.errors import InvalidInput
from modelport.schemas.models import Manifest
from modelport.tensors import Array


def drawn(
    parts: Sequence[Path], manifest: Manifest, features: Sequence[str], given: Mapping[str, Sequence[str]], most: int
) -> dict[str, Array]:
    """At most so many rows of Parquet files, those of one shape; raises InvalidInput when none fits the model.

    ``features`` are the columns that the model was fitted on; ``given`` names the columns of inputs, where names do
    not tell.
    """
    schema = pq.read_schema(parts[0])
    columns = {field.name: str(field.type) for field in schema}
    binding = bind(manifest.signature, features, columns, {**manifest.columns, **given})
    counts = [pq.read_metadata(part).num_rows for part in parts]
    step = max(1, -(-sum(counts) // most))
    tables, before = [], 0
    for part, count in zip(parts, counts, strict=True):
        places = np.arange(-before % step, count, step)
        before += count
        if len(places):
            tables.append(pq.read_table(part, columns=binding.columns).take(pa.array(places)))
    if not tables:
        raise InvalidInput("data: there are no rows to compare on")
    rows = pa.concat_tables(tables).combine_chunks().to_batches()[0]
    batches, wrong = read(binding, rows, True)
    if not batches:
        raise InvalidInput(f"data: no row fits the model: {next(iter(wrong.values()), 'there are none')[:300]}")
    best = max(batches, key=lambda batch: len(batch.rows))
    if binding.has_rows:
        return best.inputs
    return {name: array[0] for name, array in best.inputs.items()}
