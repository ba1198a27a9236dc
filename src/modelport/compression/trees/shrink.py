"""The method ``trees``: see what the trees say to real rows, try smaller ones, keep what the validation rows allow."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto

from modelport.compression.asking import Asked, Judge, model_file, session
from modelport.compression.keeping import kept_as_it_was
from modelport.compression.method import Model
from modelport.compression.trees import fewer, graph, leaves, students
from modelport.compression.trees.ensemble import Ensemble, read, write
from modelport.errors import InvalidInput
from modelport.tensors import Array
from modelport.training.recipe import Trained, TrainingData, TrainingRun

_SHARES = (1.0, 0.5, 0.25)
_FEWEST = 4
_STIFFNESS = (1.0, 10.0, 100.0)
_RATIO = 4.0
_MOST_VALUES = 400_000_000
"""Of what each tree says to each row, in the memory."""
_SAME = 1e-3


@dataclass(slots=True)
class Look:
    """What the trees said to real rows."""

    model: ModelProto
    node: NodeProto
    whole: Ensemble
    seen: Array
    """[rows, width] training rows, as they come to the trees."""
    seen_sums: Array
    """[rows, targets] what all trees together said."""
    held: Array
    """Validation rows."""
    held_sums: Array
    judge: Judge
    answers: Array
    """What the file answers to the validation rows."""
    size: int
    """Bytes of the file."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A smaller file and how good it is."""

    file: bytes
    distance: float
    """Of its answers to the validation rows from the old ones, in squares."""
    value: float
    """The main figure."""
    about: dict[str, Any]


def shrink(run: TrainingRun, model: Model, data: TrainingData, options: Any) -> Trained:
    """Write the smaller version; raises InvalidInput when none is good enough, naming the nearest."""
    run.progress(0, None, "asking the trees about the rows", "steps")
    look = _look(run, model, data, options)
    figures = look.judge.figures_of(look.answers)
    name, value = look.judge.main(figures)
    tried: list[Candidate] = []
    for candidate in _candidates(run, look, options):
        tried.append(candidate)
        run.metric(name, candidate.value, len(tried))
    chosen = _choose(tried, look, options, name, value)
    (run.out / "model.onnx").write_bytes(chosen.file)
    trained = kept_as_it_was(model, run, look.judge.task)
    trained.metrics |= {f"validation_{name}": chosen.value}
    trained.report |= {
        "figure": name, "validation_rows": len(look.judge.truth),
        "before": {**_about(look.whole), "bytes": look.size, name: value},
        "after": {**chosen.about, "bytes": len(chosen.file), name: chosen.value},
        "tried": [{**one.about, "bytes": len(one.file), name: one.value} for one in tried],
    }  # fmt: skip
    return trained


def _look(run: TrainingRun, model: Model, data: TrainingData, options: Any) -> Look:
    path = model_file(model)
    proto = onnx.load(path)
    node = graph.tree_node(proto)
    whole = read(node)
    rows = min(options.rows, max(50, _MOST_VALUES // max(whole.trees * len(whole.base), 1)))
    learn, judged = (Asked(model, data, parts, rows, run.seed) for parts in (data.train, data.validation))
    scores = node.output[-1]
    opened = session(_bytes(graph.asking_inside(proto, [node.input[0], scores])), run.threads)
    seen, held = (asked.run(opened, [node.input[0], scores]) for asked in (learn, judged))
    run.progress(0, None, f"{whole.trees} trees, {whole.leaves} leaves", "steps")
    features = [np.asarray(found[node.input[0]], np.float32) for found in (seen, held)]
    sums = [whole.sums(one) for one in features]
    _check_read(whole, sums[1], held[scores])
    judge = Judge(run, model, judged)
    answers, size = judge.predicted(path), path.stat().st_size
    return Look(proto, node, whole, features[0], sums[0], features[1], sums[1], judge, answers, size)


def _check_read(whole: Ensemble, sums: Array, said: Array) -> None:
    """Raise InvalidInput unless the trees, as they were understood, answer as the file does."""
    ours = whole.answers(sums)
    theirs = np.asarray(said, np.float64).reshape(len(ours), -1)
    spread = max(float(np.ptp(theirs)), 1e-9)
    if theirs.shape != ours.shape or float((np.abs(theirs - ours).max(1) > _SAME * spread).mean()) > _SAME:
        raise InvalidInput("the trees of this file are put together in a way that this method does not know")


def _candidates(run: TrainingRun, look: Look, options: Any) -> Iterator[Candidate]:
    if options.into != "trees":
        run.progress(0, 1, f"learning a small {options.into} from {len(look.seen)} rows", "steps")
        yield _judged(look, *students.student(run, look, options))
        return
    whole = look.whole
    reached = whole.reached(look.seen)
    forest = fewer.is_forest(whole, reached)
    if forest:
        both, wanted = _wanted(look, reached)
        order = fewer.forest_order(whole, both, wanted, options.trees or whole.trees)
        counts = [options.trees] if options.trees else [whole.trees, *_halves(whole.trees, 1)]
    else:
        order, step = fewer.boosting_order(whole), fewer.rounds(whole)
        counts = [options.trees] if options.trees else [whole.trees, *_halves(whole.trees, step)]
    shares = [options.leaves] if options.leaves else _SHARES
    total = len(counts) * len(shares)
    for number, (count, share) in enumerate((count, share) for count in counts for share in shares):
        run.progress(number, total, f"trying {count} trees with {share:.0%} of their leaves", "candidates")
        kept = whole.taken(order[:count], whole.trees / min(count, whole.trees) if forest else 1.0)
        yield _shrunk(look, kept, share, options)
    run.progress(total, total, "tried", "candidates")


def _wanted(look: Look, reached: Array) -> tuple[Array, Array]:
    """Leaves and wanted sums of training and validation rows: what all trees said, and half-way to the truth where the
    rows were not learnt from and the sums are chances of classes."""
    whole, judge = look.whole, look.judge
    held = look.held_sums
    if judge.task == "classification" and whole.classes == judge.truth.max() + 1:
        truth = np.eye(whole.classes)[judge.truth]
        held = (held + (truth if held.shape[1] > 1 else truth[:, 1:])) / 2
    return np.concatenate([reached, whole.reached(look.held)]), np.concatenate([look.seen_sums, held])


def _halves(trees: int, step: int) -> list[int]:
    """Half of them, a quarter …; whole rounds."""
    found = []
    while (trees := trees // 2) >= max(_FEWEST, step):
        found.append(max(step, trees // step * step))
    return found or [max(1, trees)]


def _shrunk(look: Look, kept: Ensemble, share: float, options: Any) -> Candidate:
    """With fewer leaves, fitted anew where that is better, in steps."""
    if share < 1:
        kept = leaves.merged(kept, kept.reached(look.seen), max(kept.trees, int(kept.leaves * share)))
    best, found = _loss(look, kept), kept
    stiff = None
    if options.refit:
        reached = kept.reached(look.seen)
        positive = kept.post == "NONE" and kept.classes > 0
        for stiffness in _STIFFNESS:
            again = leaves.refitted(kept, reached, look.seen_sums, stiffness, positive)
            loss = _loss(look, again)
            if loss < best:
                best, found, stiff = loss, again, stiffness
    if options.bits is not None:
        found = leaves.rounded(found, options.bits)
    node = write(found, look.node)
    return _judged(look, graph.with_node(look.model, node), {**_about(found), "refitted": stiff})


def _loss(look: Look, found: Ensemble) -> float:
    """How far the sums for the validation rows are from what all trees said, in squares."""
    return float(((found.sums(look.held) - look.held_sums) ** 2).mean())


def _judged(look: Look, proto: ModelProto, about: dict[str, Any]) -> Candidate:
    file, judge = _bytes(proto), look.judge
    predicted = judge.predicted(file)
    distance = float(((predicted - look.answers) ** 2).mean())
    figures = judge.figures_of(predicted)
    return Candidate(file, distance, judge.main(figures)[1], about)


def _choose(tried: list[Candidate], look: Look, options: Any, name: str, before: float) -> Candidate:
    """The smallest that is good enough, or the best that is small enough; raises InvalidInput naming the nearest."""
    drop = options.max_drop if options.max_drop is not None else math.inf
    ratio = 1.0
    if options.into == "trees" and options.trees is None and options.leaves is None:
        ratio = options.ratio if options.ratio is not None else 1.0 if options.max_drop is not None else _RATIO
    fits = [one for one in tried if look.size / len(one.file) >= ratio]
    good = [one for one in fits if before - one.value <= drop]
    if not good:
        near = max(fits or tried, key=lambda one: one.value if fits else look.size / len(one.file))
        raise InvalidInput(
            f"no set of trees is {ratio:g} times smaller and loses at most {drop:g} of {name} on the validation "
            f"rows; the nearest is {look.size / len(near.file):.1f} times smaller and loses {before - near.value:.4f}: "
            + json.dumps(near.about)
        )
    if ratio > 1:
        return min(good, key=lambda one: (one.distance, len(one.file)))
    return min(good, key=lambda one: len(one.file))


def _about(ensemble: Ensemble) -> dict[str, Any]:
    return {"trees": ensemble.trees, "leaves": ensemble.leaves}


def _bytes(proto: ModelProto) -> bytes:
    found: bytes = proto.SerializeToString()
    return found
