"""What a dataset looks like on the terminal and as a page; its names and values come from anybody."""

from __future__ import annotations

from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from modelport.cli import data_page, data_view
from modelport.cli.data import parse_dataset
from modelport.errors import InvalidInput
from modelport.schemas.datasets import (
    Column,
    DatasetLineage,
    DatasetManifest,
    DatasetVersion,
    Histogram,
    ValueCount,
)

HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style><b>", "\x1b[2J", "a&b", "'\u202e'"]


def version(name: str) -> DatasetVersion:
    columns = [
        Column(name=name, type="string", distinct=2, top=[ValueCount(value=name, count=3)], min=name, max=name),
        Column(
            name=f"{name} x", type="double", nulls=1, min=0.0, max=2.0, mean=1.0, std=0.5, quantiles={"0.5": 1.0},
            histogram=Histogram(edges=[0.0, 1.0, 2.0], counts=[0, 9]),
        ),
    ]  # fmt: skip
    manifest = DatasetManifest(
        rows=10, columns=columns, label=name, class_balance={name: 7, "other": 3}, source=name, dataset="d", version=1,
        files=[], size=5, digest="0" * 64, description=name, created_at=datetime.now(UTC), created_by=name,
        report={"left_out": 1, "left_out_examples": [name], "rules": [{"rule": name, "before": 3, "after": 2}]},
    )  # fmt: skip
    return DatasetVersion(
        dataset="d", version=1, digest="0" * 64, rows=10, size=5, created_at=manifest.created_at, created_by=name,
        manifest=manifest,
    )  # fmt: skip


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += attrs


@pytest.mark.parametrize("name", HOSTILE)
def test_a_page_shows_hostile_names_as_text(name: str) -> None:
    lineage = DatasetLineage(version="d:1", parents=[name], source=name, job=name, children=[name], models=[name])
    tags = Tags()
    found = data_page.page(version(name), lineage)
    tags.feed(found)
    assert not {"script", "img", "b", "a", "link", "iframe"} & set(tags.seen)
    assert not [a for a, _ in tags.attributes if a.startswith("on") or a in ("src", "href")]
    assert {"svg", "rect", "title"} <= set(tags.seen)
    assert "\x1b" not in found
    assert "default-src 'none'" in found
    assert "http" not in found.replace("http-equiv", "")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_terminal_is_not_steered(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    lineage = DatasetLineage(version="d:1", parents=[], source="", job=None, children=[], models=[])
    data_view.view(version(name), lineage)
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "70.0%" in printed


def test_a_histogram_is_a_line_of_blocks() -> None:
    assert data_view.blocks([0, 1, 4, 8]) == " ▁▄█"
    assert data_view.blocks([1, 100_000]) == "▁█"
    assert data_view.blocks([]) == data_view.blocks([0, 0]) == ""


def test_references_are_read() -> None:
    assert parse_dataset("d") == ("d", "latest", "")
    assert parse_dataset("d:3/train") == ("d", "3", "train")
    for text in ("", "d:0", "d:x", "d/../x", "d@champion", "a b"):
        with pytest.raises(InvalidInput, match="is not like NAME"):
            parse_dataset(text)


def test_a_page_shows_no_document_as_a_value_and_no_empty_histogram() -> None:
    lineage = DatasetLineage(version="d:1", parents=[], source="", job=None, children=[], models=[])
    long = version("w" * 300)
    infinite = Column(name="i", type="double", histogram=Histogram(edges=[0.0, 1.0], counts=[0]))
    long.manifest.columns.append(infinite)
    found = data_page.page(long, lineage)
    assert f"<td>{'w' * 120}…</td>" in found
    assert found.count('role="img"') == 1
