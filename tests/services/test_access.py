"""Who gets in: keys, roles, projects, the list of what is public, and where a server may listen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import tritonclient.grpc as triton

from modelport import Client, errors
from modelport.api.gateway import ROOMS
from modelport.engine.dataplane import DataPlane
from tests import onnx_models
from tests.services.conftest import Server

#: Everything that answers without a key. A new entry needs a reason.
PUBLIC = {
    "/v2/health/live", "/v2/health/ready", "/healthz", "/livez", "/readyz", "/health", "/ping", "/-/healthz",
    "/docs", "/openapi.json", "/docs/assets/swagger-ui.css",
}  # fmt: skip

pytestmark = pytest.mark.xdist_group("access")


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with one key, which closes it."""
    server = Server(tmp_path_factory.mktemp("closed")).start()
    server.deploy("guarded", onnx_models.mlp((3, 4, 2)))
    with server.client() as client:
        client.keys.create("first", role="admin")
    yield server
    server.stop()


def status(url: str, method: str = "GET", headers: dict[str, str] | None = None, body: bytes | None = None) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers or {}, method=method)) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def every_route(server: Server) -> set[tuple[str, str]]:
    """Method and path of all that the server has, from the code itself."""
    found = set()
    for room in ROOMS.values():
        for route in room.routes(DataPlane()):
            path = route.pattern.pattern
            for group in ("(?P<model>[^/]+)", "(?P<model>[^/:]+)"):
                path = path.replace(group, "guarded")
            found.add((route.method, path))
    request = urllib.request.Request(server.url + "/openapi.json", headers={"x-api-key": server.token})
    with urllib.request.urlopen(request) as answer:
        for path, methods in json.load(answer)["paths"].items():
            for method in methods:
                found.add((method.upper(), path.replace("{name}", "guarded").replace("{ref}", "1")))
    return found


def test_every_route_wants_a_key_but_for_the_public_list(closed: Server) -> None:
    open_to_all = set()
    for method, pattern in every_route(closed):
        for path in paths_of(pattern):
            if status(closed.url + path, method, body=b"{}" if method in ("POST", "PUT") else None) != 401:
                open_to_all.add(path)
    assert open_to_all <= PUBLIC
    for path in ("/nothing-here", "/api/v1/nothing", "/metrics", "/v2/nothing"):
        assert status(closed.url + path) == 401, path
    for path in PUBLIC:
        assert status(closed.url + path) in (200, 503), path


def paths_of(pattern: str) -> list[str]:
    """A path that the pattern matches, made by leaving its optional parts out."""
    import re

    plain = re.sub(r"\(\?:[^()]*(\([^()]*\)[^()]*)*\)\?", "", pattern)
    plain = re.sub(r"\(\?P<\w+>[^()]*\)", "guarded", plain)
    if "(?:" in plain:
        inner = re.search(r"\(\?:([^()]*)\)", plain)
        assert inner is not None, pattern
        return [plain.replace(inner.group(0), option).rstrip("?") for option in inner.group(1).split("|")]
    return [plain.replace("/?", "").replace("\\", "").replace("{", "x").replace("}", "x") or "/"]


@pytest.mark.parametrize(
    "header",
    [
        {"authorization": "Bearer wrong"}, {"authorization": "Basic dXNlcjpwYXNz"}, {"authorization": "Bearer "},
        {"authorization": "Bearer mp_' OR 1=1 --"}, {"x-api-key": "mp_" + "a" * 49}, {"x-api-key": ""},
        {"x-api-key": "é" * 40}, {"authorization": "Bearer " + "x" * 5000},
    ],
    ids=str,
)  # fmt: skip
def test_a_bad_key_is_refused_everywhere(closed: Server, header: dict[str, str]) -> None:
    encoded = {k: v.encode().decode("latin-1") for k, v in header.items()}
    for path in ("/v2/models/guarded", "/api/v1/models", "/metrics"):
        assert status(closed.url + path, headers=encoded) == 401


def test_roles_and_revocation(closed: Server) -> None:
    body = json.dumps({"data": [[1.0, 2.0, 3.0]]}).encode()
    with closed.client() as admin:
        caller = admin.keys.create("phone", role="caller")
        assert caller.secret.startswith("mp_")
        mine = {"x-api-key": caller.secret}
        assert status(closed.url + "/predict/guarded", "POST", mine, body) == 200
        assert status(closed.url + "/api/v1/models", headers=mine) == 403
        with pytest.raises(errors.NotAllowed):
            Client(closed.url, caller.secret).keys.create("wider", role="admin")
        assert caller.secret not in json.dumps([key.model_dump(mode="json") for key in admin.keys.list()])
        admin.keys.revoke(caller.id)
        assert status(closed.url + "/predict/guarded", "POST", mine, body) == 401
    database = (closed.home / "modelport.db").read_bytes() + (closed.home / "modelport.db-wal").read_bytes()
    assert caller.secret.encode() not in database
    assert not any(caller.secret in file.read_text() for file in (closed.home / "logs").glob("*.log"))


def figures(server: Server, key: str) -> str:
    request = urllib.request.Request(f"{server.url}/metrics", headers={"x-api-key": key})
    with urllib.request.urlopen(request) as answer:
        return str(answer.read(), "utf-8")


def test_another_projects_objects_are_not_there(closed: Server) -> None:
    with closed.client() as admin:
        other = Client(closed.url, admin.keys.create("other", role="admin", project="elsewhere").secret)
        assert other.models.list() == []
        with pytest.raises(errors.NotFound) as theirs:
            other.models.get("guarded")
        with pytest.raises(errors.NotFound) as nobodys:
            other.models.get("unheard")
        assert str(theirs.value).replace("guarded", "X") == str(nobodys.value).replace("unheard", "X")
        with pytest.raises(errors.NotFound):
            other.predict("guarded", [[1.0, 2.0, 3.0]])
        with pytest.raises(errors.NotFound):
            other.deployments.get("guarded")
        assert figures(closed, closed.token).count("guarded") > 5
        seen = figures(closed, admin.keys.create("watch", role="viewer", project="elsewhere").secret)
        samples = [line for line in seen.splitlines() if not line.startswith("#")]
        assert all('project="elsewhere"' in line for line in samples), samples
        server = Server(closed.home)
        assert server.url == closed.url


def test_grpc_wants_the_key_too(closed: Server) -> None:
    with triton.InferenceServerClient(closed.grpc) as client:
        assert client.is_server_live()
        with pytest.raises(Exception, match="key"):
            client.get_model_metadata("guarded")
        assert client.get_model_metadata("guarded", headers={"x-api-key": closed.token}).name == "guarded"


def test_pages_of_other_sites_get_nothing(server: Server) -> None:
    url = server.url + "/api/v1/models"
    assert status(url) == 200
    assert status(url, headers={"origin": "https://evil.example"}) == 403
    assert status(url, headers={"host": "evil.example"}) == 403
    assert status(server.url + "/v2", headers={"host": "evil.example"}) == 403
    assert status(server.url + "/v2", headers={"origin": server.url}) == 200


def up(home: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "modelport.cli.main", "up", "--port", "0", "--grpc-port", "0", *flags],
        env={**os.environ, "MODELPORT_HOME": str(home)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_beyond_loopback_needs_key_and_tls(tmp_path: Path, own_server: Callable[..., Server]) -> None:
    refused = up(tmp_path / "h", "--host", "0.0.0.0")
    assert refused.returncode == 1
    assert "key" in refused.stderr and "--tls-cert" in refused.stderr
    certificate, key = make_certificate(tmp_path)
    home = tmp_path / "h"
    made = subprocess.run(
        [sys.executable, "-m", "modelport.cli.main", "keys", "create", "--name", "first", "--role", "admin", "--json"],
        env={**os.environ, "MODELPORT_HOME": str(home)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    still = up(home, "--host", "0.0.0.0")
    assert still.returncode == 1 and "TLS" in still.stderr
    secret = json.loads(made.stdout)["secret"]
    check_tls(home, certificate, key, secret)


def test_serve_beyond_loopback_needs_key_and_tls(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(onnx_models.mlp((3, 4, 2)))
    command = [sys.executable, "-m", "modelport.cli.main", "serve", str(tmp_path / "m.onnx"), "--port", "0"]
    open_to_all = subprocess.run([*command, "--host", "0.0.0.0"], capture_output=True, text=True, timeout=60)
    assert open_to_all.returncode == 1 and "--key" in open_to_all.stderr
    keyed = [*command, "--host", "0.0.0.0", "--key", "a-key-of-mine"]
    readable = subprocess.run(keyed, capture_output=True, text=True, timeout=60)
    assert readable.returncode == 1 and "--tls-cert" in readable.stderr
    process = subprocess.Popen([*keyed, "--insecure-no-tls"], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "served on" in line)
        url = f"http://127.0.0.1:{line.split(' is served on ')[1].split(',')[0].strip().rpartition(':')[2]}"
        assert status(url + "/v2/models/m") == 401
        assert status(url + "/v2/models/m", headers={"host": "localhost"}) == 401
        assert status(url + "/v2/models/m", headers={"x-api-key": "a-key-of-mine"}) == 200
    finally:
        process.terminate()
        process.wait(timeout=30)


def check_tls(home: Path, certificate: Path, key: Path, secret: str) -> None:
    import ssl
    import time

    flags = ["--host", "0.0.0.0", "--tls-cert", str(certificate), "--tls-key", str(key)]
    process = subprocess.Popen(
        [sys.executable, "-m", "modelport.cli.main", "up", "--port", "0", "--grpc-port", "0", *flags],
        env={**os.environ, "MODELPORT_HOME": str(home)},
    )
    try:
        context = ssl.create_default_context(cafile=str(certificate))
        deadline = time.monotonic() + 30
        answer: Any = None
        while answer is None and time.monotonic() < deadline:
            try:
                endpoint = json.loads((home / "run" / "endpoint.json").read_text())
                assert endpoint["url"].startswith("https://")
                port = endpoint["url"].rpartition(":")[2]
                request = urllib.request.Request(f"https://localhost:{port}/v2", headers={"x-api-key": secret})
                answer = urllib.request.urlopen(request, context=context).read()
            except (OSError, ValueError):
                time.sleep(0.1)
        assert b"modelport" in answer
        channel = grpc.secure_channel(
            f"localhost:{endpoint['grpc'].rpartition(':')[2]}", grpc.ssl_channel_credentials(certificate.read_bytes())
        )
        live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")(b"", timeout=10)
        assert live == b"\x08\x01"
    finally:
        process.terminate()
        process.wait(timeout=60)


def make_certificate(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key),
         "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


def test_a_replica_sees_none_of_the_servers_credentials(own_server: Callable[..., Server]) -> None:
    server = own_server(AWS_SECRET_ACCESS_KEY="hidden-1", MODELPORT_LOG_LEVEL="info", SOME_TOKEN="hidden-2")
    server.deploy("spied", onnx_models.mlp((3, 4, 2)), env={"MY_SETTING": "shown"})
    for process in server.tree():
        if "modelport.engine.replica" in process.cmdline():
            environment = process.environ()
            assert environment["MY_SETTING"] == "shown"
            assert not any(name.startswith(("MODELPORT_", "AWS_")) or "TOKEN" in name for name in environment)
        assert server.token not in " ".join(process.cmdline())
    with server.client() as client, pytest.raises(errors.InvalidInput, match="operator"):
        client.deploy("spied", env={"LD_PRELOAD": "/tmp/x.so"})
