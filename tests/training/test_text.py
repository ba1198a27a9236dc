"""Recipe ``text`` on real docstrings: beside scikit-learn, beside a bare loop, served raw, and with bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from modelport.engine.formats.onnx import OnnxFormat
from modelport.engine.preprocessing import wrap
from modelport.engine.runtime import LoadOptions, Trust
from modelport.engine.runtimes.onnx import OnnxRuntime
from modelport.tensors import Array
from modelport.training.recipe import Trained, TrainingData
from modelport.training.recipes.text import TextRecipe
from tests.training.real_texts import as_data, topics
from tests.training.runs import Told, new_run

pytest.importorskip("onnxscript")
ROWS = 400
SMALL = {"model": "small", "layers": 0, "epochs": 8, "learning_rate": 5e-3}


def data_of(folder: Path, rows: list[tuple[str, str]], **options: Any) -> TrainingData:
    return as_data(folder, {"text": [a for a, _ in rows], "library": [b for _, b in rows]}, "library", **options)


def learn(folder: Path, data: TrainingData, options: dict[str, Any], **about: Any) -> tuple[Trained, Path, Told]:
    run, told = new_run(folder, **about)
    recipe = TextRecipe()
    found = recipe.Options.model_validate(options)
    recipe.check(data, found)
    return recipe.train(run, data, found), run.out, told


def served(folder: Path, trained: Trained, texts: list[str]) -> Array:
    """What the version answers for raw texts, loaded as a replica loads it."""
    files = tuple(sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()))
    assert OnnxFormat().recognises(folder, files)
    found = OnnxFormat().inspect(folder, files, Trust())
    assert found.labels == {"probabilities": trained.class_labels}
    options = LoadOptions(folder, files, found.signature, found.labels, details=found.details)
    runtime = wrap(OnnxRuntime.load(options), trained.preprocessing, found.signature, folder)
    answers = runtime.infer({"text": np.array([text.encode() for text in texts], object)})
    return answers["probabilities"]


def accuracy(answers: Array, trained: Trained, labels: list[str]) -> float:
    assert trained.class_labels is not None
    return float(
        np.mean([trained.class_labels[code] == label for code, label in zip(answers.argmax(1), labels, strict=True)])
    )


def test_small_learns_as_well_as_a_bag_of_words(tmp_path: Path) -> None:
    """Beside TF-IDF and a logistic regression on the same split; served, raw texts get the same answers."""
    rows = topics(ROWS)
    trained, out, told = learn(tmp_path, data_of(tmp_path / "data", rows), SMALL)
    cut = round(ROWS * 0.75)
    texts, labels = [a for a, _ in rows[cut:]], [b for _, b in rows[cut:]]
    beside = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000))
    beside.fit([a for a, _ in rows[:cut]], [b for _, b in rows[:cut]])
    answers = served(out, trained, texts)
    found, wanted = accuracy(answers, trained, labels), float(beside.score(texts, labels))
    assert found >= wanted - 0.03, (found, wanted)
    assert trained.class_labels == ["aiohttp", "numpy", "sklearn", "sqlalchemy"]
    assert trained.report["parity"]["max_difference"] < 1e-4
    assert trained.report["parity"]["same_tokens"]
    best = trained.report["history"][int(trained.metrics["best_epoch"]) - 1]
    assert best["validation_accuracy"] == pytest.approx(found)
    assert {"loss", "validation_accuracy"} <= {name for name, _, _ in told.metrics}
    assert np.allclose(served(out, trained, ["", "é" * 5000]).sum(1), 1, atol=1e-5)
