"""What is wrong with a wish, in words: the first wrong field by its path, the cause, and the names that there are.

Knows pydantic's errors and the shape that was wished for; no protocol and no file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

_SCALARS = ("_parsing", "_type", "literal_error")
"""Ends of what pydantic calls a value that is none of the kind."""


def told(problem: ErrorDetails, kind: Any = None) -> str:
    """``cascade.foo: …; it takes first, mean_logprob``; ``kind`` is the shape in which the path begins."""
    said = problem["msg"].removeprefix("Value error, ")[:500]
    if problem["type"] == "extra_forbidden":
        names = _names(kind, problem["loc"][:-1])
        said += f"; it takes {', '.join(names)}" if names else ""
    elif problem["type"].endswith(_SCALARS) and isinstance(problem["input"], str | int | float):
        said += f"; given {problem['input']!r:.100}"
    return f"{'.'.join(str(part)[:100] for part in problem['loc'])}: {said}"


def _names(kind: Any, path: Sequence[str | int]) -> tuple[str, ...]:
    """The fields of the shape that stands at the path; none where it may be one of several."""
    here = list(_shapes(kind))
    for part in path:
        if len(here) == 1 and part in here[0].model_fields:  # else a place in a list or a mapping
            here = list(_shapes(here[0].model_fields[str(part)].annotation))
    return tuple(here[0].model_fields) if len(here) == 1 else ()


def _shapes(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _shapes(inner)
