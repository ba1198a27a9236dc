"""Lines over one pair of axes, as SVG inside a card of a page: curves of training, ROC, reliability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
