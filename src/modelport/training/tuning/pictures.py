"""What a search was like, as pictures: SVG that holds no script, no address and no text but drawn letters.

History, parallel coordinates and importance of the options (fANOVA), by Optuna's own plots.
"""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import optuna
from optuna.trial import TrialState as State
from optuna.trial import create_trial
from optuna.visualization import matplotlib as plots

from modelport.schemas.tuning import Trial
from modelport.training.tuning.space import Space
from modelport.training.tuning.study import distributions_of, labelled

_STATES = {"complete": State.COMPLETE, "pruned": State.PRUNED, "failed": State.FAIL}
_LONGEST = 40
_MOST_IMPORTANT_OF = 2000
"""Trials beyond which the importance is that of the newest: a forest over more takes long, and says the same."""
_log = logging.getLogger(__name__)


def draw(trials: Sequence[Trial], space: Space, metric: str, direction: str) -> dict[str, str]:
    """SVG by what it shows; a picture that the trials are too few for is left out."""
    mpl.use("agg")
    study = _study(trials, space, direction)
    if len(_ended(study)) < 1:
        return {}
    found = {"History": _svg(lambda: plots.plot_optimization_history(study, target_name=_plain(metric)))}
    if len(_ended(study)) > 1:
        found["Options of every trial"] = _svg(
            lambda: plots.plot_parallel_coordinate(study, target_name=_plain(metric))
        )
    if importance(trials, space, direction):
        recent = _study(trials[-_MOST_IMPORTANT_OF:], space, direction)
        found["Importance of the options"] = _svg(
            lambda: plots.plot_param_importances(recent, evaluator=_evaluator(), target_name=_plain(metric))
        )
    return found


def importance(trials: Sequence[Trial], space: Space, direction: str) -> dict[str, float]:
    """By option its share in how the figure varied; empty where the trials cannot tell."""
    study = _study(trials[-_MOST_IMPORTANT_OF:], space, direction)
    values = {one.value for one in _ended(study)}
    if len(values) < 2 or len(_ended(study)) < 4:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shares = optuna.importance.get_param_importances(study, evaluator=_evaluator())
    plain = {_plain(name): name for name in space}
    return {plain[name]: round(float(share), 6) for name, share in shares.items()}


def _evaluator() -> Any:
    return optuna.importance.FanovaImportanceEvaluator(seed=0)


def _ended(study: Any) -> list[Any]:
    found: list[Any] = study.get_trials(deepcopy=False, states=(State.COMPLETE,))
    return found


def _study(trials: Sequence[Trial], space: Space, direction: str) -> Any:
    """The trials as Optuna has them, with names that its plots can write."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction=direction, sampler=optuna.samplers.RandomSampler(seed=0))
    spaces = {_plain(name): one for name, one in distributions_of(space, _plain).items()}
    for trial in trials:
        if trial.state == "running" or (trial.state == "complete" and trial.value is None):
            continue
        named = labelled(space, trial.options, _plain)
        params = {_plain(name): value for name, value in named.items()}
        value = trial.value if trial.state == "complete" else None
        one = create_trial(
            state=_STATES[trial.state],
            value=value,
            params=params,
            distributions={name: spaces[name] for name in params},
        )
        study.add_trial(one)
    return study


def _plain(text: str) -> str:
    """A text that is no formula to matplotlib, and not too long."""
    short = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    return "".join(letter for letter in short if letter.isprintable()).replace("$", "＄")


def _svg(plot: Callable[[], Any]) -> str:
    """One picture, without what only a file of its own needs."""
    with warnings.catch_warnings(), mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "modelport"}):
        warnings.simplefilter("ignore")
        axes = plot()
        figure = getattr(axes, "figure", None) or axes[0].figure
        figure.set_size_inches(9, 5)
        for place in figure.axes:
            place.set_title("")  # whoever shows it says what it is
            for drawn in place.collections:
                drawn.set_rasterized(False)  # a picture in the picture would be an address
        stream = io.StringIO()
        figure.savefig(stream, format="svg", bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    return re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
