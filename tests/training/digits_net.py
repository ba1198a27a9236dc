"""A run of the trainer on real digits, which may be a process of its own that is killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from modelport.training import randomness
from modelport.training.batches import TensorExamples
from modelport.training.loop import LoopOptions
from modelport.training.trainer import Fit, Trainer
from tests.training.runs import new_run


def digits() -> tuple[TensorExamples, TensorExamples]:
    """1,400 of scikit-learn's digits to learn from, 397 to judge by."""
    images, labels = load_digits(return_X_y=True)
    pixels, codes = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    parts = [slice(0, 1400), slice(1400, None)]
    learn, judge = (TensorExamples({"pixels": pixels[part], "label": codes[part]}) for part in parts)
    return learn, judge


def network(seed: int = 0) -> nn.Sequential:
    """It draws (dropout) and counts (batch norm), so that a resumed run has to know both."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 96), nn.BatchNorm1d(96), nn.ReLU(), nn.Dropout(0.2), nn.Linear(96, 10))


def loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return functional.cross_entropy(model(batch["pixels"]), batch["label"])


def judged(examples: TensorExamples) -> Any:
    batch = examples.batch(torch.arange(len(examples)), 0)

    def validate(model: nn.Module) -> dict[str, float]:
        found = model(batch["pixels"])
        right = (found.argmax(1) == batch["label"]).double().mean().item()
        return {"loss": functional.cross_entropy(found, batch["label"]).item(), "accuracy": right}

    return validate


def fit(folder: Path, options: LoopOptions, seed: int = 0, **more: Any) -> tuple[Fit, nn.Module]:
    run, _ = new_run(folder, seed=seed)
    randomness.settle(seed, 1)
    learn, judge = digits()
    model = network(seed)
    return Trainer(run, options, model, loss, learn, judged(judge), **more).fit(), model


def result(found: Fit, model: nn.Module) -> dict[str, Any]:
    """The curve, bit for bit, and the weights."""
    return {
        "history": [{name: value.hex() for name, value in entry.items()} for entry in found.history],
        "weights": {name: tensor.flatten().double().tolist() for name, tensor in model.state_dict().items()},
        "best_epoch": found.best_epoch,
    }


def main(folder: Path, options: dict[str, Any]) -> None:
    """A whole run; its result becomes ``result.json``."""
    outcome = json.dumps(result(*fit(folder, LoopOptions.model_validate(options))))
    (folder / "result.json").write_text(outcome)
