"""Whether a network's training fits into this process's memory, known before a weight is loaded."""

from __future__ import annotations

import contextlib
from pathlib import Path

from modelport.errors import InvalidInput

_WEIGHT, _LEARNING = 4, 16
"""Bytes of one weight, and of what learning it takes besides: its gradient, Adam's two moments, the best epoch's copy;
all in 32 bits."""
_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")
_BESIDES = 256 << 20
_ADVICE = "take a smaller base model, fewer layers that learn (lora, freeze), a smaller batch_size or max_length"
"""For activations of a small batch; the batch's size decides the rest."""


def check_fits(
    parameters: int, trainable: float = 1.0, activations: int = _BESIDES, *, what: str = "the base model",
    advice: str = _ADVICE,
) -> None:  # fmt: skip
    """Raise InvalidInput when ``parameters`` weights, of which a share learns, are more than what is free.

    ``activations`` are the bytes that one step takes beside them.
    """
    free = available()
    needed = int(parameters * (_WEIGHT + trainable * _LEARNING)) + activations
    if free is not None and needed > free:
        raise InvalidInput(
            f"too little memory: {what} has {parameters / 1e6:.0f} million weights, and learning {trainable:.0%} of "
            f"them takes at least {needed >> 20} MB, and {free >> 20} MB are free; {advice}, or a larger machine"
        )


def available() -> int | None:
    """Bytes that this process may still take: the machine's, or what its container leaves; None when not known."""
    found = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        line = next(line for line in _MEMINFO.read_text().splitlines() if line.startswith("MemAvailable:"))
        found.append(int(line.split()[1]) << 10)
    with contextlib.suppress(OSError, ValueError):  # no container, or one without a limit: "max"
        limit = int((_CGROUP / "memory.max").read_text())
        found.append(max(limit - int((_CGROUP / "memory.current").read_text()), 0))
    return min(found, default=None)
