"""What language models are compared by: texts to go on with. Imports no library that a model needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelport.conversion import arrays

TEXT, NEXT = "text", "next_token"
TOKENS = 64
"""Of a text that are read, at most."""
_TEXTS = 16
_MADE_UP = (
    "The mean of a list of numbers is their sum divided by",
    "Once upon a time there was a",
    "def add(a, b):\n    return a +",
    "Water boils at 100 degrees, and freezes at",
    "Élève, naïve, façade: words with accents are",
    "In 1969 two people walked on the",
    "1, 2, 3, 4, 5, 6,",
    "Dear Sir or Madam,\n\nthank you for your",
)


def texts(request: dict[str, Any]) -> list[str]:
    """The first of those that the caller gave, else those that are built in."""
    if request["inputs"] is None:
        return list(_MADE_UP)
    given = arrays.load(Path(request["inputs"]))[TEXT].reshape(-1)[:_TEXTS]
    return [bytes(text).decode(errors="replace") for text in given]
