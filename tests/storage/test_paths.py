"""Paths inside a version: every hostile one is refused by name, every honest one passes."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.errors import InvalidInput
from modelport.storage.paths import check_path, check_paths

HOSTILE = [
    "", ".", "..", "/", "/etc/passwd", "../x", "a/../b", "a/..", "a/./b", "a//b", "a/", "//host/share", "a\\b",
    "..\\..\\x", "C:/x", "c:x", "C:\\x", "a\x00b", "a\nb", "a\tb", "a\x7fb", "a\x9bb", "a\u2028b", "\ud800", "x" * 501,
    "é" * 128, "a/" * 300,
]  # fmt: skip
HONEST = [
    "model.onnx",
    "a/b/c.bin",
    ".hidden",
    "..a",
    "a..b",
    "…",
    "模型/权重.bin",
    "with space",
    "%2e%2e/x",
    "a" * 255,
    "layer:0",
]
PAIRS = [
    ("a.bin", "a.bin"), ("Model.onnx", "model.ONNX"), ("é", "e\u0301"), ("ﬁ/x", "FI/X"), ("a", "a/b"), ("A/b", "a"),
    ("straße", "STRASSE"),
]  # fmt: skip


@pytest.mark.parametrize("path", HOSTILE, ids=lambda path: ascii(path)[:30])
def test_hostile_paths_are_refused(path: str) -> None:
    with pytest.raises(InvalidInput, match="file path"):
        check_path(path)


@pytest.mark.parametrize("path", HONEST, ids=lambda path: ascii(path)[:30])
def test_honest_paths_pass(path: str) -> None:
    check_paths([path])


@pytest.mark.parametrize("pair", PAIRS, ids=ascii)
def test_two_paths_for_one_place_are_refused(pair: tuple[str, str]) -> None:
    for paths in (pair, pair[::-1]):
        with pytest.raises(InvalidInput, match="file path"):
            check_paths(paths)


def test_the_same_name_in_two_folders_passes() -> None:
    check_paths(["a/model.onnx", "b/model.onnx", "model.onnx"])


@given(st.text(st.characters() | st.sampled_from("./\\:~\0"), max_size=30))
def test_what_passes_stays_inside(path: str) -> None:
    try:
        check_path(path)
    except InvalidInput:
        return
    assert os.path.normpath(f"/base/{path}") == f"/base/{path}"
