"""The plug-in door: formats and runtimes are entry points, Modelport's own as well as anybody's.

A package adds a runtime with an entry point in the group ``modelport.runtimes``, a format in ``modelport.formats``.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from modelport.errors import InvalidInput, NotFound

_SHOWN = 30


@cache
def names(group: str) -> tuple[str, ...]:
    """The names of the plug-ins of a group, sorted."""
    return tuple(sorted({point.name for point in entry_points(group=f"modelport.{group}")}))


@cache
def reference(group: str, name: str) -> str:
    """Where a plug-in is, as ``module:attribute``, without importing it; raises NotFound with the known names."""
    for point in entry_points(group=f"modelport.{group}", name=name):
        return point.value
    raise NotFound(f"no {group[:-1]} {name!r} is installed; there are {', '.join(names(group)) or 'none'}")


def resolve(value: str) -> Any:
    """The object behind ``module:attribute``: for processes that know no installed packages."""
    module, _, attribute = value.partition(":")
    return getattr(import_module(module), attribute)


@cache
def load(group: str, name: str) -> Any:
    """The object behind one entry point; raises NotFound with the known names."""
    return resolve(reference(group, name))


def asked_for(group: str, name: str, field: str, what: str) -> Any:
    """A new object of the class behind a name that a caller gave in ``field``; raises InvalidInput with the nearest
    name, or all."""
    known = names(group)
    if name not in known:
        raise InvalidInput(f"{field}: there is no {what} {name[:100]!r}{nearest(name, known)}")
    return load(group, name)()


def nearest(name: str, known: Sequence[str]) -> str:
    """How a message about an unknown name ends."""
    close = difflib.get_close_matches(name, known, 1, 0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return f"; there are {', '.join(known[:_SHOWN]) or 'none'}{more}"
