"""What a version is asked while it is measured: rows of a dataset, its own sample, or what fits its signature.

Knows a manifest and Parquet files; knows no replica and no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from modelport.control.work import made
from modelport.control.work.served import binding_of
from modelport.engine import preprocessing, proof
from modelport.errors import InvalidInput
from modelport.schemas.grades import Asked
from modelport.schemas.models import Manifest
from modelport.tensors import Array, Signature

Inputs = dict[str, Array]
_MOST_ROWS = 512
_MADE_UP = 8
"""Different requests."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a dataset, as raw as callers send them."""

    parts: Sequence[Path]
    """Parquet files."""
    truth: str | None = None
    """A column that the model must not see."""
    inputs: Mapping[str, Sequence[str]] | None = None
    """Columns by input, where neither names nor the manifest tell."""


@dataclass(frozen=True, slots=True)
class Questions:
    """Requests of any batch size."""

    asked: Asked
    ways: tuple[Callable[[int], list[Inputs]], ...]
    """Each gives different requests of so many rows; where sizes are a guess there are several, to be tried in turn."""


def questions(manifest: Manifest, files: Path, rows: Rows | None) -> Questions:
    """From the best source that there is; raises InvalidInput for columns that do not fit, or rows of which none does.

    ``files`` is the folder of the version's files.
    """
    if rows is not None:
        return Questions("rows", (_of_rows(manifest, rows),))
    if manifest.sample is not None:
        return Questions("sample", (_of_sample(manifest.signature, manifest.sample),))
    return Questions("made up", tuple(_made_up(manifest, files, size) for size in proof.SIZES))


def _of_rows(manifest: Manifest, rows: Rows) -> Callable[[int], list[Inputs]]:
    """Requests of fewer rows only where shapes differ so much that no so many rows are alike."""
    schema = made.room("writing").schema_of(rows.parts)
    binding = binding_of(manifest, {field.name: str(field.type) for field in schema}, rows.truth, rows.inputs)
    reading = made.room("model_inputs")
    pieces = made.room("shards").pieces(rows.parts, binding.columns, [0], _MOST_ROWS, _MOST_ROWS)
    piece = next(pieces, None)
    alike, wrong = reading.read(binding, piece.rows, True) if piece is not None else ([], {0: "there is none"})
    if not alike:
        raise InvalidInput(f"no row can be asked about: {next(iter(wrong.values()))}; see `modelport data show`")

    def way(batch: int) -> list[Inputs]:
        if not binding.has_rows:
            return [reading.tensors(binding, one) for batch_ in alike for one in reading.alone(batch_)]
        cut = [
            {name: array[at : at + batch] for name, array in some.inputs.items()}
            for some in alike
            for at in range(0, len(some.rows), batch)
        ]
        whole = [inputs for inputs in cut if len(next(iter(inputs.values()))) == batch]
        return whole or cut

    return way


def _of_sample(signature: Signature, sample: dict[str, Any]) -> Callable[[int], list[Inputs]]:
    """The sample's own rows, again and again."""
    whole = proof.sample_inputs(signature, sample)
    if not signature.inputs or any(spec.shape[:1] != (-1,) for spec in signature.inputs):
        return lambda batch: [whole]
    there = len(next(iter(whole.values())))
    if not there or any(len(array) != there for array in whole.values()):
        return lambda batch: [whole]

    def way(batch: int) -> list[Inputs]:
        starts = range(there) if batch < there else range(1)
        places = [list(islice(cycle(range(there)), start, start + batch)) for start in starts]
        return [{name: array[at] for name, array in whole.items()} for at in places]

    return way


def _made_up(manifest: Manifest, files: Path, size: int) -> Callable[[int], list[Inputs]]:
    model = manifest.model_signature or manifest.signature
    steps = preprocessing.steps_of([step.model_dump() for step in manifest.preprocessing], model)

    def way(batch: int) -> list[Inputs]:
        for step in steps:
            step.open(files)
        return [preprocessing.made_up(steps, manifest.signature, batch, size, seed) for seed in range(_MADE_UP)]

    return way
