"""``modelport convert``: a version of another format, proven to answer like the one before."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from modelport.cli.jobs import Cores, MemoryMb, Priority, Retries
from modelport.cli.options import AsJson, Detach, Key, Url

_Names = list[str] | None
Source = Annotated[
    str,
    typer.Argument(
        metavar="NAME[:VERSION|@ALIAS]|FILE", help="Version, or a model's file or folder.", show_default=False
    ),
]
To = Annotated[
    str, typer.Option("--to", metavar="onnx|openvino|litert|torch|gguf", help="What it becomes.", show_default=False)
]
Name = Annotated[str | None, typer.Option("--name", "-n", help="Model that gets the version. [its own name]")]
Data = Annotated[
    str | None, typer.Option("--data", metavar="NAME[:VERSION][/PART]", help="Rows to compare answers on.")
]
Inputs = Annotated[_Names, typer.Option("--input", metavar="NAME=COLUMN,…", help="Columns of an input; repeatable.")]
Rows = Annotated[int | None, typer.Option("--rows", min=1, help="Rows to compare on, at most. [256]")]
Batch = Annotated[
    str | None, typer.Option("--batch", metavar="N[,N…]", help="Rows of a run, where the target fixes them.")
]
Opset = Annotated[int | None, typer.Option("--opset", help="ONNX opset. [the converter's]")]
Precision = Annotated[
    str | None,
    typer.Option("--precision", metavar="fp32|fp16|int8|int4", help="Weights of a language model. [as stored]"),
]
Tolerance = Annotated[float | None, typer.Option("--tolerance", help="Most that a value may differ by. [0.001]")]
MaxRowsOff = Annotated[float | None, typer.Option("--max-rows-off", help="Share of rows that may differ more. [0.002]")]
Classes = Annotated[
    str | None, typer.Option("--classes", metavar="A,B,C|FILE", help="Names of the classes, or a file of lines.")
]
Sample = Annotated[Path | None, typer.Option("--sample", help="Example inputs: .npz by input name, or .json.")]
Alias = Annotated[str | None, typer.Option("--alias", help="Alias that moves to the version.")]
Labels = Annotated[_Names, typer.Option("--label", metavar="K=V", help="Label of the version; repeatable.")]


def convert(
    model: Source,
    to: To,
    name: Name = None,
    data: Data = None,
    inputs: Inputs = None,
    rows: Rows = None,
    batch: Batch = None,
    opset: Opset = None,
    precision: Precision = None,
    tolerance: Tolerance = None,
    max_rows_off: MaxRowsOff = None,
    classes: Classes = None,
    sample: Sample = None,
    alias: Alias = None,
    labels: Labels = None,
    cores: Cores = None,
    memory_mb: MemoryMb = None,
    priority: Priority = None,
    retries: Retries = None,
    detach: Detach = False,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Convert a model to another format, proven to answer alike.

    The new version is registered when its answers to the same rows agree.

    Example: modelport convert wine:1 --to onnx --data wine/test

    Example: modelport convert my-llama --to openvino --name my-llama-ir
    """
    from modelport.cli import follow, render
    from modelport.cli.inputs import class_names, pairs, sample_inputs
    from modelport.cli.training_options import rest_of
    from modelport.sdk.client import Client
    from modelport.sdk.models import sample_tensors

    columns = {given: listed.split(",") for given, listed in pairs(inputs or [], "--input").items()}
    params: dict[str, Any] = rest_of(
        name=name, data=data, inputs=columns or None, rows=rows, batch=_numbers(batch), opset=opset,
        precision=precision, tolerance=tolerance, max_rows_off=max_rows_off, alias=alias, labels=labels,
        class_labels=class_names(classes) if classes else None,
        sample=sample_tensors(sample_inputs(sample)) if sample else None, cores=cores, memory_mb=memory_mb,
        priority=priority, retries=retries,
    )  # fmt: skip
    with Client(url, key) as client:
        with render.transfer_bar() as progress:
            job = client.conversions.convert(model, to, wait=False, upload_progress=progress, **params)
        if detach:
            render.as_json(job) if as_json else follow.detached(job)
            return
        made = follow.follow(client, job.id).result or {}
    if as_json:
        render.as_json(made)
        return
    for version in made.get("versions", []):
        _show(version)


def _numbers(given: str | None) -> list[int] | None:
    from modelport.errors import InvalidInput

    if given is None:
        return None
    parts = given.split(",")
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        raise InvalidInput(f"--batch {given[:100]!r} is not like 1,8: whole numbers from 1")
    return [int(part) for part in parts]


def _show(made: dict[str, Any]) -> None:
    from modelport.cli import render

    same = made["parity"]
    agreement = same["label_agreement"]
    render.say(f"{made['model']} ({made['format']}, {made['bytes']} bytes)")
    rows: list[tuple[str, Any]] = [
        ("compared on", made["compared_on"]),
        ("largest difference", f"{float(same['max_absolute']):.3g}"),
        ("relative", f"{float(same['max_relative']):.3g}"),
        ("tolerance", f"{made['tolerance']:g}"),
    ]
    if agreement is not None:
        rows.append(("texts agree" if "text" in same["outputs"] else "labels agree", f"{agreement:.2%}"))
    for name, value in same.get("told", {}).items():
        rows.append((f"{name}, told only", f"{float(value):.3g}"))
    render.facts(rows)
    for warning in made.get("warnings", []):
        render.say(f"note: {render.plain(warning)}")
    render.say(f"serve it: modelport deploy {made['model']}")
