"""A language model's tokens through HTTP, beside the same engine without any server and beside other servers.

    python benchmarks/language.py --model smollm2.gguf
    python benchmarks/language.py --model smollm2.gguf --vllm "serve.sh {port}" --transformers folder/

The same questions in the same order for everyone, closed loops of 1, 8 and 32 callers, streamed. The load generator is
``modelport bench llm``'s, in this process; what it costs is in the last column.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from running import Failed, Tree, _free_ports

from modelport.bench.language.figures import LanguageFigures
from modelport.bench.language.prompts import Mix, questions, read_texts
from modelport.bench.language.session import Asking, LanguageSession
from modelport.bench.session import Options
from modelport.sdk.endpoint import Target

HERE = Path(__file__).resolve().parent
MODEL = "smollm2"
TOKENS = (16, 64)
"""An answer's bound lies between these, each as likely."""
START_TIMEOUT_S = 120.0
Step = Callable[[int], dict[str, Any]]


@dataclass(frozen=True)
class Contender:
    """A server of OpenAI's protocol, or the engine itself."""

    name: str
    argv: tuple[str, ...]
    is_server: bool = True
    is_peer: bool = True
    env: dict[str, str] = field(default_factory=dict)
    model: str = MODEL
    extra: dict[str, Any] = field(default_factory=lambda: {"ignore_eos": True})
    """Of each request: an answer goes on to its bound."""


@dataclass
class Result:
    """What one contender did in one round."""

    name: str
    start_s: float = 0.0
    idle_mb: float = 0.0
    loaded_mb: float = 0.0
    steps: dict[int, dict[str, Any]] = field(default_factory=dict)
    """By the number of callers."""
    failed: str = ""


def contenders(given: argparse.Namespace, texts: Path) -> list[Contender]:
    """The engine, Modelport, and the peers that were named."""
    threads, env = str(given.threads), {"OMP_NUM_THREADS": str(given.threads)}
    inside = (sys.executable, str(HERE / "language_inprocess.py"), str(given.model), threads, str(texts))
    served = (
        sys.executable,
        "-m",
        "modelport.cli.main",
        "serve",
        str(given.model),
        "--name",
        MODEL,
        "--port",
        "{port}",
    )
    found = [
        Contender("engine in process", inside, is_server=False, is_peer=False, env=env),
        Contender("modelport serve", (*served, "--grpc-port", "0", "--threads", threads), is_peer=False),
    ]
    if given.vllm:
        found.append(Contender("vLLM", tuple(shlex.split(given.vllm)), env=env))
    if given.transformers:
        where = str(given.transformers.resolve())
        module = (sys.executable, "-m", "transformers.cli.transformers", "serve", where, "--continuous-batching")
        # Its own choice is nine tenths of the memory, which it reads through for each token: 2 s a token here.
        tuned = ("--cb-num-blocks", "512", "--cb-max-batch-tokens", "512", "--device", "cpu")
        extra = {"generation_config": json.dumps({"eos_token_id": None})}
        argv = (*module, *tuned, "--host", "127.0.0.1", "--port", "{port}")
        found.append(Contender("transformers serve", argv, env=env, model=where, extra=extra))
    return [one for one in found if not given.only or any(word in one.name for word in given.only)]


def write_questions(file: Path, seed: int) -> None:
    """Thousands of them, with bounds of their answers: nobody meets one twice."""
    rng = np.random.default_rng(seed)
    asked = questions(Mix(words=60), seed)
    lines = []
    for _ in range(5000):
        bound = int(rng.integers(TOKENS[0], TOKENS[1] + 1))
        lines.append(json.dumps({"prompt": next(asked).prompt, "max_tokens": bound}))
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


# Measuring


def measure(given: argparse.Namespace, texts: Path, folder: Path, rounds: list[list[Result]]) -> None:
    """Put into each round what everyone did. The engine and Modelport are alive together and take turns at every load,
    so that what disturbs the machine disturbs both; the peers come alone, one after the other."""
    found = contenders(given, texts)
    ours = [one for one in found if not one.is_peer]
    for group in [ours, *([one] for one in found if one.is_peer)]:
        for so_far, done in zip(rounds, _together(group, given, texts, folder), strict=True):
            so_far.extend(done)


def _together(group: list[Contender], given: argparse.Namespace, texts: Path, folder: Path) -> list[list[Result]]:
    rounds = [[Result(one.name) for one in group] for _ in range(given.rounds)]
    with ExitStack() as stack:
        alive = []
        for place, one in enumerate(group):
            print(f"starting {one.name}", file=sys.stderr, flush=True)
            try:
                start_s, step, tree = stack.enter_context(_started(one, given, texts, folder))
            except Failed as error:
                for results in rounds:
                    results[place].failed = str(error)
                continue
            for results in rounds:
                results[place].start_s, results[place].idle_mb = start_s, tree.pss_mb()
            alive.append((place, step, tree))
        for number, results in enumerate(rounds):
            for callers in given.callers:
                for place, step, tree in alive if number % 2 == 0 else reversed(alive):
                    try:
                        results[place].steps[callers] = found = step(callers)
                        rate = f"{found['tokens_per_s']:,.0f} tokens/s"
                        print(f"round {number + 1}, {callers} callers, {results[place].name}: {rate}", file=sys.stderr)
                    except Failed as error:
                        results[place].failed = str(error)
                    results[place].loaded_mb = tree.pss_mb()
    return rounds


@contextmanager
def _started(
    contender: Contender, given: argparse.Namespace, texts: Path, folder: Path
) -> Iterator[tuple[float, Step, Tree]]:
    """Seconds until it answered, how to load it, and its processes."""
    (port,) = _free_ports(1)
    argv = [part.replace("{port}", str(port)) for part in contender.argv]
    env = {name: value for name, value in os.environ.items() if not name.startswith("MODELPORT_")} | contender.env
    log = folder / f"{contender.name.replace(' ', '-')}.log"
    begun = time.perf_counter()
    if not contender.is_server:
        with _inside(argv, env, folder, log) as (process, tree):
            yield time.perf_counter() - begun, lambda callers: _ask_inside(process, callers, given), tree
        return
    tree = Tree(argv, env, folder, given.cores, log)
    try:
        _until_it_answers(f"http://127.0.0.1:{port}", contender.model, tree, log)
        start_s = time.perf_counter() - begun
        options = Options(given.seconds, given.warmup, 120.0)
        asking = Asking(Mix(texts=read_texts(texts)), extra=contender.extra)
        with LanguageSession(Target(f"http://127.0.0.1:{port}"), contender.model, asking, options) as session:
            yield start_s, lambda callers: _ask_server(session, callers), tree
    finally:
        tree.stop()


class _Weighed(Tree):
    """The engine's own process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.root = process  # type: ignore[assignment]
        self._mark = "BENCH_MARK=inside"


@contextmanager
def _inside(
    argv: list[str], env: dict[str, str], folder: Path, log: Path
) -> Iterator[tuple[subprocess.Popen[str], Tree]]:
    with log.open("w") as errors:
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=env, cwd=folder
        )
    try:
        _line(process, START_TIMEOUT_S, log)
        yield process, _Weighed(process)
    finally:
        process.kill()
        process.wait(10)


def _line(process: subprocess.Popen[str], timeout: float, log: Path) -> str:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], timeout)
    line = process.stdout.readline() if ready else ""
    if not line:
        raise Failed(f"the engine said nothing: {log.read_text()[-300:]}")
    return line


def _ask_inside(process: subprocess.Popen[str], callers: int, given: argparse.Namespace) -> dict[str, Any]:
    assert process.stdin is not None
    process.stdin.write(json.dumps({"callers": callers, "seconds": given.seconds, "warmup": given.warmup}) + "\n")
    process.stdin.flush()
    found: dict[str, Any] = json.loads(_line(process, 120.0, Path("/dev/null")))
    return found


def _until_it_answers(url: str, model: str, tree: Tree, log: Path) -> None:
    """A whole answer of one token."""
    body = {"model": model, "messages": [{"role": "user", "content": "Say one word."}], "max_tokens": 1}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if tree.root.poll() is not None:
            raise Failed(f"ended with {tree.root.returncode}: {log.read_text(errors='replace')[-300:]}")
        with suppress(OSError, urllib.error.HTTPError):
            with urllib.request.urlopen(request, timeout=60) as answer:
                json.loads(answer.read())["choices"]
            return
        time.sleep(0.1)
    raise Failed(f"did not answer within {START_TIMEOUT_S:g} s: {log.read_text(errors='replace')[-300:]}")


def _ask_server(session: LanguageSession, callers: int) -> dict[str, Any]:
    found = session.with_callers(callers)
    if not isinstance(found, LanguageFigures) or found.errors:
        raise Failed(f"errors at {callers} callers: {getattr(found, 'errors', 'nothing came')}")
    return {
        "tokens_per_s": found.tokens_per_s, "ttft_ms": found.ttft_ms, "gap_ms": found.gap_ms,
        "answers": found.ok, "client": found.cpu,
    }  # fmt: skip


# The table


def table(rounds: list[list[Result]], callers: list[int]) -> str:
    """Markdown, medians over the rounds; ratios and differences are to the engine in the same round."""
    head = ["callers", "", "tokens/s", "x engine", "first text p50 / p99, ms", "- engine's p50", "gap p50 / p99, ms"]
    rows = [[*head, "client's core"], ["---"] * (len(head) + 1)]
    for n in callers:
        for place in range(len(rounds[0])):
            pairs = [(found[place].steps.get(n), found[0].steps.get(n)) for found in rounds]
            rows.append([str(n), rounds[0][place].name, *_figures(pairs, rounds[0][place].failed)])
    rows += [[], ["", "start s", "PSS MB idle / loaded"], ["---"] * 3]
    for place, first in enumerate(rounds[0]):
        loaded = max(found[place].loaded_mb for found in rounds)
        rows.append([first.name, f"{first.start_s:.1f}", f"{first.idle_mb:,.0f} / {loaded:,.0f}"])
    return "\n".join("| " + " | ".join(row) + " |" if row else "" for row in rows)


def _figures(pairs: list[tuple[dict[str, Any] | None, dict[str, Any] | None]], failed: str) -> list[str]:
    steps = [step for step, _ in pairs if step]
    if not steps:
        return [f"failed: {failed[:200]}"] + [""] * 5
    both = [(step, engine) for step, engine in pairs if step and engine]
    ratios = [step["tokens_per_s"] / engine["tokens_per_s"] for step, engine in both]
    firsts = [(step["ttft_ms"].get("p50"), engine["ttft_ms"].get("p50")) for step, engine in both]
    later = [first - engines for first, engines in firsts if first is not None and engines is not None]
    return [
        f"{statistics.median(step['tokens_per_s'] for step in steps):,.0f}",
        f"{statistics.median(ratios):.2f}" if ratios else "",
        _late([step["ttft_ms"] for step in steps]),
        f"{statistics.median(later):+,.0f}" if later else "",
        _late([step["gap_ms"] for step in steps]),
        f"{max(step.get('client', 0.0) for step in steps):.0%}",
    ]


def _late(spreads: list[dict[str, float | None]]) -> str:
    """Median and p99; of fewer than a hundred their greatest."""

    def mid(name: str) -> float | None:
        values = [value for spread in spreads if (value := spread.get(name)) is not None]
        return statistics.median(values) if values else None

    middle, late, greatest = mid("p50"), mid("p99"), mid("max")
    if middle is None or greatest is None:
        return "-"
    return f"{middle:,.1f} / " + (f"max {greatest:,.0f}" if late is None else f"{late:,.0f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a GGUF file")
    parser.add_argument("--vllm", help="the command that starts its server as model smollm2; {port} is put in")
    parser.add_argument("--transformers", type=Path, help="the model's folder, for `transformers serve`")
    parser.add_argument("--only", nargs="*", help="contenders whose names hold one of these words")
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--warmup", type=float, default=12.0, help="until callers that began together are out of step")
    parser.add_argument("--threads", type=int, default=1, help="of each engine")
    parser.add_argument("--cores", default="0,1", help="of each server, as taskset has them")
    parser.add_argument("--out", type=Path, help="every single figure, as JSON")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    given.model = given.model.resolve()
    with tempfile.TemporaryDirectory(prefix="bench-language-") as folder:
        texts = Path(folder) / "questions.jsonl"
        write_questions(texts, 0)
        rounds: list[list[Result]] = [[] for _ in range(given.rounds)]
        try:
            measure(given, texts, Path(folder), rounds)
        finally:  # told to end: what is whole is kept
            _keep(rounds, given)


def _keep(rounds: list[list[Result]], given: argparse.Namespace) -> None:
    if given.out:
        given.out.write_text(json.dumps([[vars(result) for result in found] for found in rounds], indent=1))
    print(table(rounds, given.callers))


if __name__ == "__main__":
    main()
