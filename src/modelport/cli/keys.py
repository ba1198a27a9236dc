"""``modelport keys``: who may call the server."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from modelport.cli.options import AsJson, Key, Url

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelport.schemas.access import Key as Listed
    from modelport.schemas.access import NewKey

#: What making a key does besides making it; not on standard output, which scripts read.
CLOSED = "once a key was made, the server wants one of every caller, on loopback too; revoking it changes nothing there"

group = typer.Typer(help="API keys.", no_args_is_help=True, rich_markup_mode=None)


@group.command()
def create(
    name: Annotated[str, typer.Option("--name", "-n", help="What or whom it is for.", show_default=False)],
    role: Annotated[
        Literal["caller", "viewer", "developer", "admin"],
        typer.Option("--role", help="caller predicts; viewer also reads; developer also deploys; admin also keys."),
    ] = "caller",
    project: Annotated[str, typer.Option("--project", help="Project of the key; made when it is new.")] = "default",
    days: Annotated[int | None, typer.Option("--days", min=1, help="Days until it expires; never by default.")] = None,
    models: Annotated[
        str | None, typer.Option("--models", metavar="A,B", help="The only endpoints it may call.")
    ] = None,
    tokens_per_minute: Annotated[
        int | None, typer.Option("--tokens-per-minute", min=1, help="That it may spend on each language model.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=1, help="Most tokens of one answer.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Make a key; its secret is shown this once.

    Works without a server too, on this machine's home. From the first key on every caller needs one, on loopback too.

    Example: modelport keys create --name mobile-app --role caller --days 90

    Example: modelport keys create --name intern --models small,tiny --tokens-per-minute 6000 --max-tokens 500
    """
    from modelport.cli import render

    wish = {
        "name": name,
        "role": role,
        "project": project,
        "days": days,
        "models": [model.strip() for model in models.split(",")] if models is not None else None,
        "tokens_per_minute": tokens_per_minute,
        "max_tokens": max_tokens,
    }
    made = _create(wish, url, key)
    for note in (CLOSED, *made.notes):
        render.console(stderr=True).print(note, markup=False)
    if as_json:
        render.as_json(made)
        return
    render.say(made.secret)
    render.facts(
        [
            ("id", made.id),
            ("role", made.role),
            ("project", made.project),
            ("expires", made.expires_at or "never"),
            ("models", ", ".join(made.models) if made.models is not None else None),
            ("tokens a minute", made.tokens_per_minute),
            ("tokens an answer", made.max_tokens),
            ("use", "Authorization: Bearer SECRET, or MODELPORT_KEY=SECRET; it is not shown again"),
        ]
    )


def _create(fields: dict[str, Any], url: str | None, key: str | None) -> NewKey:
    from modelport.sdk.client import Client
    from modelport.sdk.endpoint import local_server

    if url is None and (key is None or key == os.environ.get("MODELPORT_KEY")) and local_server() is None:
        from pydantic import ValidationError

        from modelport.cli.offline import create_key
        from modelport.schemas.access import KeyCreate
        from modelport.sdk.models import refused
        from modelport.settings import load_settings

        try:
            wish = KeyCreate(**fields)
        except ValidationError as error:
            raise refused(error, KeyCreate) from None
        return create_key(load_settings(), wish)
    with Client(url, key) as client:
        return client.keys.create(**fields)


@group.command("list")
def list_keys(as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """List the keys, without their secrets.

    Example: modelport keys list
    """
    from modelport.cli import render
    from modelport.sdk.client import Client

    with Client(url, key) as client:
        found = client.keys.list()
    if as_json:
        render.as_json(found)
        return
    columns, rows = key_rows(found)
    render.table(columns, rows, "no keys; `modelport keys create --name NAME` makes one")


def key_rows(found: Sequence[Listed]) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """The columns and rows of a table of keys; what they are held to only where one is."""
    columns = ("ID", "NAME", "PREFIX", "ROLE", "PROJECT", "CREATED", "EXPIRES", "REVOKED")
    rows = [(k.id, k.name, k.prefix, k.role, k.project, k.created_at, k.expires_at, k.revoked_at) for k in found]
    limits = [(k.models, k.tokens_per_minute, k.max_tokens) for k in found]
    if not any(limit is not None for each in limits for limit in each):
        return columns, rows
    return (*columns, "MODELS", "TOKENS/MIN", "MAX TOKENS"), [
        (*row, *limit) for row, limit in zip(rows, limits, strict=True)
    ]


@group.command()
def revoke(
    id: Annotated[
        str, typer.Argument(metavar="ID", help="Id of the key: `modelport keys list` shows them.", show_default=False)
    ],
    url: Url = None,
    key: Key = None,
) -> None:
    """Make a key useless, at once and for good.

    Example: modelport keys revoke 1a20699ee6fdb113270
    """
    from modelport.cli.render import say
    from modelport.sdk.client import Client

    with Client(url, key) as client:
        client.keys.revoke(id)
    say(f"revoked {id}")
