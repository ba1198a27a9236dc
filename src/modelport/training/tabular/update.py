"""What a version keeps so that training can go on from it: its columns' encoders and classes, and its estimator.

The estimator is a skops file, of which only types that scikit-learn is known by are loaded: nothing is unpickled.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelport.engine.formats.skops_library import library as skops
from modelport.engine.formats.skops_zip import check_container
from modelport.engine.runtime import Trust
from modelport.engine.runtimes.sklearn import load_estimator
from modelport.errors import ArtifactRefused, InvalidInput
from modelport.training.encoders.encoder import Encoder
from modelport.training.tabular.prepared import Prepared

_FOLDER, _STATE, _MODEL = "training", "state.json", "model.skops"
#: Those that learn on from where they are. The others begin anew with every fit: boosting's bins and a kernel's rows
#: belong to their data, and a convex problem's solution forgets where it began. A forest could grow, but skops knows no
#: safe way to read trees back.
GO_ON = ("sgd", "mlp", "naive-bayes")

_PASSES = 5


@dataclass(frozen=True, slots=True)
class State:
    """What a version was when its training ended."""

    model: str
    task: str
    types: dict[str, str]
    classes: list[Any] | None
    encoder: Encoder
    estimator: Any


def save(out: Path, model: str, task: str, prepared: Prepared, estimator: Any) -> None:
    """Lay it beside the version's model, where the estimator can go on."""
    if model not in GO_ON or type(estimator).__module__.startswith(("sklearn.calibration", "modelport")):
        return
    folder = out / _FOLDER
    folder.mkdir()
    state = {
        "model": model, "task": task, "types": prepared.types, "classes": prepared.classes,
        "encoder": prepared.encoder.state(),
    }  # fmt: skip
    (folder / _STATE).write_text(json.dumps(state, sort_keys=True))
    skops.dump(estimator, folder / _MODEL)


def load(version: Path, task: str, wanted: str, params: dict[str, Any]) -> State:
    """Read it; raises InvalidInput for a version that cannot go on, or not with these options."""
    folder = version / _FOLDER
    if not (folder / _STATE).is_file() or not (folder / _MODEL).is_file():
        raise InvalidInput(
            "start: the version holds nothing that training could go on from; the recipe tabular keeps that for the "
            f"models {', '.join(GO_ON)} (not calibrated): train anew with all rows"
        )
    try:
        check_container(folder / _MODEL)
        found = json.loads((folder / _STATE).read_text())
        state = State(
            str(found["model"]), str(found["task"]), {str(k): str(v) for k, v in found["types"].items()},
            found["classes"], Encoder.from_state(found["encoder"]), load_estimator(folder / _MODEL, Trust()),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InvalidInput("start: what the version keeps of its training cannot be read; train anew") from None
    except ArtifactRefused as error:
        raise InvalidInput(f"start: the version's estimator is refused: {error.message[:300]}") from None
    if state.model not in GO_ON or state.task != task:
        raise InvalidInput(f"start: the version is a {state.model} for {state.task}, and this is {task}")
    if wanted not in ("auto", state.model):
        raise InvalidInput(f"options.model: the version that it goes on from is {state.model!r}; leave it out")
    if params:
        raise InvalidInput("options.params: a version that training goes on from keeps its own; leave them out")
    return state


def go_on(state: State, prepared: Prepared, weights: Any) -> Any:
    """Learn the new rows on top; raises InvalidInput where that cannot be."""
    estimator = state.estimator
    if weights is not None:
        raise InvalidInput("options.class_weight: a version that training goes on from keeps its own")
    if state.model == "mlp":
        estimator.set_params(warm_start=True, early_stopping=False)
        estimator.fit(prepared.features, prepared.target)
        estimator.set_params(warm_start=False)
        return estimator
    for _ in range(_PASSES if state.model == "sgd" else 1):  # fit would forget how short its steps have become
        estimator.partial_fit(prepared.features, prepared.target)
    return estimator
