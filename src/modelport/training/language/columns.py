"""Which columns of a dataset are texts, told by types and statistics alone. Reads no row."""

from __future__ import annotations

from collections.abc import Mapping

from modelport.errors import InvalidInput
from modelport.plugins import nearest
from modelport.schemas.datasets import Facts
from modelport.training import targets
from modelport.training.recipe import TrainingData

TEXT = "string"


def text_column(data: TrainingData, wanted: str | None, option: str = "text") -> str:
    """The column ``wanted``, or the only text column; raises InvalidInput naming those there are."""
    texts = [name for name, kind in data.features.items() if kind == TEXT]
    if wanted is not None:
        return checked_column(data.features, wanted, option)
    if not texts:
        kinds = ", ".join(f"{name} {kind}" for name, kind in list(data.features.items())[:8])
        raise InvalidInput(f"data: there is no text column among the features ({kinds or 'none'}); texts are strings")
    if len(texts) > 1:
        raise InvalidInput(
            f"options.{option}: there are {len(texts)} text columns ({', '.join(texts[:8])}); say which one it is"
        )
    return texts[0]


def checked_column(features: Mapping[str, str], wanted: str, option: str) -> str:
    """``wanted``, when it is a text column; raises InvalidInput."""
    if wanted not in features:
        raise InvalidInput(f"options.{option}: there is no column {wanted[:100]!r}{nearest(wanted, tuple(features))}")
    if features[wanted] != TEXT:
        raise InvalidInput(f"options.{option}: column {wanted!r} is {features[wanted]}; texts are strings")
    return wanted


def check_has_texts(facts: Facts, column: str) -> list[str]:
    """Warnings about missing texts; raises InvalidInput when there is none at all."""
    about = next((found for found in facts.columns if found.name == column), None)
    if about is None or not facts.rows or not about.nulls:
        return []
    if about.nulls >= facts.rows:
        raise InvalidInput(f"column {column!r}: all {facts.rows} rows are null; there is no text to learn from")
    return [f"column {column!r}: {about.nulls} of {facts.rows} rows have no text; they are left out"]


def check_classes(data: TrainingData) -> list[str]:
    """Warnings; raises InvalidInput unless statistics allow a class for every row."""
    found = targets.check_classes(data)
    about = next((column for column in data.facts.columns if column.name == data.target), None)
    if about is not None and about.distinct is not None and about.distinct > max(data.facts.rows / 2, 10):
        raise InvalidInput(
            f"target: column {data.target!r} has {about.distinct} different values in {data.facts.rows} rows; "
            "is it the column of the classes?"
        )
    return found


def conversation_or_text(data: TrainingData, messages: str | None, text: str | None) -> tuple[str, bool]:
    """The column to learn from, and whether it holds conversations; raises InvalidInput."""
    if messages is not None and text is not None:
        raise InvalidInput("options: give one of messages and text")
    if messages is None and text is None and "messages" in data.features:
        messages = "messages"
    if messages is None:
        return text_column(data, text), False
    if messages not in data.features:
        raise InvalidInput(
            f"options.messages: there is no column {messages[:100]!r}{nearest(messages, tuple(data.features))}"
        )
    kind = data.features[messages]
    if kind != TEXT and not kind.startswith("list<"):
        raise InvalidInput(
            f"options.messages: column {messages!r} is {kind}; conversations are lists of role and content, or JSON"
        )
    return messages, True
