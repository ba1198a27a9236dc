"""Where the server is and with what key to call it: arguments, then the environment, then this machine's own server.

A running ``modelport up`` leaves ``run/endpoint.json`` in its home, readable by its owner alone: its URL, and a token
that makes the owner an administrator. The token goes to that URL only.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

DEFAULT_URL = "http://127.0.0.1:8000"


@dataclass(frozen=True, slots=True)
class LocalServer:
    """The server that runs from this machine's home folder."""

    url: str
    token: str
    pid: int
    grpc: str | None
    certificate: str | None = None
    """PEM file of the certificate that it shows, where it speaks TLS."""


@dataclass(frozen=True, slots=True)
class Target:
    """The server to call and the key to call it with."""

    url: str
    key: str | None = None
    certificate: str | None = None
    """The one certificate to accept, whatever name it bears: that of this machine's own server."""


def home_folder() -> Path:
    """Where Modelport keeps everything: ``MODELPORT_HOME``, or ``.modelport`` in the user's home."""
    return Path(os.environ.get("MODELPORT_HOME") or Path.home() / ".modelport").expanduser().absolute()


def local_server(home: Path | None = None) -> LocalServer | None:
    """The running server of a home folder; None when there is none, or its note is stale or not this user's."""
    file = (home or home_folder()) / "run" / "endpoint.json"
    try:
        if file.stat().st_uid != os.getuid():
            return None
        found = json.loads(file.read_text())
        server = LocalServer(
            str(found["url"]), str(found["token"]), int(found["pid"]), found.get("grpc"), found.get("certificate")
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return server if is_alive(server.pid) else None


def is_alive(pid: int) -> bool:
    """Whether a process of that id runs (a zombie does not)."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return True


def choose(url: str | None, key: str | None) -> Target:
    """The server and the key to use."""
    url = url or os.environ.get("MODELPORT_URL")
    key = key or os.environ.get("MODELPORT_KEY")
    local = local_server()
    if local is None:
        return Target(url or DEFAULT_URL, key)
    if url is None or url.rstrip("/") == local.url.rstrip("/"):
        return Target(local.url, key or local.token, local.certificate)
    return Target(url, key)
