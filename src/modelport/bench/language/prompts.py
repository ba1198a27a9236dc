"""What is asked of a language model under load: texts of real or made up lengths, some with a shared beginning.

A text file gives its paragraphs, JSON lines their ``prompt``; without either, sentences of common English words whose
lengths are spread as those of people's questions are (log-normal). One seed always gives the same. Knows no server.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from modelport.errors import InvalidInput, NotFound

_COMMON = """
the of and to in is that it was for on are with as his they at be this from have or by one had not but what all were
when we there can an your which their said if do will each about how up out them then she many some so these would
other into has more her two like him see time could no make than first been its who now people my made over did down
only way find use may water long little very after words called just where most know get through back much before go
good new write our used me man too any day same right look think also around another came come work three word must
because does part even place well such here take why things help put years different away again off went old number
great tell men say small every found still between name should home big give air line set own under read last never us
left end along while might next sound below saw something thought both few those always looked show large often
together asked house world going want school important until form food keep children feet land side without boy once
animals life enough took four head above kind began almost live page got earth need far hand high year mother light
parts country father let night following picture being study second eyes soon times story boys since white days ever
paper hard near sentence better best across during today however sure means knew try told young miles sun ways thing
whole hear example heard several change answer room sea against top turned learn point city play toward five using
himself usually
"""
_WORDS = _COMMON.split()
_SPREAD = 0.8
"""Standard deviation of a length's logarithm: nine in ten lie within a quarter and four times the median."""
_LONGEST = 8.0
"""Times the median."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One question."""

    prompt: str
    max_tokens: int
    prefix: str | None = None
    """What comes before it as the system's message, the same for many."""


@dataclass(frozen=True, slots=True)
class Mix:
    """How long questions and answers are, and what they share."""

    words: int = 60
    """Median of a question."""
    tokens: int = 64
    """Median of an answer's bound."""
    same_length: bool = False
    """Every question and answer of the median length."""
    prefix_share: float = 0.0
    """Of the questions, those that begin with one of the shared prefixes."""
    prefixes: int = 4
    prefix_words: int = 200
    texts: tuple[tuple[str, int | None], ...] = ()
    """Questions to take instead of made up ones, each with its own bound where it has one."""


def questions(mix: Mix, seed: int) -> Iterator[Wanted]:
    """Without end; given texts come again when all were asked."""
    rng = np.random.default_rng(seed)
    shared = [_sentences(rng, mix.prefix_words) for _ in range(mix.prefixes)]
    for number in count():
        prefix = shared[rng.integers(len(shared))] if shared and rng.random() < mix.prefix_share else None
        tokens = _length(rng, mix.tokens, mix.same_length)
        if mix.texts:
            text, bound = mix.texts[number % len(mix.texts)]
            yield Wanted(text, bound or tokens, prefix)
        else:
            yield Wanted(_sentences(rng, _length(rng, mix.words, mix.same_length)), tokens, prefix)


def _length(rng: np.random.Generator, median: int, same: bool) -> int:
    if same:
        return median
    return max(1, round(median * min(float(rng.lognormal(0, _SPREAD)), _LONGEST)))


def _sentences(rng: np.random.Generator, words: int) -> str:
    """So many words, in sentences."""
    chosen = [_WORDS[index] for index in rng.integers(len(_WORDS), size=words)]
    ends = set(np.cumsum(rng.integers(6, 16, size=words // 6 + 1)).tolist()) | {words}
    parts, starts = [], True
    for place, word in enumerate(chosen, start=1):
        parts.append((word.capitalize() if starts else word) + ("." if place in ends else ""))
        starts = place in ends
    return " ".join(parts)


def read_texts(file: Path) -> tuple[tuple[str, int | None], ...]:
    """The paragraphs of a text, or the ``prompt`` (and ``max_tokens``) of JSON lines; raises NotFound, InvalidInput."""
    if not file.is_file():
        raise NotFound(f"--text {str(file)[:200]!r} is no file; give a text, or JSON lines with a 'prompt'")
    try:
        text = file.read_text("utf-8")
    except UnicodeDecodeError:
        raise InvalidInput(f"--text {file.name!r} is not UTF-8 text; write it anew in UTF-8") from None
    if file.suffix in (".jsonl", ".ndjson"):
        found = [_line(file.name, n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    else:
        found = [(" ".join(part.split()), None) for part in text.split("\n\n") if part.strip()]
    if not found:
        raise InvalidInput(f"--text {file.name!r} is empty; give a text, or JSON lines with a 'prompt'")
    return tuple(found)


def _line(name: str, number: int, line: str) -> tuple[str, int | None]:
    where = f"--text {name!r} line {number}"
    try:
        found: Any = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"{where} is not JSON: {error}; each line is like {{'prompt': 'Why?'}}") from None
    prompt = found.get("prompt") if isinstance(found, dict) else None
    if not isinstance(prompt, str) or not prompt.strip():
        raise InvalidInput(f"{where} has no 'prompt' with text; each line is like {{'prompt': 'Why?'}}")
    bound = found.get("max_tokens")
    if bound is not None and (type(bound) is not int or bound < 1):
        raise InvalidInput(
            f"{where}: 'max_tokens' is {str(bound)[:50]!r}; give a whole number above 0, or leave it out"
        )
    return prompt, bound


def body_of(model: str, wanted: Wanted, temperature: float, extra: dict[str, Any]) -> bytes:
    """The request as ``/v1/chat/completions`` takes it; ``extra`` are more fields of it."""
    messages: Sequence[dict[str, str]] = [{"role": "user", "content": wanted.prompt}]
    if wanted.prefix is not None:
        messages = [{"role": "system", "content": wanted.prefix}, *messages]
    document = {
        "model": model,
        "messages": messages,
        "max_tokens": wanted.max_tokens,
        "temperature": temperature,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return orjson.dumps(document | extra)
