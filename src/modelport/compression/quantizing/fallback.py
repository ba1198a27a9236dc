"""Turns back the layers that cost most quality, until what is lost is not more than allowed.

Each layer is quantized alone, and what that changes in the answers is its harm; the layers are turned back from the
worst on, as few as are needed. Knows neither bits nor formats: it is given a way to build and a way to measure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from modelport.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Kept:
    """What came of it."""

    chosen: list[str]
    """Layers that are quantized in the end."""
    reverted: list[str]
    """Those that were turned back, the worst first."""
    harm: dict[str, float]
    """By layer; empty where nothing had to be turned back."""


def fall_back(
    layers: Sequence[str], drop: Callable[[Sequence[str]], float], harm: Callable[[str], float], most: float,
    told: Callable[[int, int], None],
) -> Kept:  # fmt: skip
    """As many layers as can be quantized with a ``drop`` of at most ``most``.

    Fewer turned back is tried by halves, so the answer is right where turning back more never hurts, and it is always
    one whose drop was measured. Raises InvalidInput when nothing can be quantized.
    """
    names = list(layers)
    if drop(names) <= most:
        return Kept(names, [], {})
    found: dict[str, float] = {}
    for number, name in enumerate(names):
        told(number, len(names))
        found[name] = harm(name)
    worst = sorted(names, key=lambda name: (-found[name], names.index(name)))
    few, many = 0, len(names)  # ``few`` turned back are not enough; all of them are the model as it was
    while many - few > 1:
        middle = (few + many) // 2
        if drop(_without(names, worst[:middle])) <= most:
            many = middle
        else:
            few = middle
    if many == len(names):
        raise InvalidInput(
            f"max_drop: quantizing any of the {len(names)} layers loses more than {most:.2%}; allow more, calibrate "
            "with more rows, or train with quantization in mind (quantize-aware)"
        )
    return Kept(_without(names, worst[:many]), worst[:many], found)


def _without(names: Sequence[str], gone: Sequence[str]) -> list[str]:
    return [name for name in names if name not in set(gone)]
