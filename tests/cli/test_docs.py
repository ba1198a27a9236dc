"""docs/cli.md names every command and none that does not exist, and its YAML is accepted."""

from __future__ import annotations

import re
from pathlib import Path

from modelport.cli.apply import read_documents
from tests.cli.test_main import ALL, RUNNABLE

TEXT = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()


def test_every_command_is_documented() -> None:
    table = TEXT.partition("## Commands")[2].partition("\n## ")[0]
    named = {match.rstrip() for match in re.findall(r"`(modelport(?: [a-z]+(?:-[a-z]+)*)*)", table)}
    assert named == set(RUNNABLE)


def test_every_flag_that_is_shown_exists() -> None:
    for line in re.findall(r"^\$ (modelport .*)$", TEXT, re.MULTILINE):
        words = line.partition("#")[0].split()
        name = " ".join(words[:3]) if " ".join(words[:3]) in ALL else " ".join(words[:2])
        flags = {flag for parameter in RUNNABLE[name].params for flag in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= flags, line


def test_the_yaml_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "d.yaml").write_text(TEXT.partition("```yaml\n")[2].partition("```")[0])
    assert [document.name for document in read_documents(str(tmp_path / "d.yaml"))] == [None, "digits-fast"]
