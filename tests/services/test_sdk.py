"""docs/sdk.md, run as it stands against a real server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

from tests import onnx_models
from tests.services.conftest import Server

DOC = Path(__file__).parents[2] / "docs" / "sdk.md"


def test_the_documentation_runs(server: Server, tmp_path: Path) -> None:
    (tmp_path / "digits.onnx").write_bytes(onnx_models.mlp())
    for number in range(40):
        image = tmp_path / "images" / str(number % 2) / f"{number}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number).save(image)
    text, count = re.subn(r"## Language models\n.*?(?=^## )", "", DOC.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert count == 1, "that part is run by test_openai.py, where a language model is served"
    program = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    env = {name: value for name, value in os.environ.items() if name not in ("MODELPORT_URL", "MODELPORT_KEY")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**env, "MODELPORT_HOME": str(server.home)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "input 'input': shape [1, 2] given, the model takes [-1, 4]" in done.stdout
    assert (tmp_path / "pulled" / "digits.onnx").is_file()
