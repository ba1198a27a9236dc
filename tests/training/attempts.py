"""What tests of recipes share: rows as Parquet parts, and one attempt at training without a job."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modelport.control.environments import Environments
from modelport.schemas.datasets import Column, Facts
from modelport.training.recipe import Recipe, Trained, TrainingData, TrainingRun, options_of


def data_of(
    folder: Path, train: pa.Table, validation: pa.Table, target: str | None, features: Sequence[str] | None = None
) -> TrainingData:
    """Both tables as parts of two, and what is known of their columns."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for name, table in (("train", train), ("validation", validation)):
        half = max(1, len(table) // 2)
        for number, piece in enumerate((table.slice(0, half), table.slice(half))):
            pq.write_table(piece, folder / f"{name}-part-{number:05}.parquet")
        parts.append(tuple(sorted(folder.glob(f"{name}-part-*.parquet"))))
    types = {field.name: str(field.type) for field in train.schema}
    names = features or [name for name in types if name != target]
    columns = [Column(name=name, type=kind) for name, kind in types.items()]
    return TrainingData(
        parts[0], parts[1], {name: types[name] for name in names}, target, types.get(target or ""),
        Facts(rows=len(train) + len(validation), columns=columns),
    )  # fmt: skip


def halves(table: pa.Table, share: float = 0.8, seed: int = 0) -> tuple[pa.Table, pa.Table]:
    """Rows in two parts."""
    order = np.random.default_rng(seed).permutation(len(table))
    cut = int(len(table) * share)
    return table.take(order[:cut]), table.take(order[cut:])


@dataclass
class Told:
    """What a run told whoever watches."""

    metrics: list[tuple[str, float, int | None]] = field(default_factory=list)
    progress: list[tuple[float, float | None, str, str]] = field(default_factory=list)


def score(task: Any, truth: Any, predicted: Any) -> dict[str, float]:
    """Enough for recipes that look at scores."""
    if predicted.ndim == 2:
        return {"accuracy": float((predicted.argmax(1) == truth).mean())}
    return {"rmse": float(np.sqrt(np.mean((predicted - truth) ** 2)))}


def attempt(
    folder: Path, environments: Environments, code: Mapping[str, str] | None = None, number: int = 1, seed: int = 0
) -> tuple[TrainingRun, Told]:
    """A run in a folder, which an earlier one may have left."""
    kept, out = folder / "kept", folder / "out"
    kept.mkdir(parents=True, exist_ok=True)
    for left in sorted(out.rglob("*"), reverse=True):
        left.rmdir() if left.is_dir() and not left.is_symlink() else left.unlink()
    out.mkdir(exist_ok=True)
    place = None
    if code is not None:
        place = folder / "code"
        for name, text in code.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(text)

    def environment(requirements: Sequence[str]) -> tuple[str, Mapping[str, str]]:
        made = asyncio.run(environments.ensure(requirements, folder / "environment.log"))
        return made.python, made.variables

    told = Told()
    run = TrainingRun(
        kept, out, place, seed, 1, number, score, environment,
        lambda done, total, message, unit: told.progress.append((done, total, message, unit)),
        lambda name, value, step: told.metrics.append((name, value, step)),
    )  # fmt: skip
    return run, told


def trained(recipe: Recipe, run: TrainingRun, data: TrainingData, **options: Any) -> Trained:
    """Checked and learnt, as the job does."""
    checked = options_of(recipe, options)
    recipe.check(data, checked)
    return recipe.train(run, data, checked)


Attempt = Callable[..., tuple[TrainingRun, Told]]
