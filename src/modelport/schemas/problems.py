"""What is wrong with a wish, in words: the first wrong field by its path, the cause, and the names that there are.

Knows pydantic's errors and the shape that was wished for; no protocol and no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

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
    where = ".".join(str(part)[:100] for part in problem["loc"])
    return f"{where}: {said}" if where else said


def _names(kind: Any, path: Sequence[str | int]) -> tuple[str, ...]:
    """The fields of the shape that stands at the path; none where it may be one of several."""
    here = _plain(kind)
    for part in path:
        if _is_shape(here):
            field = here.model_fields.get(part)
            here = _plain(field.annotation) if field is not None else None
        else:  # of a list or a mapping
            here = _plain(get_args(here)[-1]) if get_origin(here) in (list, tuple, dict) else None
    return tuple(here.model_fields) if _is_shape(here) else ()


def _plain(annotation: Any) -> Any:
    """Without bounds, and without None beside it."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        rest = [each for each in get_args(annotation) if each is not type(None)]
        return _plain(rest[0]) if len(rest) == 1 else None
    return annotation


def _is_shape(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
