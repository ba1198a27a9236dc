"""What a grammar costs the engine that compiles it, and whether a text of it can end: told from its rules alone.

xgrammar finds, for each place within a rule, which of all the tokens may stand there: a place where any character
may is dear, one where a digit may is not; a rule is paid once, however often it is referred to; a repetition of
something small is paid place by place. Measured on a vocabulary of 50,000 tokens; knows no engine.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache

from modelport.errors import InvalidInput

MOST = 160.0
"""Places where any character may stand: about a second of one core."""
_DEEPEST = 100
_MOST_ROUNDS = 16
"""Through all rules, to tell whether a text of them can end: each resolves one circle at least."""
_STEP = 0.04
"""A literal's or a reference's place."""
_KINDS = (("abcdefghijklmnopqrstuvwxyz", 0.2), (" ", 0.4), ("ABCDEFGHIJKLMNOPQRSTUVWXYZ", 0.1), ("0123456789", 0.03),
          ("!#$%&'()*+,./:;<=>?@_`{|}~", 0.1), ("\u0102\u0416\u20ac\u6771\U0001f642", 0.15))  # fmt: skip
"""How much of a vocabulary begins with them, roughly."""
_TOKEN = re.compile(
    r'#[^\n]*|"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|[A-Za-z_][\w.-]*|\{\s*\d+\s*(?:,\s*\d*\s*)?\}|[()|*+?]', re.DOTALL
)
_RULE = re.compile(r"^[ \t]*([A-Za-z_][\w.-]*)[ \t]*::=", re.MULTILINE)


def check_cost(grammars: Iterable[str], field: str) -> None:
    """Raises InvalidInput about ``field`` when they are too dear together."""
    cost = cost_of(*grammars)
    if cost > MOST:
        raise InvalidInput.of(
            field,
            f"{field!r} is too large to keep to: its texts of limited length, patterns and repetitions have {cost:.0f} "
            f"places where any character may stand, and {MOST:.0f} is the most; leave out or shorten what repeats, "
            "or use the same lengths and patterns again, which count once",
        )


def cost_of(*grammars: str) -> float:
    """In places where any character may stand; raises InvalidInput for one that is nested too deeply."""
    found = 0.0
    paid: set[tuple[str, ...]] = set()
    for grammar in grammars:
        rules = _rules(grammar)
        small = {  # which xgrammar writes out wherever they are referred to
            name: _Reader(tokens).read()[0] for name, tokens in rules.items() if not any(map(_is_name, tokens))
        }
        for tokens in rules.values():
            said = tuple(
                " ".join(rules[token]) if token in small else token for token in tokens
            )  # names are a grammar's
            if said not in paid:
                found += _Reader(tokens, costs=small).read()[0]
                paid.add(said)
    return found


def can_end(grammar: str) -> bool:
    """Whether there is any text of ``root``: rules may need one another for ever. Raises InvalidInput where that takes
    too long to tell."""
    rules = _rules(grammar)
    order = _innermost_first(rules)
    ending: set[str] = set()
    for _ in range(_MOST_ROUNDS):
        before = len(ending)
        for name in order:
            if name not in ending and _Reader(rules[name], ending=ending).read()[1]:
                ending.add(name)
        if "root" in ending or len(ending) == before:
            return "root" in ending
    raise InvalidInput("the grammar's rules need one another too often")


def _innermost_first(rules: Mapping[str, Sequence[str]]) -> list[str]:
    """Those that ``root`` needs, each behind what it needs itself, but for circles."""
    order, seen, open_rules = list[str](), set[str](), [("root", iter(("root",)))]
    while open_rules:
        inner = next((name for name in open_rules[-1][1] if name in rules and name not in seen), None)
        if inner is not None:
            seen.add(inner)
            open_rules.append((inner, iter(rules[inner])))
        else:
            order.append(open_rules.pop()[0])
    return order[:-1]


def _rules(grammar: str) -> dict[str, Sequence[str]]:
    parts = _RULE.split(grammar)[1:]
    return {
        name: [token for token in _TOKEN.findall(body) if not token.startswith("#")]
        for name, body in zip(parts[::2], parts[1::2], strict=True)
    }


class _Reader:
    """Of one rule: what it costs, and whether it can end where these others can."""

    def __init__(
        self, tokens: Sequence[str], *, costs: Mapping[str, float] | None = None, ending: Collection[str] = ()
    ) -> None:
        self._tokens, self._costs, self._ending, self._at = tokens, costs or {}, ending, 0
        self._shared = 0
        """Things so far that are rules of their own to the engine."""

    def read(self, depth: int = 0) -> tuple[float, bool]:
        """Up to the bracket that closes."""
        if depth > _DEEPEST:
            raise InvalidInput(f"the grammar is nested deeper than {_DEEPEST}")
        cost, ends, any_ends = 0.0, True, False
        while self._at < len(self._tokens):
            part = self._tokens[self._at]
            if part == ")" and depth:
                break
            if part == "|":
                any_ends, ends = any_ends or ends, True
                self._at += 1
                continue
            here = self._one(depth)
            cost, ends = cost + here[0], ends and here[1]
        return cost, any_ends or ends

    def _one(self, depth: int) -> tuple[float, bool]:
        part = self._tokens[self._at]
        self._at += 1
        cost, ends, shared = 0.0, True, self._shared
        if part == "(":
            cost, ends = self.read(depth + 1)
            self._at += 1
        elif part.startswith("["):
            cost = _of_class(part)
        elif part.startswith('"'):
            cost = _STEP / 10 * len(part)
        elif _is_name(part):
            cost, ends = self._costs.get(part, _STEP), part in self._ending
            self._shared += part not in self._costs
        while self._at < len(self._tokens) and self._tokens[self._at][0] in "{*?+":
            times = self._tokens[self._at]
            bounds = [int(bound[:9]) for bound in re.findall(r"\d+", times)]
            most = max(1, *bounds) if bounds else 1
            cost = cost * most if self._shared == shared else cost + _STEP * most
            self._shared += 1
            ends = ends or times in "*?" or bounds[:1] == [0]
            self._at += 1
        return cost, ends


def _is_name(token: str) -> bool:
    return token[0].isalpha() or token[0] == "_"


@lru_cache(1024)
def _of_class(said: str) -> float:
    """The share of tokens that may stand there."""
    try:
        members = re.compile(re.sub(r"\\U([0-9a-fA-F]{8})", lambda found: re.escape(chr(int(found[1], 16))), said))
    except (re.error, ValueError, OverflowError):
        return 1.0  # the engine says what is wrong with it
    return _STEP / 5 + sum(
        weight * sum(members.match(each) is not None for each in kind) / len(kind) for kind, weight in _KINDS
    )
