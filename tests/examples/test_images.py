"""From a folder of images to an answer, as a person runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "images" / "run.py"


@pytest.mark.timeout(300)
@pytest.mark.long
def test_a_folder_of_images_becomes_a_service(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    environment = {"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path), "HOME": str(tmp_path), "COLUMNS": "120"}
    command = [sys.executable, str(EXAMPLE), "--epochs", "6"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    validation, test = map(float, re.findall(r"(?:validation accuracy|test) (0\.\d+)", done.stdout))
    assert validation > 0.95 and test > 0.95
    assert "179 test images predicted in bulk" in done.stdout
    assert re.search(r'9/1795\.png: .*"label": \["9"\]', done.stdout), done.stdout[-500:]
    assert list(tmp_path.glob("modelport-images-*")) == []
