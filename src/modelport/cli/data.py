"""``modelport data``: datasets from the command line. What makes a version is a job that is followed until it ends."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelport.cli.options import AsJson, Detach, Key, Url

if TYPE_CHECKING:
    from modelport.schemas.jobs import Job
    from modelport.sdk.client import Client

group = typer.Typer(help="Datasets and their versions.", no_args_is_help=True, rich_markup_mode=None)
DatasetRef = Annotated[
    str, typer.Argument(metavar="NAME[:VERSION][/PART]", help="Dataset, a version, or a part.", show_default=False)
]
Into = Annotated[str | None, typer.Option("--name", "-n", help="Dataset that gets the new version.")]
MustInto = Annotated[str, typer.Option("--name", "-n", help="Dataset that gets the new version.", show_default=False)]
Label = Annotated[str | None, typer.Option("--label", help="Column with the classes. [label]")]
Describe = Annotated[str, typer.Option("--description", help="What the rows are.")]
RecipeFile = Annotated[Path, typer.Option("--recipe", "-r", help="YAML: what is to be done.", show_default=False)]
OnSchema = Annotated[str, typer.Option("--on-schema", help="Other columns: fail, or union (null where one lacks).")]


@group.command()
def collect(
    source: Annotated[
        str, typer.Argument(help="File, folder or pattern here, or a URL for the server.", show_default=False)
    ],
    name: MustInto,
    format: Annotated[
        str | None, typer.Option("--format", help="csv, tsv, jsonl, parquet, text, documents or images.")
    ] = None,
    query: Annotated[str | None, typer.Option("--query", help="SELECT of a sql:// source.")] = None,
    types: Annotated[
        list[str] | None, typer.Option("--type", metavar="COLUMN=TYPE", help="Of text formats; repeatable.")
    ] = None,
    label: Label = None,
    on_error: Annotated[str, typer.Option("--on-error", help="A row that cannot be read: fail or skip.")] = "fail",
    on_schema: OnSchema = "fail",
    delimiter: Annotated[str | None, typer.Option("--delimiter", help="Between fields of a CSV. [,]")] = None,
    encoding: Annotated[str | None, typer.Option("--encoding", help="Of texts. [utf-8]")] = None,
    incremental: Annotated[
        str | None, typer.Option("--incremental", metavar="files|COLUMN", help="Add only what is new.")
    ] = None,
    description: Describe = "",
    detach: Detach = False,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Make a dataset version from files, a URL, a database or Spark.

    Files of this machine are sent to the server; what a URL names the server reads itself, where its operator
    allows it. Images and documents are labelled by their folders.

    Example: modelport data collect ./images --name digits
    """
    from modelport.cli import render
    from modelport.cli.inputs import pairs
    from modelport.sdk.client import Client

    params: dict[str, Any] = {
        "format": format, "query": query, "types": pairs(types or [], "type") or None, "label": label,
        "on_error": on_error, "on_schema": on_schema, "delimiter": delimiter, "encoding": encoding,
        "incremental": incremental, "description": description or None,
    }  # fmt: skip
    with Client(url, key) as client:
        with render.transfer_bar() as progress:
            job = client.datasets.collect(source, name, wait=False, upload_progress=progress, **params)
        _finish(client, job, detach, as_json)


@group.command()
def clean(
    dataset: DatasetRef,
    recipe: RecipeFile,
    name: Into = None,
    detach: Detach = False,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Apply a recipe's rules; a new version, and a report of what each rule did.

    Example: modelport data clean digits:1 --recipe clean.yaml
    """
    from modelport.sdk.client import Client

    with Client(url, key) as client:
        job = client.datasets.clean(dataset, _recipe(recipe), name, wait=False)
        _finish(client, job, detach, as_json)


@group.command()
def join(
    left: DatasetRef,
    right: DatasetRef,
    name: MustInto,
    on: Annotated[list[str], typer.Option("--on", metavar="COLUMN", help="Key; repeatable.", show_default=False)],
    how: Annotated[str, typer.Option("--how", help="inner, or left (rows without a match stay).")] = "inner",
    expect: Annotated[str, typer.Option("--expect", help="Rows of RIGHT for one of LEFT: one or many.")] = "one",
    suffix: Annotated[str, typer.Option("--suffix", help="Behind columns that both have.")] = "_right",
    detach: Detach = False,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Put columns of one dataset beside the rows of another.

    A join that would multiply rows is refused unless --expect many says so.

    Example: modelport data join orders customers --on customer_id --name sales
    """
    from modelport.sdk.client import Client

    with Client(url, key) as client:
        job = client.datasets.join(left, right, on, name, how=how, expect=expect, suffix=suffix, wait=False)
        _finish(client, job, detach, as_json)


@group.command()
def concat(
    datasets: Annotated[list[str], typer.Argument(metavar="NAME...", help="Datasets, in order.", show_default=False)],
    name: MustInto,
    on_schema: OnSchema = "fail",
    detach: Detach = False,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Put the rows of datasets one after another.

    Example: modelport data concat january february --name year
    """
    from modelport.sdk.client import Client

    with Client(url, key) as client:
        job = client.datasets.concat(datasets, name, on_schema=on_schema, wait=False)
        _finish(client, job, detach, as_json)


@group.command()
def split(
    dataset: DatasetRef,
    name: Into = None,
    ratios: Annotated[
        list[str] | None, typer.Option("--ratio", metavar="PART=SHARE", help="Repeatable. [train=0.8 …]")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed, the same parts.")] = 0,
    stratify: Annotated[str | None, typer.Option("--stratify", help="Column whose shares each part keeps.")] = None,
    by_group: Annotated[str | None, typer.Option("--group", help="Column whose equal values stay together.")] = None,
    time: Annotated[str | None, typer.Option("--time", help="Column by which the parts follow each other.")] = None,
    leaks: Annotated[str, typer.Option("--leaks", help="Equal rows in two parts: move, warn or fail.")] = "move",
    detach: Detach = False,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Split a dataset into parts, each row into exactly one.

    Example: modelport data split digits --stratify label --seed 7
    """
    from modelport.cli.inputs import numbers
    from modelport.sdk.client import Client

    params: dict[str, Any] = {"seed": seed, "stratify": stratify, "group": by_group, "time": time, "leaks": leaks}
    with Client(url, key) as client:
        shares = numbers(ratios or [], "ratio") or None
        job = client.datasets.split(dataset, name, ratios=shares, wait=False, **params)
        _finish(client, job, detach, as_json)


@group.command()
def features(
    dataset: DatasetRef,
    recipe: RecipeFile,
    name: Into = None,
    label: Label = None,
    detach: Detach = False,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Make columns of columns, and choose those that tell something.

    From dates, texts, names, other datasets' rows, and by a model's vectors.

    Example: modelport data features sales --recipe features.yaml --label paid
    """
    from modelport.sdk.client import Client

    with Client(url, key) as client:
        job = client.datasets.features(dataset, _recipe(recipe), name, label=label, wait=False)
        _finish(client, job, detach, as_json)


@group.command("list")
def list_datasets(
    name: Annotated[str | None, typer.Argument(help="List the versions of this dataset.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """List the datasets, or the versions of one.

    Example: modelport data list
    """
    from modelport.cli import render
    from modelport.sdk.client import Client

    with Client(url, key) as client:
        if name is not None:
            versions = client.datasets.versions(name)
            if as_json:
                render.as_json(versions)
                return
            rows = [
                (
                    v.version,
                    v.rows,
                    render.bytes_text(v.size),
                    v.manifest.parts,
                    v.manifest.parents,
                    v.archived,
                    v.created_at,
                )
                for v in versions
            ]
            columns = ("VERSION", "ROWS", "SIZE", "PARTS", "MADE FROM", "ARCHIVED", "CREATED")
            render.table(columns, rows, f"dataset {name} has no versions")
            return
        found = client.datasets.list()
    if as_json:
        render.as_json(found)
        return
    shown = [
        (d.name, d.latest_version, d.versions, d.rows, render.bytes_text(d.size or 0), d.created_at) for d in found
    ]
    empty = "no datasets; `modelport data collect` makes one"
    render.table(("NAME", "LATEST", "VERSIONS", "ROWS", "SIZE", "CREATED"), shown, empty)


@group.command()
def show(
    dataset: DatasetRef,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page with pictures.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Show a version: columns, statistics, histograms, class balance, lineage.

    Example: modelport data show digits:1 --html digits.html
    """
    from modelport.cli import data_page, data_view, render
    from modelport.sdk.client import Client

    name, ref, _ = parse_dataset(dataset)
    with Client(url, key) as client:
        found, lineage = client.datasets.version(name, ref), client.datasets.lineage(name, ref)
    if html is not None:
        html.write_text(data_page.page(found, lineage), encoding="utf-8")
        render.say(f"wrote {html}")
    elif as_json:
        render.as_json(found)
    else:
        data_view.view(found, lineage)


@group.command()
def head(
    dataset: DatasetRef,
    rows: Annotated[int, typer.Option("--rows", min=1, max=1000, help="How many.")] = 10,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Show the first rows.

    Example: modelport data head digits:1 --rows 5
    """
    from modelport.cli import render
    from modelport.sdk.client import Client

    name, ref, part = parse_dataset(dataset)
    with Client(url, key) as client:
        found = client.datasets.head(name, ref, rows, part)
    if as_json:
        render.as_json(found)
        return
    shown = [[row[column] for column in found.columns] for row in found.rows]
    render.table([render.plain(column) for column in found.columns], shown, "no rows")


@group.command()
def export(
    dataset: DatasetRef,
    to: Annotated[
        Path, typer.Option("--to", help="File (.csv, .jsonl, .parquet), or a new folder.", show_default=False)
    ],
    url: Url = None,
    key: Key = None,
) -> None:
    """Bring the rows here, verified.

    Example: modelport data export digits:1/train --to train.parquet
    """
    import tempfile

    from modelport.cli import render
    from modelport.sdk.client import Client

    name, ref, part = parse_dataset(dataset)
    with Client(url, key) as client, render.transfer_bar() as progress:
        if not to.suffix:
            found = client.datasets.pull(name, ref, to, part=part, progress=progress)
        else:
            from modelport.data import export as room

            room.check_target(to)
            with tempfile.TemporaryDirectory(prefix="modelport-") as scratch:
                found = client.datasets.pull(name, ref, Path(scratch) / "parts", part=part, progress=progress)
                room.export(Path(scratch) / "parts" / part, to)
    rows = found.manifest.parts[part] if part else found.rows
    render.say(f"{dataset} is in {to} ({render.counted(rows, 'row')}, verified)")


@group.command()
def archive(
    dataset: DatasetRef,
    to: Annotated[str, typer.Option("--to", help="URL that the operator allows.", show_default=False)],
    detach: Detach = False,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Move a version's files elsewhere; they come back when somebody needs them.

    Example: modelport data archive digits:1 --to s3://cold/datasets
    """
    from modelport.cli.render import say
    from modelport.sdk.client import Client

    with Client(url, key) as client:
        job = client.datasets.archive(dataset, to, wait=False)
        if (done := _followed(client, job, detach, as_json)) is not None:
            say(f"{done['dataset']} is archived at {done['archived']}")


@group.command()
def delete(
    dataset: Annotated[str, typer.Argument(metavar="NAME[:VERSION]", help="Dataset or version.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Delete a version, or a dataset with all of them; what was made from it stays.

    Example: modelport data delete digits:2
    """
    from modelport.cli.render import say
    from modelport.sdk.client import Client

    name, ref, _ = parse_dataset(dataset)
    whole = ref == "latest"
    if whole and not yes:
        typer.confirm(f"Delete dataset {name} with all its versions?", abort=True)
    with Client(url, key) as client:
        client.datasets.delete(name, None if whole else int(ref))
    say(f"deleted {dataset}")


def parse_dataset(text: str) -> tuple[str, str, str]:
    """Name, version (or ``latest``) and part; raises InvalidInput."""
    import re

    from modelport.errors import InvalidInput
    from modelport.schemas.datasets import DATASET_REF

    if re.fullmatch(DATASET_REF, text) is None:
        raise InvalidInput(f"{text[:100]!r} is not like NAME, NAME:3 or NAME:3/train")
    whole, _, part = text.partition("/")
    name, _, version = whole.partition(":")
    return name, version or "latest", part


def _recipe(file: Path) -> dict[str, Any]:
    import yaml

    from modelport.errors import InvalidInput

    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file.name!r} is not YAML: {' '.join(str(error).split())[:300]}") from None
    if not isinstance(found, dict):
        raise InvalidInput(f"{file.name!r} must hold a mapping, such as 'rules: [{{rule: duplicates}}]'")
    return found


def _finish(client: Client, job: Job, detach: bool, as_json: bool) -> None:
    """Follow the job to its end, and say what it made."""
    from modelport.cli import data_view

    if (made := _followed(client, job, detach, as_json)) is None:
        return
    name, _, version = str(made["dataset"]).partition(":")
    data_view.made(client.datasets.version(name, version), made)


def _followed(client: Client, job: Job, detach: bool, as_json: bool) -> dict[str, Any] | None:
    """The result of a job that was followed to its end; None when all is said already."""
    from modelport.cli import follow, render

    if detach:
        render.as_json(job) if as_json else follow.detached(job)
        return None
    result = follow.follow(client, job.id).result or {}
    if as_json:
        render.as_json(result)
        return None
    return result
