"""Which server a client calls, and who gets the owner's token."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from modelport.sdk.endpoint import Target, choose, home_folder, is_alive, local_server


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MODELPORT_URL", "MODELPORT_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MODELPORT_HOME", str(tmp_path))
    (tmp_path / "run").mkdir()
    return tmp_path


def announce(home: Path, pid: int | None = None) -> None:
    note = {"url": "http://127.0.0.1:8123", "grpc": None, "token": "T", "pid": pid or os.getpid()}
    (home / "run" / "endpoint.json").write_text(json.dumps(note))


def test_nothing_runs(home: Path) -> None:
    assert home_folder() == home
    assert local_server() is None
    assert choose(None, None) == Target("http://127.0.0.1:8000", None)


def test_the_machines_own_server(home: Path) -> None:
    announce(home)
    assert choose(None, None) == Target("http://127.0.0.1:8123", "T")
    assert choose("http://127.0.0.1:8123/", None) == Target("http://127.0.0.1:8123", "T")
    assert choose(None, "mp_mine") == Target("http://127.0.0.1:8123", "mp_mine")


def test_the_token_goes_nowhere_else(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    announce(home)
    assert choose("http://example.test", None) == Target("http://example.test", None)
    monkeypatch.setenv("MODELPORT_URL", "http://example.test")
    assert choose(None, None) == Target("http://example.test", None)
    monkeypatch.setenv("MODELPORT_KEY", "K")
    assert choose(None, None) == Target("http://example.test", "K")
    assert choose("http://a.test", "b") == Target("http://a.test", "b")


def test_a_stale_note_is_not_believed(home: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    announce(home, process.pid)
    assert local_server() is None
    assert choose(None, None).key is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"url": "x"}', '{"url": "x", "token": "t", "pid": "me"}'])
def test_a_damaged_note(home: Path, text: str) -> None:
    (home / "run" / "endpoint.json").write_text(text)
    assert local_server() is None


def test_alive() -> None:
    assert is_alive(os.getpid())
    assert not is_alive(0) and not is_alive(-1)
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(process.pid)  # a zombie
    process.wait()
