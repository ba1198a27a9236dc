"""Looks at an untrusted artifact: ``python -m modelport.engine.inspect`` reads one JSON request from standard input
and writes one JSON answer to standard output.

It runs in a process of its own with limits on time and memory, so that a hostile file can cost its own push only.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import resource
import signal
import stat
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import msgspec

from modelport import plugins
from modelport.engine.formats.refused import advice
from modelport.engine.runtime import Format, Inspected, Trust
from modelport.errors import ArtifactRefused, MissingExtra, Unavailable

_MOST_FILES, _DEEPEST, _LONGEST_NAME = 10_000, 20, 500
_LARGEST_ANSWER = 32 << 20
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG
#: What the inspection process gets of the environment: no key, no token.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TZ")


class _Request(msgspec.Struct):
    artifact: str
    trust: Trust
    parent: int
    timeout_s: float
    memory_bytes: int


class _Answer(msgspec.Struct):
    inspected: Inspected | None = None
    refused: str | None = None


def inspect(artifact: Path, trust: Trust) -> Inspected:
    """Inspect a folder, or one file, in this process; raises ArtifactRefused with the cause and the next step."""
    files: tuple[str, ...]
    if artifact.is_file():
        folder, files, declared = artifact.parent, (artifact.name,), None
    else:
        from modelport.engine.imports.layout import declaration_of  # noqa: PLC0415  (a file has none: 50 ms saved)

        folder, files = artifact, artifact_files(artifact)
        declared = declaration_of(folder, files)
    if declared is not None:
        files = declared.files
    formats: list[Format] = [plugins.load("formats", name)() for name in plugins.names("formats")]
    for found in sorted(formats, key=lambda known: -known.precedence):
        if found.recognises(folder, files):
            inspected = found.inspect(folder, files, trust)
            return inspected if declared is None else declared.complete(inspected)
    raise ArtifactRefused((declared and declared.advice) or advice(folder, files))


def artifact_files(folder: Path) -> tuple[str, ...]:
    """The relative paths of a folder's files, sorted; raises ArtifactRefused for anything but files and folders."""
    files: list[str] = []
    waiting = [("", 0)]
    while waiting:
        inside, depth = waiting.pop()
        with os.scandir(folder / inside) as entries:
            for entry in entries:
                name = f"{inside}{entry.name}"
                _check_name(name)
                mode = entry.stat(follow_symlinks=False).st_mode
                if stat.S_ISDIR(mode) and depth < _DEEPEST:
                    waiting.append((f"{name}/", depth + 1))
                elif stat.S_ISREG(mode):
                    files.append(name)
                else:
                    raise ArtifactRefused(f"{name[:120]!r} is {_kind(mode)}: an artifact holds plain files only")
                if len(files) > _MOST_FILES:
                    raise ArtifactRefused(f"the folder holds more than {_MOST_FILES} files: push the model alone")
    if not files:
        raise ArtifactRefused("the folder is empty: push a model file, or a folder that holds one")
    return tuple(sorted(files))


def _check_name(name: str) -> None:
    if len(name) > _LONGEST_NAME or "\\" in name or not name.isprintable():
        raise ArtifactRefused(
            f"the file name {name[:120]!r} is too long or has characters that are not allowed: rename it"
        )


def _kind(mode: int) -> str:
    kinds = {stat.S_IFLNK: "a symbolic link", stat.S_IFDIR: "nested too deeply", stat.S_IFIFO: "a named pipe"}
    return kinds.get(stat.S_IFMT(mode), "a device or socket")


def inspect_apart(artifact: Path, trust: Trust, timeout_s: float = 60, memory_mb: int = 4096) -> Inspected:
    """Inspect in a process of its own, within ``timeout_s`` and ``memory_mb`` beyond the artifact's size.

    Raises ArtifactRefused, also when the process dies or exceeds its limits; Unavailable when it cannot start at all.
    """
    request = _Request(
        artifact=str(artifact.absolute()),
        trust=trust,
        parent=os.getpid(),
        timeout_s=timeout_s,
        memory_bytes=(memory_mb << 20) + 3 * _size(artifact),
    )
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-m", "modelport.engine.inspect"],
            input=msgspec.json.encode(request),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=timeout_s,
            env=environment,
            cwd="/",
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ArtifactRefused(
            f"the artifact could not be read within {timeout_s:g} s: it is damaged, or too intricate; save it again"
        ) from None
    return _result(done.returncode, done.stdout, timeout_s, memory_mb)


def _result(status: int, raw: bytes, timeout_s: float, memory_mb: int) -> Inspected:
    try:
        answer = msgspec.json.decode(raw, type=_Answer)
    except msgspec.DecodeError:
        if status == -signal.SIGXCPU:
            raise ArtifactRefused(
                f"the artifact could not be read within {timeout_s:g} s: it is damaged, or too intricate; save it again"
            ) from None
        if not raw:
            raise Unavailable("the inspection process did not start: check the installation of Modelport") from None
        raise ArtifactRefused(
            f"the process that read the artifact died ({signal.Signals(-status).name}): "
            f"the artifact is damaged, or needs more than {memory_mb} MB beyond its size; save it again"
        ) from None
    if answer.inspected is not None:
        return answer.inspected
    raise ArtifactRefused(answer.refused or "the artifact could not be read")


def _size(artifact: Path) -> int:
    """Bytes of the files, not following links; what cannot be read counts nothing (the inspection says why)."""
    total = 0
    with contextlib.suppress(OSError):
        total += artifact.lstat().st_size
    for parent, _, names in os.walk(artifact):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(parent) / name).lstat().st_size
    return total


def _answer(request: _Request) -> _Answer:
    try:
        return _Answer(inspected=inspect(Path(request.artifact), request.trust))
    except (ArtifactRefused, MissingExtra) as error:  # a server without the extra refuses like any other reason
        return _Answer(refused=error.message)
    except MemoryError:
        return _Answer(refused="the artifact needs more memory than an inspection may use")
    except RecursionError:
        return _Answer(refused="the artifact is nested too deeply")
    except OSError as error:
        return _Answer(refused=f"the artifact could not be read: {error.strerror or 'input or output failed'}")
    except Exception as error:  # a message of a library may hold anything: its type is enough
        return _Answer(refused=f"the artifact could not be read: it is damaged ({type(error).__name__})")


def _confine(request: _Request) -> None:
    """Die with the parent; no core file, no file written, bounded time and memory."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != request.parent:
            os._exit(1)
    seconds = max(1, int(request.timeout_s))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (request.memory_bytes, request.memory_bytes))


def main() -> None:
    """Answer one request; whatever libraries print goes nowhere."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    request: Any = msgspec.json.decode(sys.stdin.buffer.read(), type=_Request)
    _confine(request)
    answers.write(b"\n")  # begun: from here on an end without an answer is the artifact's doing
    answers.flush()
    warnings.simplefilter("ignore")
    logging.disable()
    raw = msgspec.json.encode(_answer(request))
    if len(raw) > _LARGEST_ANSWER:
        raw = msgspec.json.encode(_Answer(refused="the artifact's description is too large"))
    answers.write(raw)
    answers.flush()
    os._exit(0)  # nothing to tidy, and a library's clean-up cannot spoil the answer


if __name__ == "__main__":
    main()
