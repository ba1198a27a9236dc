"""The loop: what it learns, how it goes on after a kill, what it says when it cannot."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from modelport.errors import InvalidInput
from modelport.training import randomness
from modelport.training.batches import Order, TensorExamples
from modelport.training.loop import LoopOptions
from modelport.training.optimizers import Group
from modelport.training.schedules import factor
from modelport.training.trainer import Trainer
from tests.training import digits_net
from tests.training.runs import new_run

ROOT = Path(__file__).parents[2]
KILLS = 20 if os.environ.get("MODELPORT_PROVE") else 2


def test_it_is_the_bare_loop(tmp_path: Path) -> None:
    """The same steps by hand, without the trainer: the same weights, bit for bit."""
    options = LoopOptions(epochs=2, batch_size=50, optimizer="adam", schedule="linear", warmup=0.1, clip=0.5)
    found, model = digits_net.fit(tmp_path, options)
    learn, _ = digits_net.digits()
    bare = digits_net.network()
    randomness.settle(0, 1)
    decayed = [one for one in bare.parameters() if one.dim() > 1]
    rest = [one for one in bare.parameters() if one.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.Adam(groups, lr=1e-3, fused=True)
    order, step = Order(1400, 50, 0), 0
    for epoch in range(2):
        bare.train()
        for rows in order.of(epoch):
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * ((step + 1) / 6 if step < 6 else 1 - (step - 6) / 50)
            digits_net.loss(bare, learn.batch(rows, epoch)).backward()
            nn.utils.clip_grad_norm_(bare.parameters(), 0.5)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
    assert found.best_epoch == 2
    assert found.steps == step == 56
    bare_weights = bare.state_dict()
    assert all(torch.equal(tensor, bare_weights[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(("optimizer", "rate"), [("sgd", 0.3), ("momentum", 0.05), ("adam", 3e-3), ("adamw", 3e-3)])
def test_every_optimiser_learns_digits(tmp_path: Path, optimizer: str, rate: float) -> None:
    options = LoopOptions.model_validate({"epochs": 6, "optimizer": optimizer, "learning_rate": rate})
    found, _ = digits_net.fit(tmp_path, options)
    assert max(entry["validation_accuracy"] for entry in found.history) > 0.9
    assert found.history[-1]["train_loss"] < found.history[0]["train_loss"]


def test_accumulated_batches_are_one_large_batch(tmp_path: Path) -> None:
    """Without what draws or counts, 4 batches of 10 give the gradient of one of 40, an uneven rest included."""
    weights = []
    for name, size, times in (("one", 40, 1), ("four", 10, 4)):
        run, _ = new_run(tmp_path / name)
        randomness.settle(0, 1)
        learn, _ = digits_net.digits()
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10)).double()

        def loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            return functional.cross_entropy(model(batch["pixels"].double()), batch["label"])

        part = TensorExamples(learn.batch(torch.arange(95), 0))
        options = LoopOptions(epochs=3, batch_size=size, accumulate=times, optimizer="sgd", learning_rate=0.5)
        found = Trainer(run, options, model, loss, part, lambda model: {"loss": 1.0}).fit()
        assert found.steps == 3 * 3
        weights.append(model.state_dict())
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-12) for name in weights[0])


def test_a_run_that_is_killed_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    """Processes of their own, from a server that has imported torch once."""
    options = {
        "epochs": 20, "batch_size": 16, "checkpoint_steps": 17, "accumulate": 2, "schedule": "plateau",
        "step_epochs": 3, "learning_rate": 0.003,
    }  # fmt: skip
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.digits_net"])
    undisturbed = context.Process(target=digits_net.main, args=(tmp_path / "undisturbed", options))
    undisturbed.start()
    undisturbed.join(120)
    kept = tmp_path / "killed" / "work" / "checkpoints"
    draw, killed, before = random.Random(5), 0, ""
    while True:
        running = context.Process(target=digits_net.main, args=(tmp_path / "killed", options))
        running.start()
        if killed < KILLS:
            while running.is_alive() and newest(kept) in ("", before):  # it has to have gone on at all
                time.sleep(0.005)
            time.sleep(draw.uniform(0, 0.02))
            before = newest(kept)
            running.kill()
        running.join(120)
        if running.exitcode == 0:
            break
        assert running.exitcode == -signal.SIGKILL
        killed += 1
    assert killed == KILLS
    expected, found = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("undisturbed", "killed"))
    assert found["history"] == expected["history"]
    assert len(found["history"]) == 20
    assert found["weights"] == expected["weights"]
    assert found["best_epoch"] == expected["best_epoch"]


def newest(folder: Path) -> str:
    return max((path.name for path in folder.glob("last-*.safetensors")), default="")


def test_it_stops_early_and_gives_the_best_weights(tmp_path: Path) -> None:
    options = LoopOptions(epochs=400, patience=3, monitor="accuracy", learning_rate=0.01, schedule="constant")
    found, model = digits_net.fit(tmp_path, options)
    values = [entry["validation_accuracy"] for entry in found.history]
    assert found.stopped_early
    assert len(values) == found.best_epoch + 3 < 400
    assert values[found.best_epoch - 1] == max(values)
    _, judge = digits_net.digits()
    assert digits_net.judged(judge)(model)["accuracy"] == max(values)
    again, _ = digits_net.fit(tmp_path, options)  # a crash after the last step trains nothing again
    assert again.history == found.history


def test_frozen_parts_thaw_when_their_epoch_comes(tmp_path: Path) -> None:
    before = digits_net.network().state_dict()
    for epochs, moved in ((2, False), (3, True)):
        run, _ = new_run(tmp_path / str(epochs))
        randomness.settle(0, 1)
        learn, _ = digits_net.digits()
        model = digits_net.network()
        groups = [Group([model[4]]), Group([model[0], model[1]], rate=0.1, from_epoch=2)]
        options = LoopOptions(epochs=epochs, schedule="constant", monitor="accuracy")
        state: list[Any] = []

        def watched(model: nn.Module, state: list[Any] = state) -> dict[str, float]:
            state.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
            return {"loss": 1.0, "accuracy": float(len(state))}

        Trainer(run, options, model, digits_net.loss, learn, watched, groups=groups).fit()
        after = state[-1]
        assert not torch.equal(after["4.weight"], before["4.weight"])
        for name in ("0.weight", "1.weight", "1.running_mean"):
            assert torch.equal(after[name], before[name]) is not moved


def test_the_loss_of_a_run_that_diverges_names_the_step(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"the loss became .* at step \d+ .*lower learning_rate"):
        digits_net.fit(tmp_path, LoopOptions(optimizer="sgd", learning_rate=1000, epochs=50, schedule="constant"))


def test_half_precision_learns_too(tmp_path: Path) -> None:
    found, _ = digits_net.fit(tmp_path, LoopOptions(epochs=6, precision="bf16", learning_rate=3e-3))
    assert found.history[-1]["validation_accuracy"] > 0.9
    with pytest.raises(InvalidInput, match="fp16 needs a GPU"):
        digits_net.fit(tmp_path / "half", LoopOptions(precision="fp16"))


def test_a_figure_that_nobody_computes_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"'f1' is none of the figures accuracy, loss"):
        digits_net.fit(tmp_path, LoopOptions(epochs=1, monitor="f1"))


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "step", "plateau"])
def test_schedules(schedule: str) -> None:
    options = LoopOptions.model_validate({"schedule": schedule, "warmup": 0.1, "step_epochs": 2, "step_factor": 0.5})
    found = [factor(options, step, 100, 10) for step in range(100)]
    assert found[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert found[10] == 1.0
    last = {"constant": 1, "plateau": 1, "linear": 1 / 90, "cosine": 3.046e-4, "step": 0.5**4}[schedule]
    assert found[99] == pytest.approx(last, rel=1e-3)


def test_workers_share_an_order() -> None:
    whole = torch.cat(Order(1000, 7, 3).of(2))
    assert sorted(whole.tolist()) == list(range(1000))
    assert not torch.equal(whole, torch.cat(Order(1000, 7, 3).of(1)))
    parts = [Order(1001, 8, 3, rank, 4) for rank in range(4)]
    assert {part.batches for part in parts} == {32}
    rows = [row for part in parts for row in torch.cat(part.of(0)).tolist()]
    assert set(rows) >= set(range(1001)) - set(torch.cat(Order(1001, 8, 3).of(0)).tolist()[1000:])


def test_a_last_batch_of_one_row_is_left_out() -> None:
    assert [len(rows) for rows in Order(65, 32, 0).of(0)] == [32, 32]
    assert [len(rows) for rows in Order(66, 32, 0).of(0)] == [32, 32, 2]
    assert [len(rows) for rows in Order(1, 32, 0).of(0)] == [1]
