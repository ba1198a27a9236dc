"""The rule for names, in one place: projects, models, endpoints, aliases, labels."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

#: Letters, digits, ``.``, ``_``, ``-``; the first a letter or digit. No path, control character or Unicode twin.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"

Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=100, examples=["digits"])]
#: An alias may not look like a version number.
ALIAS_PATTERN = r"^[A-Za-z][A-Za-z0-9._-]{0,99}$"
AliasName = Annotated[str, Field(pattern=ALIAS_PATTERN, max_length=100, examples=["champion"])]
LabelKey = Annotated[str, Field(pattern=NAME_PATTERN, max_length=100, examples=["team"])]
LabelValue = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{0,200}$", max_length=200, examples=["vision"])]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
