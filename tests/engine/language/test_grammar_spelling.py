"""Grammars that xgrammar would read otherwise."""

from __future__ import annotations

import pytest

from modelport.engine.language.grammar_spelling import spelt


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ('root ::= "\\u00dfe"', 'root ::= ("ß" "e")'),
        ('root ::= "ße"*', 'root ::= ("ß" "e")*'),
        ('root ::= "d\\u00e9cad\\u00e9e" a', 'root ::= ("dé" "cadé" "e") a'),
        ("root ::= [\\u00dfe]{3}", "root ::= [eß]{3}"),
        ("root ::= [^a-\\u00ff0-9-]", "root ::= [^0-9\\-a-ÿ]"),
        ("root ::= [\\u0001a]", "root ::= [a\\u0001]"),
    ],
)
def test_no_digit_stands_behind_a_character_that_would_take_it(said: str, wanted: str) -> None:
    assert spelt(said) == wanted
    assert spelt(wanted) == wanted


@pytest.mark.parametrize(
    "said",
    [
        'root ::= "本a" "ßt" "\\n0" "\\\\u00e9"', "root ::= [à-ÿz] [^\\x00-\\x1f]", 'root ::= "\\ud800" "\\U00110000"',
        '# "ße"\nroot ::= "a"', 'root ::= "\\"" [\\]a]',
    ],
)  # fmt: skip
def test_all_else_stays(said: str) -> None:
    assert spelt(said) == said


def test_what_can_be_printed_stands_for_itself() -> None:
    assert spelt('root ::= "\\u672ca\\U0001f642" [\\u00e0-\\u0101z\\u0085]') == 'root ::= "本a🙂" [à-āz\\u0085]'
