"""A dataset version as one HTML file: no script, no address outside itself; every text of the data is escaped."""

from __future__ import annotations

from html import escape
from typing import Any

from modelport.schemas.datasets import Column, DatasetLineage, DatasetVersion

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#1c2733;background:#fff}
h1{font-size:1.6rem;margin:0}
h2{font-size:1.15rem;margin:2rem 0 .6rem}
dl{display:grid;grid-template-columns:9rem 1fr;gap:.2rem}
dt{color:#5b6b7b}
dd{margin:0;overflow-wrap:anywhere}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(20rem,1fr));gap:1rem}
.card{border:1px solid #d8e0e8;border-radius:8px;padding:.8rem 1rem}
.card h3{margin:0;font-size:1rem;overflow-wrap:anywhere}
.type{color:#5b6b7b;font-size:.85rem}
table{border-collapse:collapse;width:100%;font-size:.9rem}
td,th{text-align:left;padding:.2rem .6rem .2rem 0;vertical-align:top;overflow-wrap:anywhere}
th{color:#5b6b7b;font-weight:500}
svg{width:100%;height:auto;display:block;margin-top:.5rem}
rect{fill:#2b6cb0}
text{font-size:9px;fill:#5b6b7b}
@media(prefers-color-scheme:dark){
body{background:#11161c;color:#dbe4ec}
.card{border-color:#2c3844}
rect{fill:#63a4e8}
dt,th,.type,text{color:#93a4b4;fill:#93a4b4}
}
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(version: DatasetVersion, lineage: DatasetLineage) -> str:
    """The whole page."""
    manifest = version.manifest
    title = f"{version.dataset}:{version.version}"
    facts = [
        ("rows", version.rows), ("bytes", version.size), ("parts", _pairs(manifest.parts)), ("digest", version.digest),
        ("source", manifest.source), ("made from", ", ".join(lineage.parents)),
        ("made into", ", ".join([*lineage.children, *lineage.models])), ("job", manifest.job or ""),
        ("description", manifest.description),
        ("created", f"{version.created_at:%Y-%m-%d %H:%M:%S} UTC by {version.created_by}"),
    ]  # fmt: skip
    listed = "".join(
        f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in facts if value not in ("", None)
    )
    cards = "".join(_card(column, version.rows) for column in manifest.columns)
    balance = ""
    if manifest.class_balance:
        bars = _bars(list(manifest.class_balance.items()))
        balance = f"<h2>Classes of {_text(manifest.label)}</h2>{bars}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>{_text(title)}</h1><dl>{listed}</dl>{balance}"
        f'<h2>Columns</h2><div class="cards">{cards}</div>{_rules(manifest.report)}</body></html>\n'
    )


def _card(column: Column, rows: int) -> str:
    missing = f"{column.nulls} ({column.nulls / rows:.1%})" if rows and column.nulls else ""
    distinct = "" if column.distinct is None else f"{'' if column.distinct_exact else 'about '}{column.distinct}"
    facts = [
        ("missing", missing), ("distinct", distinct), ("min", column.min), ("median", column.quantiles.get("0.5")),
        ("max", column.max), ("mean", column.mean), ("std", column.std),
    ]  # fmt: skip
    lines = "".join(
        f"<tr><th>{_text(name)}</th><td>{_text(_number(value))}</td></tr>"
        for name, value in facts
        if value not in ("", None)
    )
    if column.histogram is not None:
        picture = _histogram(column.histogram.counts, column.histogram.edges)
    else:
        picture = _bars([(item.value, item.count) for item in column.top])
    return (
        f'<div class="card"><h3>{_text(column.name)}</h3><div class="type">{_text(column.type)}</div>'
        f"<table>{lines}</table>{picture}</div>"
    )


def _histogram(counts: list[int], edges: list[float]) -> str:
    most, width, height = max(counts, default=0) or 1, 300, 80
    step = width / max(len(counts), 1)
    bars = "".join(
        f'<rect x="{index * step + 0.5:.1f}" y="{height * (1 - count / most):.1f}" width="{max(step - 1, 1):.1f}" '
        f'height="{height * count / most:.1f}"><title>{_number(low)} to {_number(high)}: {count}</title></rect>'
        for index, (count, low, high) in enumerate(zip(counts, edges, edges[1:], strict=False))
    )
    ends = (
        f'<text x="0" y="{height + 11}">{_number(edges[0])}</text>'
        f'<text x="{width}" y="{height + 11}" text-anchor="end">{_number(edges[-1])}</text>'
    )
    return f'<svg viewBox="0 0 {width} {height + 14}" role="img">{bars}{ends}</svg>'


def _bars(items: list[tuple[str, int]]) -> str:
    if not items:
        return ""
    most, rows = max(count for _, count in items) or 1, []
    for name, count in items[:200]:
        bar = (
            f'<svg viewBox="0 0 100 6" style="width:8rem;margin:.3rem 0">'
            f'<rect width="{100 * count / most:.1f}" height="6"></rect></svg>'
        )
        rows.append(f"<tr><td>{_text(name)}</td><td>{count}</td><td>{bar}</td></tr>")
    return f"<table>{''.join(rows)}</table>"


def _rules(report: dict[str, Any]) -> str:
    rules = report.get("rules") or []
    if not rules:
        return ""
    rows = "".join(
        f"<tr><td>{_text(rule['rule'])}</td><td>{rule['before']}</td><td>{rule['after']}</td></tr>" for rule in rules
    )
    return (
        f"<h2>What cleaning changed</h2><table><tr><th>rule</th><th>rows before</th><th>after</th></tr>{rows}</table>"
    )


def _pairs(found: dict[str, int]) -> str:
    return ", ".join(f"{name} {rows}" for name, rows in found.items())


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _text(value: Any) -> str:
    """Escaped, and without what no page should hold."""
    return escape("".join(c if c.isprintable() else " " for c in str(value)))
