"""The plug-in door: formats and runtimes are entry points, Modelport's own as well as anybody's.

A package adds a runtime with an entry point in the group ``modelport.runtimes``, a format in ``modelport.formats``.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from modelport.errors import NotFound


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
