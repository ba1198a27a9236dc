"""What `make` says before it works for minutes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest


@pytest.mark.parametrize(("verb", "waits"), [("quickstart", 1), ("chat", 2)])
def test_a_first_time_is_told_to_take_minutes(verb: str, waits: int) -> None:
    command = ["make", "--dry-run", "--what-if=pyproject.toml", verb]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=30)
    lines = done.stdout.splitlines()
    told = [number for number, line in enumerate(lines) if "two or three minutes, once" in line]
    assert len(told) == waits, done.stdout + done.stderr
    assert all("install -q" in lines[number + 1] for number in told)
