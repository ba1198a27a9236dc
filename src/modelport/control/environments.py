"""Virtual environments for Python predictors: built once for a set of requirements, kept, shared, swept when unused.

An environment's name is the hash of its requirements, the Python version and the platform. It is built in place by a
process of its own, under a lock, and its marker is written last: without a marker there is no environment. Modelport
is not installed there; a replica finds it through a folder that holds nothing else. Knows no deployment and no wire.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelport.engine.placement.process import die_with_parent, replica_environment, spawn
from modelport.errors import Unavailable

_MARKER = "modelport.json"
_AT_ONCE = 2
_LONGEST_S = 1800.0
_TAIL_BYTES = 65_536
#: What pip may need to know of the machine; Python's own variables would show it the server's packages.
_PIP_PREFIXES = ("PIP_", "XDG_CONFIG", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE")


class BuildFailed(Unavailable):
    """pip, or Python itself, could not make the environment; the log has everything."""


@dataclass(frozen=True, slots=True)
class Environment:
    """One that is built."""

    name: str
    folder: Path
    source: Path
    """A folder with the package ``modelport`` and nothing else."""
    interpreter: Path | None = None
    """Where it is not at its usual place."""

    @property
    def python(self) -> str:
        """The interpreter."""
        return str(self.interpreter or self.folder / "bin" / "python")

    @property
    def packages(self) -> list[str]:
        """What the requirements came to, as ``pip freeze`` says it: ``name==1.2``."""
        found: list[str] = json.loads((self.folder / _MARKER).read_text()).get("packages", [])
        return found

    @property
    def variables(self) -> dict[str, str]:
        """What a process in it needs besides."""
        path = f"{self.folder / 'bin'}:{os.environ.get('PATH', os.defpath)}"
        return {"PYTHONPATH": str(self.source), "VIRTUAL_ENV": str(self.folder), "PATH": path}


class Environments:
    """Those of one home. Several servers may share a home's: a file lock keeps them apart."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._building = asyncio.Semaphore(_AT_ONCE)

    async def ensure(self, requirements: Sequence[str], log: Path) -> Environment:
        """The environment for these requirements, built if it is not there; raises BuildFailed with pip's last word.

        What the build says is added to ``log``.
        """
        name = name_of(requirements)
        environment = Environment(name, self._folder / name, self._show_source())
        if not _use(environment.folder):
            async with self._building:
                await self._build(environment, requirements, log)
        return environment

    def given(self, python: Path) -> Environment:
        """One that an operator made; raises Unavailable when there is no such interpreter."""
        if not python.is_file():
            raise Unavailable("there is no interpreter where the server's settings say; correct the setting")
        return Environment("", python.parent.parent, self._show_source(), python)

    async def _build(self, environment: Environment, requirements: Sequence[str], log: Path) -> None:
        with log.open("ab") as out:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-m", "modelport.control.environments", str(os.getpid()), str(environment.folder),
                json.dumps(list(requirements)),
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=_pip_environment(), cwd=self._folder,
            )  # fmt: skip
        try:
            code = await asyncio.wait_for(process.wait(), _LONGEST_S)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            if isinstance(error, TimeoutError):
                raise BuildFailed(
                    f"its environment was not built within {_LONGEST_S:g} s; pin what takes so long; the log says what"
                ) from None
            raise
        if code:
            raise BuildFailed(f"its environment could not be built: {_cause(log)}")

    def _show_source(self) -> Path:
        """A folder whose one entry is this very package, so that an environment's own libraries win."""
        package = Path(__file__).resolve().parents[1]
        source = self._folder / "source"
        source.mkdir(mode=0o700, parents=True, exist_ok=True)
        link = source / package.name
        if not link.is_symlink() or link.readlink() != package:
            fresh = self._folder / f"source-{os.getpid()}"
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(package)
            fresh.replace(link)
        return source

    def collect(self, keep: set[str], grace_s: float, dry_run: bool = False) -> tuple[int, int]:
        """Remove environments that nobody has used for the grace time, but those named; returns their count and bytes.

        An environment that was left half built goes as well.
        """
        count = size = 0
        for folder in sorted(self._folder.glob("[0-9a-f]" * 16)):
            if folder.name in keep or _age_s(folder) < grace_s:
                continue
            bytes_ = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
            if dry_run or _remove(folder, grace_s):
                count, size = count + 1, size + bytes_
        return count, size


def name_of(requirements: Sequence[str]) -> str:
    """The name of the environment for these requirements, on this Python and this platform."""
    python = f"{sys.implementation.cache_tag} {sysconfig.get_platform()}"
    content = "\n".join([python, *sorted(requirements)])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _pip_environment() -> dict[str, str]:
    wanted = {name: value for name, value in os.environ.items() if name.upper().startswith(_PIP_PREFIXES)}
    present = replica_environment()
    for name in ("PYTHONPATH", "VIRTUAL_ENV"):
        present.pop(name, None)
    return {**present, **wanted}


def _cause(log: Path) -> str:
    """pip's last word."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    said = [line for line in lines if line.lower().startswith("error")] or lines[-1:] or ["the build said nothing"]
    return said[-1][:300]


@contextlib.contextmanager
def _locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Alone with this environment, among all processes; raises BlockingIOError when it need not wait and is not."""
    with folder.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _is_ready(folder: Path) -> bool:
    return (folder / _MARKER).is_file() and (folder / "bin" / "python").exists()


def _use(folder: Path) -> bool:
    """Whether it is ready; if so it counts as used now."""
    try:
        with _locked(folder, wait=False):
            if _is_ready(folder):
                os.utime(folder / _MARKER)
                return True
    except BlockingIOError:
        pass  # somebody builds, uses or removes it: the build waits for its turn
    return False


def _age_s(folder: Path) -> float:
    """Since it was used last, or begun."""
    for path in (folder / _MARKER, folder):
        with contextlib.suppress(OSError):
            return time.time() - path.stat().st_mtime
    return 0.0


def _remove(folder: Path, grace_s: float) -> bool:
    try:
        with _locked(folder, wait=False):
            if _age_s(folder) < grace_s:
                return False
            (folder / _MARKER).unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            return True
    except BlockingIOError:
        return False


# -- the process that builds ------------------------------------------------------------------------------------------


def build(folder: Path, requirements: Sequence[str]) -> int:
    """Make the environment; returns the exit code of what failed, and leaves nothing behind then."""
    with _locked(folder):
        if _use_built(folder):
            print("the environment is there already", flush=True)
            return 0
        shutil.rmtree(folder, ignore_errors=True)
        print(f"building the environment {folder.name} for {', '.join(requirements)}", flush=True)
        wanted = folder.with_suffix(".txt")
        wanted.write_text("\n".join(requirements) + "\n")
        python = str(folder / "bin" / "python")
        pip = [python, "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
        for argv in ([sys.executable, "-m", "venv", str(folder)], [*pip, "-r", str(wanted)]):
            code = spawn(argv, cwd=folder.parent, log=1, env=dict(os.environ)).wait()
            if code:
                shutil.rmtree(folder, ignore_errors=True)
                return code
        wanted.unlink()
        made = {"requirements": list(requirements), "python": sys.version, "packages": _installed(python)}
        partial = folder / f"{_MARKER}.part"
        partial.write_text(json.dumps(made))
        partial.replace(folder / _MARKER)
        print("the environment is built", flush=True)
        return 0


def _installed(python: str) -> list[str]:
    argv = [python, "-m", "pip", "--disable-pip-version-check", "freeze"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    return [line for line in done.stdout.splitlines() if line and not line.startswith("#")]


def _use_built(folder: Path) -> bool:
    if not _is_ready(folder):
        return False
    os.utime(folder / _MARKER)
    return True


def main() -> None:
    """``python -m modelport.control.environments PARENT FOLDER REQUIREMENTS``: dies with the process that asked."""
    die_with_parent(int(sys.argv[1]))
    raise SystemExit(build(Path(sys.argv[2]), json.loads(sys.argv[3])))


if __name__ == "__main__":
    main()
