"""What a search may try: options of a recipe by name, held to what the recipe takes before anything is trained."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from modelport.errors import InvalidInput
from modelport.plugins import nearest
from modelport.schemas.tuning import Choices, Range
from modelport.training.recipe import Recipe, options_of

_MOST_COMBINATIONS = 10_000
Space = Mapping[str, Range | Choices]


def check_space(recipe: Recipe, given: Mapping[str, Any], space: Space) -> None:
    """Raise InvalidInput, naming the row, for an option that is not there, or a value that the recipe does not take."""
    known = tuple(recipe.Options.model_fields)
    for name in space:
        first, _, inner = name.partition(".")
        if first not in known:
            raise InvalidInput(f"space: there is no option {first[:100]!r}{nearest(first, known)}")
        if inner and not isinstance(given.get(first, _default(recipe, first)) or {}, dict):
            raise InvalidInput(f"space.{name}: option {first!r} holds no mapping")
        if any(other.startswith(f"{name}.") for other in space):
            raise InvalidInput(f"space: {name!r} is there as a whole and by its keys; give one of them")
    begin = start_point(recipe, given, space)
    for name, dimension in space.items():
        for value in _ends(dimension):
            try:
                options_of(recipe, merged(given, {**begin, name: value}))
            except InvalidInput as error:
                raise InvalidInput(f"space.{name}: {value!r} is not possible: {error.message}"[:700]) from None


def start_point(recipe: Recipe, given: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """The first values to try: those given, or the recipe's own, where the space has them; else its first."""
    found = {}
    for name, dimension in space.items():
        value = _given(recipe, given, name)
        found[name] = value if _has(dimension, value) else next(_ends(dimension))
    return found


def known_start(recipe: Recipe, given: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """Those of the first values that somebody chose: given, or the recipe's own."""
    named = {name: _given(recipe, given, name) for name in space}
    return {name: value for name, value in named.items() if _has(space[name], value)}


def merged(given: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Options with chosen values put in; ``params.depth`` goes into the mapping ``params``."""
    found = copy.deepcopy(dict(given))
    for name, value in chosen.items():
        *outer, last = name.split(".")
        place = found
        for key in outer:
            inner = place.get(key)
            place[key] = inner if isinstance(inner, dict) else {}
            place = place[key]
        place[last] = value
    return found


def combinations(space: Space) -> Iterator[dict[str, Any]]:
    """Every combination of a space that has ends, the last option changing fastest."""
    for values in itertools.product(*(_values(dimension) for dimension in space.values())):
        yield dict(zip(space, values, strict=True))


def check_grid(space: Space) -> None:
    """Raise InvalidInput unless every combination can be tried."""
    for name, dimension in space.items():
        if _count(dimension) is None:
            raise InvalidInput(f"space.{name}: the sampler 'grid' needs choices, or a range with a step")
    if (count := combination_count(space) or 0) > _MOST_COMBINATIONS:
        raise InvalidInput(
            f"space: the sampler 'grid' would try {count} combinations, more than {_MOST_COMBINATIONS}; "
            "leave values out, or take the sampler 'tpe'"
        )


def combination_count(space: Space) -> int | None:
    """How many combinations there are; None for no end of them."""
    counts = [_count(dimension) for dimension in space.values()]
    return None if None in counts else math.prod(count for count in counts if count is not None)


def _count(dimension: Range | Choices) -> int | None:
    if isinstance(dimension, Choices):
        return len(dimension.choices)
    return None if dimension.step is None and not dimension.is_whole else _steps(dimension)


def place_of(choices: Sequence[Any], value: Any) -> int:
    """Where a choice stands; true is not 1."""
    return next(number for number, one in enumerate(choices) if type(one) is type(value) and one == value)


def _steps(dimension: Range) -> int:
    step = 1 if dimension.step is None else dimension.step
    return int((dimension.high - dimension.low) / step * (1 + 1e-12)) + 1


def _values(dimension: Range | Choices) -> list[Any]:
    if isinstance(dimension, Choices):
        return dimension.choices
    step = 1 if dimension.step is None else dimension.step
    return [dimension.low + number * step for number in range(_steps(dimension))]


def _ends(dimension: Range | Choices) -> Iterator[Any]:
    if isinstance(dimension, Choices):
        yield from dimension.choices
    else:
        yield dimension.low
        yield dimension.high


def _given(recipe: Recipe, given: Mapping[str, Any], name: str) -> Any:
    first, *inner = name.split(".")
    found = given.get(first, _default(recipe, first))
    for key in inner:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _default(recipe: Recipe, name: str) -> Any:
    field = recipe.Options.model_fields[name]
    return None if field.is_required() else field.get_default(call_default_factory=True)


def _has(dimension: Range | Choices, value: Any) -> bool:
    if isinstance(dimension, Choices):
        return any(type(choice) is type(value) and choice == value for choice in dimension.choices)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if not dimension.low <= value <= dimension.high or (dimension.is_whole and not isinstance(value, int)):
        return False
    if dimension.step is None:
        return True
    steps = (value - dimension.low) / dimension.step
    return math.isclose(steps, round(steps), abs_tol=1e-9)
