"""A pull that is cut in the middle goes on where it was: within one call, in the next one, after a kill -9."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from modelport import AsyncClient, Client
from modelport.errors import Conflict, InvalidInput, Unavailable
from tests import onnx_models
from tests.services.conftest import Server

MODEL = onnx_models.big(24)
SIZE = len(MODEL)
#: A client that is killed at 40 % of what it pulls into sys.argv[4].
_DOOMED = """
import os, signal, sys
from modelport import Client
def die(stage, done, total):
    if done > 0.4 * total:
        os.kill(os.getpid(), signal.SIGKILL)
Client(sys.argv[1], sys.argv[2]).models.pull(sys.argv[3], 1, sys.argv[4], progress=die)
"""
Pull = Callable[[str, Path], None]


@dataclass
class Wire:
    """A way to a server that breaks: counts what came back, and cuts connections after so many bytes of an answer."""

    server: Server
    url: str = ""
    cuts: int = 0
    """How many more connections are cut."""
    cut_after: int = 9_000_000
    carried: int = 0

    def serve(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                caller, _ = listener.accept()
                threading.Thread(target=self._carry, args=(caller,), daemon=True).start()

    def _carry(self, caller: socket.socket) -> None:
        parts = urlsplit(self.server.url)
        assert parts.hostname is not None and parts.port is not None
        with caller, socket.create_connection((parts.hostname, parts.port)) as called:
            threading.Thread(target=self._forward, args=(caller, called), daemon=True).start()
            came = 0
            with suppress(OSError):
                while chunk := called.recv(1 << 16):
                    caller.sendall(chunk)
                    came, self.carried = came + len(chunk), self.carried + len(chunk)
                    if self.cuts and came > self.cut_after:
                        self.cuts -= 1
                        break
            for each in (caller, called):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _forward(caller: socket.socket, called: socket.socket) -> None:
        with suppress(OSError):
            while chunk := caller.recv(1 << 16):
                called.sendall(chunk)
            called.shutdown(socket.SHUT_WR)


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    with server.client() as client:
        if "torn" not in [model.name for model in client.models.list()]:
            server.push("torn", MODEL)
    with _listening(Wire(server)) as found:
        yield found


@contextmanager
def _listening(wire: Wire) -> Iterator[Wire]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        wire.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=wire.serve, args=(listener,))
        thread.start()
        yield wire
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def blocking(wire: Wire) -> Pull:
    def pull(name: str, folder: Path) -> None:
        with Client(wire.url, wire.server.token) as client:
            client.models.pull(name, 1, folder)

    return pull


def asynchronous(wire: Wire) -> Pull:
    async def pull(name: str, folder: Path) -> None:
        async with AsyncClient(wire.url, wire.server.token) as client:
            await client.models.pull(name, 1, folder)

    return lambda name, folder: asyncio.run(pull(name, folder))


@pytest.mark.parametrize("way", [blocking, asynchronous])
def test_a_cut_connection_costs_what_was_on_it(wire: Wire, tmp_path: Path, way: Callable[[Wire], Pull]) -> None:
    pull, target = way(wire), tmp_path / "out"
    wire.cuts = 1
    pull("torn", target)
    assert (target / "model.onnx").read_bytes() == MODEL
    assert SIZE < wire.carried < SIZE + 2_000_000, "the first part came once"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("way", [blocking, asynchronous])
def test_the_next_pull_goes_on(wire: Wire, tmp_path: Path, way: Callable[[Wire], Pull]) -> None:
    pull, target = way(wire), tmp_path / "out"
    wire.cuts, wire.cut_after = 3, 4_000_000  # as often as one call tries
    with pytest.raises(Unavailable):
        pull("torn", target)
    assert not target.exists()
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".out.")
    assert (left / "model.onnx").stat().st_size > 3 * 3_500_000
    pull("torn", target)
    assert (target / "model.onnx").read_bytes() == MODEL
    assert wire.carried < SIZE + 4_000_000
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_killed_pull_goes_on(wire: Wire, tmp_path: Path) -> None:
    target = tmp_path / "out"
    argv = [sys.executable, "-c", _DOOMED, wire.url, wire.server.token, "torn", str(target)]
    assert subprocess.run(argv).returncode == -signal.SIGKILL
    seen: list[int] = []
    with wire.server.client() as client:
        client.models.pull("torn", 1, target, progress=lambda stage, done, total: seen.append(done))
    assert hashlib.sha256((target / "model.onnx").read_bytes()).digest() == hashlib.sha256(MODEL).digest()
    assert seen == sorted(seen)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_damaged_beginning_is_not_kept(wire: Wire, tmp_path: Path) -> None:
    pull, target = blocking(wire), tmp_path / "out"
    wire.cuts, wire.cut_after = 3, 1_000_000
    with pytest.raises(Unavailable):
        pull("torn", target)
    (left,) = tmp_path.iterdir()
    content = bytearray((left / "model.onnx").read_bytes())
    content[1000] ^= 1
    (left / "model.onnx").write_bytes(content)
    with pytest.raises(InvalidInput, match="pull again"):
        pull("torn", target)
    assert not list(tmp_path.iterdir())
    pull("torn", target)
    assert (target / "model.onnx").read_bytes() == MODEL


def test_two_pulls_at_once_do_not_mix(wire: Wire, tmp_path: Path) -> None:
    said: list[Exception] = []

    def meanwhile(stage: str, done: int, total: int) -> None:
        if not said and done:
            with pytest.raises(Conflict, match="another process pulls") as caught:
                blocking(wire)("torn", tmp_path / "out")
            said.append(caught.value)

    with wire.server.client() as client:
        client.models.pull("torn", 1, tmp_path / "out", progress=meanwhile)
    assert said
    assert (tmp_path / "out" / "model.onnx").read_bytes() == MODEL
