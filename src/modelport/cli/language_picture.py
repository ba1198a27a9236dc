"""A language model under load, on a terminal: two tables, and bars of the time to the first text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from modelport.cli.load_picture import bars, number

if TYPE_CHECKING:
    from modelport.bench.language.figures import LanguageFigures


def loads(steps: Sequence[LanguageFigures]) -> tuple[list[str], list[list[Any]]]:
    """What was asked and what came; good answers only where something was promised."""
    promised = any(step.goodput is not None for step in steps)
    columns = ["LOAD", "ANSWERS/S", *(["GOOD/S"] if promised else []), "TOKENS/S", "PROMPT/S", "IN", "OUT", "CACHED"]
    rows: list[list[Any]] = []
    for step in steps:
        row: list[Any] = [step.load, number(step.achieved)]
        row += [number(step.goodput)] if promised else []
        row += [number(step.tokens_per_s), number(step.prompt_tokens_per_s)]
        row += [number(step.tokens_in), number(step.tokens_out)]
        row += ["-" if step.cached is None else f"{step.cached:.0%}", step.ok, step.refused, step.failed]
        rows.append(row)
    return [*columns, "OK", "429", "ERRORS"], rows


def times(steps: Sequence[LanguageFigures]) -> tuple[list[str], list[list[Any]]]:
    """Milliseconds: to the first text, per token after it, to the end."""
    named = (("FIRST", "ttft_ms"), ("TOKEN", "token_ms"), ("WHOLE", "latency_ms"))
    shares = ("p50", "p90", "p99")
    columns = ["LOAD", *(f"{name} {share.upper()}" for name, _ in named for share in shares)]
    rows = [
        [step.load, *(number(getattr(step, field).get(share)) for _, field in named for share in shares)]
        for step in steps
    ]
    return columns, rows


def picture(steps: Sequence[LanguageFigures], width: int) -> list[str]:
    """Bars of the time to the first text."""
    return bars(steps, width, "first text", lambda step: step.ttft_ms)
