"""Modelport beside other model servers: the same ONNX models, one client (wrk), runs interleaved, on the same cores.

    python benchmarks/peers.py                               everything: installs the peers, half an hour a layout
    python benchmarks/peers.py --peers modelport mosec fastapi --rounds 3 --seconds 2          about six minutes
    python benchmarks/peers.py --peers modelport mosec --models m3 --layout two --callers 1 64

Writes tables, all figures and a picture to benchmarks/results/. How to read them: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import load
import models
import numpy as np
import onnxruntime
import report
from contenders import CONTENDERS, PEERS, Contender
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from running import Failed, Stage, install, missing_tools, raw_rows_per_second

LAYOUTS = {"one": 1, "two": 2}  # cores that server and client share
RAW_BATCHES, RAW_SECONDS = (1, 32), 1.0
#: 64 callers of an 8 ms model wait half a second each: a short run would count mostly how it begins.
LONGER = {"m2": 2}


def chosen(options: argparse.Namespace, console: Console) -> list[Contender]:
    """The contenders that were asked for and can be installed; says why one cannot."""
    reasons: dict[str, str] = {}
    found = []
    for contender in CONTENDERS:
        if contender.peer not in options.peers:
            continue
        venv = contender.venv or contender.peer
        if venv not in reasons:
            reasons[venv] = ""
            try:
                with console.status(f"installing {venv}"):
                    install(venv)
            except Failed as error:
                reasons[venv] = str(error)
                console.print(f"[yellow]{venv} is left out[/]: {escape(str(error))}")
        if not reasons[venv]:
            found.append(contender)
    return found


def visits(options: argparse.Namespace, contenders: list[Contender]) -> Iterator[tuple[int, str, str, Contender]]:
    """Round, layout, model, contender: in every round everyone's turn comes once."""
    for number in range(1, options.rounds + 1):
        for layout in options.layout:
            for model in options.models:
                for contender in contenders:
                    alone = contender.replicas == 1 or layout == "two"
                    if model in contender.models and alone:
                        yield number, layout, model, contender


def cores_of(layout: str) -> str:
    """Such as ``0,1``: the first that this process may use."""
    return ",".join(map(str, sorted(os.sched_getaffinity(0))[: LAYOUTS[layout]]))


def truth(model: models.Model) -> np.ndarray[Any, Any]:
    """What ONNX Runtime itself answers."""
    session = onnxruntime.InferenceSession(str(model.file), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"input": model.row[None]})[0])


class Benchmark:
    """Takes the measurements and keeps them as plain records, ready for JSON."""

    def __init__(self, options: argparse.Namespace, contenders: list[Contender], stage: Stage, console: Console):
        self._options, self._stage, self._console = options, stage, console
        self._visits = list(visits(options, contenders))
        self._models = models.write()
        self._truths = {name: truth(model) for name, model in self._models.items()}
        self._broken: dict[tuple[str, str, str], str] = {}
        self.records: list[dict[str, Any]] = []
        self.raw: list[dict[str, Any]] = []

    @property
    def failures(self) -> list[dict[str, str]]:
        return [
            {"contender": contender, "model": model, "layout": layout, "reason": reason}
            for (contender, model, layout), reason in self._broken.items()
        ]

    def run(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, TimeRemainingColumn(), console=self._console) as progress:
            task = progress.add_task("", total=len(self._visits))
            group: tuple[int, str, str] | None = None
            for number, layout, model, contender in self._visits:
                where = f"round {number}/{self._options.rounds} · {layout} · {model} · "
                if (number, layout, model) != group:
                    group = (number, layout, model)
                    progress.update(task, description=where + "raw ONNX Runtime")
                    self._raw(*group)
                progress.update(task, description=where + contender.title)
                if (contender.name, model, layout) not in self._broken:
                    self._visit(number, layout, model, contender)
                progress.advance(task)

    def _raw(self, number: int, layout: str, model: str) -> None:
        for batch in RAW_BATCHES:
            rate = raw_rows_per_second(self._models[model], batch, cores_of(layout), RAW_SECONDS)
            self.raw.append({"round": number, "layout": layout, "model": model, "batch": batch, "rows_per_s": rate})

    def _visit(self, number: int, layout: str, model: str, contender: Contender) -> None:
        cores = cores_of(layout)
        record: dict[str, Any] = {"round": number, "layout": layout, "model": model, "contender": contender.name}
        try:
            with self._stage.started(contender, self._models[model], self._truths[model], cores) as server:
                record |= {"cold_s": server.cold_s, "pss_idle_mb": server.tree.pss_mb(), "load": {}}
                for callers in self._options.callers:
                    seconds = self._options.seconds * LONGER.get(model, 1)
                    found = load.http(server.shot, callers, seconds, cores)
                    record["load"][str(callers)] = {
                        "rate": found.rate, "p50_ms": found.p50, "p99_ms": found.p99, "failed": found.failed,
                    }  # fmt: skip
                record["pss_loaded_mb"] = server.tree.pss_mb()
        except (Failed, subprocess.CalledProcessError) as error:
            self._broken[contender.name, model, layout] = str(error)
            self._console.print(f"[yellow]{contender.title}, {model}, {layout}[/]: {escape(str(error))}")
        else:
            self.records.append(record)


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "date": str(datetime.date.today()),
        "processor": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "load_average_before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "command": " ".join(["python", "benchmarks/peers.py", *sys.argv[1:]]),
    }


def parsed() -> argparse.Namespace:
    examples = (__doc__ or "").split("\n\n")[1]
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), metavar="PEER", help=", ".join(PEERS))
    parser.add_argument("--models", nargs="+", choices=["m1", "m2", "m3"], default=["m1", "m2", "m3"])
    parser.add_argument("--layout", nargs="+", choices=list(LAYOUTS), default=["one"], help="cores; both may be given")
    parser.add_argument("--callers", nargs="+", type=int, default=[1, 16, 64], help="closed loops at a time")
    parser.add_argument("--rounds", type=int, default=3, help="medians are over these")
    parser.add_argument("--seconds", type=int, default=3, help="of each measurement; wrk counts whole seconds")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of what is written")
    return parser.parse_args()


def main() -> None:
    """Measure, print, write."""
    options = parsed()
    console = Console()
    if lacking := missing_tools():
        sys.exit(f"this machine lacks {' and '.join(lacking)}: apt-get install wrk util-linux")
    if max(LAYOUTS[layout] for layout in options.layout) > len(os.sched_getaffinity(0)):
        sys.exit("layout 'two' needs two cores, and this process may use one: leave --layout two out")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    facts = machine()
    contenders = chosen(options, console)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        benchmark = Benchmark(options, contenders, Stage(Path(folder)), console)
        try:
            benchmark.run()
        except KeyboardInterrupt:
            console.print("[yellow]stopped[/]")
        finally:
            if benchmark.records:
                results = {**facts, "raw": benchmark.raw, "failures": benchmark.failures, "records": benchmark.records}
                report.write(results, options.out, console)


if __name__ == "__main__":
    main()
