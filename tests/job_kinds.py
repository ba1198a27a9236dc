"""Kinds of jobs for tests, entered by the plug-in door: a folder with an installed package's metadata."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from modelport.control.actors import Actor
from modelport.control.jobs.run import JobRun
from modelport.errors import InvalidInput, Unavailable

ROOT = Path(__file__).parents[1]


def install(folder: Path) -> dict[str, str]:
    """Variables of a server that knows the kinds below."""
    info = folder / "modelport_test_kinds-1.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: modelport-test-kinds\nVersion: 1\n")
    kinds = {"count": "Count", "misbehave": "Misbehave", "write": "Write"}
    lines = [f"{name} = tests.job_kinds:{cls}" for name, cls in kinds.items()]
    (info / "entry_points.txt").write_text("[modelport.jobs]\n" + "\n".join(lines) + "\n")
    path = [str(folder), str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(part for part in path if part)}


class CountParams(BaseModel):
    model_config = ConfigDict(extra="forbid")

    to: int = Field(10, ge=0, le=1_000_000)
    pause_s: float = Field(0.05, ge=0)
    refuse: bool = False


class Count:
    """Counts, one line of a file per number, and goes on where the file ends; the result is the file's hash."""

    Params = CountParams

    def check(self, services: Any, actor: Actor, params: CountParams) -> None:
        if params.refuse:
            raise InvalidInput("params.refuse: you asked for it")

    def run(self, run: JobRun, params: CountParams) -> dict[str, Any]:
        file = run.folder / "numbers.txt"
        text = file.read_text() if file.exists() else ""
        done = text.count("\n")
        file.write_text("".join(f"{number}\n" for number in range(done)))  # a half line was a kill's
        logging.getLogger(__name__).info("attempt %d begins at %d", run.attempt, done)
        with file.open("a") as out:
            for number in range(done, params.to):
                out.write(f"{number}\n")
                out.flush()
                run.progress(number + 1, params.to, unit="numbers")
                run.metric("number", number, number)
                time.sleep(params.pause_s)
        return {"sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "begun_at": done}


class MisbehaveParams(BaseModel):
    model_config = ConfigDict(extra="forbid")

    how: str
    times: int = 1_000
    """So many attempts go wrong; the next one is good."""


class Misbehave:
    """Fails in the way that it is told."""

    Params = MisbehaveParams

    def check(self, services: Any, actor: Actor, params: MisbehaveParams) -> None:
        pass

    def run(self, run: JobRun, params: MisbehaveParams) -> dict[str, Any]:
        if run.attempt > params.times:
            return {"attempt": run.attempt}
        match params.how:
            case "raise":
                raise RuntimeError("something with /a/path in it")
            case "refuse":
                raise InvalidInput("the data is empty; give some")
            case "unavailable":
                raise Unavailable("the store does not answer")
            case "abort":
                os.abort()
            case "exit":
                os._exit(3)
            case "eat":
                eaten = [bytearray(1 << 24) for _ in range(100_000)]
                return {"eaten": len(eaten)}
            case "eat-natively":
                ctypes.CDLL(None).malloc.restype = ctypes.c_void_p
                while ctypes.CDLL(None).malloc(1 << 24):
                    pass
                sys.stderr.write("memory allocation of 16777216 bytes failed\n")
                sys.stderr.flush()
                os.abort()
            case "deaf":
                import signal

                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                run.progress(1, None, "deaf")
                time.sleep(600)
            case "child":
                child = subprocess.Popen(["sleep", "600"])
                run.progress(child.pid, None, "child")
                time.sleep(600)
            case "large":
                return {"text": "x" * (2 << 20)}
            case "print":
                print("printed words")
                run.metric("loss", float("nan"), 1)
                run.metric("loss", 0.5, 2)
        return {}


class WriteParams(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text: str = ""
    value: float = 0
    pause_s: float = 0
    version: int = 1
    fail_unless: str | None = None
    """A file that has to be there."""


class Write:
    """Gives back what it got: a stage for pipelines, which says how often it was done."""

    Params = WriteParams

    def check(self, services: Any, actor: Actor, params: WriteParams) -> None:
        if params.value < 0:
            raise InvalidInput("params.value: it is below 0")

    def inputs(self, services: Any, actor: Actor, params: WriteParams) -> list[str] | None:
        return None if params.version == 0 else [hashlib.sha256(params.text.encode()).hexdigest()]

    def still_there(self, services: Any, actor: Actor, result: dict[str, Any]) -> bool:
        return not (services.settings.home / "gone").exists()

    def run(self, run: JobRun, params: WriteParams) -> dict[str, Any]:
        counter = run.services.settings.home / "written.txt"
        with counter.open("a") as out:
            out.write(f"{params.text}\n")
        time.sleep(params.pause_s)
        if params.fail_unless is not None and not Path(params.fail_unless).exists():
            raise InvalidInput("the file is not there; make it")
        return {"text": params.text, "value": params.value, "nested": {"list": [params.text]}}
