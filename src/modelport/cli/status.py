"""``modelport status``: the server and its deployments at a glance."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from modelport.cli.options import AsJson, Key, Url

if TYPE_CHECKING:
    from rich.console import RenderableType

    from modelport.schemas.server import ServerStatus
    from modelport.sdk.client import Client


def status(
    as_json: AsJson = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show again each second until Ctrl-C (JSON: a line each).")
    ] = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Show the server, its deployments and replicas.

    Example: modelport status --watch
    """
    from modelport.cli import render
    from modelport.sdk.client import Client

    with Client(url, key) as client:
        if as_json:
            _as_json(client, watch)
            return
        screen = render.console()
        if not watch:
            screen.print(_view(client.status()))
            return
        from rich.live import Live

        live = Live(_view(client.status()), console=screen, auto_refresh=False, screen=screen.is_terminal)
        with suppress(KeyboardInterrupt), live:
            while True:
                time.sleep(1)
                live.update(_view(client.status()), refresh=True)


def _as_json(client: Client, watch: bool) -> None:
    """The status once, or on a line of its own each second: what programs read line by line."""
    from modelport.cli import render

    if not watch:
        render.as_json(client.status())
        return
    with suppress(KeyboardInterrupt):
        while True:
            render.say(client.status().model_dump_json())
            time.sleep(1)


def _view(found: ServerStatus) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from modelport.cli.deployments import deployment_rows
    from modelport.cli.render import make_table, plain, seconds_text

    gateways = sum(gateway.connected for gateway in found.gateways)
    about = [
        f"modelport {found.version} at {found.http}" + (f", gRPC {found.grpc}" if found.grpc else ""),
        f"process {found.pid}, up {seconds_text(found.uptime_s)}, {gateways}/{len(found.gateways)} gateways, "
        + ("keys required" if found.keys_required else "no keys needed"),
        "",
    ]
    parts: list[RenderableType] = [Text("\n".join(about))]
    if not found.deployments:
        return Group(*parts, Text("nothing is deployed; `modelport deploy NAME` serves a pushed model"))
    parts.append(make_table(*deployment_rows(found.deployments)))
    rows = [
        (
            d.name,
            r.id,
            r.state,
            r.pid,
            r.restarts,
            f"{r.memory_mb:.0f} MB" if r.memory_mb else "-",
            seconds_text(r.uptime_s),
        )
        for d in found.deployments
        for r in d.replicas
    ]
    if rows:
        parts += [Text(), make_table(("NAME", "REPLICA", "STATE", "PID", "RESTARTS", "MEMORY", "UPTIME"), rows)]
    for deployment in found.deployments:
        if deployment.reason:
            tail = "".join(f"\n  | {plain(line)}" for line in deployment.log_tail[-5:])
            parts.append(Text(f"\n{deployment.name}: {plain(deployment.reason)}{tail}"))
    return Group(*parts)
