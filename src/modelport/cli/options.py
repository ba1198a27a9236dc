"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Url = Annotated[
    str | None,
    typer.Option("--url", envvar="MODELPORT_URL", help="Server to call; by default the one of this machine."),
]
Key = Annotated[
    str | None,
    typer.Option("--key", envvar="MODELPORT_KEY", help="API key; this machine's server needs none from its owner."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Endpoint = Annotated[str, typer.Argument(metavar="NAME", help="Endpoint name.", show_default=False)]
ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="Model name.", show_default=False)]
Reference = Annotated[
    str, typer.Argument(metavar="NAME[:VERSION|@ALIAS]", help="Model, or one of its versions.", show_default=False)
]
Timeout = Annotated[float, typer.Option("--timeout", min=0, help="Seconds to wait at most.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Come back at once, not when it serves.")]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Come back at once, not when it has ended.")]
Env = Annotated[
    list[str] | None,
    typer.Option(
        "--env",
        "-e",
        metavar="K=V",
        help="Variable of the replicas, no secret; K alone has its value from here; repeatable.",
    ),
]
Memory = Annotated[str | None, typer.Option("--memory", help="Most memory of one replica, such as 512Mi.")]
Cache = Annotated[
    str | None, typer.Option("--cache", help="Answers each gateway keeps for equal inputs, such as 64Mi. [none]")
]
Runtime = Annotated[str | None, typer.Option("--runtime", help="Runtime; by default the one of the format.")]
Engine = Annotated[
    list[str] | None,
    typer.Option(
        "--engine", metavar="OPTION=VALUE", help="Of a language model's engine: max_model_len=4096; repeatable."
    ),
]
TlsCert = Annotated[Path | None, typer.Option("--tls-cert", help="PEM file with the certificates.")]
TlsKey = Annotated[Path | None, typer.Option("--tls-key", help="PEM file with the private key.")]
InsecureNoTls = Annotated[
    bool, typer.Option("--insecure-no-tls", help="Listen beyond loopback without TLS: behind a proxy that ends it.")
]
