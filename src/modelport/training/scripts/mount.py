"""Lays rows out for a script: Parquet parts, one CSV or JSON-lines file, or image files in folders by label.

Only the columns that training may look at are there. What was laid out whole is found again by the next attempt.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from modelport.data.export import export_images, export_parts
from modelport.data.writing import read_parts, schema_of, write_parts
from modelport.storage.disk import told_of_disk
from modelport.training.recipe import TrainingData


def mount(data: TrainingData, form: str, image: str | None, folder: Path) -> dict[str, Path]:
    """Where the rows of ``train``, ``validation`` and ``replay`` lie; those that are empty are left out."""
    found = {}
    folder.mkdir(exist_ok=True)
    with told_of_disk():
        for name, parts in (("train", data.train), ("validation", data.validation), ("replay", data.replay)):
            if parts:
                found[name] = _mount(parts, data, form, image, folder / name)
    return found


def _mount(parts: Sequence[Path], data: TrainingData, form: str, image: str | None, place: Path) -> Path:
    columns = [*data.features, *([data.target] if data.target is not None else [])]
    if form == "images":
        assert image is not None
        assert data.target is not None
        if not place.exists():
            export_images(parts, place, image, data.target)
        return place
    if form == "parquet":
        if not place.exists():
            _parquet(parts, columns, place)
        return place
    file = place.with_suffix(f".{form}")
    if not file.exists():
        export_parts(parts, file, columns)
    return file


def _parquet(parts: Sequence[Path], columns: Sequence[str], place: Path) -> None:
    unfinished = place.with_name(f".{place.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    schema = schema_of(parts)
    if set(schema.names) == set(columns):  # nothing to hide, so nothing to copy
        for number, part in enumerate(parts):
            (unfinished / f"part-{number:05}.parquet").symlink_to(part)
    else:
        wanted = [name for name in schema.names if name in set(columns)]
        kept = schema.empty_table().select(wanted).schema
        write_parts(unfinished, kept, (batch.select(wanted) for batch in read_parts(parts, wanted)))
    unfinished.replace(place)
