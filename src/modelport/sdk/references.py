"""``NAME``, ``NAME:3`` and ``NAME@champion``: how people write which version of a model they mean."""

from __future__ import annotations

import re
from dataclasses import dataclass

from modelport.errors import InvalidInput

_PATTERN = re.compile(r"(?P<name>[^:@/\s]+)(?::(?P<version>[0-9]{1,10})|@(?P<alias>[^:@/\s]+))?")


@dataclass(frozen=True, slots=True)
class Reference:
    """A model, and a version number, or an alias, or neither (the newest)."""

    name: str
    version: int | None = None
    alias: str | None = None

    @property
    def ref(self) -> str:
        """As the management API writes it in a path."""
        return str(self.version) if self.version is not None else self.alias or "latest"


def parse_reference(text: str, version: int | None = None, alias: str | None = None) -> Reference:
    """Read ``NAME[:version|@alias]``; ``version`` and ``alias`` may be given apart instead. Raises InvalidInput."""
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise InvalidInput(f"{text[:100]!r} is not like NAME, NAME:3 or NAME@champion")
    number = int(match["version"]) if match["version"] else None
    given = [choice for choice in (number, match["alias"], version, alias) if choice is not None]
    if len(given) > 1:
        raise InvalidInput(f"{text[:100]!r}: give one of a version and an alias")
    return Reference(match["name"], number if number is not None else version, match["alias"] or alias)
