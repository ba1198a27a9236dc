"""Trains any torch network with any loss on rows by number, and goes on after a crash as if there had been none.

The loop knows one device and one worker's share of the rows. Everything that it draws or counts is in its checkpoints,
so a run that was killed and begun again in the same folder ends with the same weights, bit for bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from modelport.errors import InvalidInput
from modelport.tensors import Array
from modelport.training import optimizers, randomness
from modelport.training.batches import Examples, Order, moved
from modelport.training.checkpoint import Checkpoints
from modelport.training.loop import LoopOptions, is_lower_better
from modelport.training.optimizers import Group
from modelport.training.recipe import TrainingRun
from modelport.training.schedules import factor

Loss = Callable[[nn.Module, Any], torch.Tensor]
"""Of a network and a batch: one number, the mean over the batch's rows."""
Validate = Callable[[nn.Module], Mapping[str, float]]
"""Figures of the validation rows; called with the network in evaluation mode and without gradients. Has ``loss``."""
_TOLD_EVERY = 0.5
"""Seconds between two reports of progress."""
_POINTS = 1000
"""Points of the curve of the training loss, about."""


@dataclass(slots=True)
class _State:
    """Where the loop stands: all of it is JSON."""

    epoch: int = 0
    done: int = 0
    """Steps of this epoch."""
    step: int = 0
    """Steps of all epochs."""
    loss_sum: float = 0.0
    loss_rows: int = 0
    scale: float = 1.0
    """What ``plateau`` has made of the rate."""
    flat: int = 0
    """Epochs without improvement since the scale last fell."""
    worse: int = 0
    """Epochs without improvement."""
    best: float | None = None
    best_epoch: int = 0
    best_file: str = ""
    finished: bool = False
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Fit:
    """How training went. The network holds the best epoch's weights."""

    history: list[dict[str, float]]
    """Figures by epoch: ``epoch`` (from 1), ``step``, ``train_loss``, ``learning_rate``, ``validation_…``."""
    best_epoch: int
    """From 1."""
    steps: int
    seconds: float
    stopped_early: bool

    @property
    def figures(self) -> dict[str, float]:
        """For a version's metrics."""
        return {"best_epoch": self.best_epoch, "steps": self.steps, "train_seconds": round(self.seconds, 3)}


class Trainer:
    """One network, its loss, its rows, and a folder for its checkpoints."""

    def __init__(
        self, run: TrainingRun, options: LoopOptions, model: nn.Module, loss: Loss, examples: Examples,
        validate: Validate, *, groups: Sequence[Group] = (), name: str = "checkpoints", rank: int = 0, world: int = 1,
    ) -> None:  # fmt: skip
        """``groups``: what learns how fast and from when on; the whole network alike when there are none.

        Parameters that are in none, or in one that begins after the last epoch, never learn; they are not kept in
        checkpoints, so the caller has to build them alike when it begins again.
        """
        self._run, self._options, self._loss, self._validate = run, options, loss, validate
        self._examples = examples
        self._device = device_of(options)
        if options.precision == "fp16" and self._device.type == "cpu":
            raise InvalidInput("options.precision: fp16 needs a GPU, and there is none; say bf16 or fp32")
        self.model = model.to(self._device)
        self._groups = list(groups) or [Group([model])]
        soon = [group for group in self._groups if group.from_epoch < options.epochs]
        learning = {one for group in soon for one in group.parameters}
        for parameter in model.parameters():
            parameter.requires_grad_(parameter in learning)
        frozen = {name for name, one in model.named_parameters(remove_duplicate=False) if one not in learning}
        self._kept = set(model.state_dict()) - frozen
        self._optimizer = optimizers.build(options, soon)
        self._is_narrow, self._scales = options.precision != "fp32", options.precision == "fp16"
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=self._scales)
        self._order = Order(len(examples), options.batch_size, run.seed, rank, world)
        self._steps_an_epoch = -(-self._order.batches // options.accumulate)
        self._steps = self._steps_an_epoch * options.epochs
        self._log_every = max(1, self._steps // _POINTS)
        self._checkpoints = Checkpoints(run.folder / name)
        self._state = _State()
        self._best: dict[str, torch.Tensor] | None = None
        self._best_is_kept = True
        self._kept_at = self._told_at = self._since = time.monotonic()

    def fit(self) -> Fit:
        """Train, or go on; the network then holds the best weights and is in evaluation mode.

        Raises InvalidInput when the loss is no number, Unavailable when the disk is full.
        """
        state = self._state
        randomness.settle(self._run.seed, self._run.threads)
        self._resume()
        self._since = self._kept_at = time.monotonic()
        while not state.finished:
            self._train_epoch()
            self._judge_epoch()
        if self._best is not None:
            self._load(self._best)
        self.model.eval()
        return Fit(
            state.history, state.best_epoch + 1, state.step, state.seconds,
            stopped_early=state.epoch < self._options.epochs,
        )  # fmt: skip

    def _train_epoch(self) -> None:
        state, options, model = self._state, self._options, self.model
        model.train()
        optimizers.thaw(self._groups, state.epoch)
        batches = self._order.of(state.epoch)
        parameters = [one for group in self._groups for one in group.parameters if one.requires_grad]
        for done in range(state.done, self._steps_an_epoch):
            self._set_rate()
            rows = batches[done * options.accumulate : (done + 1) * options.accumulate]
            loss = self._gradients(rows)
            if options.clip is not None:
                self._scaler.unscale_(self._optimizer)
                nn.utils.clip_grad_norm_(parameters, options.clip)
            if self._scales:
                self._scaler.step(self._optimizer)
                self._scaler.update()
            else:
                self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
            state.done, state.step = done + 1, state.step + 1
            now = time.monotonic()
            self._tell(loss, now)
            if self._is_due(now):
                self._keep()

    def _gradients(self, batches: Sequence[torch.Tensor]) -> float:
        """Add up the batches' gradients, each by its share of the rows; the mean loss. Raises when it is no number."""
        total = sum(map(len, batches))
        found = 0.0
        for rows in batches:
            batch = self._examples.batch(rows, self._state.epoch)
            if self._device.type != "cpu":
                batch = moved(batch, self._device)
            if self._is_narrow:
                with self._narrow():
                    loss = self._loss(self.model, batch)
            else:
                loss = self._loss(self.model, batch)
            share = len(rows) / total
            scaled = loss if share == 1 else loss * share
            (self._scaler.scale(scaled) if self._scales else scaled).backward()
            found += loss.item() * share
        if not math.isfinite(found):
            raise self._diverged(found)
        self._state.loss_sum += found * total
        self._state.loss_rows += total
        return found

    def _narrow(self) -> AbstractContextManager[Any]:
        if not self._is_narrow:
            return nullcontext()
        kind = torch.bfloat16 if self._options.precision == "bf16" else torch.float16
        found: AbstractContextManager[Any] = torch.autocast(self._device.type, kind)
        return found

    def _set_rate(self) -> None:
        """Give each group its rate for this step."""
        state = self._state
        found = factor(self._options, state.step, self._steps, self._steps_an_epoch) * state.scale
        for group in self._optimizer.param_groups:
            group["lr"] = group["base"] * found

    def _judge_epoch(self) -> None:
        """Look at the validation rows; settle what is best, and whether to stop."""
        state, options = self._state, self._options
        self.model.eval()
        if not all(tensor.isfinite().all() for tensor in self._weights().values()):
            raise self._diverged(math.nan)
        with torch.no_grad(), self._narrow():
            found = {name: float(value) for name, value in self._validate(self.model).items()}
        value = found.get(options.monitor)
        if value is None:
            raise InvalidInput(
                f"options.monitor: {options.monitor!r} is none of the figures {', '.join(sorted(found))}"
            )
        entry = {
            "epoch": float(state.epoch + 1), "step": float(state.step),
            "train_loss": state.loss_sum / max(state.loss_rows, 1), "learning_rate": self._rate_now(),
        } | {f"validation_{name}": one for name, one in found.items()}  # fmt: skip
        state.history.append(entry)
        for name, one in entry.items():
            if name not in ("epoch", "step"):
                self._run.metric(name, one, state.step)
        self._weigh(value)
        state.epoch, state.done, state.loss_sum, state.loss_rows = state.epoch + 1, 0, 0.0, 0
        state.finished = state.epoch >= options.epochs or state.worse >= (options.patience or math.inf)
        if state.finished or time.monotonic() - self._kept_at >= options.checkpoint_every:
            self._keep()

    def _weigh(self, value: float) -> None:
        """Is this epoch the best so far?"""
        state, options = self._state, self._options
        if math.isnan(value):
            value = math.inf if is_lower_better(options.monitor) else -math.inf
        better = state.best is None or (value < state.best if is_lower_better(options.monitor) else value > state.best)
        if better:
            state.best, state.best_epoch, state.worse, state.flat = value, state.epoch, 0, 0
            self._best = {name: tensor.detach().clone() for name, tensor in self._weights().items()}
            self._best_is_kept = False
            return
        state.worse, state.flat = state.worse + 1, state.flat + 1
        if options.schedule == "plateau" and state.flat >= options.step_epochs:
            state.scale, state.flat = state.scale * options.step_factor, 0

    def _rate_now(self) -> float:
        return max(float(group["lr"]) for group in self._optimizer.param_groups)

    def _is_due(self, now: float) -> bool:
        every = self._options.checkpoint_steps
        if every is not None and self._state.step % every == 0:
            return True
        return now - self._kept_at >= self._options.checkpoint_every

    def _keep(self) -> None:
        """Write a checkpoint, and before it the best weights where it points to new ones."""
        state, now = self._state, time.monotonic()
        state.seconds, self._since = state.seconds + now - self._since, now
        if self._best is not None and not self._best_is_kept:
            state.best_file = self._checkpoints.keep_best(state.step, self._best)
            self._best_is_kept = True
        self._checkpoints.keep(state.step, asdict(state) | {
            "weights": self._weights(), "optimizer": self._optimizer.state_dict(), "scaler": self._scaler.state_dict(),
            "random": randomness.states(),
        })  # fmt: skip
        self._kept_at = time.monotonic()

    def _resume(self) -> None:
        found = self._checkpoints.newest()
        if found is None:
            return
        self._load(found.pop("weights"))
        self._optimizer.load_state_dict(found.pop("optimizer"))
        self._scaler.load_state_dict(found.pop("scaler"))
        randomness.restore(found.pop("random"))
        for name, value in found.items():
            setattr(self._state, name, value)
        if self._state.best_file:
            self._best = self._checkpoints.best(self._state.best_file)
        self._run.progress(self._state.step, self._steps, f"goes on from step {self._state.step}", "steps")

    def _weights(self) -> dict[str, torch.Tensor]:
        return {name: tensor for name, tensor in self.model.state_dict().items() if name in self._kept}

    def _load(self, weights: Mapping[str, torch.Tensor]) -> None:
        _, unexpected = self.model.load_state_dict(weights, strict=False)
        if unexpected or set(weights) != self._kept:
            raise InvalidInput("the checkpoint is of another network; start the job anew")

    def _tell(self, loss: float, now: float) -> None:
        step = self._state.step
        if step % self._log_every == 0:
            self._run.metric("loss", loss, step)
        if now - self._told_at < _TOLD_EVERY and step != self._steps:
            return
        self._told_at = now
        seconds = self._state.seconds + now - self._since
        left = seconds / step * (self._steps - step)
        text = f"epoch {self._state.epoch + 1} of {self._options.epochs}, loss {loss:.4g}, {_time(left)} left at most"
        self._run.progress(step, self._steps, text, "steps")

    def _diverged(self, loss: float) -> InvalidInput:
        what = "not a number" if math.isnan(loss) else "infinite"
        step = min(self._state.step + 1, self._steps)
        return InvalidInput(
            f"the loss became {what} at step {step} (epoch {self._state.epoch + 1}): lower learning_rate (it is "
            f"{self._options.learning_rate:g}), set clip to 1, or give it warmup; look for values out of all "
            "proportion in the data"
        )


def device_of(options: LoopOptions) -> torch.device:
    """Where to compute; raises InvalidInput for a GPU that is not there."""
    if options.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if options.device != "cpu" and not torch.cuda.is_available():
        raise InvalidInput(f"options.device: {options.device} is not there; say auto or cpu")
    return torch.device(options.device)


def check_predictions(found: Array) -> None:
    """Raise InvalidInput when predictions of validation rows are no numbers, which no figure can judge."""
    if not np.isfinite(found).all():
        raise InvalidInput(
            "the network's predictions of the validation rows are no numbers: lower learning_rate, or set clip to 1"
        )


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
