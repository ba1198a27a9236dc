"""Start-up times: what a user waits for before anything happens. Medians of ten runs, each in a process of its own.

python benchmarks/startup.py
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

RUNS = 10
#: What is run, and the median that we hold ourselves to, ms.
COMMANDS: dict[str, tuple[list[str], float | None]] = {
    "python -c pass": ([sys.executable, "-c", "pass"], None),
    "python -c 'import modelport'": ([sys.executable, "-c", "import modelport"], 150),
    "modelport --help": ([str(Path(sys.executable).parent / "modelport"), "--help"], 300),
    "modelport version": ([str(Path(sys.executable).parent / "modelport"), "version"], 300),
}


def measure(argv: list[str], runs: int = RUNS) -> list[float]:
    """Wall-clock times of ``runs`` runs, ms, after one that warms the disk's cache."""
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
        times.append((time.perf_counter() - start) * 1e3)
    return times[1:]


def main() -> None:
    """Print the table."""
    table = Table("command", "median ms", "fastest", "slowest", "goal", title=f"Start-up, {RUNS} runs each")
    for name, (argv, goal) in COMMANDS.items():
        times = measure(argv)
        goal_text = f"< {goal:g}" if goal else ""
        table.add_row(name, *(f"{f(times):.0f}" for f in (statistics.median, min, max)), goal_text)
    console = Console()
    console.print(table)
    console.print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
