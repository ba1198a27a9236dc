"""The documentation is true: generated files are fresh, and every example marked `<!-- run -->` does what it shows.

An example runs in a folder that holds ``iris.onnx``, against a server of its own on which `iris` is deployed. Ports
in the text stand for those of that server. A ```text or ```json block right below an example is what it prints, with
``…`` for what differs from run to run.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import onnx_models

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_EXAMPLE = re.compile(
    r"^<!-- run -->\n```(?P<language>bash|python)\n(?P<code>.*?)^```\n"
    r"(?:\n?```(?:text|json)\n(?P<output>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")


@dataclass(frozen=True)
class Example:
    """One block of a document."""

    language: str
    code: str
    output: str | None


LONG = ("tuning.md", "operations.md", "conversion.md", "models.md")
"""Pages whose examples take 15 s and more."""


def examples(document: Path) -> list[Example]:
    return [Example(m["language"], m["code"], m["output"]) for m in _EXAMPLE.finditer(document.read_text())]


GENERATED: dict[Path, str] = runpy.run_path(str(ROOT / "docs" / "generate.py"))["documents"]()


@pytest.mark.parametrize("path", list(GENERATED), ids=lambda path: path.name)
def test_generated_files_are_fresh(path: Path) -> None:
    assert path.read_text() == GENERATED[path], "run `make docs` and commit what it writes"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in _LINK.findall(document.read_text()):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_to_a_heading_find_it(document: Path) -> None:
    for target, anchor in re.findall(r"\]\(([\w./-]*\.md)?#([\w-]+)\)", document.read_text()):
        text = (document.parent / target if target else document).read_text()
        headings = {
            re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")
            for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        }
        assert anchor in headings, f"{target}#{anchor}"


class Shell:
    """Runs examples in one folder, as one user with a home of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "home"
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("MODELPORT_")},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "MODELPORT_HOME": str(self.home),
            "MODELPORT_HTTP_PORT": "0",
            "MODELPORT_GRPC_PORT": "0",
            "MODELPORT_HTTP_GATEWAYS": "1",
        }

    def run(self, example: Example) -> str:
        code = self._addressed(example.code)
        argv = ["bash", "-euo", "pipefail", "-c", code] if example.language == "bash" else [sys.executable, "-c", code]
        done = subprocess.run(argv, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def _addressed(self, code: str) -> str:
        try:
            found = json.loads((self.home / "run" / "endpoint.json").read_text())
        except FileNotFoundError:
            return code
        http = found["url"].rpartition(":")[2]
        grpc = found["grpc"].rpartition(":")[2]
        return code.replace("localhost:8000", f"localhost:{http}").replace("localhost:8001", f"localhost:{grpc}")


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    (tmp_path / "iris.onnx").write_bytes(onnx_models.sklearn_classifier_onnx(strings=True))
    found = Shell(tmp_path)
    found.run(Example("bash", "modelport up -d\nmodelport push iris.onnx --name iris\nmodelport deploy iris\n", None))
    yield found
    found.run(Example("bash", "modelport down\n", None))


def shows(output: str, printed: str) -> bool:
    """Whether ``printed`` is ``output``, where … stands for anything; blanks at ends do not count."""
    pattern = ".*?".join(re.escape(part) for part in _plain(output).split("…"))
    return re.fullmatch(pattern, _plain(printed), re.DOTALL) is not None


def _plain(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().splitlines())


@pytest.mark.parametrize(
    "document",
    [pytest.param(d, id=d.name, marks=pytest.mark.long if d.name in LONG else ()) for d in DOCUMENTS if examples(d)],
)
def test_examples_do_what_they_show(document: Path, shell: Shell) -> None:
    for example in examples(document):
        printed = shell.run(example)
        if example.output is not None:
            assert shows(example.output, printed), f"{example.code}\nprints\n{printed}\nnot\n{example.output}"


def test_what_an_example_shows_is_really_compared() -> None:
    assert shows("a … b\n", "a 1\n2 b")
    assert not shows("a … b", "a 1")
    assert not shows("a.c", "abc")
