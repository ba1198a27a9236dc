"""A report of a language model's load as one HTML page: charts against the load as SVG, and the tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from modelport.bench.charts import COLOURS, Series, chart, document
from modelport.bench.language.figures import ATTAINED, LanguageFigures, Spread
from modelport.bench.language.session import LanguageReport

SHARES = ("p50", "p90", "p99")
TIMES: tuple[tuple[str, Callable[[LanguageFigures], Spread]], ...] = (
    ("first text", lambda step: step.ttft_ms),
    ("per token", lambda step: step.token_ms),
    ("gap", lambda step: step.gap_ms),
    ("whole", lambda step: step.latency_ms),
)


def page(report: LanguageReport) -> str:
    """The whole document."""
    steps = report.language_steps
    parts = [
        f'<p class="facts">{escape(f"{report.mode} · {report.url} · seed {report.seed}")}</p>',
        f"<p><b>{escape(promised(report))}</b></p>" if report.promise.is_given else "",
        *charts(report),
        _loads(steps),
        _times(steps),
        "<p>Times in ms. <i>First text</i>, <i>whole</i>: since the request was due. <i>Per token</i>: "
        "those after the first, on average over one answer. <i>Gap</i>: between two events of one answer. A percentile "
        "is left out where nothing lies beyond it.</p>",
        *(f'<p class="warning">{escape(text)}</p>' for text in report.all_warnings),
    ]
    return document(f"{report.model}: tokens against load", parts)


def promised(report: LanguageReport) -> str:
    """The promise, and the greatest load that keeps it."""
    limits = [("first text", report.promise.ttft_ms), ("each further token", report.promise.itl_ms)]
    said = ", ".join(f"{name} within {limit:g} ms" for name, limit in limits if limit is not None)
    best = report.best
    found = "at no load that was tried" if best is None else f"up to {best.load}, {best.goodput:.3g} good answers/s"
    return f"{said}, for {ATTAINED:.0%} of the requests: {found}"


def charts(report: LanguageReport) -> list[str]:
    """SVG elements: two times and the tokens against the load."""
    steps, promise = report.language_steps, report.promise
    by_callers = bool(steps) and all(step.callers is not None for step in steps)
    across = "callers" if by_callers else "offered load, requests per second"

    def against(name: str, colour: str, value: Callable[[LanguageFigures], float | None]) -> Series:
        points = [
            (float(step.callers or 0) if by_callers else step.offered, found)
            for step in steps
            if (found := value(step)) is not None
        ]
        return Series(name, colour, points)

    def of(times: Callable[[LanguageFigures], Spread]) -> list[Series]:
        return [against(name, colour, _get(times, name)) for name, colour in zip(SHARES, COLOURS, strict=False)]

    drawn = [
        ("Time to first text, ms", of(lambda step: step.ttft_ms), True, promise.ttft_ms),
        ("Time per token after the first, ms", of(lambda step: step.token_ms), True, promise.itl_ms),
        ("Tokens per second", [against("tokens", COLOURS[2], lambda step: step.tokens_per_s)], False, None),
    ]
    if promise.is_given:
        answered = against("answered", COLOURS[1], lambda step: step.achieved)
        good = against("good", COLOURS[2], lambda step: step.goodput)
        drawn.append(("Answers per second", [answered, good], False, None))
    return [
        chart(title, across, series, is_log=is_log, limit=limit, limit_name="limit")
        for title, series, is_log, limit in drawn
    ]


def _get(times: Callable[[LanguageFigures], Spread], name: str) -> Callable[[LanguageFigures], float | None]:
    return lambda step: times(step).get(name)


def _loads(steps: Sequence[LanguageFigures]) -> str:
    head = ("load", "answers/s", "good/s", "tokens/s", "prompt tokens/s", "tokens in", "out", "cached", "ok", "429",
            "errors")  # fmt: skip
    rows = [
        (s.load, f"{s.achieved:,.2f}", _number(s.goodput), f"{s.tokens_per_s:,.1f}", f"{s.prompt_tokens_per_s:,.1f}",
         _number(s.tokens_in), _number(s.tokens_out), "–" if s.cached is None else f"{s.cached:.0%}", f"{s.ok:,}",
         f"{s.refused:,}", f"{s.failed:,}")
        for s in steps
    ]  # fmt: skip
    return _table(head, rows)


def _times(steps: Sequence[LanguageFigures]) -> str:
    head = ("load", *(f"{name} {share}" for name, _ in TIMES for share in SHARES))
    return _table(
        head, [(s.load, *(_number(times(s).get(share)) for _, times in TIMES for share in SHARES)) for s in steps]
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{''.join(f'<th>{name}</th>' for name in head)}</tr>{lines}</table>"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f}"
