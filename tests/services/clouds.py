"""Real object stores of the tests' own, over real sockets: an emulator of Google's, and Microsoft's own of Azure's.

Each is skipped where it is not installed; ``make test-clouds`` installs both.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

#: Every Azurite has this account and this key; they are published, and open nothing else.
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_AZURITE = Path(__file__).parents[2] / ".venv-clouds" / "node_modules" / ".bin" / "azurite-blob"
#: Bounded above, so that a store that is not there is told soon.
_START_S = 30


@dataclass(frozen=True)
class Cloud:
    """One store: the scheme of its URLs, what programs need in their environment, and a file system on it."""

    scheme: str
    env: dict[str, str]
    files: Any

    def bucket(self, name: str) -> str:
        """A new bucket; returns its URL."""
        self.files.mkdir(name)
        return f"{self.scheme}://{name}"

    def put(self, path: str, content: bytes) -> None:
        self.files.pipe_file(path, content)

    def paths(self, bucket: str) -> list[str]:
        return list(self.files.find(bucket))


@pytest.fixture(scope="session", params=["google", "azure"])
def cloud(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    if request.param == "google":
        yield from _google()
    else:
        yield from _azure(tmp_path_factory.mktemp("azurite"))


def _google() -> Iterator[Cloud]:
    gcsfs = pytest.importorskip("gcsfs")
    emulator = pytest.importorskip("gcp_storage_emulator.server")
    port = _free_port()
    running = emulator.create_server("127.0.0.1", port, in_memory=True)
    running.start()
    url = f"http://127.0.0.1:{port}"
    env = {
        "STORAGE_EMULATOR_HOST": url,
        "FSSPEC_GS_TOKEN": "anon",
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # asks over gRPC, which the emulator does not speak
    }
    try:
        yield _Google("gs", env, gcsfs.core.GCSFileSystem(endpoint_url=url, token="anon", use_listings_cache=False))
    finally:
        running.stop()


class _Google(Cloud):
    def bucket(self, name: str) -> str:
        url = f"{self.env['STORAGE_EMULATOR_HOST']}/storage/v1/b"
        httpx.post(url, params={"project": "test"}, json={"name": name}).raise_for_status()
        return f"gs://{name}"


def _azure(folder: Path) -> Iterator[Cloud]:
    adlfs = pytest.importorskip("adlfs")
    program = shutil.which("azurite-blob") or (str(_AZURITE) if _AZURITE.exists() else None)
    if program is None:
        pytest.skip("Azurite is not installed; `make test-clouds` does that")
    port = _free_port()
    argv = [program, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence", "--silent"]
    argv += ["--disableTelemetry", "--skipApiVersionCheck"]
    with (folder / "azurite.log").open("wb") as log:
        running = subprocess.Popen(argv, cwd=folder, stdout=log, stderr=log)
    try:
        _wait_for(port, folder / "azurite.log")
        endpoint = f"http://127.0.0.1:{port}/{_ACCOUNT}"
        wording = f"DefaultEndpointsProtocol=http;AccountName={_ACCOUNT};AccountKey={_KEY};BlobEndpoint={endpoint};"
        files = adlfs.AzureBlobFileSystem(connection_string=wording, use_listings_cache=False)
        yield Cloud("abfs", {"AZURE_STORAGE_CONNECTION_STRING": wording}, files)
    finally:
        running.terminate()
        running.wait(30)


def _free_port() -> int:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _wait_for(port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(log.read_text())
