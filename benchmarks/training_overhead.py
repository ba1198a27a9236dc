"""What the training loop adds to a step: each network trained by the trainer and by a bare PyTorch loop, in turns.

    python benchmarks/training_overhead.py [--rounds 15]

Both sides do the same work on the same rows in the same order, with the same optimiser and the same two groups of
weights (no decay for biases and norms). A round is one epoch of each; a figure is the median over the rounds of the
ratio of their times: by the clock, and in processor time (``cpu``), which a busy machine disturbs less. ``checked`` is
the bare loop that also looks at its loss after each step, as one does to notice that it has become no number.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from modelport.training import randomness
from modelport.training.batches import Order, TensorExamples
from modelport.training.loop import LoopOptions
from modelport.training.recipe import TrainingRun
from modelport.training.trainer import Trainer

SEED = 0


@dataclass
class Case:
    """A network, rows, and how many of them make a batch."""

    network: Callable[[], nn.Module]
    examples: TensorExamples
    batch: int


class Words(nn.Module):
    """A small transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(1000, 64)
        layer = nn.TransformerEncoderLayer(64, 4, 128, 0.1, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.layers(self.words(x)).mean(1))
        return scores


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))


def cnn() -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in ((1, 16), (16, 32)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 4, 10))


def cases() -> dict[str, Case]:
    images, labels = load_digits(return_X_y=True)
    flat, codes = torch.tensor(images, dtype=torch.float32), torch.tensor(labels)
    words = torch.randint(0, 1000, (640, 24), generator=torch.Generator().manual_seed(1))
    return {
        "mlp": Case(mlp, TensorExamples({"x": flat, "y": codes}), 64),
        "cnn": Case(cnn, TensorExamples({"x": flat.view(-1, 1, 8, 8), "y": codes}), 32),
        "transformer": Case(Words, TensorExamples({"x": words, "y": codes[:640]}), 16),
    }


def loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return functional.cross_entropy(model(batch["x"]), batch["y"])


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    decayed = [one for one in model.parameters() if one.dim() > 1]
    rest = [one for one in model.parameters() if one.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=1e-3, fused=True)


Times = tuple[float, float]
"""Seconds by the clock, and of the processor."""


def now() -> Times:
    return time.perf_counter(), time.process_time()


def since(began: Times) -> Times:
    clock, processor = now()
    return clock - began[0], processor - began[1]


def bare(case: Case, checked: bool) -> Iterator[Times]:
    """One epoch after another."""
    torch.manual_seed(SEED)
    model = case.network()
    optimizer = optimizer_of(model)
    order = Order(len(case.examples), case.batch, SEED)
    for epoch in range(10**6):
        model.train()
        began = now()
        for rows in order.of(epoch):
            found = loss(model, case.examples.batch(rows, epoch))
            found.backward()
            optimizer.step()
            optimizer.zero_grad()
            if checked:
                found.item()
        yield since(began)


def trained(case: Case, folder: Path, threads: int) -> Iterator[Times]:
    """The same by the trainer, from the first step of an epoch to the end of its last."""
    torch.manual_seed(SEED)
    model = case.network()
    run = TrainingRun(
        folder, folder, None, SEED, threads, 1, lambda task, truth, predicted: {}, lambda requirements: ("", {}),
        lambda *told: None, lambda *told: None,
    )  # fmt: skip
    options = LoopOptions(epochs=1000, batch_size=case.batch, schedule="constant", checkpoint_every=3600)
    trainer = Trainer(run, options, model, loss, case.examples, lambda model: {"loss": 0.0})
    while True:
        began = now()
        trainer._train_epoch()
        yield since(began)
        trainer._judge_epoch()


def measure(case: Case, rounds: int, threads: int) -> dict[str, Any]:
    ours: list[Times] = []
    plain: list[Times] = []
    looked: list[Times] = []
    with tempfile.TemporaryDirectory() as folder:
        sides = [(ours, trained(case, Path(folder), threads)), (plain, bare(case, False)), (looked, bare(case, True))]
        for round_ in range(rounds + 2):
            for times, side in sides if round_ % 2 else reversed(sides):
                gc.collect()
                times.append(next(side))
    steps = Order(len(case.examples), case.batch, SEED).batches

    def ratio(theirs: list[Times], kind: int) -> float:
        each = (mine[kind] / other[kind] for mine, other in zip(ours[2:], theirs[2:], strict=True))
        return round(statistics.median(each), 3)

    return {
        "step_ms": round(1000 * statistics.median(times[1] for times in plain[2:]) / steps, 3),
        "ratio": ratio(plain, 0), "cpu": ratio(plain, 1), "checked": ratio(looked, 0), "checked_cpu": ratio(looked, 1),
        "rounds": rounds,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--case", action="append", choices=("mlp", "cnn", "transformer"))
    asked = parser.parse_args()
    randomness.settle(SEED, asked.threads)
    for name, case in cases().items():
        if asked.case is None or name in asked.case:
            print(json.dumps({"network": name} | measure(case, asked.rounds, asked.threads)), flush=True)


if __name__ == "__main__":
    main()
