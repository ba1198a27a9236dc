"""What machine this is, in few words: figures of speed belong to it."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

from modelport.control.jobs.gate import machine_cores


def gpu_count() -> int:
    """NVIDIA's, as their driver says."""
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))


@cache
def machine() -> str:
    """Processor and cores that may be used, such as ``AMD EPYC 7B13, 2 cores``."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2] for line in lines if line.lower().startswith("model name")]
    name = " ".join((named[0] if named else platform.processor() or platform.machine()).split())
    cores = machine_cores()
    return f"{name[:100]}, {cores:g} core{'s' if cores != 1 else ''}"
