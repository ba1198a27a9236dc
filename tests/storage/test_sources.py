"""What an operator's setting covers, and what only looks like it."""

from __future__ import annotations

import pytest

from modelport.storage.sources import is_within

ALLOWED = ("s3://models", "file:///srv/data/", "https://host/a")


@pytest.mark.parametrize(
    "source",
    [
        "s3://models",
        "s3://models/m.onnx",
        "file:///srv/data/x",
        "https://host/a/b..c",
        "s3://models/%20..x/...",
        "s3://models/a%2fb",
    ],
)
def test_what_is_covered(source: str) -> None:
    assert is_within(source, ALLOWED)


@pytest.mark.parametrize(
    "source",
    [
        "s3://models-of-others/m", "s3://", "file:///srv/data", "file:///srv/database/x", "https://host/ab", "HTTPS://host/a",
        "file:///srv/data/../x", "file:///srv/data/%2e%2e/x", "file:///srv/data/.%2E/x", "file:///srv/data/..%2fx",
        "file:///srv/data/a%2F..%2F..%2Fx", "https://host/a/..", "https://host/a/..\\x", "https://host/a?x=/../y", "",
    ],
)  # fmt: skip
def test_what_is_not(source: str) -> None:
    assert not is_within(source, ALLOWED)
