"""Rows of image files as pixels on the disk: decoded once, exactly as they will be when the model is served.

Knows Parquet parts and the serving step; knows no network. What it writes outlives a crash.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from modelport.data.writing import read_parts, rows_in
from modelport.engine.preprocessing.image import ImageInput
from modelport.errors import InvalidInput, ModelRejectedInput
from modelport.schemas.preprocessing import ImageStep
from modelport.storage.disk import told_of_disk
from modelport.tensors import Array, Signature, TensorSpec

_LOOKED_AT = 200
_GREY = ("1", "L", "LA", "I", "I;16", "I;16L", "I;16B")


@dataclass(frozen=True, slots=True)
class Shape:
    """What images become."""

    height: int
    width: int
    channels: int

    def step(
        self, mean: Sequence[float] | float = 0.0, std: Sequence[float] | float = 1.0, scale: float = 1.0
    ) -> dict[str, Any]:
        """The serving step, with pixels scaled to 0 … 1 by ``scale`` before mean and deviation."""
        return ImageStep(
            kind="image", input="pixels", size=(self.height, self.width), resize="exact",
            channels="L" if self.channels == 1 else "RGB", scale=scale, mean=_levels(mean), std=_levels(std),
        ).model_dump(mode="json")  # fmt: skip


def _levels(value: Sequence[float] | float) -> Any:
    """One number where there is one channel."""
    if isinstance(value, int | float):
        return float(value)
    return float(value[0]) if len(value) == 1 else tuple(float(one) for one in value)


@dataclass(frozen=True, slots=True)
class Pixels:
    """Images in memory that is mapped from the disk, and what is said of each."""

    pixels: torch.Tensor
    """uint8 [rows, channels, height, width]"""
    values: list[Any]
    """The target column as it is."""

    def __len__(self) -> int:
        return len(self.values)


def looked_at(parts: Sequence[Path], column: str) -> tuple[tuple[int, int] | None, bool]:
    """Of the first images: the size (height, width) that they share, and whether all are grey."""
    sizes: Counter[tuple[int, int]] = Counter()
    grey = True
    for batch in read_parts(parts, [column]):
        for value in batch.column(0).to_pylist():
            try:
                with Image.open(io.BytesIO(value or b"")) as image:
                    sizes[image.height, image.width] += 1
                    grey &= image.mode in _GREY
            except Exception:  # it is named when it is decoded  # noqa: S112
                continue
            if sizes.total() >= _LOOKED_AT:
                break
        if sizes.total() >= _LOOKED_AT:
            break
    common = sizes.most_common(1)
    return (common[0][0] if common and common[0][1] == sizes.total() else None), grey and bool(sizes)


def read(parts: Sequence[Path], column: str, target: str, shape: Shape, folder: Path, name: str) -> Pixels:
    """Decode all rows into ``folder``, or take what an earlier attempt has decoded there.

    Raises InvalidInput naming the row that is no image, Unavailable when the disk is full.
    """
    rows = sum(rows_in(part) for part in parts)
    file, noted = folder / f"{name}.pixels", folder / f"{name}.json"
    size = shape.channels * shape.height * shape.width
    if not noted.exists() or json.loads(noted.read_text())["rows"] != rows:
        _decode(parts, column, shape, file, name)
        noted.write_text(json.dumps({"rows": rows}))
    values = [value for batch in read_parts(parts, [target]) for value in batch.column(0).to_pylist()]
    if not rows:
        return Pixels(torch.empty(0, shape.channels, shape.height, shape.width, dtype=torch.uint8), [])
    mapped: Array = np.memmap(file, np.uint8, "r+", shape=(rows, size))
    return Pixels(torch.from_numpy(mapped).view(rows, shape.channels, shape.height, shape.width), values)


def _decode(parts: Sequence[Path], column: str, shape: Shape, file: Path, name: str) -> None:
    step = _decoder(shape)
    first = 0
    with told_of_disk(), file.open("wb") as out:
        for batch in read_parts(parts, [column]):
            values = batch.column(0).to_pylist()
            for start in range(0, len(values), 64):
                out.write(_decoded(step, values[start : start + 64], first + start, name).tobytes())
            first += len(values)


def _decoded(step: ImageInput, files: Sequence[bytes | None], first: int, name: str) -> Array:
    for at, value in enumerate(files):
        if not value:
            raise InvalidInput(f"row {first + at} of the {name} rows has no image; remove it")
    try:
        return step.apply(list(files))["pixels"]  # type: ignore[arg-type]
    except ModelRejectedInput as error:
        _, _, cause = error.message.partition("row ")
        place, _, cause = cause.partition(": ")
        raise InvalidInput(f"row {first + int(place)} of the {name} rows: {cause}") from None


def _decoder(shape: Shape) -> ImageInput:
    spec = TensorSpec("pixels", "UINT8", (-1, shape.channels, shape.height, shape.width))
    step = ImageInput(_python(shape.step()), Signature((spec,), ()))
    step.open(Path())
    return step


def _python(step: Mapping[str, Any]) -> Mapping[str, Any]:
    return ImageStep.model_validate(step).model_dump()


def mean_and_deviation(pixels: torch.Tensor) -> tuple[list[float], list[float]]:
    """By channel, of pixels from 0 to 1; at most of the first 4,096 images."""
    some = pixels[:4096]
    total, squares, count = (
        torch.zeros(some.shape[1], dtype=torch.float64),
        torch.zeros(some.shape[1], dtype=torch.float64),
        0,
    )
    for piece in some.split(256):
        values = piece.double() / 255
        total += values.sum((0, 2, 3))
        squares += values.square().sum((0, 2, 3))
        count += values.numel() // values.shape[1]
    mean = total / count
    deviation = (squares / count - mean.square()).clamp_min(1e-4).sqrt()
    return [round(value, 6) for value in mean.tolist()], [round(value, 6) for value in deviation.tolist()]
