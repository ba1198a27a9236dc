"""What a job of compression tried, from its result or, while it runs, from what it told; as rows and as a page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelport.cli import charts
from modelport.cli import page as page_
from modelport.cli.render import bytes_text

if TYPE_CHECKING:
    from modelport.schemas.jobs import Job, JobMetric

_STATES = ("looked at", "measured", "proven", "failed")
_NAMED = re.compile(r"latency p\d\d|\w+")
_LIMIT = 30
_LOWEST = 50


def table(candidates: Sequence[Mapping[str, Any]], main: str | None) -> tuple[list[str], list[list[Any]]]:
    """A row for each candidate: the original first, then those that keep to the budget, then the others."""
    ranked = sorted(candidates, key=_rank)[:_LIMIT]
    columns = ["NUMBER", "CANDIDATE", (main or "figure").upper(), "DROP", "SIZE", "SMALLER", "FASTER", "P99", "STATE"]
    rows = [
        [
            one["number"], one["label"], _said(one["quality"], "{:.4g}"), _said(one["drop"], "{:.2%}"),
            None if one["size_bytes"] is None else bytes_text(one["size_bytes"]), _said(one["size_ratio"], "{:.2f} x"),
            _said(one["speed_ratio"], "{:.2f} x"), _said(one["latency_p99_ms"], "{:.3g} ms"), _state(one),
        ]
        for one in ranked
    ]  # fmt: skip
    return columns, rows


def seen(job: Job, metrics: Iterable[JobMetric]) -> tuple[list[str], list[list[Any]]]:
    """The same while it runs."""
    found: dict[int, dict[str, Any]] = {}
    for metric in metrics:
        if metric.step is None:
            continue
        one = found.setdefault(metric.step, {})
        state, colon, name = metric.name.partition(": ")
        if colon and state in _STATES:
            one |= {"state": state, "label": name, "met": metric.value == 1.0}
        else:
            one[metric.name] = metric.value
    rows = [
        [
            number, one.get("label", ""), _said(one.get("quality"), "{:.4g}"), _said(one.get("drop"), "{:.2%}"),
            _said(one.get("size_ratio"), "{:.2f} x"), _said(one.get("speed_ratio"), "{:.2f} x"),
            f"{one.get('state', '')}{'' if one.get('met') else ', misses'}",
        ]
        for number, one in sorted(found.items())[-_LIMIT:]
    ]  # fmt: skip
    return ["NUMBER", "CANDIDATE", "FIGURE", "DROP", "SMALLER", "FASTER", "STATE"], rows


def proof_lines(found: Mapping[str, Any]) -> list[str]:
    """What the rows that nobody saw say of the winner."""
    told, main = found.get("figures", {}), found.get("main")
    if main is None or main not in told:
        return []
    before = f"{told[f'original_{main}']:.4g} before, " if f"original_{main}" in told else ""
    return [f"{main} on rows that nobody saw ({found['judged_by']['proof']}): {before}{told[main]:.4g} now"]


def page(found: Mapping[str, Any]) -> str:
    """One file: facts, the picture of quality by size and speed, all candidates."""
    met = found.get("met")
    facts = [
        ("original", found.get("original")), ("version", found.get("model") or "none was registered"),
        ("by", found.get("label")), ("budget", ", ".join(f"{k} {v:g}" for k, v in found.get("budget", {}).items())),
        ("met", "" if met is None else "yes" if met else "no"), ("rows", found.get("data")),
    ]  # fmt: skip
    known = [one for one in found["candidates"] if one["drop"] is not None and one["size_ratio"] is not None]
    pictures = [("Quality by size", picture(known, "size_ratio", "times smaller"))]
    fast = [one for one in known if one["speed_ratio"] is not None]
    if len(fast) > 1:
        pictures.append(("Quality by speed", picture(fast, "speed_ratio", "times faster")))
    columns, rows = table(found["candidates"], found.get("main"))
    shown = "".join(f"<h2>{page_.text(title)}</h2>{svg}" for title, svg in pictures)
    return page_.document(
        f"compress {found.get('original', '')}", f"{page_.facts(facts)}{shown}<h2>Candidates</h2>{_html(columns, rows)}"
    )


def picture(candidates: Sequence[Mapping[str, Any]], across: str, name: str) -> str:
    """A point for each candidate: further right smaller or faster, further up better; what nothing beats is joined."""
    places = [(one[across], max(100 * (1 - one["drop"]), _LOWEST)) for one in candidates]
    if not places:
        return "<p>nobody could tell the quality</p>"
    spots = [
        charts.Spot(
            x, y, str(one["number"]), f"{one['number']}: {one['label']}, {x:.2f} {name}, {y:.2f} %",
            joined=not any(a >= x and b >= y and (a, b) != (x, y) for a, b in places),
            large=bool(one["number"]) and one["state"] != "looked at" and not one["misses"],
        )
        for (x, y), one in zip(places, candidates, strict=True)
    ]  # fmt: skip
    told = f"large points keep to the budget; what is below {_LOWEST} % lies on the edge"
    return f'{charts.spots(spots, (name, "% of the quality"))}<p class="type">{told}</p>'


def _rank(one: Mapping[str, Any]) -> tuple[Any, ...]:
    order = {"proven": 0, "measured": 1, "looked at": 2, "failed": 3}
    return (one["number"] != 0, order[one["state"]], len(one["misses"]), -(one["size_ratio"] or 0), one["number"])


def _state(one: Mapping[str, Any]) -> str:
    if one["number"] == 0:
        return "the original"
    if one["state"] == "failed":
        return f"failed: {one['message']}"[:60]
    missed = dict.fromkeys(_NAMED.match(text).group() for text in one["misses"])  # type: ignore[union-attr]
    return f"{one['state']}, misses {', '.join(missed)}" if missed else str(one["state"])


def _said(value: float | None, how: str) -> str | None:
    return None if value is None else how.format(value)


def _html(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    head = "".join(f"<th>{page_.text(name)}</th>" for name in columns)
    lines = "".join(f"<tr>{''.join(f'<td>{page_.text(_cell(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{lines}</table>"


def _cell(value: Any) -> Any:
    return "" if value is None else value
