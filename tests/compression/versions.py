"""Versions as a registry would hold them, made of files without one."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from modelport.compression.method import Model
from modelport.control.push import make_manifest
from modelport.engine.inspect import artifact_files, inspect
from modelport.engine.runtime import Trust
from modelport.schemas.models import FileEntry, Inspection, VersionPush
from modelport.training.recipe import Trained


def version_of(folder: Path, trained: Trained | None = None, **push: Any) -> Model:
    """What lies in a folder, inspected; with what a recipe or a method told of it."""
    names = artifact_files(folder)
    files = [
        FileEntry(path=name, size=len(content), sha256=sha256(content).hexdigest())
        for name, content in ((name, (folder / name).read_bytes()) for name in names)
    ]
    if trained is not None:
        push = {
            "class_labels": trained.class_labels, "preprocessing": trained.preprocessing, "sample": trained.sample,
            "task": trained.task, "columns": trained.inputs,
        } | push  # fmt: skip
    wish = VersionPush.model_validate({"files": files, **push})
    found = Inspection.model_validate(inspect(folder, Trust()), from_attributes=True)
    return Model(folder, make_manifest("m", 1, wish, found, datetime.now(UTC), "somebody"))
