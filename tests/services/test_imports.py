"""Models from the web, from a hub and out of other products' folders, through a real server."""

from __future__ import annotations

import io
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelport.errors import ArtifactRefused, InvalidInput, NotAllowed
from tests import onnx_models
from tests.engine.imports.folders import CONFIG, bentoml, mlflow, triton
from tests.services.conftest import Server
from tests.web import serving

ROWS = np.array([[1, 2, 3, 4]], np.float32)


def pack(folder: Path) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for path in folder.rglob("*"):
            archive.write(path, path.relative_to(folder))
    return file.getvalue()


def test_a_triton_repository(server: Server, tmp_path: Path) -> None:
    triton(tmp_path / "mlp", CONFIG.replace('"mlp"', '"tri-mlp"') + "version_policy { all {} }", versions=(1, 3))
    triton(tmp_path / "tri-bare", None)
    done = server.cli("push", str(tmp_path), "--alias", "champion", "--json")
    assert done.returncode == 0, done.stderr
    made = [(found["model"], found["version"], found["aliases"], found["labels"]) for found in json.loads(done.stdout)]
    assert made == [
        ("tri-mlp", 1, [], {"triton.version": "1"}),
        ("tri-mlp", 2, ["champion"], {"triton.version": "3"}),
        ("tri-bare", 1, ["champion"], {"triton.version": "1"}),
    ]
    assert "names one model" in server.cli("push", str(tmp_path), "--name", "x").stderr
    with server.client() as client:
        deployed = client.deploy("tri-mlp", version=2, replicas=1)
        assert deployed.spec.max_batch == 8, "as config.pbtxt says"
        assert client.deploy("tri-mlp", version=2, max_batch=32).spec.max_batch == 32, "unless the wish says more"
        (best,) = client.predict("tri-mlp", ROWS, top_k=1)[0]
        scores = client.predict("tri-mlp", ROWS)[0]
        assert best["label"] == ("cat", "dog", "fox")[int(scores.argmax())]


def test_an_mlflow_folder(server: Server, tmp_path: Path) -> None:
    mlflow(tmp_path / "m", [[1.0, 2.0, 3.0, 4.0]])
    done = server.cli("push", f"file://{tmp_path}/m", "-n", "mlflow-net", "--json")
    assert done.returncode == 0, done.stderr
    manifest = json.loads(done.stdout)["manifest"]
    assert manifest["sample"]["inputs"][0]["data"] == [1, 2, 3, 4]
    assert manifest["details"]["mlflow"]["mlflow_version"] == "3.1.0"
    with server.client() as client:
        client.deploy("mlflow-net", replicas=1)
        assert client.predict("mlflow-net", ROWS).shape == (1, 3)
        with pytest.raises(ArtifactRefused, match="flavor 'sklearn': its model is a pickle"):
            client.models.push(mlflow(tmp_path / "s", flavor="sklearn", content=b"\x80\x04N."), "x")


def test_a_source_that_is_not_there(server: Server, tmp_path: Path) -> None:
    for source in (str(tmp_path / "missing"), f"file://{tmp_path}/missing"):
        done = server.cli("push", source, "-n", "x")
        assert done.returncode == 1 and "neither a file nor a folder" in done.stderr
    assert "names another machine" in server.cli("push", "file://other/m", "-n", "x").stderr


def test_the_server_reads_the_web(own_server: Callable[..., Server], tmp_path: Path) -> None:
    with serving(tmp_path) as web:
        triton(tmp_path / "t" / "mlp", CONFIG + "version_policy { all {} }", versions=(1, 2))
        bentoml(tmp_path / "b")
        web.pages |= {
            "/net.onnx": onnx_models.mlp(),
            "/triton.zip": pack(tmp_path / "t"),
            "/bento.zip": pack(tmp_path / "b"),
            "/page.onnx": b"<!doctype html><html>log in</html>",
            "/slip.zip": pack_slip(),
        }
        env = {"SSL_CERT_FILE": str(web.certificate), "MODELPORT_IMPORTS_ALLOW_PRIVATE": "true"}
        server = own_server(**env)
        with server.client() as client:
            (made,) = client.models.import_from(web.url("/net.onnx?signature=secret"), "net")
            assert made.manifest.parents == [web.url("/net.onnx")], "a signature is not recorded"
            client.deploy("net", replicas=1)
            assert client.predict("net", ROWS).shape == (1, 3)
            versions = client.models.import_from(web.url("/triton.zip"), "mlp", alias="champion")
            assert [found.aliases for found in versions] == [[], ["champion"]]
            (made,) = client.models.import_from(web.url("/bento.zip"), "iris")
            assert made.manifest.details["bentoml"]["name"] == "iris_clf"
            with pytest.raises(ArtifactRefused, match="HTML page"):
                client.models.import_from(web.url("/page.onnx"), "x")
            with pytest.raises(ArtifactRefused, match=r"'\.\.'"):
                client.models.import_from(web.url("/slip.zip"), "x")
        done = server.cli("push", web.url("/net.onnx"), SSL_CERT_FILE=str(web.certificate))
        assert done.returncode == 0 and "net:2" in done.stdout, done.stderr
        assert not list((server.home / "cache" / "imports").iterdir())


def pack_slip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("../../evil", b"x")
    return file.getvalue()


def test_the_server_reaches_no_private_address(server: Server, tmp_path: Path) -> None:
    with serving(tmp_path) as web, server.client() as client:
        for host in ("localhost", "127.0.0.1", "127.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"):
            with pytest.raises(NotAllowed, match="public internet"):
                client.models.import_from(web.url("/net.onnx", host), "x")
        for url in ("https://169.254.169.254/latest/meta-data", "https://[fd00:ec2::254]/", "https://10.0.0.1/"):
            with pytest.raises(NotAllowed, match="public internet"):
                client.models.import_from(url, "x")
        for url in ("https://user:pass@localhost/m", "https:///m", "hf://x"):
            with pytest.raises(InvalidInput):
                client.models.import_from(url, "x")
        assert web.asked == []


# A model hub


@pytest.fixture
def hub() -> Iterator[tuple[str, dict[str, bytes]]]:
    """The few routes of a model hub that its client library asks for one public repository, ``team/net``."""
    files: dict[str, bytes] = {}
    commit = "0123456789abcdef0123456789abcdef01234567"

    class Hub(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer(True)

        def do_HEAD(self) -> None:
            self.answer(False)

        def answer(self, with_body: bool) -> None:
            path = self.path.partition("?")[0]
            status, body, headers = 404, b'{"error": "Repository not found"}', {"x-error-code": "RepoNotFound"}
            if path.startswith("/api/models/team/net"):
                listed: Any = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
                found: Any = {"id": "team/net", "sha": commit, "siblings": listed, "private": False}
                if "/tree/" in path:
                    found = [{"type": "file", "path": n, "size": len(c), "oid": "0" * 40} for n, c in files.items()]
                status, body, headers = 200, json.dumps(found).encode(), {"content-type": "application/json"}
            elif path.startswith("/team/net/resolve/"):
                name = path.split("/", 5)[5]
                if name in files:
                    status, body = 200, files[name]
                    headers = {"etag": f'"{hash(body):x}"', "x-repo-commit": commit}
            self.send_response(status)
            for key, value in {**headers, "content-length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.server_port}", files
    listening.shutdown()
    listening.server_close()
    thread.join()


def test_a_model_hub(server: Server, hub: tuple[str, dict[str, bytes]], tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    endpoint, files = hub
    files |= {"onnx/model.onnx": onnx_models.mlp(), "README.md": b"# net", "pytorch_model.bin": b"\x80\x04N."}
    env = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": ""}
    env["HF_HUB_OFFLINE"] = "0"  # whatever this machine, or a test before, has set
    done = server.cli("push", "hf://team/net", "--json", **env)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["model"] == "net"
    assert [file["path"] for file in made["manifest"]["files"]] == ["README.md", "onnx/model.onnx"]
    done = server.cli("push", "hf://team/net@main/onnx/model.onnx", "-n", "hub-file", "--json", **env)
    assert done.returncode == 0, done.stderr
    assert [file["path"] for file in json.loads(done.stdout)["manifest"]["files"]] == ["model.onnx"]
    done = server.cli("push", "hf://team/other", "-n", "x", **env)
    assert done.returncode == 1 and "no such repository" in done.stderr, done.stderr
    files["a\\evil"] = b"x"
    done = server.cli("push", "hf://team/net", "-n", "x", **env)
    assert done.returncode == 1 and "backslash" in done.stderr
