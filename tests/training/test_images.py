"""The recipe image on real pictures: figures beside a bare loop, rows as they are served, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from torch.nn import functional

from modelport.engine.formats.onnx import OnnxFormat
from modelport.engine.preprocessing.image import ImageInput
from modelport.engine.runtime import Trust
from modelport.schemas.preprocessing import ImageStep
from modelport.tensors import Array, Signature, TensorSpec
from modelport.training import recipe
from modelport.training.batches import Order
from modelport.training.images.network import build
from modelport.training.images.pixels import Shape
from modelport.training.recipe import Trained
from modelport.training.recipes.image import ImageOptions, ImageRecipe
from tests.training.images import digit_files, parts, training_data
from tests.training.runs import new_run

QUICK = {"epochs": 4, "augment": "none", "batch_size": 64, "learning_rate": 3e-3}


def learn(
    folder: Path, train: Any, validation: Any, options: dict[str, Any] = QUICK, *, replay: Any = ((), ()), **more: Any
) -> tuple[Trained, Path]:
    """Files and labels in, as a job would: check, then train."""
    made = [
        parts(folder / name, *rows) if len(rows[0]) else ()
        for name, rows in (("train", train), ("validation", validation), ("replay", replay))
    ]
    data = training_data(*made)
    image = ImageRecipe()
    settled = recipe.options_of(image, options)
    image.check(data, settled)
    run, _ = new_run(folder, **more)
    return image.train(run, data, settled), run.out


def served(out: Path, trained: Trained, files: list[bytes]) -> Array:
    """Probabilities for image files, by ONNX Runtime behind the version's own step."""
    session = ort.InferenceSession(out / "model.onnx")
    (found,) = session.get_inputs()
    step = ImageInput(
        ImageStep.model_validate(trained.preprocessing[0]).model_dump(),
        Signature((TensorSpec(found.name, "FP32", (-1, *found.shape[1:])),), ()),
    )
    step.open(out)
    chances: Array = session.run(None, step.apply(files))[0]
    return chances


def test_digits_are_told_apart_as_by_a_bare_loop(tmp_path: Path) -> None:
    train, validation = digit_files(slice(0, 1400)), digit_files(slice(1400, None))
    trained, out = learn(tmp_path, train, validation)
    best = max(entry["validation_accuracy"] for entry in trained.report["history"])
    chances = served(out, trained, validation[0])
    accuracy = float((chances.argmax(1) == validation[1]).mean())
    assert trained.class_labels == [str(digit) for digit in range(10)]
    assert trained.report["parity"]["agreement"] == 1.0
    assert trained.report["parity"]["rows"] == 256
    assert accuracy >= bare_loop() - 0.01
    assert accuracy > 0.95
    assert best >= accuracy
    files = tuple(sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()))
    assert files == ("model.onnx", "training/model.json", "training/weights.safetensors")
    inspection = OnnxFormat().inspect(out, files, Trust())
    assert inspection.labels == {"probabilities": trained.class_labels}
    assert str(tmp_path) not in (out / "model.onnx").read_bytes().decode("latin-1")
    assert b"site-packages" not in (out / "model.onnx").read_bytes()


def bare_loop() -> float:
    """The same network, rows, order and rates by plain PyTorch."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels = torch.tensor(np.round(found.images * 255 / 16 - 0.5), dtype=torch.float32).unsqueeze(1) / 255
    codes = torch.tensor(found.target)
    pixels = (pixels - pixels[:1400].mean()) / pixels[:1400].std()
    torch.manual_seed(0)
    model = build(ImageOptions(), "small", Shape(8, 8, 1), 10)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4 * 22)
    for epoch in range(4):
        model.train()
        for rows in Order(1400, 64, 0).of(epoch):
            optimizer.zero_grad()
            functional.cross_entropy(model(pixels[rows]), codes[rows]).backward()
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        return float((model(pixels[1400:]).argmax(1) == codes[1400:]).double().mean())
