"""Narrower and shallower forms of a network: how many channels and layers are left of those that were published."""

from __future__ import annotations

_MULTIPLE = 8
"""Channels come in these: what processors are quick with."""

#: Width and depth, as shares of the published network.
SHARES = (
    (1.0, 0.5), (0.75, 1.0), (0.75, 0.5), (0.5, 1.0), (0.5, 0.5), (0.375, 1.0), (0.375, 0.5), (0.25, 1.0), (0.25, 0.5),
    (0.125, 1.0), (0.125, 0.5),
)  # fmt: skip


def narrower(channels: int, width: float) -> int:
    """So many channels, in eights."""
    return channels if width == 1 else max(_MULTIPLE, round(channels * width / _MULTIPLE) * _MULTIPLE)


def fewer(layers: int, depth: float) -> int:
    """So many layers, one at least."""
    return max(1, round(layers * depth))
