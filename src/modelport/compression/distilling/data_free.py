"""A student learns from inputs that a generator makes up; no training row is read.

Several generators each play against a student of their own; then each student learns from a set of their inputs in
whole passes. Kept is the one that agrees with its teacher on most of what all generators made up beside. Rows of a
data set, where there is one, are its validation rows, and nothing is chosen by them.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import torch
from torch import nn

from modelport.compression.distilling import teachers
from modelport.compression.distilling.generator import Generator, Statistics, asked_of
from modelport.compression.distilling.learn import begun, loop_of, softened, written
from modelport.compression.method import Model
from modelport.data.writing import write_parts
from modelport.errors import InvalidInput
from modelport.schemas.datasets import Facts
from modelport.training import randomness
from modelport.training.batches import TensorExamples
from modelport.training.checkpoint import Checkpoints
from modelport.training.recipe import Trained, TrainingData, TrainingRun
from modelport.training.reopen import Reopened, reopen
from modelport.training.trainer import Fit, Trainer

_BATCH = 128
_HELD_OUT = 1000
_KEPT_EVERY = 30.0
_RATE = 2e-3


@dataclass(frozen=True, slots=True)
class _Played:
    """A student after the game, and its generator."""

    generator: Generator
    student: nn.Module
    agreed: list[dict[str, float]]


def distil(run: TrainingRun, model: Model, data: TrainingData | None, options: Any) -> Trained:
    """Write the student's version."""
    run.progress(0, None, "taking up the network", "steps")
    rows = _made_up(run, model) if data is None else replace(data, train=data.validation, replay=())
    opened = reopen(run, model.start, rows)
    if opened.task != "classification":
        raise InvalidInput("distil-data-free is for networks that tell classes apart; use the method distil")
    shape = _shape(opened)
    teacher = opened.network.eval().requires_grad_(False)
    tried: list[tuple[nn.Module, Fit, _Played]] = []
    size: dict[str, Any] = {}
    copied = 0.0
    for number in range(options.sets):
        own = replace(run, seed=run.seed + number)
        student, size, copied = begun(own, opened, options)
        played = _play(own, opened, teacher, student, _generator(own, shape, options), options, number)
        tried.append((student, _learn(own, opened, teacher, played, options, number), played))
    generators = [played.generator for *_, played in tried]
    held = torch.cat([_inputs(one, _HELD_OUT, run.seed + 1000 + at) for at, one in enumerate(generators)])
    wanted = _scores(opened, teacher, held).argmax(1)
    agreement = [float((_scores(opened, student, held).argmax(1) == wanted).float().mean()) for student, *_ in tried]
    best = max(range(len(tried)), key=lambda at: agreement[at])
    student, fit, played = tried[best]
    trained = written(run, opened, student, size, copied, fit)
    trained.report |= {
        "agreement": agreement, "kept": best, "game": played.agreed, "made_up_rows": options.rows,
        "classes_made_up": torch.bincount(wanted, minlength=int(wanted.max()) + 1).tolist(),
        "before_and_after_of": "the version's example alone" if data is None else "validation rows",
    }  # fmt: skip
    trained.metrics["agreement"] = agreement[best]
    return trained


def _play(
    run: TrainingRun, opened: Reopened, teacher: nn.Module, student: nn.Module, generator: Generator, options: Any,
    number: int,
) -> _Played:  # fmt: skip
    """Generator and student by turns; goes on where it was stopped."""
    randomness.settle(run.seed, run.threads)
    makes = torch.optim.Adam(generator.parameters(), lr=_RATE)
    learns = torch.optim.Adam(student.parameters(), lr=_RATE)
    parts: Mapping[str, Any] = {"generator": generator, "student": student, "makes": makes, "learns": learns}
    checkpoints = Checkpoints(run.folder / f"game-{number}")
    found = checkpoints.newest()
    done, agreed = 0, list[dict[str, float]]()
    if found is not None:
        done, agreed = found["round"], found["agreed"]
        for name, part in parts.items():
            part.load_state_dict(found[name])
        randomness.restore(found["random"])
    statistics, kept_at = Statistics(teacher), time.monotonic()
    student.train()
    while done < options.rounds:
        generator.train()
        made = generator(torch.randn(_BATCH, options.noise))
        said = teachers.scores_of(opened, teacher(made))
        loss = asked_of(said, teachers.scores_of(opened, student(made)), statistics.loss(), options)
        makes.zero_grad()
        loss.backward()
        makes.step()
        for _ in range(options.student_steps):
            with torch.no_grad():
                made = generator(torch.randn(_BATCH, options.noise))
                said = teachers.scores_of(opened, teacher(made))
            mine = teachers.scores_of(opened, student(made))
            learns.zero_grad()
            softened(mine, said, options.temperature).backward()
            learns.step()
        done += 1
        if done % max(1, options.rounds // 50) == 0 or done == options.rounds:
            share = float((mine.argmax(1) == said.argmax(1)).float().mean())
            agreed.append({"round": float(done), "agreement": share, "generator_loss": float(loss.detach())})
            run.progress(done, options.rounds, f"set {number + 1} of {options.sets}: {share:.0%} agree", "rounds")
        if time.monotonic() - kept_at > _KEPT_EVERY or done == options.rounds:
            states = {name: part.state_dict() for name, part in parts.items()}
            checkpoints.keep(done, {"round": done, "agreed": agreed, "random": randomness.states()} | states)
            kept_at = time.monotonic()
    statistics.close()
    return _Played(generator.eval(), student, agreed)


def _learn(run: TrainingRun, opened: Reopened, teacher: nn.Module, played: _Played, options: Any, number: int) -> Fit:
    """The student in whole passes over a set of made-up inputs, judged by another one."""
    made = [_inputs(played.generator, rows, run.seed + at) for at, rows in ((7, options.rows), (8, _HELD_OUT))]
    said = [_scores(opened, teacher, one) for one in made]
    examples = TensorExamples({"made": made[0], "said": said[0]})

    def loss(student: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        mine = teachers.scores_of(opened, student(batch["made"]))
        return softened(mine, batch["said"], options.temperature)

    def judged(student: nn.Module) -> dict[str, float]:
        mine = _scores(opened, student, made[1])
        return {
            "loss": float(softened(mine, said[1], 1.0)),
            "agreement": float((mine.argmax(1) == said[1].argmax(1)).float().mean()),
        }

    return Trainer(run, loop_of(opened, options), played.student, loss, examples, judged, name=f"set-{number}").fit()


def _inputs(generator: Generator, rows: int, seed: int) -> torch.Tensor:
    """Made-up inputs, the same for the same seed."""
    random = torch.Generator().manual_seed(seed % 2**63)
    generator.eval()
    with torch.no_grad():
        noise = torch.randn(rows, generator.noise, generator=random)
        return torch.cat([generator(one) for one in noise.split(_BATCH)])


def _scores(opened: Reopened, network: nn.Module, made: torch.Tensor) -> torch.Tensor:
    network.eval()
    with torch.no_grad():
        return torch.cat([teachers.scores_of(opened, network(one)) for one in made.split(_BATCH)])


def _shape(opened: Reopened) -> tuple[int, ...]:
    """Of one input; raises InvalidInput where there are several, or no numbers."""
    found = opened.inputs(opened.judged.batch(torch.arange(1), 0))
    if len(found) != 1 or not found[0].dtype.is_floating_point or found[0].dim() not in (2, 4):
        raise InvalidInput("distil-data-free makes up one input, an image or a row of numbers; use the method distil")
    return tuple(found[0].shape[1:])


def _generator(run: TrainingRun, shape: tuple[int, ...], options: Any) -> Generator:
    torch.manual_seed(run.seed)
    return Generator(options.noise, shape)


def _made_up(run: TrainingRun, model: Model) -> TrainingData:
    """Without a data set: the version's own example, once for each class, so that shapes are known."""
    labels = teachers.labels_of(model)
    step = next(one for one in model.manifest.preprocessing if one.kind == "image")
    tensors = (model.manifest.sample or {}).get("inputs", [])
    if not labels or not tensors:
        raise InvalidInput("data: the version has no example or no classes; give a data set")
    given = base64.b64decode(tensors[0]["data"][0])
    table = pa.record_batch({step.name: pa.array([given] * len(labels), pa.binary()), "label": pa.array(labels)})
    parts = tuple(write_parts(run.folder / "example", table.schema, [table]))
    return TrainingData(
        train=parts, validation=parts, features={step.name: "binary"}, target="label", target_type="string",
        facts=Facts(rows=len(labels), columns=[]),
    )  # fmt: skip
