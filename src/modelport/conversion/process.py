"""Runs a converter in a process of its own that is shut in: no network, no file but what it is given, no secret.

``run`` starts ``python -m modelport.conversion.process FOLDER`` in the interpreter that has the converter's libraries.
There a function of ``modelport.conversion.tools`` reads the request and writes into FOLDER/out; what it leaves there is
a stranger's file still. The child imports the standard library and numpy before its tool, and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import resource
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from modelport.conversion import confine
from modelport.engine.placement.process import spawn, thread_variables
from modelport.errors import InvalidInput, ModelportError, Unavailable, from_wire

_log = logging.getLogger(__name__)
_TOOLS = "modelport.conversion.tools."
_LARGEST_ANSWER, _TAIL = 1 << 20, 16_384
_LOOK_S, _TELL_S = 0.05, 2.0
_KEPT = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "TZ", "SYSTEMROOT")
_PATH = re.compile(r"(?<![\w.:/])/(?:[\w.+@~-]+/)+[\w.+@~-]*")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
#: What OpenVINO says before it names the operations that it does not know.
_NAMED = re.compile(r"Check 'false' failed at .*?(No conversion rule found for operations: \S+)")
_LONGEST = 400


@dataclass(frozen=True, slots=True)
class Python:
    """The interpreter that has a converter's libraries, and the variables of its environment."""

    executable: str = sys.executable
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def argv(self) -> list[str]:
        """How it is started: an environment of its own finds Modelport by PYTHONPATH, this one must not look there."""
        return [self.executable, "-P" if self.variables else "-I"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a converter may use."""

    time_s: float = 1800
    memory_mb: int = 16_384
    """It has no more than the process that starts it."""
    file_mb: int = 16_384
    threads: int = 1


def run(
    call: str, request: Mapping[str, Any], folder: Path, *, read: Sequence[Path], python: Python | None = None,
    bounds: Bounds | None = None, told: Callable[[float], None] = lambda seconds: None,
) -> dict[str, Any]:  # fmt: skip
    """What ``call`` (``module:function`` below ``tools``) gives back; its files are in ``folder / "out"``.

    ``folder`` is made anew. ``told`` hears every two seconds how long it takes. Raises the tool's own ModelportError,
    InvalidInput for a model that the library cannot convert, Unavailable where a process cannot be shut in.
    """
    python, bounds = python or Python(), bounds or Bounds()
    shutil.rmtree(folder, ignore_errors=True)
    for each in ("out", "tmp"):
        (folder / each).mkdir(parents=True)
    asked = {
        "call": call, "request": dict(request), "read": [str(path.resolve()) for path in read],
        "memory": bounds.memory_mb << 20, "cpu": int(bounds.time_s * max(bounds.threads, 1)) + 1,
        "file": bounds.file_mb << 20,
    }  # fmt: skip
    (folder / "request.json").write_text(json.dumps(asked))
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ} | {
        "PATH": os.defpath, "HOME": str(folder / "tmp"), "TMPDIR": str(folder / "tmp"), "USER": "modelport",
        "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "3",
        "KERAS_BACKEND": "torch", "CUDA_VISIBLE_DEVICES": "", **thread_variables(bounds.threads), **python.variables,
    }  # fmt: skip
    with (folder / "log").open("wb") as log:
        child = spawn(
            [*python.argv, "-m", "modelport.conversion.process", str(folder.resolve())],
            cwd=folder, log=log, env=environment,
        )  # fmt: skip
    try:
        status = _wait(child, bounds.time_s, told)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)  # whatever it started: it could not leave its group
        child.kill()
        child.wait()
    return _answer(folder, status, bounds)


def _wait(child: Any, time_s: float, told: Callable[[float], None]) -> int | None:
    """Its exit status; None when it took too long."""
    began, spoken = time.monotonic(), 0.0
    while child.poll() is None:
        gone = time.monotonic() - began
        if gone > time_s:
            return None
        if gone - spoken > _TELL_S:
            spoken = gone
            told(gone)
        time.sleep(_LOOK_S)
    status: int = child.returncode
    return status


def _answer(folder: Path, status: int | None, bounds: Bounds) -> dict[str, Any]:
    with (folder / "log").open("rb") as log:
        log.seek(max(0, (folder / "log").stat().st_size - _TAIL))
        for line in log.read().decode(errors="replace").splitlines():
            _log.info("converter: %s", _PATH.sub("…", line[:1000]))
    if status is None or status == -signal.SIGXCPU:
        raise InvalidInput(f"the conversion took more than {bounds.time_s:g} s and was ended; convert a smaller model")
    file = folder / "answer.json"
    try:
        if file.is_symlink() or file.stat().st_size > _LARGEST_ANSWER:
            raise ValueError
        answer: dict[str, Any] = json.loads(file.read_bytes())
        error = answer.get("error")
    except (OSError, ValueError, AttributeError):
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        raise InvalidInput(
            f"the process that converted the model died ({how}): the file is damaged, or it needs more than the job's "
            "memory (--memory-mb)"
        ) from None
    if error is not None:
        raise from_wire(str(error["code"]), str(error["message"])[:2000])
    return answer


# The child


def main() -> None:
    """Do what FOLDER/request.json says, shut in; ends without a clean-up that a library could hold up."""
    folder = Path(sys.argv[1])
    os.setpgid(0, 0)
    asked = json.loads((folder / "request.json").read_bytes())
    here = str(Path(__file__).resolve().parents[1])
    soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
    memory = asked["memory"] if soft == resource.RLIM_INFINITY else min(soft, asked["memory"])
    bounds = confine.Bounds(
        (*confine.interpreter_folders(), here, *asked["read"]), str(folder), memory, asked["cpu"], asked["file"]
    )
    try:
        held = confine.confine(bounds)
    except confine.CannotConfine as error:
        _end(folder, Unavailable(
            f"converters open strangers' files, and this machine cannot keep one off the network: {error}"
        ))  # fmt: skip
    warnings.simplefilter("ignore")
    module, _, name = asked["call"].partition(":")
    try:
        given = getattr(import_module(_TOOLS + module), name)(asked["request"], folder / "out")
        _end(folder, None, {**given, "confined": held})
    except ModelportError as error:
        _end(folder, error)
    except MemoryError:
        _end(folder, InvalidInput("the conversion needs more memory than the job has; give it more with --memory-mb"))
    except Exception as error:
        logging.getLogger(__name__).exception("the tool failed")
        _end(folder, InvalidInput(f"the model cannot be converted: {said(error)}"))


def said(error: BaseException) -> str:
    """What a library says of a failure, in one line, without places on this machine."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    whole = _NAMED.sub(r"\1", _COLOURS.sub("", " ".join(lines)))
    text = _PATH.sub("…", whole)[:_LONGEST]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _end(folder: Path, error: ModelportError | None, given: Mapping[str, Any] | None = None) -> None:
    answer = dict(given or {}) if error is None else {"error": {"code": error.code, "message": error.message}}
    (folder / "answer.part").write_text(json.dumps(answer, default=str))
    (folder / "answer.part").replace(folder / "answer.json")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
