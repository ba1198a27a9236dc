"""``modelport predict-batch``: every row of a dataset through a version, as a job that survives kills."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelport.cli.options import AsJson, Detach, Key, Reference, Url

if TYPE_CHECKING:
    from collections.abc import Sequence

_Columns = list[str] | None


def predict_batch(
    model: Reference,
    data: Annotated[
        str, typer.Option("--data", metavar="NAME[:VERSION][/PART]", help="Rows to predict.", show_default=False)
    ],
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="PLACE", help="dataset:NAME, a folder, a URL, sql://DB/TABLE. [a dataset]"),
    ] = None,
    inputs: Annotated[
        _Columns, typer.Option("--input", metavar="NAME=COLUMN,…", help="Columns of an input; repeatable.")
    ] = None,
    id: Annotated[_Columns, typer.Option("--id", metavar="COLUMN", help="Tells the row; repeatable. [row]")] = None,
    keep: Annotated[_Columns, typer.Option("--keep", metavar="COLUMN", help="Stays beside; repeatable.")] = None,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Write the scores of all classes.")] = False,
    on_error: Annotated[str, typer.Option("--on-error", help="A row that is refused: fail or record.")] = "fail",
    nulls: Annotated[str, typer.Option("--nulls", help="A missing number: refuse or nan.")] = "refuse",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that are there.")] = False,
    workers: Annotated[int, typer.Option("--workers", min=1, max=16, help="Copies of the model.")] = 1,
    batch: Annotated[int | None, typer.Option("--batch", min=1, help="Rows of one run. [64]")] = None,
    shard_rows: Annotated[int | None, typer.Option("--shard-rows", min=1, help="Rows of one file. [16384]")] = None,
    timeout: Annotated[float | None, typer.Option("--run-timeout", help="Seconds of one run at most. [600]")] = None,
    detach: Detach = False,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Predict every row of a dataset, as a job that survives kills.

    Exactly one row out for each row in. Columns go to inputs by name; results become a dataset, files, or rows of a
    table.

    Example: modelport predict-batch digits@champion --data digits:1/test --keep label
    """
    from modelport.cli import follow, render
    from modelport.sdk.client import Client

    params: dict[str, Any] = {
        "inputs": _inputs(inputs or []) or None, "id": id or None, "keep": keep or None,
        "probabilities": probabilities or None, "on_error": on_error, "nulls": nulls, "overwrite": overwrite or None,
        "workers": workers, "batch": batch, "shard_rows": shard_rows, "timeout_s": timeout,
    }  # fmt: skip
    with Client(url, key) as client:
        job = client.datasets.predict(model, data, _place(to), wait=False, **params)
        if detach:
            render.as_json(job) if as_json else follow.detached(job)
            return
        made = follow.follow(client, job.id).result or {}
    if as_json:
        render.as_json(made)
        return
    refused = f", {render.counted(made['failed_rows'], 'row')} refused" if made["failed_rows"] else ""
    where = f"dataset {made['dataset']}" if "dataset" in made else render.plain(str(made["to"]))
    render.say(f"{made['model']} on {made['data']}: {render.counted(made['rows'], 'row')}{refused}, in {where}")


def _inputs(given: Sequence[str]) -> dict[str, list[str]]:
    from modelport.cli.inputs import pairs

    return {name: columns.split(",") for name, columns in pairs(given, "--input").items()}


def _place(to: str | None) -> str | None:
    """A folder's path as the URL that the server understands."""
    if to is None or "://" in to or to.startswith("dataset:"):
        return to
    return Path(to).expanduser().absolute().as_uri()
