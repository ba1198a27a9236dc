"""What a job of tuning tried, from its result or, while it runs, from the figures it told; as rows and as a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from modelport.cli import page as page_
from modelport.errors import MissingExtra
from modelport.schemas.tuning import Choices, Space, Trial

if TYPE_CHECKING:
    from modelport.schemas.jobs import Job, JobMetric

_TOLD = {"steps": "EPOCHS", "seconds": "SECONDS"}
_OPTION, _STATE, _BEST = "option ", "trial ", "best "


@dataclass(slots=True)
class Seen:
    """A study as far as it is known."""

    space: dict[str, Any]
    trials: list[Trial] = field(default_factory=list)
    metric: str = "figure"
    direction: str = "maximize"
    importance: dict[str, float] = field(default_factory=dict)

    def ranked(self) -> list[Trial]:
        """The best first; then those that were pruned, and those that failed."""
        sign = -1 if self.direction == "maximize" else 1
        states = ("complete", "pruned", "running", "failed")
        return sorted(
            self.trials, key=lambda one: (states.index(one.state), sign * (one.value or 0.0), one.number)
        )  # fmt: skip

    def table(self, limit: int) -> tuple[list[str], list[list[Any]]]:
        """Columns, and a row for each of the best; while it runs, nobody tells epochs and seconds."""
        told = [name for name in ("steps", "seconds") if any(getattr(one, name) for one in self.trials)]
        columns = ["TRIAL", self.metric.upper(), *self.space, *(_TOLD[name] for name in told), "STATE"]
        rows = [
            [
                one.number, None if one.value is None else f"{one.value:.5g}",
                *(_value(one.options.get(name)) for name in self.space), *(_value(getattr(one, name)) for name in told),
                one.message or (one.state if one.same_as is None else f"same as {one.same_as}"),
            ]
            for one in self.ranked()[:limit]
        ]  # fmt: skip
        return columns, rows


def seen(job: Job, metrics: Iterable[JobMetric]) -> Seen:
    """What is known of a study."""
    space = TypeAdapter(Space).validate_python(job.params["space"])
    told = (job.result or {}).get("study")
    if told is not None:
        trials = [Trial.model_validate(one) for one in told["trials"]]
        return Seen(dict(space), trials, told["metric"], told["direction"], told["importance"])
    found = Seen(dict(space))
    rows: dict[int, Trial] = {}
    for metric in metrics:
        if metric.step is None:
            continue
        row = rows.setdefault(metric.step, Trial(number=metric.step, state="running", options={}))
        if metric.name.startswith(_OPTION) and metric.value is not None:
            name = metric.name.removeprefix(_OPTION)
            row.options[name] = _option(space[name], metric.value)
        elif metric.name.startswith(_STATE):
            row.state = metric.name.removeprefix(_STATE)  # type: ignore[assignment]
            row.value = metric.value
        elif metric.name.startswith(_BEST):
            _, found.direction, found.metric = metric.name.split(" ", 2)
    found.trials = [one for one in rows.values() if one.options]
    return found


def _option(dimension: Any, told: float) -> Any:
    """A choice is told by its place."""
    if isinstance(dimension, Choices):
        return dimension.choices[int(told)]
    return int(told) if dimension.is_whole else told


def page(job: Job, found: Seen) -> str:
    """One file: facts, pictures, all trials."""
    try:
        from modelport.training.tuning import pictures
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("modelport"):
            raise
        raise MissingExtra("train", "drawing a study") from None
    drawn = pictures.draw(found.trials, found.space, found.metric, found.direction)
    facts = [
        ("job", job.id), ("state", job.state), ("model", (job.result or {}).get("model", "")),
        ("decides", f"{found.metric} on the validation rows ({found.direction})"), ("trials", len(found.trials)),
    ]  # fmt: skip
    shown = "".join(f"<h2>{page_.text(title)}</h2>{svg}" for title, svg in drawn.items())
    columns, rows = found.table(len(found.trials))
    title = f"tune {job.params.get('recipe', '')} on {job.params.get('data', '')}"
    return page_.document(title, f"{page_.facts(facts)}{shown}<h2>Trials</h2>{_html(columns, rows)}")


def _html(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    head = "".join(f"<th>{page_.text(name)}</th>" for name in columns)
    lines = "".join(f"<tr>{''.join(f'<td>{page_.text(_value(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{lines}</table>"


def _value(value: Any) -> Any:
    if value is None:
        return ""
    return f"{value:.5g}" if isinstance(value, float) else value
