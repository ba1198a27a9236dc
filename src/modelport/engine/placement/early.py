"""A replica that imports its libraries while whoever starts it is still finding out what it shall run.

For ``modelport serve``, where both take about as long: on two cores the shorter one costs nothing. Imports only the
standard library.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modelport.engine.placement.process import replica_argv, replica_environment, spawn, thread_variables

FIRST_SPEC = "r-1.json"
"""What it waits for: the fleet's name for what its first replica is told."""
_LIKELY = {".onnx": "modelport.engine.runtimes.onnx"}
"""What a file's name promises. A promise that is not kept costs one idle process, which is ended."""


@dataclass(slots=True)
class Early:
    """The process, the folder where it waits for what it is told, and how it was started."""

    folder: Path
    process: subprocess.Popen[bytes]
    argv: list[str]
    env: dict[str, str]

    def fits(self, argv: list[str], env: Mapping[str, str]) -> bool:
        """Whether it is what would be started so."""
        return self.process.poll() is None and self.argv == argv and self.env == dict(env)


def start_early(model: Path, threads: int, env: Mapping[str, str]) -> Early | None:
    """Start one for a model file; None where it cannot be told what its runtime will be."""
    module = _LIKELY.get(model.suffix)
    if module is None or not model.is_file():
        return None
    folder = Path(tempfile.mkdtemp(prefix="modelport-"))
    argv, variables = replica_argv(FIRST_SPEC), {**thread_variables(threads), **env}
    process = spawn([*argv, module], cwd=folder, log=sys.stderr.fileno(), env={**replica_environment(), **variables})
    return Early(folder, process, argv, variables)
