"""Curves of the figures that a job told, step by step: a line of blocks on a terminal, or one HTML file of SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelport.cli import charts, page

if TYPE_CHECKING:
    from modelport.schemas.jobs import Job, JobMetric

_BLOCKS = "▁▂▃▄▅▆▇█"
_MOST_POINTS = 2000
Points = list[tuple[float, float]]


def by_name(metrics: Iterable[JobMetric]) -> dict[str, Points]:
    """Step and value of every figure, in order of the steps; the last value told of a step counts."""
    found: dict[str, dict[float, float]] = {}
    for metric in metrics:
        if metric.value is not None:
            told = found.setdefault(metric.name, {})
            told[len(told) if metric.step is None else metric.step] = metric.value
    return {name: sorted(told.items()) for name, told in found.items()}


def line(values: Sequence[float], width: int = 40) -> str:
    """Values as blocks of Unicode, from the least to the greatest."""
    if not values:
        return ""
    step = max(1.0, len(values) / width)
    shown = [values[min(len(values) - 1, int(index * step))] for index in range(min(width, len(values)))]
    low, high = min(shown), max(shown)
    return "".join(_BLOCKS[int((value - low) / (high - low) * 7) if high > low else 0] for value in shown)


def write(file: Path, job: Job, metrics: Iterable[JobMetric]) -> None:
    """One page with a chart for every kind of figure; those of training and validation share one."""
    kinds: dict[str, dict[str, Points]] = {}
    for name, points in by_name(metrics).items():
        kind = name.removeprefix("train_").removeprefix("validation_")
        kinds.setdefault(kind, {})[name] = points
    ordered = sorted(kinds.items(), key=_loss_first)
    cards = "".join(chart(lines, kind) for kind, lines in ordered)
    body = f'<div class="cards">{cards}</div>' if cards else ""
    facts = [("job", job.id), ("state", job.state), ("result", (job.result or {}).get("model", ""))]
    title = f"{job.kind} {job.params.get('recipe', '')} on {job.params.get('data', '')}"
    file.write_text(page.document(title, page.facts(facts) + (body or "<p>The job told no figures.</p>")))


def chart(lines: dict[str, Points], title: str = "") -> str:
    """Curves over one pair of axes, as SVG."""
    drawn: dict[str, Points] = {}
    for name, points in lines.items():
        step = max(1, len(points) // _MOST_POINTS)
        kept = [point for point in [*points[::step], points[-1]] if math.isfinite(point[1])]
        if kept:
            drawn[f"{name}, last {points[-1][1]:.4g}"] = kept
    if not drawn:
        return "<p>no finite values</p>"
    every = [point for points in drawn.values() for point in points]
    across, up = _range(x for x, _ in every), _range(y for _, y in every)
    return charts.card(title, drawn, across, up, False, ("step", ""))


def _range(values: Iterable[float]) -> tuple[float, float]:
    found = list(values)
    low, high = min(found), max(found)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _loss_first(chart: tuple[str, dict[str, Points]]) -> tuple[bool, str]:
    return chart[0] != "loss", chart[0]
