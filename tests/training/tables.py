"""Real tables, split by a seed, as a training job gives them to a recipe; and the served answer of what it made."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from modelport.data import binding, model_inputs
from modelport.data.statistics import describe
from modelport.data.writing import write_parts
from modelport.engine.formats.onnx import OnnxFormat
from modelport.engine.runtime import Inspected, LoadOptions, Trust
from modelport.engine.runtimes.onnx import OnnxRuntime
from modelport.evaluation.score import score
from modelport.tensors import Array
from modelport.training.recipe import Recipe, Start, Trained, TrainingData, TrainingRun, options_of


@dataclass
class Case:
    """One table in two parts, and what a recipe makes of it."""

    folder: Path
    table: pa.Table
    target: str | None
    validation: Array
    """Places of the validation's rows."""
    progress: list[str] = field(default_factory=list)
    exclude: tuple[str, ...] = ()

    @property
    def training(self) -> Array:
        return np.setdiff1d(np.arange(len(self.table)), self.validation)

    def data(self, **changed: Any) -> TrainingData:
        parts = {
            name: tuple(write_parts(self.folder / name, self.table.schema, self.table.take(places).to_batches()))
            for name, places in (("train", self.training), ("validation", self.validation))
            if not (self.folder / name).exists()
        } or {name: tuple(sorted((self.folder / name).glob("*.parquet"))) for name in ("train", "validation")}
        plain = self.target is not None and not pa.types.is_nested(self.table.schema.field(self.target).type)
        facts = describe([*parts["train"], *parts["validation"]], self.target if plain else None)
        kinds = {each.name: str(each.type) for each in self.table.schema}
        features = {n: k for n, k in kinds.items() if n != self.target and n not in self.exclude}
        given: dict[str, Any] = {
            **parts, "features": features, "target": self.target, "target_type": kinds.get(self.target or ""),
            "facts": facts,
        }  # fmt: skip
        return TrainingData(**(given | changed))

    def run(self, name: str = "run", seed: int = 0, start: Start | None = None) -> TrainingRun:
        work, out = self.folder / name / "work", self.folder / name / "out"
        work.mkdir(parents=True)
        out.mkdir()
        return TrainingRun(
            folder=work, out=out, code=None, seed=seed, threads=1, attempt=1, score=score,
            environment=lambda requirements: ("", {}),
            progress=lambda done, total, message, unit: self.progress.append(message),
            metric=lambda name, value, step: None, start=start,
        )  # fmt: skip

    def train(self, recipe: Recipe, *, name: str = "run", seed: int = 0, **options: Any) -> tuple[Trained, Served]:
        """Check, then learn, as a job would."""
        data, checked = self.data(), options_of(recipe, options)
        recipe.check(TrainingData(**{**_fields(data), "train": (), "validation": ()}), checked)
        run = self.run(name, seed)
        return recipe.train(run, data, checked), Served(run.out)

    def go_on(self, recipe: Recipe, start: Start, **options: Any) -> tuple[Trained, Served]:
        """Learn on from a version."""
        run = self.run("on", start=start)
        return recipe.train(run, self.data(), options_of(recipe, options)), Served(run.out)


class Served:
    """A version's files, inspected and run as a replica does."""

    def __init__(self, out: Path) -> None:
        files = tuple(str(path.relative_to(out)) for path in sorted(out.rglob("*")) if path.is_file())
        self.found: Inspected = OnnxFormat().inspect(out, files, Trust())
        self._runtime = OnnxRuntime.load(LoadOptions(out, files, self.found.signature, {}, threads=1))

    def ask(self, table: pa.Table) -> dict[str, Array]:
        """Raw rows in as batch inference reads them, outputs by name."""
        signature = self.found.signature
        bound = binding.bind(signature, [], {field.name: str(field.type) for field in table.schema}, {})
        batches, wrong = model_inputs.read(bound, table.combine_chunks().to_batches()[0], True)
        assert not wrong, wrong
        return self._runtime.infer(model_inputs.tensors(bound, batches[0]))


def _fields(data: TrainingData) -> dict[str, Any]:
    return {name: getattr(data, name) for name in TrainingData.__slots__}


def case(folder: Path, table: pa.Table, target: str | None, *, share: float = 0.25, seed: int = 0) -> Case:
    """A table whose validation rows are drawn."""
    order = np.random.default_rng(seed).permutation(len(table))
    return Case(folder, table, target, np.sort(order[: int(len(table) * share)]))


def sklearn_table(name: str) -> tuple[pa.Table, str]:
    """``iris``, ``wine``, ``breast_cancer``, ``diabetes`` with its target."""
    import sklearn.datasets

    bunch = getattr(sklearn.datasets, f"load_{name}")()
    columns = {str(n): bunch.data[:, at] for at, n in enumerate(bunch.feature_names)}
    return pa.table({**columns, "target": bunch.target}), "target"


def cars() -> pa.Table:
    """406 cars: numbers with gaps, a date, names (vega_datasets)."""
    from vega_datasets import data

    frame = data.cars()
    return pa.Table.from_pandas(frame, preserve_index=False).cast(
        pa.schema([(n, pa.string() if n in ("Name", "Origin") else pa.timestamp("us") if n == "Year" else pa.float64())
                   for n in frame.columns])
    )  # fmt: skip


def sunspots() -> pa.Table:
    """309 years of sunspots (statsmodels)."""
    import statsmodels.api

    return pa.Table.from_pandas(statsmodels.api.datasets.sunspots.load_pandas().data, preserve_index=False)


def co2() -> pa.Table:
    """Weekly carbon dioxide on Mauna Loa, some weeks missing (statsmodels)."""
    import statsmodels.api

    frame = statsmodels.api.datasets.co2.load_pandas().data.reset_index(names="week")
    return pa.Table.from_pandas(frame, preserve_index=False).cast(
        pa.schema([("week", pa.timestamp("us")), ("co2", pa.float64())])
    )


def elnino() -> pa.Table:
    """Monthly sea surface temperature, 1950 to 2010 (statsmodels)."""
    import statsmodels.api

    frame = statsmodels.api.datasets.elnino.load_pandas().data
    months = np.array(
        [f"{int(year)}-{month:02}-01" for year in frame["YEAR"] for month in range(1, 13)], "datetime64[D]"
    )
    return pa.table({"month": pa.array(months, pa.date32()), "temperature": frame.iloc[:, 1:].to_numpy().reshape(-1)})


def by_time(folder: Path, table: pa.Table, target: str, share: float = 0.25) -> Case:
    """A table whose validation rows are its last ones."""
    return Case(folder, table, target, np.arange(len(table) - int(len(table) * share), len(table)))


def fair() -> pa.Table:
    """6366 answers about marriages; whether there was an affair is made of ``affairs`` (statsmodels)."""
    import statsmodels.api

    frame = statsmodels.api.datasets.fair.load_pandas().data
    frame["unfaithful"] = (frame.pop("affairs") > 0).astype("int64")
    return pa.Table.from_pandas(frame, preserve_index=False)


def weather() -> pa.Table:
    """1461 days in Seattle: a date, numbers, what the weather was (vega_datasets)."""
    from vega_datasets import data

    frame = data.seattle_weather()
    table = pa.Table.from_pandas(frame, preserve_index=False)
    at = table.schema.get_field_index("date")
    kinds = {"date": pa.date32(), "weather": pa.string()}
    assert at >= 0
    return table.cast(pa.schema([(field.name, kinds.get(field.name, field.type)) for field in table.schema]))
