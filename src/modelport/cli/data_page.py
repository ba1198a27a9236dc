"""A dataset version as one HTML file: no script, no address outside itself; every text of the data is escaped."""

from __future__ import annotations

from typing import Any

from modelport.cli.page import document, facts, number, text
from modelport.schemas.datasets import Column, DatasetLineage, DatasetVersion

#: Characters of a value that are shown.
_LONGEST = 120


def page(version: DatasetVersion, lineage: DatasetLineage) -> str:
    """The whole page."""
    manifest = version.manifest
    title = f"{version.dataset}:{version.version}"
    about = [
        ("rows", version.rows), ("bytes", version.size), ("parts", _pairs(manifest.parts)), ("digest", version.digest),
        ("source", manifest.source), ("made from", ", ".join(lineage.parents)),
        ("made into", ", ".join([*lineage.children, *lineage.models])), ("job", manifest.job or ""),
        ("description", manifest.description),
        ("created", f"{version.created_at:%Y-%m-%d %H:%M:%S} UTC by {version.created_by}"),
    ]  # fmt: skip
    cards = "".join(_card(column, version.rows) for column in manifest.columns)
    balance = ""
    if manifest.class_balance:
        bars = _bars(list(manifest.class_balance.items()))
        balance = f"<h2>Classes of {text(manifest.label)}</h2>{bars}"
    body = f'{facts(about)}{balance}<h2>Columns</h2><div class="cards">{cards}</div>{_rules(manifest.report)}'
    return document(title, body)


def _card(column: Column, rows: int) -> str:
    missing = f"{column.nulls} ({column.nulls / rows:.1%})" if rows and column.nulls else ""
    distinct = "" if column.distinct is None else f"{'' if column.distinct_exact else 'about '}{column.distinct}"
    about = [
        ("missing", missing), ("distinct", distinct), ("min", column.min), ("median", column.quantiles.get("0.5")),
        ("max", column.max), ("mean", column.mean), ("std", column.std),
    ]  # fmt: skip
    lines = "".join(
        f"<tr><th>{text(name)}</th><td>{text(_short(number(value)))}</td></tr>"
        for name, value in about
        if value not in ("", None)
    )
    if column.histogram is not None and any(column.histogram.counts):
        picture = _histogram(column.histogram.counts, column.histogram.edges)
    else:
        picture = _bars([(item.value, item.count) for item in column.top])
    return (
        f'<div class="card"><h3>{text(column.name)}</h3><div class="type">{text(column.type)}</div>'
        f"<table>{lines}</table>{picture}</div>"
    )


def _histogram(counts: list[int], edges: list[float]) -> str:
    most, width, height = max(counts, default=0) or 1, 300, 80
    step = width / max(len(counts), 1)
    bars = "".join(
        f'<rect x="{index * step + 0.5:.1f}" y="{height * (1 - count / most):.1f}" width="{max(step - 1, 1):.1f}" '
        f'height="{height * count / most:.1f}"><title>{number(low)} to {number(high)}: {count}</title></rect>'
        for index, (count, low, high) in enumerate(zip(counts, edges, edges[1:], strict=False))
    )
    ends = (
        f'<text x="0" y="{height + 11}">{number(edges[0])}</text>'
        f'<text x="{width}" y="{height + 11}" text-anchor="end">{number(edges[-1])}</text>'
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
        rows.append(f"<tr><td>{text(_short(name))}</td><td>{count}</td><td>{bar}</td></tr>")
    return f'<table class="bars">{"".join(rows)}</table>'


def _rules(report: dict[str, Any]) -> str:
    rules = report.get("rules") or []
    if not rules:
        return ""
    rows = "".join(
        f"<tr><td>{text(rule['rule'])}</td><td>{rule['before']}</td><td>{rule['after']}</td></tr>" for rule in rules
    )
    return (
        f"<h2>What cleaning changed</h2><table><tr><th>rule</th><th>rows before</th><th>after</th></tr>{rows}</table>"
    )


def _pairs(found: dict[str, int]) -> str:
    return ", ".join(f"{name} {rows}" for name, rows in found.items())


def _short(found: str) -> str:
    """A value of the data may be a whole document."""
    return found if len(found) <= _LONGEST else f"{found[:_LONGEST]}…"
