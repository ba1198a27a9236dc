"""A report as one HTML page that needs nothing else: two charts as SVG, and the table. Knows figures only."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from modelport.bench.charts import COLOURS, Series, chart, document
from modelport.bench.figures import SHARES, Figures
from modelport.bench.plan import Report


def page(report: Report) -> str:
    """The whole document."""
    facts = f"{report.mode} · protocol {report.protocol} · {report.url} · seed {report.seed}"
    if report.capacity is not None:
        facts += f" · capacity {report.capacity:,.0f} answers/s with 64 callers"
    parts = [
        f'<p class="facts">{escape(facts)}</p>',
        _promise(report),
        *charts(report),
        _table(report.steps),
        "<p>Times in ms, from the moment at which a request was due to its answer. A percentile is left out where "
        "no request lies beyond it.</p>",
        *(f'<p class="warning">{escape(text)}</p>' for text in report.all_warnings),
    ]
    return document(f"{report.model}: latency against load", parts)


def charts(report: Report) -> list[str]:
    """Two SVG elements: percentiles, and achieved load, against what was offered."""
    by_callers = bool(report.steps) and all(step.callers is not None for step in report.steps)
    across = "callers" if by_callers else "offered load, requests per second"

    def load(step: Figures) -> float:
        return float(step.callers or 0) if by_callers else step.offered

    percentiles = [
        Series(name, colour, [(load(s), value) for s in report.steps if (value := s.latency_ms[name]) is not None])
        for (name, _), colour in zip(SHARES, COLOURS, strict=True)
    ]
    achieved = [Series("achieved", COLOURS[2], [(load(step), step.achieved) for step in report.steps])]
    if not by_callers:
        offered = [(step.offered, step.offered) for step in report.steps]
        achieved.append(Series("offered", COLOURS[1], offered, dashed=True))
    return [
        chart("Latency, ms", across, percentiles, is_log=True, limit=report.slo_p99_ms),
        chart("Answers per second", across, achieved, is_log=False),
    ]


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
