"""The figures of one step of a language model's load, and the greatest load at which its promise is kept.

Times in ms. ``latency_ms`` is of whole answers, from the moment at which they were due.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modelport.bench.figures import Figures, made_of, spread
from modelport.bench.language.record import LanguageRecord

ATTAINED = 0.9
"""Share of the requests that have to be good."""

Spread = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class LanguageFigures(Figures):
    """One step."""

    ttft_ms: Spread = field(default_factory=dict)
    """Time to the first text, from when the request was due."""
    token_ms: Spread = field(default_factory=dict)
    """Per token after the first, on average over one answer."""
    gap_ms: Spread = field(default_factory=dict)
    """Between two events of one answer."""
    tokens_per_s: float = 0.0
    """Written within the measured time."""
    prompt_tokens_per_s: float = 0.0
    tokens_in: float | None = None
    """Of a prompt, on average."""
    tokens_out: float | None = None
    """Of an answer, on average."""
    cached: float | None = None
    """Share of the prompts' tokens that the server found in its cache, where it tells."""
    good: int | None = None
    """Requests that kept the promise; None without one."""
    goodput: float | None = None
    """The same per second."""
    empty: int = 0
    """Answers without any text."""


def language_figures(record: LanguageRecord, load: str, *, promised: bool, **more: Any) -> LanguageFigures:
    """The step's figures; ``more`` are those that the record does not know."""
    seconds = max(record.end - record.start, 1e-9)
    answers = len(record.latencies)
    return made_of(
        LanguageFigures,
        record,
        load,
        ttft_ms=spread(np.array(record.first)),
        token_ms=spread(np.array(record.per_token)),
        gap_ms=spread(np.array(record.gaps)),
        tokens_per_s=record.tokens_in_window / seconds,
        prompt_tokens_per_s=record.tokens_in / seconds,
        tokens_in=record.tokens_in / answers if answers and record.tokens_in else None,
        tokens_out=record.tokens_out / answers if answers else None,
        cached=record.cached_tokens / record.tokens_in if record.cached_tokens and record.tokens_in else None,
        good=record.good if promised else None,
        goodput=record.good / seconds if promised else None,
        empty=record.empty,
        **more,
    )


def greatest_good(steps: Sequence[LanguageFigures]) -> LanguageFigures | None:
    """The step of the greatest load up to which nine requests in ten were good at every one."""
    best = None
    for step in sorted(steps, key=lambda step: (step.callers or 0, step.offered)):
        if step.good is None or not step.requests or step.good < ATTAINED * step.requests:
            return best
        best = step
    return best
