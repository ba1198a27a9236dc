"""Lines, or named points, over one pair of axes, as SVG of a page: curves of training, ROC, prices and qualities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelport.cli import page

_SIDE, _LEFT, _BELOW, _TOP = 300, 42, 30, 8
_COLOURS = 6
Points = Sequence[tuple[float, float]]


def card(
    title: str, lines: Mapping[str, Points], across: tuple[float, float], up: tuple[float, float], diagonal: bool,
    axes: tuple[str, str] = ("", ""), sizes: Sequence[int] = (),
) -> str:  # fmt: skip
    """Lines over one pair of axes; with ``sizes`` their points are drawn, the larger the more rows they stand for."""

    def place(x: float, y: float) -> tuple[float, float]:
        span = across[1] - across[0] or 1.0
        return _LEFT + (x - across[0]) / span * _SIDE, _TOP + _SIDE - (y - up[0]) / (up[1] - up[0]) * _SIDE

    drawn, legend = [], []
    if diagonal:
        drawn.append(f'<path class="axis" stroke-dasharray="4" d="M{_LEFT} {_TOP + _SIDE}L{_LEFT + _SIDE} {_TOP}"/>')
    for number, (name, points) in enumerate(lines.items()):
        colour = f"c{number % _COLOURS}"
        placed = [place(x, y) for x, y in points]
        drawn.append(f'<polyline class="line {colour}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in placed)}"/>')
        for (x, y), rows in zip(placed, sizes, strict=False):
            radius = 3 + 5 * (rows / max(sizes)) ** 0.5
            drawn.append(
                f'<circle class="point" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"><title>{rows} rows</title></circle>'
            )
        legend.append(f'<span class="key {colour}">{page.text(name)}</span>')
    bottom = _TOP + _SIDE
    ticks = (
        f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{_LEFT + _SIDE}"/>'
        f'<text x="{_LEFT - 5}" y="{_TOP + 6}" text-anchor="end">{up[1]:.3g}</text>'
        f'<text x="{_LEFT - 5}" y="{bottom}" text-anchor="end">{up[0]:.3g}</text>'
        f'<text x="{_LEFT}" y="{bottom + 12}">{across[0]:g}</text>'
        f'<text x="{_LEFT + _SIDE}" y="{bottom + 12}" text-anchor="end">{across[1]:g}</text>'
        f'<text x="{_LEFT + _SIDE / 2:g}" y="{bottom + 24}" text-anchor="middle">{page.text(axes[0])}</text>'
        f'<text x="12" y="{_TOP + _SIDE / 2:g}" text-anchor="middle" '
        f'transform="rotate(-90 12 {_TOP + _SIDE / 2:g})">{page.text(axes[1])}</text>'
    )
    view = f"0 0 {_LEFT + _SIDE + 8} {bottom + _BELOW}"
    heading = f"<h3>{page.text(title)}</h3>" if title else ""
    return (
        f'<div class="card">{heading}<svg viewBox="{view}" role="img">{ticks}{"".join(drawn)}</svg>'
        f'<p class="type">{" ".join(legend)}</p></div>'
    )


@dataclass(frozen=True, slots=True)
class Spot:
    """A named point."""

    x: float
    y: float
    name: str
    about: str
    """Shown to whoever rests on it."""
    joined: bool = False
    """Whether it is on the line that joins such points."""
    large: bool = False


_WIDE, _HIGH, _MARGIN = 640, 320, 62


def spots(found: Sequence[Spot], axes: tuple[str, str], *, tenfold: bool = False) -> str:
    """Named points; ``tenfold`` for a logarithmic axis across, whose values are above 0."""
    xs, ys = [math.log10(spot.x) if tenfold else spot.x for spot in found], [spot.y for spot in found]
    left, right = _widened(min(xs), max(xs))
    low, high = _widened(min(ys), max(ys))

    def place(x: float, y: float) -> tuple[float, float]:
        return _MARGIN + (x - left) / (right - left) * _WIDE, _TOP + _HIGH - (y - low) / (high - low) * _HIGH

    placed = [place(x, y) for x, y in zip(xs, ys, strict=True)]
    line = sorted(at for at, spot in zip(placed, found, strict=True) if spot.joined)
    drawn = [
        f'<circle class="point{" met" if spot.large else ""}" cx="{x:.1f}" cy="{y:.1f}" r="{6 if spot.large else 4}">'
        f"<title>{page.text(spot.about)}</title></circle>"
        f'<text x="{x + 8:.1f}" y="{y - 6:.1f}">{page.text(spot.name)}</text>'
        for (x, y), spot in zip(placed, found, strict=True)
    ]
    bottom, ends = _TOP + _HIGH, [10**value if tenfold else value for value in (left, right)]
    ticks = (
        f'<path class="axis" d="M{_MARGIN} {_TOP}V{bottom}H{_MARGIN + _WIDE}"/>'
        f'<text x="{_MARGIN - 5}" y="{_TOP + 6}" text-anchor="end">{high:.4g}</text>'
        f'<text x="{_MARGIN - 5}" y="{bottom}" text-anchor="end">{low:.4g}</text>'
        f'<text x="{_MARGIN}" y="{bottom + 14}">{ends[0]:.3g}</text>'
        f'<text x="{_MARGIN + _WIDE}" y="{bottom + 14}" text-anchor="end">{ends[1]:.3g}</text>'
        f'<text x="{_MARGIN + _WIDE / 2:g}" y="{bottom + 26}" text-anchor="middle">{page.text(axes[0])}</text>'
        f'<text x="14" y="{_TOP + _HIGH / 2:g}" text-anchor="middle" '
        f'transform="rotate(-90 14 {_TOP + _HIGH / 2:g})">{page.text(axes[1])}</text>'
    )
    joined = f'<polyline class="line c2" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in line)}"/>'
    view = f"0 0 {_MARGIN + _WIDE + 70} {bottom + _BELOW}"
    return f'<svg viewBox="{view}" role="img">{ticks}{joined}{"".join(drawn)}</svg>'


def _widened(low: float, high: float) -> tuple[float, float]:
    more = (high - low) * 0.08 or abs(low) * 0.05 or 1.0
    return low - more, high + more
