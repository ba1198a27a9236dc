"""``modelport evaluate`` and ``modelport evaluations``: how well a version's answers agree with the truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelport.cli.options import AsJson, Detach, Key, Reference, Url

if TYPE_CHECKING:
    from modelport.schemas.evaluation import Evaluation, EvaluationShown

group = typer.Typer(help="Look at what was judged, and by which rows.", no_args_is_help=True)
_Names = list[str] | None
_SHOWN_CLASSES = 20
_MOST_COLUMNS = 15


def evaluate(
    model: Reference,
    data: Annotated[
        str, typer.Option("--data", metavar="NAME[:VERSION][/PART]", help="Rows to judge by.", show_default=False)
    ],
    target: Annotated[str | None, typer.Option("--target", help="Column with the truth. [the data's label]")] = None,
    against: Annotated[
        str | None, typer.Option("--against", metavar="MODEL[:VERSION|@ALIAS]", help="Version to compare with.")
    ] = None,
    slices: Annotated[_Names, typer.Option("--slice", metavar="COLUMN", help="Judge by value; repeatable.")] = None,
    metrics: Annotated[
        _Names, typer.Option("--metric", metavar="MODULE:FUNCTION", help="Figure of your own; repeatable.")
    ] = None,
    code: Annotated[
        list[Path] | None, typer.Option("--code", help="File or folder with --metric's modules; repeatable.")
    ] = None,
    inputs: Annotated[
        _Names, typer.Option("--input", metavar="NAME=COLUMN,…", help="Columns of an input; repeatable.")
    ] = None,
    output: Annotated[str | None, typer.Option("--output", help="Output that answers, of several.")] = None,
    task: Annotated[str | None, typer.Option("--task", help="What the model is for. [told by its outputs]")] = None,
    positive: Annotated[str | None, typer.Option("--positive", help="Class that is asked for. [second of two]")] = None,
    weight: Annotated[str | None, typer.Option("--weight", metavar="COLUMN", help="How much a row counts.")] = None,
    group_by: Annotated[str | None, typer.Option("--group", metavar="COLUMN", help="Which rows are a list.")] = None,
    intervals: Annotated[int, typer.Option("--intervals", min=0, help="Resamples for intervals; 0: none.")] = 1000,
    stratified: Annotated[bool, typer.Option("--stratified", help="Resample within classes.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed, the same intervals.")] = 0,
    nulls: Annotated[str, typer.Option("--nulls", help="A missing number: refuse or nan.")] = "refuse",
    workers: Annotated[int, typer.Option("--workers", min=1, max=16, help="Copies of the model.")] = 1,
    html: Annotated[Path | None, typer.Option("--html", help="File to write the report into.")] = None,
    json_file: Annotated[Path | None, typer.Option("--report", help="File to write the report's JSON into.")] = None,
    detach: Detach = False,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Judge a version, as it is served, by rows whose truth is known.

    The report says how often these rows were judged by before: rows that choices were made by flatter.

    Example: modelport evaluate digits@champion --data digits:1/test --against digits:1 --html report.html
    """
    from modelport.cli.inputs import pairs

    columns = {name: listed.split(",") for name, listed in pairs(inputs or [], "--input").items()}
    params: dict[str, Any] = {
        "target": target, "against": against, "slices": slices or None, "metrics": metrics or None,
        "inputs": columns or None, "output": output, "task": task, "positive": positive, "weight": weight,
        "group": group_by, "intervals": intervals, "stratified": stratified or None, "seed": seed or None,
        "nulls": nulls, "workers": workers, "code": code or (),
    }  # fmt: skip
    found = _judged(model, data, params, detach, as_json, url, key)
    if found is not None:
        _shown(found, html, json_file, as_json)


def _judged(
    model: str, data: str, params: dict[str, Any], detach: bool, as_json: bool, url: str | None, key: str | None
) -> EvaluationShown | None:
    """The evaluation, once its job has ended; None when nobody waits for it."""
    from modelport.cli import follow, render
    from modelport.sdk.client import Client

    with Client(url, key) as client:
        with render.transfer_bar() as progress:
            job = client.evaluations.evaluate(model, data, wait=False, upload_progress=progress, **params)
        if detach:
            render.as_json(job) if as_json else follow.detached(job)
            return None
        made = follow.follow(client, job.id).result or {}
        return client.evaluations.get(made["evaluation"])


@group.command("list")
def list_evaluations(
    model: Annotated[str | None, typer.Argument(metavar="[MODEL[:VERSION]]", help="Only those of this model.")] = None,
    data: Annotated[str | None, typer.Option("--data", help="Only by rows of this dataset, version or part.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="So many of the newest.")] = 50,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """List what was judged by which rows, newest first.

    Example: modelport evaluations list digits --data digits:1/test
    """
    from modelport.cli import render
    from modelport.errors import InvalidInput
    from modelport.sdk.client import Client

    name, _, number = (model or "").partition(":")
    if number and not number.isdecimal():
        raise InvalidInput(f"model: {number[:40]!r} is no version; say NAME or NAME:NUMBER")
    with Client(url, key) as client:
        found = client.evaluations.list(name or None, int(number) if number else None, data, limit)
    if as_json:
        render.as_json(found)
        return
    rows = []
    for one in found:
        figures = ", ".join(f"{figure} {value:.4g}" for figure, value in list(one.figures.items())[:3])
        judged = one.model if one.version is None else f"{one.model}:{one.version}"
        rows.append((one.id, judged, one.data, one.purpose, figures, one.opened_before, one.created_at))
    render.table(("ID", "MODEL", "DATA", "PURPOSE", "FIGURES", "OPENED BEFORE", "AT"), rows, "nothing was judged yet")


@group.command("show")
def show(
    evaluation: Annotated[str, typer.Argument(metavar="ID|MODEL", help="Its id, or a model for its newest.")],
    html: Annotated[Path | None, typer.Option("--html", help="File to write the report into.")] = None,
    json_file: Annotated[Path | None, typer.Option("--report", help="File to write the report's JSON into.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Show an evaluation with its whole report.

    Example: modelport evaluations show digits --html report.html
    """
    from modelport.errors import InvalidInput, NotFound
    from modelport.sdk.client import Client

    with Client(url, key) as client:
        if evaluation.isdecimal():
            found = client.evaluations.get(int(evaluation))
        else:
            name, _, number = evaluation.partition(":")
            if number and not number.isdecimal():
                raise InvalidInput(f"model: {number[:40]!r} is no version; say NAME or NAME:NUMBER")
            listed = client.evaluations.list(name, int(number) if number else None, limit=1)
            if not listed:
                raise NotFound(f"{evaluation[:100]!r} was not judged yet; `modelport evaluate` does it")
            found = client.evaluations.get(listed[0].id)
    _shown(found, html, json_file, as_json)


def _shown(found: EvaluationShown, html: Path | None, json_file: Path | None, as_json: bool) -> None:
    from modelport.cli import evaluation_page, render

    if html is not None:
        html.write_text(evaluation_page.page_of(found))
    if json_file is not None:
        json_file.write_text(found.model_dump_json(indent=2))
    render.as_json(found) if as_json else show_report(found)


def show_report(found: EvaluationShown) -> None:
    """An evaluation on a terminal."""
    from modelport.cli import render

    judged = found.model if found.version is None else f"{found.model}:{found.version}"
    rows = f", {render.counted(found.report.rows, 'row')}" if found.report else ""
    render.say(f"{judged} on {found.data}{rows} (evaluation {found.id})")
    report = found.report
    if report is None:
        render.facts([(name, f"{value:.4g}") for name, value in found.figures.items()])
        return
    if report.comparison is not None:
        render.say(render.plain(report.comparison.verdict))
    render.say("")
    _figures(report)
    _classes(report)
    if report.slices:
        name = report.main or next(iter(report.figures))
        cells = [
            (one.column, one.value, one.rows, _number(one.figures.get(name)), "few rows" if one.small else "")
            for one in report.slices
        ]
        render.say("")
        render.table(("SLICE", "VALUE", "ROWS", name.upper(), ""), cells, "")
    if report.warnings:
        render.say("")
    for warning in report.warnings:
        render.say(f"note: {render.plain(warning)}")


def _figures(report: Evaluation) -> None:
    from modelport.cli import render

    others = {one.figure: one for one in report.comparison.differences} if report.comparison else {}
    header = ["FIGURE", "VALUE", f"{report.confidence:.0%} INTERVAL"] if report.intervals else ["FIGURE", "VALUE"]
    if report.comparison is not None:
        header += [report.comparison.other.upper(), "DIFFERENCE", "P"]
    rows = []
    for name, value in report.figures.items():
        row: list[Any] = [name, _number(value)]
        if report.intervals:
            interval = report.intervals.get(name)
            row.append(f"{interval.low:.4g} to {interval.high:.4g}" if interval else "")
        if report.comparison is not None:
            other = others.get(name)
            row += [_number(other.other), f"{other.difference:+.4g}", f"{other.p_value:.2g}"] if other else ["", "", ""]
        rows.append(row)
    render.table(header, rows, "no figures")


def _classes(report: Evaluation) -> None:
    from modelport.cli import render

    if not report.classes:
        return
    shown = sorted(report.classes, key=lambda one: -one.rows)[:_SHOWN_CLASSES]
    cells = [
        (
            one.label,
            one.rows,
            one.predicted,
            *(_number(value) for value in (one.precision, one.recall, one.f1, one.roc_auc)),
        )
        for one in report.classes
        if one in shown
    ]
    render.say("")
    render.table(("CLASS", "ROWS", "PREDICTED", "PRECISION", "RECALL", "F1", "ROC_AUC"), cells, "")
    confusion = report.confusion
    if confusion is not None and len(confusion.labels) <= _MOST_COLUMNS:
        render.say("\nrows by class (down) and prediction (across)")
        matrix = [(label, *counts) for label, counts in zip(confusion.labels, confusion.counts, strict=True)]
        render.table(("", *confusion.labels), matrix, "")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
