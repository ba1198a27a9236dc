"""A small network of real scans of digits, trained here, as a version."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from modelport.compression.method import Model
from modelport.training.recipe import Options, TrainingData
from modelport.training.recipes.image import ImageRecipe
from tests.compression.versions import version_of
from tests.training.images import digit_files, parts, training_data
from tests.training.runs import new_run


@cache
def digits() -> tuple[Model, TrainingData]:
    """Its version and rows: 900 to learn from, 400 to choose by."""
    folder = Path(mkdtemp(prefix="modelport-digits-"))
    data = training_data(
        parts(folder / "train", *digit_files(slice(0, 900))),
        parts(folder / "validation", *digit_files(slice(900, 1300))),
    )
    run, _ = new_run(folder)
    wish = {"epochs": 3, "augment": "none", "learning_rate": 3e-3}
    options: Options = ImageRecipe.Options.model_validate(wish)
    trained = ImageRecipe().train(run, data, options)
    story = {"recipe": "image", "params": {"options": wish}}  # what the job notes
    (run.out / "training" / "training.json").write_text(json.dumps(story))
    return version_of(run.out, trained), data
