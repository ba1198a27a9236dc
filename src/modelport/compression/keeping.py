"""What a version keeps when it becomes smaller: all that a caller can tell it by, and its files beside the model."""

from __future__ import annotations

import shutil

from modelport.compression.method import Model
from modelport.engine.formats.onnx_wire import find_model
from modelport.schemas.training import Task
from modelport.training.recipe import Trained, TrainingRun

_TRAINING = "training"


def kept_as_it_was(model: Model, run: TrainingRun, task: Task, training: bool = False) -> Trained:
    """Copies the files of an ONNX version beside its model (tokenizer, word lists), with ``training`` also what its
    recipe kept; and tells the manifest's part: preprocessing, classes, sample, columns."""
    manifest = model.manifest
    paths = [one.path for one in manifest.files]
    own = find_model(model.folder, paths)
    for path in paths:
        beside_model = path == own or (own is not None and path.endswith((".data", ".onnx_data")))
        if beside_model or (path.startswith(f"{_TRAINING}/") and not training):
            continue
        (run.out / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(model.folder / path, run.out / path)
    labels = next(iter(manifest.labels.values()), None)
    return Trained(
        task, preprocessing=[step.model_dump() for step in manifest.preprocessing],
        class_labels=None if labels is None else list(labels), sample=manifest.sample, inputs=dict(manifest.columns),
    )  # fmt: skip


def keep_story(model: Model, run: TrainingRun) -> None:
    """What was written down of the version's training, where a method kept a network that can be taken up again."""
    story = model.folder / _TRAINING / "training.json"
    if story.exists() and (run.out / _TRAINING / "model.json").exists():
        shutil.copyfile(story, run.out / _TRAINING / "training.json")
