"""Rows of real data as a version's model takes them: as in a replica, and what does not fit is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from modelport.compression.feeding import Feeder, chosen
from modelport.compression.method import Model
from modelport.engine.preprocessing import wrap
from modelport.engine.runtime import LoadOptions
from modelport.engine.runtimes.onnx import OnnxRuntime
from modelport.errors import InvalidInput
from modelport.tensors import Array
from modelport.training.recipe import Options, TrainingData
from modelport.training.recipes.image import ImageRecipe
from tests.compression.versions import version_of
from tests.training.images import digit_files, parts, training_data
from tests.training.runs import new_run


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, TrainingData]:
    """A small network of scans of digits."""
    folder = tmp_path_factory.mktemp("digits")
    data = training_data(
        parts(folder / "train", *digit_files(slice(0, 300))),
        parts(folder / "validation", *digit_files(slice(300, 400))),
    )
    run, _ = new_run(folder)
    options: Options = ImageRecipe.Options.model_validate({"epochs": 1, "augment": "none"})
    return version_of(run.out, ImageRecipe().train(run, data, options)), data


def served(model: Model, column: str, values: list[bytes]) -> Array:
    """The answers of a replica to raw rows."""
    manifest = model.manifest
    files = tuple(entry.path for entry in manifest.files)
    assert manifest.model_signature is not None
    runtime = OnnxRuntime.load(LoadOptions(model.folder, files, manifest.model_signature, manifest.labels))
    steps = [step.model_dump() for step in manifest.preprocessing]
    wrapped = wrap(runtime, steps, manifest.model_signature, model.folder)
    return wrapped.infer({column: np.array(values, object)})["probabilities"]


def test_images_are_what_a_replica_sees(digits: tuple[Model, TrainingData]) -> None:
    model, data = digits
    session = ort.InferenceSession(model.folder / "model.onnx")
    fed = list(Feeder(model, data).batches(data.validation, size=32))
    assert [len(one.rows) for one in fed] == [32, 32, 32, 4]
    found = np.concatenate([session.run(["probabilities"], one.inputs)[0] for one in fed])
    files, labels = digit_files(slice(300, 400))
    assert np.allclose(found, served(model, "image", files), atol=1e-6)
    assert [value for one in fed for value in one.truth or ()] == labels


def test_some_rows_are_chosen_by_the_seed(digits: tuple[Model, TrainingData]) -> None:
    model, data = digits
    whole = np.concatenate([one.inputs["pixels"] for one in Feeder(model, data).batches(data.train)])
    some = list(Feeder(model, data).batches(data.train, size=7, rows=20, seed=3))
    places = np.concatenate([one.rows for one in some])
    wanted = chosen(data.train, 20, 3)
    assert wanted is not None
    assert np.array_equal(places, wanted)
    assert len(set(places.tolist())) == 20
    assert np.array_equal(np.concatenate([one.inputs["pixels"] for one in some]), whole[places])
    assert not np.array_equal(wanted, chosen(data.train, 20, 4))


def test_what_does_not_fit_is_told(digits: tuple[Model, TrainingData], tmp_path: Path) -> None:
    model, data = digits
    other: dict[str, Any] = {"length": "double", "width": "double"}
    with pytest.raises(InvalidInput, match="no column has its name.*length double"):
        Feeder(model, TrainingData(data.train, (), other, None, None, data.facts))
    broken = parts(tmp_path / "broken", [digit_files(slice(0, 1))[0][0], b"no image"], [0, 1])
    with pytest.raises(InvalidInput, match="rows 0 to 1: .*row 1.*data clean"):
        list(Feeder(model, data).batches(broken))
    missing = parts(tmp_path / "missing", [digit_files(slice(0, 1))[0][0], None], [0, 1])
    with pytest.raises(InvalidInput, match="image"):
        list(Feeder(model, data).batches(missing))
