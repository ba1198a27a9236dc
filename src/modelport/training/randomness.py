"""One seed for everything that draws, the same result on every run, and the generators' states for a checkpoint."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import numpy as np
import torch


def settle(seed: int, threads: int) -> None:
    """Seed all generators, fix the threads, and let torch take only ways of computing that repeat bit for bit."""
    torch.set_num_threads(max(threads, 1))
    with suppress(RuntimeError):  # it is settled once in a process
        torch.set_num_interop_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    torch.utils.deterministic.fill_uninitialized_memory = False  # a debugging aid that costs time
    torch.backends.cudnn.benchmark = False
    random.seed(seed)
    np.random.seed(seed % 2**32)  # libraries draw from it
    torch.manual_seed(seed)


def states() -> dict[str, Any]:
    """Where the generators stand."""
    name, keys, position, has_gauss, gauss = np.random.get_state()
    found = {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        found["cuda"] = torch.cuda.get_rng_state_all()
    return found


def restore(found: dict[str, Any]) -> None:
    """Go on from ``states``."""
    random.setstate(found["python"])
    name, keys, *rest = found["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(found["torch"])
    if "cuda" in found and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(found["cuda"])
