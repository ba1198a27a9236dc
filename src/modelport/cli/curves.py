"""Curves of the figures that a job told, step by step: a line of blocks on a terminal, or one HTML file of SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelport.cli import page

if TYPE_CHECKING:
    from modelport.schemas.jobs import Job, JobMetric

_BLOCKS = "▁▂▃▄▅▆▇█"
_WIDTH, _HEIGHT, _LEFT, _BELOW = 640, 220, 56, 22
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
    charts: dict[str, dict[str, Points]] = {}
    for name, points in by_name(metrics).items():
        kind = name.removeprefix("train_").removeprefix("validation_")
        charts.setdefault(kind, {})[name] = points
    body = "".join(
        f"<h2>{page.text(kind)}</h2>{chart(lines)}" for kind, lines in sorted(charts.items(), key=_loss_first)
    )
    facts = [("job", job.id), ("state", job.state), ("result", (job.result or {}).get("model", ""))]
    title = f"{job.kind} {job.params.get('recipe', '')} on {job.params.get('data', '')}"
    file.write_text(page.document(title, page.facts(facts) + (body or "<p>The job told no figures.</p>")))


def chart(lines: dict[str, Points]) -> str:
    """Curves over one pair of axes, as SVG."""
    every = [point for points in lines.values() for point in points if math.isfinite(point[1])]
    if not every:
        return "<p>no finite values</p>"
    (left, right), (low, high) = _range(x for x, _ in every), _range(y for _, y in every)

    def place(point: tuple[float, float]) -> str:
        x = _LEFT + (point[0] - left) / (right - left) * (_WIDTH - _LEFT)
        return f"{x:.1f},{_HEIGHT - (point[1] - low) / (high - low) * _HEIGHT:.1f}"

    drawn, legend = [], []
    for number, (name, points) in enumerate(lines.items()):
        step = max(1, len(points) // _MOST_POINTS)
        kept = [point for point in [*points[::step], points[-1]] if math.isfinite(point[1])]
        drawn.append(f'<polyline class="line c{number % 6}" points="{" ".join(place(point) for point in kept)}"/>')
        legend.append(f'<span class="key c{number % 6}">{page.text(name)}, last {points[-1][1]:.4g}</span>')
    axes = (
        f'<text x="{_LEFT - 6}" y="10" text-anchor="end">{high:.4g}</text>'
        f'<text x="{_LEFT - 6}" y="{_HEIGHT}" text-anchor="end">{low:.4g}</text>'
        f'<text x="{_LEFT}" y="{_HEIGHT + 16}">{left:g}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT + 16}" text-anchor="end">{right:g}</text>'
        f'<path class="axis" d="M{_LEFT} 0V{_HEIGHT}H{_WIDTH}"/>'
    )
    view = f"0 0 {_WIDTH} {_HEIGHT + _BELOW}"
    return f'<p>{" ".join(legend)}</p><svg viewBox="{view}" role="img">{axes}{"".join(drawn)}</svg>'


def _range(values: Iterable[float]) -> tuple[float, float]:
    found = list(values)
    low, high = min(found), max(found)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _loss_first(chart: tuple[str, dict[str, Points]]) -> tuple[bool, str]:
    return chart[0] != "loss", chart[0]
