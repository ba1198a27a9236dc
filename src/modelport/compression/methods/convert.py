"""Method ``convert``: what methods made of a version, as a file of another runtime; the last step of a sequence.

What converters there are and how they are shut in is the business of ``conversion``; here nothing is compared, for
whoever compresses judges the result by rows.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from modelport.compression.method import Form, Model
from modelport.conversion import routes
from modelport.conversion.chain import Settings, Source, Workshop
from modelport.schemas.training import Task
from modelport.training.recipe import Options, Trained, TrainingData, TrainingRun


class ConvertOptions(Options):
    """What it becomes."""

    to: Literal["openvino", "litert", "torch"]
    """The runtime that is to serve it."""


class Convert:
    """The plug-in."""

    summary = "The file of another runtime (OpenVINO, LiteRT, PyTorch)."
    extra = "convert"
    needs: tuple[str, ...] = ()
    forms: tuple[Form, ...] = ("onnx",)
    data = False
    Options = ConvertOptions

    def check(self, model: Model, data: TrainingData | None, options: ConvertOptions) -> list[str]:
        routes.check_installed(routes.route("onnx", options.to), options.to)
        return []

    def compress(self, run: TrainingRun, model: Model, data: TrainingData | None, options: ConvertOptions) -> Trained:
        manifest = model.manifest
        task: Any = manifest.task or "other"
        source = Source("onnx", model.folder, tuple(one.path for one in manifest.files), "", manifest)
        steps = routes.route("onnx", options.to)
        workshop = Workshop(
            run.folder / "converting", Settings(threads=run.threads), run.environment,
            lambda message: run.progress(0, None, message[:200], "steps"),
        )  # fmt: skip
        found = workshop.convert(source, steps)
        _copied(found.folder, run.out)
        return _told(manifest, task, found)

    def strengths(self, model: Model) -> Sequence[Mapping[str, Any]]:
        return ()  # only where a runtime is asked for


def _told(manifest: Any, task: Task, found: Any) -> Trained:
    labels = found.class_labels or next(iter(manifest.labels.values()), None)
    return Trained(
        task, preprocessing=list(found.preprocessing), class_labels=None if labels is None else list(labels),
        inputs=dict(manifest.columns), report={"steps": found.steps}, warnings=list(dict.fromkeys(found.notes)),
    )  # fmt: skip


def _copied(folder: Path, out: Path) -> None:
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.relative_to(folder).parts[0] != "training":
            to = out / file.relative_to(folder)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, to)
