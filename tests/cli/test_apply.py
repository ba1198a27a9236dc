"""Documents are checked before any is applied; the JSON Schema in the repository is the current one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelport.cli.apply import document_schema, read_documents
from modelport.errors import InvalidInput, NotFound

ROOT = Path(__file__).parents[2]


def write(tmp_path: Path, text: str) -> str:
    (tmp_path / "d.yaml").write_text(text)
    return str(tmp_path / "d.yaml")


def test_several_documents(tmp_path: Path) -> None:
    text = "model: digits\nalias: champion\nspec: {replicas: 2}\n---\n---\nmodel: iris\nname: flowers\n"
    first, second = read_documents(write(tmp_path, text))
    assert (first.model, first.alias, first.spec.replicas, first.name) == ("digits", "champion", 2, None)
    assert (second.model, second.name) == ("iris", "flowers")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: digits\n---\nmodel: iris\nspec: {replicas: -1}", r"document 2: spec\.replicas"),
        ("modle: digits", "document 1: "),
        ("model: digits\nspec: {replica: 1}", r"document 1: spec\.replica: "),
        ("- a", "document 1: "),
        ("model: [", "is not YAML"),
        ("model: !!python/object/apply:os.system [x]", "is not YAML"),
        ("", "holds no document"),
    ],
)
def test_a_wrong_document_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_documents(write(tmp_path, text))


def test_a_missing_file() -> None:
    with pytest.raises(NotFound):
        read_documents("nowhere.yaml")


def test_the_schema_in_the_repository_is_current() -> None:
    """`modelport apply --schema > schemas/deployment.json` writes it."""
    assert json.loads((ROOT / "schemas" / "deployment.json").read_text()) == document_schema()
