"""A report as one HTML page that needs nothing else: two charts as SVG, and the table. Knows figures only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from modelport.bench.figures import SHARES, Figures
from modelport.bench.plan import Report

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 760, 360, 70, 110, 40, 50
_COLOURS = ("#4a6282", "#8298b3", "#e07b39", "#a84a0c")
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;
margin:2em auto;max-width:60em;padding:0 1em;color:#222;background:#fff}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}th,td{padding:.2em .7em;text-align:right}
th{border-bottom:1px solid #888}td:first-child,th:first-child{text-align:left}svg{max-width:100%;height:auto}
.warning{color:#a33}.facts{color:#555}"""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Series:
    """A line of a chart."""

    name: str
    colour: str
    points: list[Point]
    dashed: bool = False


def page(report: Report) -> str:
    """The whole document."""
    facts = f"{report.mode} · protocol {report.protocol} · {report.url} · seed {report.seed}"
    if report.capacity is not None:
        facts += f" · capacity {report.capacity:,.0f} answers/s with 64 callers"
    title = f"{escape(report.model)}: latency against load"
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style></head><body>',
        f'<h1>{title}</h1><p class="facts">{escape(facts)}</p>',
        _promise(report),
        *charts(report),
        _table(report.steps),
        "<p>Times in ms, from the moment at which a request was due to its answer. A percentile is left out where "
        "no request lies beyond it.</p>",
        *(f'<p class="warning">{escape(text)}</p>' for text in report.all_warnings),
        "</body></html>\n",
    ]
    return "\n".join(part for part in parts if part)


def charts(report: Report) -> list[str]:
    """Two SVG elements: percentiles, and achieved load, against what was offered."""
    by_callers = bool(report.steps) and all(step.callers is not None for step in report.steps)
    across = "callers" if by_callers else "offered load, requests per second"

    def load(step: Figures) -> float:
        return float(step.callers or 0) if by_callers else step.offered

    percentiles = [
        Series(name, colour, [(load(s), value) for s in report.steps if (value := s.latency_ms[name]) is not None])
        for (name, _), colour in zip(SHARES, _COLOURS, strict=True)
    ]
    achieved = [Series("achieved", _COLOURS[2], [(load(step), step.achieved) for step in report.steps])]
    if not by_callers:
        offered = [(step.offered, step.offered) for step in report.steps]
        achieved.append(Series("offered", _COLOURS[1], offered, dashed=True))
    return [
        _chart("Latency, ms", across, percentiles, is_log=True, limit=report.slo_p99_ms),
        _chart("Answers per second", across, achieved, is_log=False),
    ]


def _chart(title: str, across: str, series: Sequence[Series], *, is_log: bool, limit: float | None = None) -> str:
    points = [point for one in series for point in one.points]
    if not points:
        return ""
    heights = [y for _, y in points] + ([limit] if limit else [])
    x_ticks = linear_ticks(max(x for x, _ in points))
    y_ticks = log_ticks(min(heights), max(heights)) if is_log else linear_ticks(max(heights))
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def place(point: Point) -> Point:
        low, high = (math.log(y_ticks[0]), math.log(y_ticks[-1])) if is_log else (y_ticks[0], y_ticks[-1])
        height = math.log(max(point[1], y_ticks[0])) if is_log else point[1]
        return (
            _LEFT + (right - _LEFT) * point[0] / x_ticks[-1],
            bottom - (bottom - _TOP) * (height - low) / (high - low),
        )

    parts = [f'<text x="{_LEFT}" y="22" font-size="15" font-weight="bold">{title}</text>']
    for tick in y_ticks:
        y = place((0, tick))[1]
        parts.append(f'<line x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:,g}</text>')
    for tick in x_ticks:
        x = place((tick, y_ticks[0]))[0]
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{tick:,g}</text>')
    middle = (_LEFT + right) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 8}" text-anchor="middle" fill="#555">{across}</text>')
    if limit:
        y = place((0, limit))[1]
        parts.append(
            f'<line x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#b00" stroke-dasharray="4 3"/>'
        )
        parts.append(f'<text x="{right + 6}" y="{y + 4:.1f}" fill="#b00">limit of p99</text>')
    parts += [_line(one, [place(point) for point in one.points]) for one in series if one.points]
    for index, one in enumerate(reversed(series)):  # the names above, where no line runs through them
        parts.append(
            f'<text x="{right - 80 * index}" y="22" text-anchor="end" fill="{one.colour}">━ {escape(one.name)}</text>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12" role="img" aria-label="{title}">'
        f"{''.join(parts)}</svg>"
    )


def _line(series: Series, places: Sequence[Point]) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dash = ' stroke-dasharray="5 4"' if series.dashed else ""
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{series.colour}"/>' for x, y in places)
    return f'<polyline points="{path}" fill="none" stroke="{series.colour}" stroke-width="2"{dash}/>{dots}'


def linear_ticks(most: float) -> list[float]:
    """0 and some round numbers, the last of which is not below ``most``."""
    rough = (most or 1) / 5
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.999)
    return [round(step * index, 12) for index in range(math.ceil(most / step - 1e-9) + 1)] if most else [0.0, 1.0]


def log_ticks(least: float, most: float) -> list[float]:
    """1, 2, 5 times powers of ten around the two, at least two of them."""
    least = max(least, 1e-6)
    ticks = [
        float(f"{factor}e{power}")
        for power in range(math.floor(math.log10(least)) - 1, math.ceil(math.log10(max(most, least))) + 2)
        for factor in (1, 2, 5)
    ]
    first = max(index for index, tick in enumerate(ticks) if tick <= least)
    last = min(index for index, tick in enumerate(ticks) if tick >= most and index > first)
    return ticks[first : last + 1]


def _promise(report: Report) -> str:
    if report.slo_p99_ms is None:
        return ""
    best = report.best
    found = "no load that was tried keeps it" if best is None else f"the greatest load that keeps it is {best.load}"
    return f"<p><b>p99 within {report.slo_p99_ms:g} ms: {escape(found)}.</b></p>"


def _table(steps: Sequence[Figures]) -> str:
    names = [name for name, _ in SHARES]
    head = ("load", "offered/s", "achieved/s", "ok", "429", "errors", *names, "max", "batch", "queue ms")
    rows = []
    for s in steps:
        times = (_number(s.latency_ms[name]) for name in (*names, "max"))
        counts = (f"{s.ok:,}", f"{s.refused:,}", f"{s.failed:,}")
        cells = (s.load, f"{s.offered:,.1f}", f"{s.achieved:,.1f}", *counts, *times)
        cells = (*cells, _number(s.batch_rows), _number(s.queue_ms))
        rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    return f"<table><tr>{''.join(f'<th>{name}</th>' for name in head)}</tr>{''.join(rows)}</table>"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.2f}"
