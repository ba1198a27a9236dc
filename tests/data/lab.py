"""Jobs on datasets as a job's process runs them, in this process: real services, real files, no server."""

from __future__ import annotations

import hashlib
import io
import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from modelport.control.actors import Actor
from modelport.control.assembly import Services
from modelport.control.jobs.run import JobRun, Work, params_of
from modelport.control.work.clean import Clean
from modelport.control.work.collect import Collect
from modelport.control.work.evaluate import Evaluate
from modelport.control.work.features import Features
from modelport.control.work.grade import Grade
from modelport.control.work.integrate import Concat, Join
from modelport.control.work.predict import Predict
from modelport.control.work.split import Split
from modelport.data.writing import parts_in, read_parts, schema_of
from modelport.schemas.datasets import DatasetVersion
from modelport.schemas.models import ModelVersion, VersionPush

KINDS: dict[str, type[Work]] = {
    "collect": Collect, "clean": Clean, "join": Join, "concat": Concat, "split": Split, "features": Features,
    "predict": Predict, "evaluate": Evaluate, "grade": Grade,
}  # fmt: skip


@dataclass
class Lab:
    """Where jobs are tried."""

    services: Services
    actor: Actor
    folder: Path
    numbers: Any = field(default_factory=lambda: itertools.count(1))
    said: list[tuple[float, float | None, str]] = field(default_factory=list)

    def run(self, kind: str, job: str | None = None, **params: Any) -> dict[str, Any]:
        """Check, then do the work, as the server would; the job's result."""
        work = KINDS[kind]()
        checked = params_of(work, params)
        work.check(self.services, self.actor, checked)
        return work.run(self.job(job), checked)

    def job(self, name: str | None = None) -> JobRun:
        """A run; the same name is the same job's next attempt."""
        name = name or f"job-{next(self.numbers)}"
        folder = self.folder / "jobs" / name
        folder.mkdir(parents=True, exist_ok=True)
        return JobRun(name, self.actor, 1, folder, self.services, self._report)

    def _report(self, message: dict[str, Any]) -> None:
        if "progress" in message:
            told = message["progress"]
            self.said.append((told["done"], told["total"], told["message"]))

    def upload(self, **files: bytes | str) -> list[dict[str, Any]]:
        """Files as a client sends them, by name with ``__`` for a dot and ``___`` for a slash."""
        named = {name.replace("___", "/").replace("__", "."): content for name, content in files.items()}
        return self.send(named)

    def send(self, files: dict[str, bytes | str]) -> list[dict[str, Any]]:
        entries = []
        for path, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            sha256 = hashlib.sha256(data).hexdigest()
            self.services.registry.put_blob(self.actor, sha256, [data])
            entries.append({"path": path, "size": len(data), "sha256": sha256})
        return entries

    def collect(self, name: str, files: dict[str, bytes | str], **params: Any) -> dict[str, Any]:
        return self.run("collect", name=name, files=self.send(files), **params)

    def push(self, name: str, model: bytes, **fields: Any) -> ModelVersion:
        return self.push_files(name, {"model.onnx": model}, **fields)

    def push_files(self, name: str, files: dict[str, bytes | str], **fields: Any) -> ModelVersion:
        return self.services.registry.push(self.actor, name, VersionPush(files=self.send(files), **fields))

    def push_folder(self, name: str, folder: Path, **fields: Any) -> ModelVersion:
        found = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
        files: dict[str, bytes | str] = {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
        return self.push_files(name, files, **fields)

    def version(self, ref: str) -> DatasetVersion:
        return self.services.datasets.resolve(self.actor, ref)[0]

    def table(self, ref: str) -> pa.Table:
        """All rows of a version, or of a part of it."""
        version, part = self.services.datasets.resolve(self.actor, ref)
        parts = parts_in(self.services.datasets.materialize(self.actor, version) / (part or ""))
        return pa.Table.from_batches(list(read_parts(parts)), schema_of(parts))

    def rows(self, ref: str) -> list[dict[str, Any]]:
        return self.table(ref).to_pylist()


def csv_of(table: dict[str, list[Any]]) -> str:
    """A small CSV file."""
    lines = [",".join(table)]
    lines += [",".join("" if v is None else str(v) for v in row) for row in zip(*table.values(), strict=True)]
    return "\n".join(lines) + "\n"


def png(pixels: Any) -> bytes:
    """A grayscale picture (uint8 of shape [height, width])."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
