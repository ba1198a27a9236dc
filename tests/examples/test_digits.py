"""The quickstart, as a person runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits.py"


def test_digits_through_the_api_are_those_of_the_process(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLE)]
    environment = {"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path), "HOME": str(tmp_path), "COLUMNS": "100"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("identical") == 2
    assert '{"result": {"label": [1]' in done.stdout
    assert "2 replicas" in done.stdout
    accuracy = next(line for line in done.stdout.splitlines() if "accuracy" in line)
    figures = [float(part) for part in accuracy.replace("│", " ").split() if part.replace(".", "").isdigit()]
    assert figures[0] == figures[1] == figures[2] > 0.97
    assert list(tmp_path.glob("modelport-digits-*")) == []
