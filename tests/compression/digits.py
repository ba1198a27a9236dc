"""A version of the recipe image that tells scanned digits apart, and a method's work on it as a job asks for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from modelport.compression.method import Model
from modelport.engine.preprocessing.image import ImageInput
from modelport.schemas.preprocessing import ImageStep
from modelport.tensors import Array, Signature, TensorSpec
from modelport.training import recipe
from modelport.training.recipe import Trained, TrainingData
from modelport.training.recipes.image import ImageRecipe
from tests.compression import versions
from tests.training.images import digit_files, parts, training_data
from tests.training.runs import Told, new_run

OPTIONS = {"epochs": 3, "augment": "none", "batch_size": 64, "learning_rate": 3e-3}
TEST = slice(1200, None)


def version(folder: Path, **options: Any) -> tuple[Model, TrainingData]:
    """900 scans to learn from, 300 to choose by."""
    learn, judge = (digit_files(rows) for rows in (slice(0, 900), slice(900, 1200)))
    data = training_data(parts(folder / "t", *learn), parts(folder / "v", *judge))
    image, wish = ImageRecipe(), OPTIONS | options
    made = image.train(new_run(folder / "first")[0], data, recipe.options_of(image, wish))
    return version_of(folder / "first" / "out", made, wish), data


def version_of(out: Path, made: Trained, options: dict[str, Any] = OPTIONS) -> Model:
    """What a job makes of files and what is told of them."""
    story = {"recipe": "image", "params": {"options": options}}
    (out / "training").mkdir(exist_ok=True)
    (out / "training" / "training.json").write_text(json.dumps(story))
    return versions.version_of(out, made)


def work(
    method: Any, folder: Path, model: Model, data: TrainingData | None, **options: Any
) -> tuple[Trained, Path, Told]:
    """Check, then compress."""
    settled = recipe.options_of(method, options)
    method.check(model, data, settled)
    run, told = new_run(folder)
    return method.compress(run, model, data, settled), run.out, told


def answers(out: Path, made: Trained, files: list[bytes], outputs: list[str] | None = None) -> list[Array]:
    """ONNX Runtime's, for image files behind the version's own step."""
    session = ort.InferenceSession(out / "model.onnx")
    (found,) = session.get_inputs()
    step = ImageInput(
        ImageStep.model_validate(made.preprocessing[0]).model_dump(),
        Signature((TensorSpec(found.name, "FP32", (-1, *found.shape[1:])),), ()),
    )
    step.open(out)
    given: list[Array] = session.run(outputs, step.apply(files))
    return given


def accuracy(out: Path, made: Trained) -> float:
    """Of rows that nobody has learnt from or chosen by."""
    files, labels = digit_files(TEST)
    return float((answers(out, made, files)[0].argmax(1) == np.array(labels)).mean())
