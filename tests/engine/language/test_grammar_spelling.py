"""Grammars that xgrammar would read otherwise."""

from __future__ import annotations

import pytest

from modelport.engine.language.grammar_spelling import spelt


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ('root ::= "\\u00dfe"', 'root ::= ("\\u00df" "e")'),
        ('root ::= "ße"*', 'root ::= ("ß" "e")*'),
        ('root ::= "d\\u00e9cad\\u00e9e" a', 'root ::= ("d\\u00e9" "cad\\u00e9" "e") a'),
        ("root ::= [\\u00dfe]{3}", "root ::= [e\\u00df]{3}"),
        ("root ::= [^a-\\u00ff0-9-]", "root ::= [^0-9\\-a-\\u00ff]"),
        ("root ::= [\\u0001a]", "root ::= [a\\u0001]"),
    ],
)
def test_no_digit_stands_behind_a_character_that_would_take_it(said: str, wanted: str) -> None:
    assert spelt(said) == wanted
    assert spelt(wanted) == wanted


@pytest.mark.parametrize(
    "said",
    [
        'root ::= "\\u672ca" "\\u00dft" "\\n0" "\\\\e"', "root ::= [\\u00e0-\\u00ffz] [^\\x00-\\x1f]",
        '# "ße"\nroot ::= "a"', 'root ::= "\\"" [\\]a]',
    ],
)  # fmt: skip
def test_all_else_stays(said: str) -> None:
    assert spelt(said) == said
