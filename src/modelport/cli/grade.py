"""``modelport grade`` and ``modelport grades``: what versions do on the server's machine, their price and quality."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelport.cli.jobs import Cores, MemoryMb, Priority
from modelport.cli.options import AsJson, Detach, Key, Reference, Url

if TYPE_CHECKING:
    from modelport.schemas.grades import Family, Grade

Html = Annotated[Path | None, typer.Option("--html", help="File to draw price and quality into.")]


def grade(
    model: Reference,
    all_versions: Annotated[bool, typer.Option("--all", help="Every version of the model.")] = False,
    data: Annotated[
        str | None, typer.Option("--data", metavar="NAME[:VERSION][/PART]", help="Rows to ask about. [its sample]")
    ] = None,
    target: Annotated[str | None, typer.Option("--target", help="Column not to show it. [the data's label]")] = None,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", metavar="NAME=COLUMN,…", help="Columns of an input; repeatable.")
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Of the runtime, as deployed. [1]")] = None,
    batch: Annotated[int | None, typer.Option("--batch", min=1, help="Rows of a request, for rate. [32]")] = None,
    seconds: Annotated[float | None, typer.Option("--seconds", help="How long each is measured. [2]")] = None,
    html: Html = None,
    cores: Cores = None,
    memory_mb: MemoryMb = None,
    priority: Priority = None,
    detach: Detach = False,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Measure a version as it is served: size, memory, latency, rate; its price.

    Prints it, with its class, beside its kin: the model's other versions, what they were made from, and what was made
    from them.

    Example: modelport grade digits --data digits:1/test --html price.html
    """
    from modelport.cli import follow, render
    from modelport.cli.inputs import pairs
    from modelport.sdk.client import Client
    from modelport.sdk.references import parse_reference

    columns = {name: listed.split(",") for name, listed in pairs(inputs or [], "--input").items()}
    params: dict[str, Any] = {
        "all": all_versions or None, "target": target, "inputs": columns or None, "threads": threads, "batch": batch,
        "seconds": seconds, "memory_mb": memory_mb, "priority": priority,
    }  # fmt: skip
    if cores is not None:
        params["cores"] = cores
    with Client(url, key) as client:
        job = client.grades.grade(model, data, wait=False, **params)
        if detach:
            render.as_json(job) if as_json else follow.detached(job)
            return
        found = follow.follow(client, job.id).result or {}
        family = client.grades.family(parse_reference(model).name, found["machine"])
    _out(family, html, as_json)
    if not as_json:
        for warning in found["warnings"]:
            render.say(f"note: {render.plain(warning)}")


def grades(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model name.", show_default=False)],
    machine: Annotated[str | None, typer.Option("--machine", help="Whose figures. [the newest grade's]")] = None,
    html: Html = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Show a model's versions and their kin by price and quality.

    Example: modelport grades digits --html price.html
    """
    from modelport.sdk.client import Client

    with Client(url, key) as client:
        family = client.grades.family(model, machine)
    _out(family, html, as_json)


def _out(family: Family, html: Path | None, as_json: bool) -> None:
    from modelport.cli import render

    if html is not None:
        html.write_text(page_of(family))
    if as_json:
        render.as_json(family)
        return
    if family.machine is not None:
        render.say(f"on {render.plain(family.machine)}")
    columns, rows = table(family)
    render.table(columns, rows, "it has no versions")
    if family.machine is None:
        render.say(f"nothing was measured yet; `modelport grade {family.model} --all` does it")
    for warning in family.warnings:
        render.say(f"note: {render.plain(warning)}")


def table(family: Family) -> tuple[list[str], list[list[Any]]]:
    """A row for each version, the cheapest first; ``*`` marks those that none beats in price and quality."""
    columns = ["VERSION", "CLASS", "SIZE", "MEMORY", "P50", "P99", "ROWS/S", f"{family.currency} A MILLION",
               (family.figure or "quality").upper(), "BEST"]  # fmt: skip
    rows = []
    for one in family.relatives:
        name = f"{one.model}:{one.version}" + "".join(f" @{alias}" for alias in one.aliases)
        if one.grade is None:
            rows.append([name, "not measured", *[""] * (len(columns) - 2)])
            continue
        rows.append([name, *_cells(one.grade, family.figure), "*" if one.best else ""])
    return columns, rows


def _cells(found: Grade, figure: str | None) -> list[Any]:
    from modelport.cli.render import bytes_text

    measured, latency, quality = found.measured, found.measured.latency, found.quality
    judged = "" if quality is None else f"{quality.value:.4g}" if quality.figure == figure else quality.figure
    return [
        found.grade or ("" if measured.reason is None else "not served"), bytes_text(measured.served_bytes),
        _said(measured.peak_mb, "{:.0f} MB"), _said(latency.p50_ms if latency else None, "{:.3g} ms"),
        _said(latency.p99_ms if latency else None, "{:.3g} ms"), _said(measured.rows_per_s, "{:.4g}"),
        _said(found.cost_per_million, "{:.3g}"), judged,
    ]  # fmt: skip


def line(found: Grade) -> str:
    """A grade in one line, for ``models show``."""
    measured, latency = found.measured, found.measured.latency
    if latency is None:
        return f"none: {measured.reason}"
    price = "" if found.cost_per_million is None else f", {found.cost_per_million:.3g} {found.currency} a million"
    return (
        f"{found.grade or 'in no class'}: {latency.p50_ms:.3g} ms (p99 {latency.p99_ms:.3g}), "
        f"{measured.rows_per_s or 0:.4g} rows/s, {measured.peak_mb or 0:.0f} MB{price}; {measured.machine}"
    )


def page_of(family: Family) -> str:
    """One file: the picture of price and quality, and the table."""
    from modelport.cli import charts, page

    figure, currency = family.figure or "quality", family.currency
    spots = [
        charts.Spot(
            one.grade.cost_per_million, one.grade.quality.value, f"{one.model}:{one.version}",
            f"{one.model}:{one.version}, {one.grade.grade or 'in no class'}, {one.grade.quality.value:.4g} {figure}, "
            f"{one.grade.cost_per_million:.3g} {currency}", one.best, one.best,
        )
        for one in family.relatives
        if one.grade is not None and one.grade.cost_per_million and one.grade.quality is not None
        and one.grade.quality.figure == family.figure
    ]  # fmt: skip
    axes = (f"{currency} for a million rows", f"{figure}{' (less is better)' if family.less_is_better else ''}")
    shown = charts.spots(spots, axes, tenfold=True) if spots else "<p>no version has both a price and a quality</p>"
    legend = '<p class="type">the line joins the versions that none beats in price and quality</p>' if spots else ""
    columns, rows = table(family)
    head = "".join(f"<th>{page.text(name.lower())}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{page.text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    notes = "".join(f"<p>{page.text(one)}</p>" for one in family.warnings)
    about = page.facts([("machine", family.machine), ("figure", family.figure)])
    return page.document(
        f"{family.model}: price and quality", f"{about}{shown}{legend}{notes}<table><tr>{head}</tr>{body}</table>"
    )


def _said(value: float | None, how: str) -> str:
    return "" if value is None else how.format(value)
