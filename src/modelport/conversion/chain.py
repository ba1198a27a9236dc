"""A model taken through the converters of a route, each in a process that is shut in; what they say is kept.

Knows files, manifests and processes; knows no registry and no job.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from modelport.conversion import process
from modelport.conversion.arrays import ANSWERS, INPUTS
from modelport.conversion.routes import Converter, requirements_of
from modelport.engine.inspect import artifact_files
from modelport.errors import ArtifactRefused, InvalidInput
from modelport.schemas.models import Manifest
from modelport.schemas.preprocessing import Preprocessing
from modelport.storage.paths import check_paths

_PREPROCESSING: TypeAdapter[Any] = TypeAdapter(Preprocessing)
_LONGEST_NOTE = 2500
Environment = Callable[[Sequence[str]], tuple[str, Mapping[str, str]]]
Progress = Callable[[str], None]


@dataclass(slots=True)
class Source:
    """What is converted."""

    kind: str
    """The registry's format, or a name of ``sources``."""
    folder: Path
    files: tuple[str, ...]
    place: str = ""
    """The file, or folder, inside that holds the model, where it is no version."""
    manifest: Manifest | None = None
    """Of what the registry knows."""


@dataclass(slots=True)
class Settings:
    """How it is converted."""

    opset: int | None = None
    batch: int | None = None
    precision: str | None = None
    """Of a language model's weights; None for what they are stored in."""
    sklearn_types: tuple[str, ...] = ()
    threads: int = 1
    rows: int = 256


@dataclass(slots=True)
class Converted:
    """The files of another format, and what their converters said."""

    folder: Path
    preprocessing: list[dict[str, Any]] = field(default_factory=list)
    class_labels: list[str] | None = None
    steps: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Workshop:
    """Runs converters in a folder of its own."""

    def __init__(self, folder: Path, settings: Settings, environment: Environment, told: Progress) -> None:
        self._folder, self._settings, self._environment, self._told = folder, settings, environment, told

    def convert(self, source: Source, steps: Sequence[Converter]) -> Converted:
        """One converter after another; raises InvalidInput for what cannot be converted, naming what is in its way."""
        found = Converted(source.folder, _steps_of(source))
        files, manifest = source.files, source.manifest
        for number, step in enumerate(steps):
            place = source.place if not number else ""
            request = self._request(step, found.folder, files, place, manifest)
            answer = self._run(step, "convert", request, f"step{number}", [found.folder])
            out = self._folder / f"step{number}" / "out"
            _plain_files(out, step)
            found.preprocessing = _checked_steps(answer.get("preprocessing", found.preprocessing))
            _carry(found.preprocessing, found.folder, out)
            found.class_labels = answer.get("class_labels", found.class_labels)
            found.notes += [str(note)[:_LONGEST_NOTE] for note in answer.get("notes", [])]
            told: dict[str, Any] = {key: answer[key] for key in ("report", "versions", "confined") if key in answer}
            found.steps.append({"from": step.source, "to": step.target, **told})
            found.folder, manifest = out, None
            files = _plain_files(out, step)
        return found

    def library_answers(self, source: Source, step: Converter, inputs: Path, signature: Mapping[str, Any]) -> Path:
        """What the library of a source that nothing here serves answers to the model's own tensors."""
        request = self._request(step, source.folder, source.files, source.place, None)
        request |= {"inputs": str(inputs.resolve()), "model_signature": dict(signature)}
        self._run(step, "answer", request, "library", [source.folder, inputs])
        _plain_files(self._folder / "library" / "out", step)
        return self._folder / "library" / "out" / ANSWERS

    def both_answers(self, source: Source, step: Converter, converted: Path, inputs: Path | None) -> tuple[Path, Path]:
        """What the converter's library answers of the source, and of what became of it, to the same inputs."""
        found = []
        for name, folder, files in (
            ("source", source.folder, source.files), ("converted", converted, _plain_files(converted, step))
        ):  # fmt: skip
            request = self._request(step, folder, files, source.place if name == "source" else "", None)
            request["inputs"] = str(inputs.resolve()) if inputs else None
            self._run(step, "answer", request, name, [folder, *([inputs] if inputs else [])])
            _plain_files(self._folder / name / "out", step)
            found.append(self._folder / name / "out" / ANSWERS)
        return found[0], found[1]

    def served_answers(
        self, name: str, folder: Path, manifest: Manifest, runtime: str, inputs: Path | None, own: bool = False
    ) -> tuple[Path, Path | None]:
        """What a version's runtime answers; and the inputs, where there were none: made up, or those of the model's own
        tensors when ``own`` is wanted. ``runtime`` is ``module:attribute``."""
        request = {
            **self._about(manifest), "folder": str(folder.resolve()), "runtime": runtime, "own": own,
            "inputs": str(inputs.resolve()) if inputs else None, "rows": min(self._settings.rows, 16),
            "files": [entry.path for entry in manifest.files],
        }  # fmt: skip
        self._told(f"asking the {name}")
        process.run(
            "served:answer", request, self._folder / name, read=[folder, *([inputs] if inputs else [])],
            bounds=process.Bounds(threads=self._settings.threads),
        )  # fmt: skip
        out = self._folder / name / "out"
        return out / ANSWERS, out / INPUTS if (out / INPUTS).exists() else inputs

    def _request(
        self, step: Converter, folder: Path, files: Sequence[str], place: str, manifest: Manifest | None
    ) -> dict[str, Any]:
        return {
            "folder": str(folder.resolve()), "files": list(files), "place": place, "opset": self._settings.opset,
            "precision": self._settings.precision,
            "batch": self._settings.batch or (1 if step.static else None), "trust": list(self._settings.sklearn_types),
            **(self._about(manifest) if manifest is not None else {}),
        }  # fmt: skip

    def _about(self, manifest: Manifest) -> dict[str, Any]:
        inner = manifest.model_signature
        return {
            "signature": manifest.signature.to_json(), "model_signature": inner.to_json() if inner else None,
            "preprocessing": [step.model_dump() for step in manifest.preprocessing], "labels": manifest.labels,
            "details": manifest.details, "trust": list(self._settings.sklearn_types),
        }  # fmt: skip

    def _run(
        self, step: Converter, what: str, request: Mapping[str, Any], name: str, read: Sequence[Path]
    ) -> dict[str, Any]:
        python = process.Python()
        if step.requirements:
            executable, variables = self._environment(requirements_of(step))
            python = process.Python(executable, variables)
        doing = f"from {step.source} to {step.target}" if what == "convert" else f"asking {step.source}'s own library"
        self._told(doing)
        return process.run(
            f"{step.tool}:{what}", request, self._folder / name, read=read, python=python,
            bounds=process.Bounds(threads=self._settings.threads), told=lambda s: self._told(f"{doing}, {s:.0f} s"),
        )  # fmt: skip


def _plain_files(out: Path, step: Converter) -> tuple[str, ...]:
    """What a converter has left: plain files only, for a link could lead anywhere."""
    try:
        return artifact_files(out)
    except ArtifactRefused as error:
        raise InvalidInput(f"converting from {step.source} to {step.target} gave no model: {error.message}") from None


def _checked_steps(steps: Any) -> list[dict[str, Any]]:
    """Preprocessing as a push takes it: what a converter says is a stranger's word."""
    try:
        found = _PREPROCESSING.validate_python(steps)
    except ValidationError:
        raise InvalidInput("the converter told of preprocessing that is none; the model is not what it seems") from None
    check_paths(step.tokenizer for step in found if step.kind == "text")
    return [step.model_dump() for step in found]


def _steps_of(source: Source) -> list[dict[str, Any]]:
    return [step.model_dump() for step in source.manifest.preprocessing] if source.manifest is not None else []


def _carry(steps: Sequence[Mapping[str, Any]], before: Path, after: Path) -> None:
    """Take along what preprocessing reads."""
    for step in steps:
        name = step.get("tokenizer")
        if name and not (after / name).exists():
            (after / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(before / name, after / name)
