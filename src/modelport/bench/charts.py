"""Charts of a load's figures as SVG, and the shell of the page that they stand on. Knows numbers and names only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 760, 360, 70, 110, 40, 50
COLOURS = ("#4a6282", "#8298b3", "#e07b39", "#a84a0c")
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


def document(title: str, parts: Sequence[str]) -> str:
    """The whole page; ``title`` is text, ``parts`` are HTML."""
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
            f"<style>{_STYLE}</style></head><body>",
            f"<h1>{escape(title)}</h1>",
            *(part for part in parts if part),
            "</body></html>\n",
        ]
    )


def chart(
    title: str,
    across: str,
    series: Sequence[Series],
    *,
    is_log: bool,
    limit: float | None = None,
    limit_name: str = "limit of p99",
) -> str:
    """An SVG element; empty where there is nothing to draw."""
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
        parts.append(f'<text x="{right + 6}" y="{y + 4:.1f}" fill="#b00">{escape(limit_name)}</text>')
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
