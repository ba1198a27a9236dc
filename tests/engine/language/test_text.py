"""Tokens to text, however they are cut, and where a stop text ends it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.engine.language.text import ByBytes, ByWindow, Reader, Text


def by_bytes() -> Reader:
    return ByBytes(lambda token: bytes([token]))


def by_window() -> Reader:
    return ByWindow(lambda tokens: bytes(tokens).decode(errors="replace"))


@pytest.mark.parametrize("reader", [by_bytes, by_window])
@given(text=st.text(max_size=40), sizes=st.lists(st.integers(1, 5), min_size=1, max_size=10))
def test_whatever_the_cuts_the_text_is_whole(reader: object, text: str, sizes: list[int]) -> None:
    grown, tokens, place = Text(reader()), list(text.encode()), 0  # type: ignore[operator]
    said = []
    for number in range(len(tokens)):
        size = sizes[number % len(sizes)]
        said.append(grown.add(tokens[place : place + size]))
        place += size
    assert "".join(said) + grown.end() == text
    assert not any("\ufffd" in part for part in said if "\ufffd" not in text)


@given(text=st.text("abc", max_size=30), stops=st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=3))
def test_nothing_of_a_stop_text_is_given(text: str, stops: list[str]) -> None:
    grown = Text(by_bytes(), stops)
    said = ""
    for token in text.encode():
        said += grown.add([token])
        if grown.stopped_by is not None:
            break
    else:
        said += grown.end()
    ends = [text.find(stop) for stop in stops if stop in text]
    if not ends:
        assert (said, grown.stopped_by) == (text, None)
    else:
        assert grown.stopped_by in stops
        assert text.startswith(said + grown.stopped_by)
        assert not any(stop in said for stop in stops)
