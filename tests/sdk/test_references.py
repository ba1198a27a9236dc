"""NAME, NAME:3, NAME@champion."""

from __future__ import annotations

import pytest

from modelport.errors import InvalidInput
from modelport.sdk.references import Reference, parse_reference


@pytest.mark.parametrize(
    ("text", "want", "ref"),
    [
        ("digits", Reference("digits"), "latest"),
        ("digits:3", Reference("digits", 3), "3"),
        ("digits@champion", Reference("digits", None, "champion"), "champion"),
    ],
)
def test_what_people_write(text: str, want: Reference, ref: str) -> None:
    assert parse_reference(text) == want
    assert want.ref == ref


@pytest.mark.parametrize("text", ["", ":3", "a:", "a@", "a:b", "a:1@b", "a b", "a@b@c", "a/b:1x", "a:99999999999"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not like"):
        parse_reference(text)


def test_given_apart() -> None:
    assert parse_reference("a", 2) == Reference("a", 2)
    assert parse_reference("a", alias="b") == Reference("a", None, "b")
    for text, version, alias in (("a:1", 2, None), ("a", 1, "b"), ("a@b", 1, None)):
        with pytest.raises(InvalidInput, match="one of"):
            parse_reference(text, version, alias)
