"""Cuts what a source holds into versions to push: a file or a folder is one, a Triton repository is many.

Only looks at names and at ``config.pbtxt``; what a model is, is found out when it is pushed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from modelport.engine.imports import bentoml, mlflow, triton
from modelport.engine.imports.declared import Declaration, read_text
from modelport.engine.imports.triton_config import parse
from modelport.errors import ArtifactRefused

_DECLARATIONS = (mlflow.declaration, triton.declaration, bentoml.declaration)
_MODEL = "model.onnx"
#: What only describes a repository.
_BESIDE = {"README.md", "README", "LICENSE"}


@dataclass(frozen=True, slots=True)
class Part:
    """One version to be. ``files`` are relative to ``folder``; None means all of them, or the file itself."""

    name: str
    """What the source calls the model, as a name that is allowed here."""
    folder: Path
    files: tuple[str, ...] | None = None
    labels: dict[str, str] = field(default_factory=dict)


def declaration_of(folder: Path, files: tuple[str, ...]) -> Declaration | None:
    """What a folder of another product says about its model; None when it says nothing."""
    for read in _DECLARATIONS:
        found = read(folder, files)
        if found is not None:
            return found
    return None


def parts_of(path: Path) -> list[Part]:
    """The versions in a file or folder, oldest first. Raises ArtifactRefused for a repository that is not whole."""
    if not path.is_dir():
        return [Part(as_name(path.name.partition(".")[0]), path)]
    if _is_triton_model(path):
        return _triton_versions(path)
    below = [entry for entry in sorted(path.iterdir()) if not entry.name.startswith(".") and entry.name not in _BESIDE]
    if below and all(entry.is_dir() and _is_triton_model(entry) for entry in below):
        return [part for entry in below for part in _triton_versions(entry)]
    if (path / bentoml.FILE).is_file() and (found := bentoml.read(path)) is not None:
        return [Part(as_name(str(found.get("name") or path.name)), path)]
    return [Part(as_name(path.name), path)]


def as_name(text: str) -> str:
    """``text`` with what a name may not hold replaced; ``model`` when nothing is left."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:100] or "model"


def _is_triton_model(folder: Path) -> bool:
    if (folder / triton.FILE).is_file():
        return True
    numbers = _versions(folder)  # Triton finds out the configuration of an ONNX model by itself
    others = [entry for entry in folder.iterdir() if entry.is_dir() and entry.name not in map(str, numbers)]
    return bool(numbers) and not others and all((folder / str(number) / _MODEL).exists() for number in numbers)


def _versions(folder: Path) -> list[int]:
    return sorted(int(e.name) for e in folder.iterdir() if e.is_dir() and triton.is_version_file(f"{e.name}/"))


def _triton_versions(folder: Path) -> list[Part]:
    present = _versions(folder)
    wanted, name = present[-1:], folder.name
    if (folder / triton.FILE).is_file():
        config = parse(read_text(folder, triton.FILE))
        wanted, name = triton.wanted_versions(config, present), config.name or name
    if not wanted:
        raise ArtifactRefused(
            f"the Triton model {name[:80]!r} has none of the versions that its policy serves: change version_policy"
        )
    beside = [entry.name for entry in sorted(folder.iterdir()) if entry.is_file() and not entry.name.startswith(".")]
    return [
        Part(
            as_name(name),
            folder,
            (*beside, *_below(folder, str(number))),
            {"triton.version": str(number)},
        )
        for number in wanted
    ]


def _below(folder: Path, version: str) -> list[str]:
    return sorted(
        found.relative_to(folder).as_posix()
        for found in (folder / version).rglob("*")
        if not found.is_dir() and not found.name.startswith(".")
    )
