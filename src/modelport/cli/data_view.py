"""A dataset version on the terminal: columns, statistics, a histogram of blocks for each, class balance, report."""

from __future__ import annotations

from typing import Any

from modelport.cli import render
from modelport.schemas.datasets import Column, DatasetLineage, DatasetVersion

_BLOCKS = " ▁▂▃▄▅▆▇█"
_MOST = 200
_BAR = 30


def made(version: DatasetVersion, result: dict[str, Any]) -> None:
    """One line for what a job made, and what its report says."""
    parts = ", ".join(f"{name} {rows}" for name, rows in version.manifest.parts.items())
    about = [render.counted(version.rows, "row"), render.bytes_text(version.size), *([parts] if parts else [])]
    if result.get("new_rows") == 0 and version.version > 1:
        render.say(f"nothing is new: {version.dataset}:{version.version} stays the newest ({about[0]})")
        return
    render.say(f"{version.dataset}:{version.version} ({', '.join(about)})")
    report(version.manifest.report)


def report(found: dict[str, Any]) -> None:
    """What a job found and changed."""
    if found.get("left_out"):
        render.say(f"left out {found['left_out']}:")
        for example in found.get("left_out_examples", []):
            render.say(f"  {render.plain(example)}")
    rules = found.get("rules")
    if rules:
        shown = [(r["rule"], r["before"], r["after"], r["after"] - r["before"], _details(r)) for r in rules]
        render.console().print(render.make_table(("RULE", "BEFORE", "AFTER", "CHANGE", ""), shown))
    for name in ("leaking_rows", "groups_in_two_parts", "kept_together", "unmatched"):
        if found.get(name):
            render.say(f"{name.replace('_', ' ')}: {found[name]}")
    for one in found.get("embeddings", []):
        render.say(_embedded(one))
    if importance := found.get("importance"):
        rows = [(name, f"{value:.3f}", _bar(value, max(importance.values()))) for name, value in importance.items()]
        render.console().print(render.make_table(("COLUMN", "IMPORTANCE", ""), rows[:_BAR]))


def view(version: DatasetVersion, lineage: DatasetLineage) -> None:
    """Everything about a version."""
    manifest = version.manifest
    render.facts(
        [
            ("dataset", f"{version.dataset}:{version.version}"),
            ("rows", version.rows),
            ("size", render.bytes_text(version.size)),
            ("parts", manifest.parts),
            ("digest", version.digest),
            ("archived", version.archived),
            ("description", manifest.description),
            ("source", manifest.source),
            ("made from", lineage.parents),
            ("made into", [*lineage.children, *lineage.models]),
            ("job", manifest.job),
            ("created", f"{render.plain(version.created_at)} by {version.created_by}"),
        ]
    )
    render.say("")
    columns = ("COLUMN", "TYPE", "MISSING", "DISTINCT", "MIN", "MEDIAN", "MAX", "MEAN", "STD", "HISTOGRAM")
    render.console().print(render.make_table(columns, [_row(column) for column in manifest.columns[:_MOST]]))
    if len(manifest.columns) > _MOST:
        render.say(f"… and {len(manifest.columns) - _MOST} more columns; --json has them")
    if manifest.class_balance:
        render.say("")
        most = max(manifest.class_balance.values())
        rows = [
            (name, count, f"{count / version.rows:.1%}", _bar(count, most))
            for name, count in list(manifest.class_balance.items())[:_MOST]
        ]
        headers = (f"CLASS ({render.plain(manifest.label)})", "ROWS", "SHARE", "")
        render.console().print(render.make_table(headers, rows))
    if manifest.report:
        render.say("")
        report(manifest.report)


def blocks(counts: list[int]) -> str:
    """A histogram as one line of blocks; a bin with anything in it is never empty."""
    most = max(counts, default=0)
    if not most:
        return ""
    return "".join(_BLOCKS[0 if not count else max(1, round(8 * count / most))] for count in counts)


def _row(column: Column) -> tuple[Any, ...]:
    distinct = None if column.distinct is None else f"{'' if column.distinct_exact else '~'}{column.distinct}"
    shape = blocks(column.histogram.counts) if column.histogram else _top(column)
    median = column.quantiles.get("0.5")
    return (
        column.name, column.type, column.nulls, distinct, _short(column.min), _short(median), _short(column.max),
        _short(column.mean), _short(column.std), shape,
    )  # fmt: skip


def _top(column: Column) -> str:
    return ", ".join(f"{_short(item.value)} {item.count}" for item in column.top[:3])


def _short(value: Any) -> str | None:
    if value is None:
        return None
    text = f"{value:.5g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 20 else f"{text[:19]}…"


def _bar(count: float, most: float) -> str:
    return "█" * max(1 if count else 0, round(_BAR * count / most)) if most else ""


def _embedded(one: dict[str, Any]) -> str:
    """One line for an ``embed`` step."""
    pooled = f", {one['pooling']} of tokens" if one.get("pooling") else ""
    explained = f" of {one['of_dimensions']} (explain {one['explained']:.1%})" if "explained" in one else ""
    missing = f", {one['missing']} without a value" if one.get("missing") else ""
    made = f"{one['into']}: {one['dimension']} numbers{explained} from {', '.join(one['columns'])} by {one['model']}"
    return render.plain(f"{made}{pooled}, {render.counted(one['rows'], 'row')}{missing} in {one['seconds']:.1f} s")


def _details(rule: dict[str, Any]) -> str:
    known = {"rule", "before", "after", "surest", "limits"}
    return ", ".join(f"{name} {value}" for name, value in rule.items() if name not in known)[:200]
