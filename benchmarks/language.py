"""A language model's tokens through HTTP, beside the same engine without any server and beside other servers.

    python benchmarks/language.py --model smollm2.gguf
    python benchmarks/language.py --model smollm2.gguf --vllm "serve.sh {port}" --transformers folder/

The same questions in the same order for everyone, closed loops of 1, 8 and 32 callers, streamed. The load generator is
``modelport bench llm``'s, in this process; what it costs is in the last column. Everything is started anew in every
round and ended after it.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
        Contender("engine in process", inside, is_server=False, env=env),
        Contender("modelport serve", (*served, "--grpc-port", "0", "--threads", threads)),
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


def measure(contender: Contender, given: argparse.Namespace, texts: Path, folder: Path) -> Result:
    """Start it, load it step by step, weigh it, end it."""
    found = Result(contender.name)
    try:
        with _started(contender, given, texts, folder, found) as (step, tree):
            found.idle_mb = tree.pss_mb()
            for callers in given.callers:
                found.steps[callers] = step(callers)
            found.loaded_mb = tree.pss_mb()
    except Failed as error:
        found.failed = str(error)
    return found


@contextmanager
def _started(
    contender: Contender, given: argparse.Namespace, texts: Path, folder: Path, found: Result
) -> Iterator[tuple[Step, Tree]]:
    (port,) = _free_ports(1)
    argv = [part.replace("{port}", str(port)) for part in contender.argv]
    env = {name: value for name, value in os.environ.items() if not name.startswith("MODELPORT_")} | contender.env
    log = folder / f"{contender.name.replace(' ', '-')}.log"
    begun = time.perf_counter()
    if not contender.is_server:
        with _inside(argv, env, folder, log) as (process, tree):
            found.start_s = time.perf_counter() - begun
            yield lambda callers: _ask_inside(process, callers, given), tree
        return
    tree = Tree(argv, env, folder, given.cores, log)
    try:
        _until_it_answers(f"http://127.0.0.1:{port}", contender.model, tree, log)
        found.start_s = time.perf_counter() - begun
        options = Options(given.seconds, given.warmup, 120.0)
        asking = Asking(Mix(texts=read_texts(texts)), extra=contender.extra)
        with LanguageSession(Target(f"http://127.0.0.1:{port}"), contender.model, asking, options) as session:
            yield lambda callers: _ask_server(session, callers), tree
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
    """Markdown: medians over the rounds, and ratios to the engine of the same round."""
    head = ["", *(f"tokens/s at {n}" for n in callers), *(f"x engine at {n}" for n in callers)]
    head += [f"first text p50 / p99, ms, at {n}" for n in callers]
    head += [f"gap p50 / p99, ms, at {n}" for n in callers] + ["PSS MB idle / loaded", "start s", "client's core"]
    rows = [head, ["---"] * len(head)]
    for place, first in enumerate(rounds[0]):
        results = [found[place] for found in rounds if not found[place].failed]
        if not results:
            rows.append([first.name, f"failed: {first.failed[:200]}"] + [""] * (len(head) - 2))
            continue
        rows.append(_row(results, [found[0] for found in rounds if not found[place].failed], callers))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _row(results: list[Result], engines: list[Result], callers: list[int]) -> list[str]:
    def mid(of: Callable[[Result], float | None]) -> float | None:
        values = [value for result in results if (value := of(result)) is not None]
        return statistics.median(values) if values else None

    def pair(name: str, n: int) -> str:
        middle = mid(lambda result: result.steps[n][name].get("p50"))
        late, mark = mid(lambda result: result.steps[n][name].get("p99")), ""
        if late is None:  # fewer than a hundred: their greatest
            late, mark = mid(lambda result: result.steps[n][name].get("max")), "max "
        return "-" if middle is None or late is None else f"{middle:,.1f} / {mark}{late:,.1f}"

    def ratio(n: int) -> str:
        pairs = zip(results, engines, strict=True)
        ratios = [r.steps[n]["tokens_per_s"] / e.steps[n]["tokens_per_s"] for r, e in pairs if n in e.steps]
        return f"{statistics.median(ratios):.3f}" if ratios else ""

    row = [results[0].name, *(f"{mid(lambda r, n=n: r.steps[n]['tokens_per_s']):,.0f}" for n in callers)]  # type: ignore[misc]
    row += [ratio(n) for n in callers]
    row += [pair("ttft_ms", n) for n in callers] + [pair("gap_ms", n) for n in callers]
    weight = f"{mid(lambda r: r.idle_mb):,.0f} / {mid(lambda r: r.loaded_mb):,.0f}"
    busiest = mid(lambda r: max(step.get("client", 0.0) for step in r.steps.values()))
    return [*row, weight, f"{mid(lambda r: r.start_s):.1f}", f"{busiest:.0%}"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a GGUF file")
    parser.add_argument("--vllm", help="the command that starts its server as model smollm2; {port} is put in")
    parser.add_argument("--transformers", type=Path, help="the model's folder, for `transformers serve`")
    parser.add_argument("--only", nargs="*", help="contenders whose names hold one of these words")
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--warmup", type=float, default=2.0)
    parser.add_argument("--threads", type=int, default=1, help="of each engine")
    parser.add_argument("--cores", default="0,1", help="of each server, as taskset has them")
    parser.add_argument("--out", type=Path, help="every single figure, as JSON")
    given = parser.parse_args()
    given.model = given.model.resolve()
    rounds: list[list[Result]] = []
    with tempfile.TemporaryDirectory(prefix="bench-language-") as folder:
        texts = Path(folder) / "questions.jsonl"
        write_questions(texts, 0)
        for number in range(given.rounds):
            found = []
            for contender in contenders(given, texts):
                print(f"round {number + 1}: {contender.name}", file=sys.stderr, flush=True)
                found.append(measure(contender, given, texts, Path(folder)))
            rounds.append(found)
    print(table(rounds, given.callers))
    if given.out:
        given.out.write_text(json.dumps([[vars(result) for result in found] for found in rounds], indent=1))


if __name__ == "__main__":
    main()
