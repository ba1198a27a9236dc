"""``modelport bundle``: a version as one zip for a phone, a browser or a gateway box."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelport.cli.options import Key, Reference, Url


def bundle(
    model: Reference,
    target: Annotated[str, typer.Option("--for", help="Where it will run; edge is what there is.")] = "edge",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write. [NAME-VERSION.zip]")] = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Write an ONNX or LiteRT version as one signed zip with a runner.

    It runs without Modelport; README.txt inside says how to run it and how to check who made it.

    Example: modelport bundle digits:3 --for edge -o digits.zip
    """
    from modelport.cli.render import say
    from modelport.errors import InvalidInput
    from modelport.sdk.client import Client
    from modelport.sdk.references import parse_reference

    if target != "edge":
        raise InvalidInput(f"--for {target[:40]!r} is not known; there is edge")
    with Client(url, key) as client:
        reference = parse_reference(model)
        version = client.models.version(reference.name, reference.ref)
        file = output or Path(f"{version.model}-{version.version}.zip")
        client.conversions.bundle(version.model, version.version, file)
    size = file.stat().st_size
    say(f"{file}: {version.model}:{version.version}, {size} bytes; README.txt inside says how to run and check it")
