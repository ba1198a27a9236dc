"""What a conversation gains when its next turn goes to the replica that has read it: times to the first text.

    python benchmarks/language_routing.py --model smollm2.gguf

Two replicas of one deployment. Conversations with a long beginning each go on turn by turn, some at a time, each on a
connection of its own. Half of them are as any client sends them; of the others the first message carries another
``name`` in every turn, which the model's template does not show: the same tokens, but the gateway does not know them
again and takes the least busy replica. Both kinds run side by side.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from modelport.bench.language.prompts import Mix, questions

MODEL = "smollm2"
MODELPORT = [sys.executable, "-m", "modelport.cli.main"]
KINDS = {"affinity": True, "least busy": False}
Turn = tuple[str, int, float, float]
"""Kind, number of the turn, ms to the first text, share of the prompt that was in the cache."""


def talk(url: str, kind: str, texts: list[str], tokens: int) -> list[Turn]:
    """One conversation."""
    messages = [{"role": "system", "content": texts[0]}]
    found = []
    with httpx.Client(timeout=120) as client:
        for number, text in enumerate(texts[1:]):
            messages.append({"role": "user", "content": text})
            first = messages[0] if KINDS[kind] else {**messages[0], "name": secrets.token_hex(8)}
            body = {
                "model": MODEL, "messages": [first, *messages[1:]], "stream": True, "temperature": 0,
                "max_tokens": tokens, "ignore_eos": True, "stream_options": {"include_usage": True},
            }  # fmt: skip
            ttft, answer, cached = _ask(client, f"{url}/v1/chat/completions", body)
            found.append((kind, number, ttft, cached))
            messages.append({"role": "assistant", "content": answer})
    return found


def _ask(client: httpx.Client, url: str, body: dict[str, Any]) -> tuple[float, str, float]:
    begun, first, said, cached = time.perf_counter(), None, "", 0.0
    with client.stream("POST", url, json=body) as answer:
        answer.raise_for_status()
        for line in answer.iter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line[6:])
            for choice in event["choices"]:
                if text := choice["delta"].get("content"):
                    first = first or time.perf_counter()
                    said += text
            if usage := event.get("usage"):
                cached = usage["prompt_tokens_details"]["cached_tokens"] / usage["prompt_tokens"]
    return 1e3 * ((first or time.perf_counter()) - begun), said, cached


def measure(url: str, given: argparse.Namespace) -> list[Turn]:
    """Both kinds in turn, so many conversations at a time."""
    begin = questions(Mix(words=given.words, same_length=True), 1)
    follow = questions(Mix(words=15, same_length=True), 2)
    talks = []
    for number in range(2 * given.talks):
        texts = [next(begin).prompt, *(next(follow).prompt for _ in range(given.turns))]
        talks.append((list(KINDS)[number % 2], texts))
    with ThreadPoolExecutor(given.callers) as pool:
        found = pool.map(lambda one: talk(url, one[0], one[1], given.tokens), talks)
        return [turn for turns in found for turn in turns]


def table(turns: list[Turn]) -> str:
    """Markdown, of the turns after the first."""
    rows = ["| routing | turns | first text p50, ms | p90 | p99 | of the prompt in the cache |", "|" + " --- |" * 6]
    for kind in KINDS:
        later = [(ttft, cached) for name, number, ttft, cached in turns if name == kind and number]
        times = np.array([ttft for ttft, _ in later])
        shares = " | ".join(f"{np.percentile(times, share):,.0f}" for share in (50, 90, 99))
        rows.append(f"| {kind} | {len(later)} | {shares} | {np.mean([cached for _, cached in later]):.0%} |")
    return "\n".join(rows)


def main() -> None:
    """Start a server with two replicas, measure, end it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a GGUF file")
    parser.add_argument("--talks", type=int, default=10, help="conversations of each kind")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--words", type=int, default=300, help="of a conversation's beginning")
    parser.add_argument("--tokens", type=int, default=16, help="of an answer")
    parser.add_argument("--callers", type=int, default=4, help="conversations at a time")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="bench-routing-") as home:
        env = {name: value for name, value in os.environ.items() if not name.startswith("MODELPORT_")}
        env["MODELPORT_HOME"] = home
        try:
            flags = ["--detach", "--port", "0", "--grpc-port", "0"]
            for command in (["up", *flags], ["push", str(given.model.resolve()), "--name", MODEL],
                            ["deploy", MODEL, "--replicas", "2"]):  # fmt: skip
                subprocess.run([*MODELPORT, *command], env=env, check=True, stdout=subprocess.DEVNULL)
            url = json.loads((Path(home) / "run" / "endpoint.json").read_text())["url"]
            print(table(measure(url, given)))
        finally:
            subprocess.run([*MODELPORT, "down"], env=env, check=False, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
