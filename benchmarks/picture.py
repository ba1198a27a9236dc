"""Bars as SVG, written by hand: no library for one picture. Knows numbers and names only."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

_WIDTH, _LEFT, _RIGHT, _BAR, _GAP, _TOP = 900, 230, 90, 9, 10, 56
_OURS = ("#f4b183", "#e07b39", "#a84a0c")
_OTHERS = ("#c3cfdd", "#8298b3", "#4a6282")


@dataclass(frozen=True)
class Panel:
    """Requests per second: a group of bars per contender, one bar per number of callers."""

    title: str
    callers: list[str]
    bars: dict[str, list[float]]
    ours: set[str]
    limit: float | None  # drawn as a line where it fits

    @property
    def height(self) -> int:
        return _TOP + len(self.bars) * (len(self.callers) * _BAR + _GAP) + 24


def svg(panels: list[Panel]) -> str:
    """The panels, one below the other."""
    parts, top = [], 0
    for panel in panels:
        parts.append(f'<g transform="translate(0 {top})">{_panel(panel)}</g>')
        top += panel.height
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{top}" viewBox="0 0 {_WIDTH} {top}" '
        f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>'
    )


def _panel(panel: Panel) -> str:
    most = max((value for values in panel.bars.values() for value in values), default=1) or 1
    if panel.limit and panel.limit < 2 * most:
        most = max(most, panel.limit)
    scale = (_WIDTH - _LEFT - _RIGHT) / most
    parts = [f'<text x="10" y="22" font-size="15" font-weight="bold">{escape(panel.title)}</text>']
    legend = "requests per second; bars from light to dark: " + ", ".join(panel.callers) + " callers"
    parts.append(f'<text x="10" y="40" fill="#555">{legend}</text>')
    y = _TOP
    for name, values in panel.bars.items():
        middle = y + len(values) * _BAR / 2 + 4
        weight = ' font-weight="bold"' if name in panel.ours else ""
        parts.append(f'<text x="{_LEFT - 8}" y="{middle:.0f}" text-anchor="end"{weight}>{escape(name)}</text>')
        for index, value in enumerate(values):
            colour = (_OURS if name in panel.ours else _OTHERS)[min(index, 2)]
            width = value * scale
            parts.append(
                f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR - 1}" fill="{colour}"/>'
                f'<text x="{_LEFT + width + 4:.1f}" y="{y + 8}" font-size="9" fill="#333">{value:,.0f}</text>'
            )
            y += _BAR
        y += _GAP
    if panel.limit and panel.limit <= most:
        x = _LEFT + panel.limit * scale
        anchor = "start" if x < _WIDTH / 2 else "end"
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 6}" y2="{y}" stroke="#b00" stroke-dasharray="4 3"/>'
            f'<text x="{x:.1f}" y="{y + 10}" text-anchor="{anchor}" font-size="10" fill="#b00">'
            f"raw ONNX Runtime {panel.limit:,.0f}</text>"
        )
    return "".join(parts)
