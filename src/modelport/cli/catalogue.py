"""Plug-ins of the server as they are listed (recipes, methods), and the options of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from modelport.cli import render
from modelport.errors import NotFound


class Listed(Protocol):
    """What the server tells of one."""

    name: str
    summary: str
    options: dict[str, Any]
    """JSON Schema."""
    available: bool
    extra: Any


T = TypeVar("T", bound=Listed)


def show(
    found: Sequence[T], name: str | None, what: str, as_json: bool, columns: Sequence[str],
    row: Callable[[T], tuple[str, ...]],
) -> None:  # fmt: skip
    """All of them, ``row`` of each with what it needs; or the one of that name with its options."""
    if name is not None:
        found = [one for one in found if one.name == name]
        if not found:
            raise NotFound(f"there is no {what} {name[:100]!r}; `modelport {what}s` lists them")
    if as_json:
        render.as_json(list(found))
    elif name is not None:
        _show_options(found[0])
    else:
        needs = ("" if one.available else f"pip install 'modelport[{one.extra}]'" for one in found)
        rows = [(*row(one), need) for one, need in zip(found, needs, strict=True)]
        render.table(columns, rows, f"no {what}s")


def _show_options(one: Listed) -> None:
    render.say(f"{one.name}: {one.summary}\n")
    rows = []
    for option, about in one.options.get("properties", {}).items():
        kinds = about.get("enum") or [part.get("type", part.get("const", "")) for part in about.get("anyOf", [about])]
        text = " ".join(str(about.get("description", "")).replace("``", "`").split())
        rows.append((option, "|".join(str(kind) for kind in kinds if kind != "null"), about.get("default"), text))
    render.table(("OPTION", "VALUE", "DEFAULT", "WHAT IT DOES"), rows, "it takes no options")
