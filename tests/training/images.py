"""Real images as Parquet parts: digits, and textures and faces that scikit-image ships."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from modelport.data.writing import schema_of, write_parts
from modelport.schemas.datasets import Column, Facts
from modelport.tensors import Array
from modelport.training.recipe import TrainingData


def png(pixels: Array) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def digit_files(rows: slice) -> tuple[list[bytes], list[int]]:
    """scikit-learn's scans of digits, 8×8."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return [png(image * 255 / 16) for image in found.images[rows]], found.target[rows].tolist()


def parts(folder: Path, files: Sequence[bytes | None], labels: Sequence[Any], name: str = "image") -> tuple[Path, ...]:
    """One part of image files and their labels, ints or texts."""
    kind = pa.string() if any(isinstance(label, str) for label in labels) else pa.int64()
    schema = pa.schema([(name, pa.binary()), ("label", kind)])
    batch = pa.record_batch([pa.array(files, pa.binary()), pa.array(labels, kind)], schema=schema)
    return tuple(write_parts(folder, schema, [batch]))


def training_data(
    train: Sequence[Path], validation: Sequence[Path], replay: Sequence[Path] = (), *, image: str = "image"
) -> TrainingData:
    """As a job gives it, with the statistics that matter."""
    import pyarrow.parquet as pq

    labels = [value for part in train for value in pq.read_table(part)["label"].to_pylist()]
    known = [str(label) for label in labels if label is not None]
    balance = {label: known.count(label) for label in sorted(set(known))}
    kind = str(schema_of(train).field("label").type)
    facts = Facts(rows=len(labels), label="label", class_balance=balance, columns=[
        Column(name=image, type="binary"),
        Column(name="label", type=kind, nulls=len(labels) - len(known), distinct=len(balance)),
    ])  # fmt: skip
    return TrainingData(
        train=tuple(train), validation=tuple(validation), features={image: "binary"}, target="label", target_type=kind,
        facts=facts, replay=tuple(replay),
    )  # fmt: skip
