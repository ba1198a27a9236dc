"""A grammar spelt so that the engines' libraries read every character as it stands.

xgrammar writes the characters of Latin-1 (and control characters) anew as ``\\x…`` and reads that with all the
hexadecimal digits behind it: ``"ße"`` becomes U+0DFE, ``"décade"`` nothing at all. So none of them stands before such a
digit: a literal is cut in two, a class names them last. llguidance writes escapes anew without their zeros, and cannot
read them then; so what can be printed stands for itself. Seen with OpenVINO GenAI 2026.4 and llguidance 1.x.
"""

from __future__ import annotations

import re
from itertools import pairwise

_PLACE = re.compile(r'#[^\n]*|"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]', re.DOTALL)
_CHARACTER = re.compile(r"\\u[0-9a-fA-F]{4}|\\U[0-9a-fA-F]{8}|\\x[0-9a-fA-F]+|\\.|.", re.DOTALL)
_DIGITS = frozenset("0123456789abcdefABCDEF")
_NAMED = frozenset("\n\r\t")
_PRINTED = 0xA0


def spelt(grammar: str) -> str:
    """The same grammar."""
    return _PLACE.sub(lambda found: _place(found[0]), grammar)


def _place(said: str) -> str:
    if said[0] == "#":
        return said
    characters = [_plain(character) for character in _CHARACTER.findall(said[1:-1])]
    if not any(_is_open(one) and two in _DIGITS for one, two in pairwise(characters)):
        return f"{said[0]}{''.join(characters)}{said[-1]}"
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


def _plain(character: str) -> str:
    code = _code(character) if character[:2] in ("\\u", "\\U") else 0
    return chr(code) if _PRINTED <= code < 0x110000 and not 0xD800 <= code < 0xE000 else character


def _is_open(character: str) -> bool:
    """Whether digits behind it would be read as its own."""
    code = _code(character)
    return (0 < code < 32 or 127 <= code < 256) and chr(code) not in _NAMED


def _code(character: str) -> int:
    """0 for what is escaped by a letter of its own."""
    if len(character) == 1:
        return ord(character)
    return int(character[2:], 16) if character[1:2] in ("u", "U", "x") and len(character) > 2 else 0
