"""The language model's benchmark: what everyone is asked is the same, and its tables tell what was measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(FOLDER))

import language  # noqa: E402
import language_routing  # noqa: E402


def step(rate: float, first: float, p99: float | None = None) -> dict[str, Any]:
    times = {"p50": first, "p99": p99, "max": 2 * first}
    return {"tokens_per_s": rate, "ttft_ms": times, "gap_ms": times, "client": 0.02}


def test_everyone_is_asked_the_same(tmp_path: Path) -> None:
    for name in ("one", "two"):
        language.write_questions(tmp_path / name, 0)
    lines = [json.loads(line) for line in (tmp_path / "one").read_text().splitlines()]
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert len({line["prompt"] for line in lines}) == len(lines) == 5000
    assert {line["max_tokens"] for line in lines} == set(range(language.TOKENS[0], language.TOKENS[1] + 1))


def test_ratios_are_those_of_one_round() -> None:
    def rounds(engine: float, ours: float, first: float) -> list[language.Result]:
        return [
            language.Result("engine", 2.0, 300.0, 400.0, {8: step(engine, 50)}),
            language.Result("ours", 3.0, 350.0, 500.0, {8: step(ours, first, 99)}),
            language.Result("peer", failed="no such file"),
        ]

    lines = language.table([rounds(100, 90, 53), rounds(200, 180, 57), rounds(50, 50, 55)], [8]).splitlines()
    engine, ours, peer = lines[2:5]
    assert engine == "| 8 | engine | 100 | 1.00 | 50.0 / max 100 | +0 | 50.0 / max 100 | 2% |"
    assert ours == "| 8 | ours | 90 | 0.90 | 55.0 / 99 | +5 | 55.0 / 99 | 2% |"
    assert "failed: no such file" in peer
    assert "| ours | 3.0 | 350 / 500 |" in lines


def test_the_first_turn_of_a_conversation_counts_for_neither_kind() -> None:
    turns = [("affinity", 0, 900.0, 0.0), ("affinity", 1, 10.0, 0.9), ("affinity", 2, 20.0, 0.7)]
    turns += [("least busy", 0, 900.0, 0.0), ("least busy", 1, 40.0, 0.5)]
    lines = language_routing.table(turns).splitlines()
    assert lines[2].startswith("| affinity | 2 | 15 |") and lines[2].endswith("| 80% |")
    assert lines[3] == "| least busy | 1 | 40 | 40 | 40 | 50% |"
