"""The step ``embed`` of a feature recipe: a version of a model runs over the rows, as batch inference runs it.

What can be known of model and columns is checked before anything runs. The vectors are made in shards, and a shard that
is finished is never made again.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelport.control.assembly import trust_of
from modelport.control.runnable import check_runnable
from modelport.control.work import made
from modelport.control.work.predict_run import Predictor
from modelport.data.binding import Binding, bind, counts_rows
from modelport.data.outputs import Column, Wanted
from modelport.engine.pooling import pool, unit
from modelport.engine.preprocessing import steps_of
from modelport.engine.preprocessing.text import TextInput
from modelport.engine.routing import features_of
from modelport.errors import InvalidInput, ModelRejectedInput, NotFound
from modelport.schemas.deployments import DeploymentSpec
from modelport.schemas.features import Embed
from modelport.schemas.models import ModelVersion
from modelport.schemas.predictions import PredictParams
from modelport.tensors import Array, Signature, TensorSpec

if TYPE_CHECKING:
    from modelport.control.actors import Actor
    from modelport.control.assembly import Services
    from modelport.control.jobs.run import JobRun

_SHARD_ROWS = 4096
_ADVICE = "correct the row, or leave it out with `modelport data clean`"
_PATH = "path"
"""Column that says which file a row was; errors name it."""


def check_embed(
    services: Services, actor: Actor, index: int, step: Embed, columns: Mapping[str, str] | None
) -> dict[str, str]:
    """Raise for what can be known to be wrong; the columns (name to type) that the step adds.

    ``columns`` are those that it will find, None when they depend on steps before it.
    """
    with _named(index):
        version = made.model_of(services, actor, step.model)
        check_runnable(trust_of(services.settings), version.manifest, DeploymentSpec())
        _chosen(version.manifest.signature, step, counts_rows(version.manifest.signature))
        if columns is not None:
            taken = next((name for name in (step.into, f"{step.into}_0") if name in columns), None)
            if taken is not None:
                raise InvalidInput(f"into: there is a column {taken[:100]!r} already; choose another name")
            _bound(version, step, columns)
    if step.spread:
        return {f"{step.into}_{number}": "float" for number in range(step.components or 1)}
    return {step.into: "list<item: float>"}


def embed(
    run: JobRun, index: int, step: Embed, version: ModelVersion, parts: list[Path], scratch: Path, into: Path
) -> dict[str, Any]:
    """Write the rows of ``parts`` with their vectors into the folder ``into``; the report.

    ``scratch`` is kept from attempt to attempt.
    """
    vectors = scratch / "parts"
    model = f"{version.model}:{version.version}"
    with _named(index):
        data = made.room("writing").schema_of(parts)
        columns = {field.name: str(field.type) for field in data}
        binding = _bound(version, step, columns)
        chosen = _chosen(version.manifest.signature, step, binding.has_rows)
        scratch.mkdir(parents=True, exist_ok=True)
        spent = _Spent(scratch / "spent.json")
        inner = replace(run, folder=scratch)
        embedder = Embedder(inner, step, version, binding, chosen, beside=(_PATH,) if _PATH in columns else ())
        try:
            asyncio.run(embedder.run(parts, lambda number, file: spent.note(embedder.pooled), lambda: None))
        finally:
            os.chdir(run.folder)
            shutil.rmtree(scratch / "replicas", ignore_errors=True)

        def told(done: int, total: int) -> None:
            run.progress(done, total, f"{step.into}: writing", "rows")

        shutil.rmtree(into, ignore_errors=True)
        files = made.room("writing").parts_in(vectors)
        found = made.room("embeddings").put_beside(parts, files, step, into, told)
    return {"step": index, "model": model, "columns": step.columns, "output": chosen.spec.name,
            "pooling": spent.pooling, **found, "seconds": round(spent.seconds, 3)}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Chosen:
    """The output that is taken."""

    spec: TensorSpec
    pooling: str
    rank: int | None
    """Dimensions of one row's part: 1 for a vector, 2 for vectors of tokens; None when the model does not tell."""
    padded: bool
    """Whether rows of one run may differ in their number of tokens."""


class Embedder(Predictor):
    """Runs the version over the rows; what it answers becomes one vector a row."""

    def __init__(
        self, run: JobRun, step: Embed, version: ModelVersion, binding: Binding, chosen: Chosen, beside: tuple[str, ...]
    ) -> None:
        self._step, self._chosen = step, chosen
        self._tokens = _text_step(version) if chosen.rank != 1 else None
        self._width: int | None = None
        self.pooled: str | None = None
        """How, once a row's part of the output was vectors of tokens."""
        unmasked = chosen.padded and self._tokens is None and any(s.spec.datatype == "BYTES" for s in binding.sources)
        params = PredictParams(
            model=step.model, data="rows", id=list(beside), workers=step.workers, threads=step.threads,
            batch=1 if unmasked else step.batch,  # alone a row has no padding, which nobody here could tell from tokens
            shard_rows=_SHARD_ROWS,
        )  # fmt: skip
        spec = TensorSpec(chosen.spec.name, "FP32", (-1, -1))
        wanted = Wanted((Column(step.into, spec),), (), number=False, record=False, has_rows=binding.has_rows)
        wanted.beside = tuple(name for name in beside if name not in binding.columns)
        super().__init__(run, params, version.manifest, binding, wanted, advice=_ADVICE)

    async def run(self, parts: list[Path], put: Any, learnt: Any) -> None:
        if self._tokens is not None:
            await asyncio.to_thread(lambda: self._tokens.open(self._files()))  # type: ignore[union-attr]
        await super().run(parts, put, learnt)

    def _take(self, table: Any, piece: Any, batch: Any, outputs: dict[str, Any]) -> None:
        name = self._chosen.spec.name
        found = self._wanted.by_row(outputs, len(batch.rows))[name]
        vectors = self._vectors(found.astype(np.float32, copy=False), batch)
        if not np.isfinite(vectors).all():
            raise ModelRejectedInput(f"output {name!r} has a value that is no finite number")
        if self._step.normalize:
            vectors = unit(vectors)
        self._width = self._width or vectors.shape[1]
        if vectors.shape[1] != self._width:
            raise InvalidInput(f"output {name!r} has {vectors.shape[1]} numbers, other rows have {self._width}")
        table.answered(batch.rows + piece.offset, {name: np.ascontiguousarray(vectors, np.float32)})

    def _vectors(self, found: Array, batch: Any) -> Array:
        """[rows, d] of [rows, d] or [rows, tokens, d]; raises InvalidInput for anything else."""
        if found.ndim == 3:
            self.pooled = self._chosen.pooling
            return pool(found, self._mask(found, batch), self._chosen.pooling)
        if found.ndim == 2 and self._step.pooling is None:
            return found
        raise _no_vector(self._chosen.spec.name, found.shape[1:], self._step)

    def _mask(self, found: Array, batch: Any) -> Array:
        """[rows, tokens]: 1 where a token counts."""
        rows, length = found.shape[:2]
        mask = None
        if self._tokens is not None:
            mask = self._tokens.mask(batch.inputs[self._tokens.name].reshape(-1).tolist())
        elif "attention_mask" in batch.inputs:
            mask = batch.inputs["attention_mask"]
        return mask if mask is not None and mask.shape == (rows, length) else np.ones((rows, length), np.int64)

    def _refused(self, table: Any, number: int, piece: Any, place: int, why: str) -> None:
        if any(not piece.rows.column(name)[place].is_valid for name in self._binding.columns):
            if self._step.missing != "fail":
                table.errors[piece.offset + place] = why
                return
            why = f"{why} (`missing: zero` or `missing: drop` accept that)"
        super()._refused(table, number, piece, place, why)

    def _told(self, message: str = "") -> None:
        self._run.progress(self._done_rows, self._total, f"{self._step.into}: {message or 'embedding'}")


class _Spent:
    """What is known of the shards that are there: seconds that they took in all attempts, and how they were pooled."""

    def __init__(self, file: Path) -> None:
        self._file, self._since = file, time.monotonic()
        noted: Any = json.loads(file.read_text()) if file.exists() else [0.0, None]
        self.seconds: float = noted[0]
        self.pooling: str | None = noted[1]

    def note(self, pooling: str | None) -> None:
        now = time.monotonic()
        self.seconds, self.pooling, self._since = self.seconds + now - self._since, pooling, now
        made.write_whole(self._file, [self.seconds, pooling])


@contextmanager
def _named(index: int) -> Iterator[None]:
    """Errors of the caller's making say which step they are about."""
    try:
        yield
    except (InvalidInput, NotFound) as error:
        raise type(error)(f"recipe.steps.{index} (embed): {error.message}") from None


def _bound(version: ModelVersion, step: Embed, columns: Mapping[str, str]) -> Binding:
    """Which column goes to which input; raises NotFound and InvalidInput."""
    signature = version.manifest.signature
    named = {spec.name: list(step.columns) for spec in signature.inputs}
    if len(named) > 1:
        lacking = next((spec.name for spec in signature.inputs if spec.name not in step.columns), None)
        if lacking is not None:
            raise InvalidInput(
                f"columns: the model has the inputs {', '.join(named)[:300]}; give columns of these names "
                f"({lacking[:100]!r} is not among them)"
            )
        named = {name: [name] for name in named}
    return bind(signature, features_of(version.manifest.details), columns, named)


def _chosen(signature: Signature, step: Embed, has_rows: bool) -> Chosen:
    """The output that is meant; raises NotFound, or InvalidInput for one that is no vector."""
    listed = ", ".join(f"{spec.name} {spec.datatype}{list(spec.shape)}" for spec in signature.outputs[:20])
    fitting = [spec for spec in signature.outputs if _rank(spec, has_rows) in (None, 1, 2) and _is_float(spec)]
    if step.output is not None:
        spec = next((spec for spec in signature.outputs if spec.name == step.output), None)
        if spec is None:
            raise NotFound(f"output: the model has no output {step.output[:100]!r}; it has {listed}")
        if spec not in fitting:
            raise _no_vector(spec.name, spec.shape, step, listed)
    elif len(fitting) == 1:
        (spec,) = fitting
    elif not fitting:
        raise InvalidInput(f"the model gives no vector of floating point for a row; its outputs are {listed}")
    else:
        raise InvalidInput(f"output: say which of {', '.join(spec.name for spec in fitting)[:300]} is meant")
    rank = _rank(spec, has_rows)
    if rank == 1 and step.pooling is not None:
        raise _no_vector(spec.name, spec.shape, step, listed)
    return Chosen(spec, step.pooling or "mean", rank, rank is None or (rank == 2 and spec.shape[-2] == -1))


def _rank(spec: TensorSpec, has_rows: bool) -> int | None:
    return None if spec.dims == ("...",) else len(spec.shape) - has_rows


def _is_float(spec: TensorSpec) -> bool:
    return spec.datatype.startswith(("FP", "BF"))


def _no_vector(name: str, shape: tuple[int, ...], step: Embed, listed: str = "") -> InvalidInput:
    if step.pooling is not None:
        return InvalidInput(f"pooling: output {name!r} of shape {list(shape)} has no tokens to pool; leave pooling out")
    more = f"; its outputs are {listed}" if listed else ""
    return InvalidInput(
        f"output {name!r} of shape {list(shape)} is no vector of floating point, and no vectors of tokens{more}"
    )


def _text_step(version: ModelVersion) -> TextInput | None:
    """The version's own tokenizer, where it has one."""
    manifest = version.manifest
    if not manifest.preprocessing or manifest.model_signature is None:
        return None
    steps = steps_of([step.model_dump() for step in manifest.preprocessing], manifest.model_signature)
    return next((step for step in steps if isinstance(step, TextInput)), None)
