"""What callers want a text to be, as a grammar: checked here, before an engine compiles it."""

from __future__ import annotations

from modelport.engine.language.grammar_cost import can_end, check_cost
from modelport.engine.language.grammar_spelling import spelt
from modelport.engine.language.regex_grammar import rule_of
from modelport.errors import InvalidInput

_LONGEST_GRAMMAR = 16 << 10


def checked_regex(pattern: str, field: str) -> str:
    """The grammar of a pattern; raises InvalidInput."""
    parts: dict[str, str] = {}
    root = rule_of(pattern, field, in_json=False, named=lambda part: parts.setdefault(part, f"part{len(parts) + 1}"))
    grammar = "".join(f"{name} ::= {rule}\n" for rule, name in [(root, "root"), *parts.items()])
    check_cost([grammar], field)
    return spelt(grammar)


def checked_grammar(grammar: str, field: str) -> str:
    """The grammar; raises InvalidInput for one that is none at a glance, or too long, or without an end."""
    if len(grammar) > _LONGEST_GRAMMAR or "root" not in grammar:
        raise InvalidInput.of(
            field, f"{field!r} is an EBNF grammar with a rule 'root', of at most {_LONGEST_GRAMMAR >> 10} KiB"
        )
    if not can_end(grammar):
        raise InvalidInput.of(field, f"{field!r} has no text: a rule that 'root' needs is missing or has no end")
    check_cost([grammar], field)
    return spelt(grammar)
