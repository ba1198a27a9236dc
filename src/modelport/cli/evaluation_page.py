"""An evaluation as one HTML file: figures with intervals, confusion, curves and reliability as SVG, slices.

Self-contained like every page that commands write; what it shows is what the report holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from modelport.cli import charts, page

if TYPE_CHECKING:
    from modelport.schemas.evaluation import Confusion, Curve, Evaluation, EvaluationShown

_CELL, _NAMES, _LEAST = 26, 90, 11
_LINES = 6


def page_of(found: EvaluationShown) -> str:
    """The whole page."""
    judged = found.model if found.version is None else f"{found.model}:{found.version}"
    report = found.report
    about: list[tuple[str, Any]] = [
        ("model", judged), ("data", found.data), ("rows", report.rows if report else ""), ("job", found.job or ""),
        ("at", f"{found.created_at:%Y-%m-%d %H:%M} UTC by {found.created_by}"),
        ("opened before", f"{found.opened_before} times" if found.opened_before else "never"),
    ]  # fmt: skip
    body = [page.facts(about)]
    if report is not None:
        if report.warnings:
            body.append(
                "<h2>To know</h2><ul>" + "".join(f"<li>{page.text(one)}</li>" for one in report.warnings) + "</ul>"
            )
        body += _sections(report)
    if found.openings:
        rows = [(f"{one.at:%Y-%m-%d %H:%M}", one.purpose, one.model or "", one.by) for one in found.openings]
        body.append("<h2>These rows were opened before</h2>" + _table(("at", "for", "model", "by"), rows))
    return page.document(f"{judged} on {found.data}", "".join(body))


def _sections(report: Evaluation) -> Iterable[str]:
    yield f"<h2>Figures</h2>{_comparison(report)}{_figures(report)}"
    if report.confusion is not None:
        yield f"<h2>Confusion</h2><p class=type>Rows by class (down) and prediction (across){_some(report)}.</p>"
        yield confusion(report.confusion)
    curves = list(_charts(report))
    if curves:
        yield f"<h2>Curves</h2><div class=cards>{''.join(curves)}</div>"
    if report.classes:
        cells = [
            (
                one.label,
                one.rows,
                one.predicted,
                *map(_number, (one.precision, one.recall, one.f1, one.roc_auc, one.pr_auc)),
            )
            for one in report.classes
        ]
        names = ("class", "rows", "predicted", "precision", "recall", "F1", "ROC-AUC", "PR-AUC")
        yield f"<h2>Classes</h2>{_table(names, cells)}"
    if report.error_quantiles:
        cells = [(f"{float(level):.0%}", _number(value)) for level, value in report.error_quantiles.items()]
        yield f"<h2>Error (prediction minus truth) by quantile</h2>{_table(('quantile', 'error'), cells)}"
    if report.by_step:
        top = max(report.by_step) or 1.0
        lines = {"mean absolute error": [(at + 1.0, value) for at, value in enumerate(report.by_step)]}
        card = charts.card("", lines, (1.0, len(report.by_step)), (0.0, top), False)
        yield f"<h2>By step</h2><div class=cards>{card}</div>"
    if report.slices:
        yield _slices(report)


def _some(report: Evaluation) -> str:
    return "" if report.confusion is None or report.confusion.complete else "; the classes that are mixed up most"


def _comparison(report: Evaluation) -> str:
    if report.comparison is None:
        return ""
    found = report.comparison
    only = ""
    if found.mcnemar_p is not None:
        only = (
            f" Only this version is right in {found.only_this_right} rows, only the other in {found.only_other_right} "
            f"(McNemar p = {found.mcnemar_p:.2g})."
        )
    return f"<p>{page.text(found.verdict)}.{page.text(only)}</p>"


def _figures(report: Evaluation) -> str:
    others = {one.figure: one for one in report.comparison.differences} if report.comparison else {}
    names = ["figure", "value"]
    if report.intervals:
        names.append(f"{report.confidence:.0%} interval")
    if report.comparison is not None:
        names += [report.comparison.other, "difference", "its interval", "p"]
    rows = []
    for figure, value in report.figures.items():
        row = [figure, _number(value)]
        if report.intervals:
            interval = report.intervals.get(figure)
            row.append(f"{interval.low:.4g} to {interval.high:.4g}" if interval else "")
        if report.comparison is not None:
            other = others.get(figure)
            row += ["", "", "", ""] if other is None else [
                _number(other.other), f"{other.difference:+.4g}", f"{other.low:+.4g} to {other.high:+.4g}",
                f"{other.p_value:.2g}",
            ]  # fmt: skip
        rows.append(row)
    how = ""
    if report.resamples:
        kept = ", as many rows of each class" if report.stratified else ""
        how = f"<p class=type>Intervals: bootstrap, {report.resamples} resamples{kept}, seed {report.seed}.</p>"
    return _table(names, rows) + how


def _slices(report: Evaluation) -> str:
    wanted = [name for name in (report.main, "accuracy", "f1", "f1_macro", "roc_auc", "rmse", "mae") if name]
    names = [name for name in dict.fromkeys(wanted) if name in report.figures][:4]
    rows = [
        (one.column, one.value, one.rows, *(_number(one.figures.get(name)) for name in names), "few rows" * one.small)
        for one in report.slices
    ]
    return f"<h2>Slices</h2>{_table(('column', 'value', 'rows', *names, ''), rows)}"


# Charts


def confusion(found: Confusion) -> str:
    """Counts as squares, darker for a larger share of the class's rows."""
    count = len(found.labels)
    side = max(_LEAST, min(_CELL, 900 // max(count, 1)))
    longest = max((len(_short(label)) for label in found.labels), default=0)
    width, height = _NAMES + count * side, count * side + 12 + 5 * longest
    parts = []
    for row, (label, counts) in enumerate(zip(found.labels, found.counts, strict=True)):
        total = sum(counts) or 1
        y = row * side
        parts.append(f'<text x="{_NAMES - 6}" y="{y + side / 2 + 3:g}" text-anchor="end">{_short(label)}</text>')
        for column, value in enumerate(counts):
            x, share = _NAMES + column * side, value / total
            told = f"{label} as {found.labels[column]}: {value}"
            kind = "right" if row == column else "wrong"
            parts.append(
                f'<rect class="cell {kind}" x="{x}" y="{y}" width="{side}" height="{side}" '
                f'fill-opacity="{max(0.04 if value else 0, share):.3f}"><title>{page.text(told)}</title></rect>'
            )
            if value and side >= _CELL:
                strong = " strong" if share > 0.5 else ""
                middle = f'x="{x + side / 2:g}" y="{y + side / 2 + 3:g}" text-anchor="middle"'
                parts.append(f'<text class="count{strong}" {middle}>{value}</text>')
    for column, label in enumerate(found.labels):
        where = f"{_NAMES + column * side + side / 2 + 3:g} {count * side + 6}"
        parts.append(f'<text text-anchor="end" transform="translate({where}) rotate(-90)">{_short(label)}</text>')
    return (
        f'<svg class="confusion" viewBox="0 0 {width} {height}" role="img" style="max-width:{width * 1.3:.0f}px">'
        f"{''.join(parts)}</svg>"
    )


def _charts(report: Evaluation) -> Iterable[str]:
    for kind, title, what in (
        ("roc", "ROC", ("false positive rate", "true positive rate")),
        ("pr", "Precision and recall", ("recall", "precision")),
    ):
        curves = [curve for curve in report.curves if curve.kind == kind]
        if curves:
            worst = sorted(curves, key=lambda curve: curve.area)[:_LINES]
            lines = {_named(curve): list(zip(curve.x, curve.y, strict=True)) for curve in curves if curve in worst}
            more = f" (the {_LINES} least of {len(curves)} areas)" if len(curves) > _LINES else ""
            yield charts.card(title + more, lines, (0.0, 1.0), (0.0, 1.0), kind == "roc", what)
    if report.calibration:
        points = [(one.predicted, one.observed) for one in report.calibration]
        error = report.figures.get("calibration_error")
        name = "observed" if error is None else f"observed, calibration error {error:.3g}"
        yield charts.card(
            "Reliability", {name: points}, (0.0, 1.0), (0.0, 1.0), True,
            ("predicted probability", "share that came true"), [one.rows for one in report.calibration],
        )  # fmt: skip


def _named(curve: Curve) -> str:
    return f"{curve.label[:40]}: {curve.area:.3f}".strip(": ")


def _table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    head = "".join(f"<th>{page.text(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{page.text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _short(label: str) -> str:
    return page.text(label if len(label) <= 14 else f"{label[:13]}…")
