"""A grammar spelt so that xgrammar reads every character as it stands.

It writes the characters of Latin-1 (and control characters) anew as ``\\x…`` and reads that with all the hexadecimal
digits behind it: ``"ße"`` becomes U+0DFE, ``"décade"`` nothing at all. Seen with the one in OpenVINO GenAI 2026.4. So
none of them stands before such a digit: a literal is cut in two, a class names them last.
"""

from __future__ import annotations

import re
from itertools import pairwise

_PLACE = re.compile(r'#[^\n]*|"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]', re.DOTALL)
_CHARACTER = re.compile(r"\\u[0-9a-fA-F]{4}|\\U[0-9a-fA-F]{8}|\\x[0-9a-fA-F]+|\\.|.", re.DOTALL)
_DIGITS = frozenset("0123456789abcdefABCDEF")
_NAMED = frozenset("\n\r\t")


def spelt(grammar: str) -> str:
    """The same grammar."""
    return _PLACE.sub(lambda found: _place(found[0]), grammar)


def _place(said: str) -> str:
    characters = _CHARACTER.findall(said[1:-1])
    if said[0] == "#" or not any(_is_open(one) and two in _DIGITS for one, two in pairwise(characters)):
        return said
    return _literal(characters) if said[0] == '"' else _class(characters)


def _literal(characters: list[str]) -> str:
    parts = [""]
    for before, character in pairwise(["", *characters]):
        if _is_open(before) and character in _DIGITS:
            parts.append("")
        parts[-1] += character
    return "(" + " ".join(f'"{part}"' for part in parts) + ")"


def _class(characters: list[str]) -> str:
    head = "^" if characters[:1] == ["^"] else ""
    members, at = list[str](), len(head)
    while at < len(characters):
        size = 3 if characters[at + 1 : at + 2] == ["-"] and at + 2 < len(characters) else 1
        member = characters[at : at + size]
        members.append("\\-" if member == ["-"] else "".join(member))
        at += size
    members.sort(key=lambda member: _is_open(_CHARACTER.findall(member)[-1]))
    return f"[{head}{''.join(members)}]"


def _is_open(character: str) -> bool:
    """Whether digits behind it would be read as its own."""
    code = ord(character) if len(character) == 1 else int(character[2:], 16) if character[1:2] in ("u", "U", "x") else 0
    return (0 < code < 32 or 127 <= code < 256) and chr(code) not in _NAMED
