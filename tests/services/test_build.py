"""``modelport build`` from outside: a context that is safe, reproducible and right, and its entry command at work.

The Dockerfile is carried out by hand, step by step, as far as a test may: COPY into a folder, the wheel installed into
another, ENTRYPOINT run there. The base image, ``useradd`` and an engine's own isolation are not.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime as ort
import pytest

from tests import onnx_models
from tests.services.conftest import Server
from tests.services.test_cli import command

pytestmark = [pytest.mark.xdist_group("build"), pytest.mark.timeout(300)]

SECRET = "s3cret \n$HOME 'x'"
HOSTILE = 'x"\nRUN touch /evil\r\nUSER root \\\n$HOME ${PATH} `id` \u2028ENV A=b \x85 \\'
MODEL = onnx_models.mlp((4, 8, 3))


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("build")).start()
    try:
        server.push("abc", MODEL, class_labels=["ant", "bee", "cat"], description=HOSTILE, licence=HOSTILE[:200])
        with server.client() as client:
            client.deploy(
                "abc", env={"GREETING": SECRET}, max_batch=7, max_delay_ms=2.5, timeout_s=9, start_timeout_s=77
            )
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def context(deployed: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(deployed, tmp_path_factory.mktemp("context") / "abc")


def build(server: Server, folder: Path, *flags: str) -> Path:
    done = command(server.home, "build", "abc", "--output", str(folder), "--no-hashes", *flags)
    assert done.returncode == 0, done.stderr
    assert f"docker build -t abc:1 {folder}" in done.stdout
    return folder


def instructions(context: Path) -> list[tuple[str, str]]:
    """The Dockerfile's instructions and what follows them, continued lines put together."""
    text = (context / "Dockerfile").read_bytes().decode()
    assert text.isascii() or "\u2028" not in text
    lines = re.sub(r"\\[ \t]*\n", "", re.sub(r"(?m)^#.*\n", "", text)).split("\n")
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines if line.strip()]


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_context_holds_what_it_should(context: Path) -> None:
    wheel = next(path.name for path in (context / "wheels").iterdir())
    assert files(context).keys() == {
        ".dockerignore", "Dockerfile", "README.md", "manifest.json", "model/model.onnx", "requirements.txt",
        "sbom.cdx.json", f"wheels/{wheel}",
    }  # fmt: skip
    assert (context / "model" / "model.onnx").read_bytes() == MODEL
    words = [word for word, _ in instructions(context)]
    assert words == [
        "ARG", "FROM", "LABEL", "ENV", "RUN", "WORKDIR", "COPY", "COPY", "RUN", "COPY", "COPY", "USER", "EXPOSE",
        "HEALTHCHECK", "ENTRYPOINT",
    ]  # fmt: skip
    found = dict(instructions(context))
    assert found["USER"] == "10001:10001"
    assert found["ARG"] == f"BASE=python:{sys.version_info.major}.{sys.version_info.minor}-slim"


def test_what_people_typed_adds_nothing(context: Path) -> None:
    """Hostile texts stay one label and one argument."""
    found = dict(instructions(context))
    labels = dict(word.split("=", 1) for word in shlex.split(found["LABEL"]))
    assert labels.keys() == {
        f"org.opencontainers.image.{key}" for key in ("title", "version", "description", "licenses")
    }
    assert labels["org.opencontainers.image.description"].startswith('x" RUN touch /evil')
    entry = json.loads(found["ENTRYPOINT"])
    assert entry[entry.index("--env") + 1] == "GREETING"
    assert entry[:2] == ["modelport", "serve"]
    wanted = {"--max-batch": "7", "--max-delay": "2.5", "--timeout": "9", "--start-timeout": "77"}
    assert {flag: entry[entry.index(flag) + 1] for flag in wanted} == wanted


def test_equal_input_gives_equal_bytes(deployed: Server, context: Path, tmp_path: Path) -> None:
    assert files(build(deployed, tmp_path / "again")) == files(context)


@pytest.mark.parametrize("base", ["python:3.11\nRUN evil", "py thon", "", "$(id)", "a\\"])
def test_a_base_that_is_no_image_is_refused(deployed: Server, tmp_path: Path, base: str) -> None:
    done = command(deployed.home, "build", "abc", "-o", str(tmp_path / "x"), "--no-hashes", "--base", base)
    assert done.returncode == 1
    assert "is no name of an image" in done.stderr
    assert not (tmp_path / "x").exists()


def test_refusals(deployed: Server, context: Path) -> None:
    done = command(deployed.home, "build", "nothing", "--no-hashes")
    assert done.returncode == 1 and "nothing" in done.stderr
    done = command(deployed.home, "build", "abc", "-o", str(context), "--no-hashes")
    assert done.returncode == 1 and "not an empty folder" in done.stderr


def test_the_bill_of_materials(context: Path) -> None:
    bill = json.loads((context / "sbom.cdx.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    pinned = {line for line in (context / "requirements.txt").read_text().splitlines() if "==" in line}
    libraries = {f"{c['name']}=={c['version']}" for c in bill["components"] if c["type"] == "library"}
    assert pinned == {each for each in libraries if not each.startswith("modelport==")}
    assert {line.split("==")[0] for line in pinned} >= {"numpy", "onnxruntime", "uvicorn", "pydantic-core"}
    (model,) = [c for c in bill["components"] if c["type"] == "file"]
    assert model["hashes"][0]["content"] == hashlib.sha256(MODEL).hexdigest()


def test_the_bill_fits_cyclonedxs_own_schema(context: Path) -> None:
    schema = pytest.importorskip("cyclonedx.schema")
    json_validator = pytest.importorskip("cyclonedx.validation.json").JsonStrictValidator
    bill = (context / "sbom.cdx.json").read_text()
    check = json_validator(schema.SchemaVersion.V1_6).validate_str
    assert check(bill) is None
    assert check(bill.replace('"type": "file"', '"type": "no such type"')) is not None


def carry_out(context: Path, root: Path) -> dict[str, str]:
    """COPY and RUN pip, without the packages that this environment has already; gives the environment to run in."""
    srv, site = root / "srv", root / "site"
    srv.mkdir(parents=True)
    for word, rest in instructions(context):
        if word == "COPY":
            source, target = rest.split()
            subprocess.run(["cp", "-r", str(context / source), str(srv / target)], check=True)
        elif word == "RUN" and "pip install" in rest:
            (wheel,) = (srv / "wheels").glob("*.whl")
            argv = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(site)]
            subprocess.run([*argv, str(wheel)], check=True)
            subprocess.run(["rm", "-r", "wheels"], cwd=srv, check=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MODELPORT_", "PYTHON"))}
    return kept | {"PYTHONPATH": str(site), "PATH": f"{site / 'bin'}:{os.environ['PATH']}"}


def start(context: Path, root: Path, env: dict[str, str]) -> subprocess.Popen[str]:
    """ENTRYPOINT, on free ports of loopback."""
    entry = json.loads(dict(instructions(context))["ENTRYPOINT"])
    argv = [*entry, "--host", "127.0.0.1", "--port", "0", "--grpc-port", "0"]
    return subprocess.Popen(argv, cwd=root / "srv", env=env, stderr=subprocess.PIPE, text=True)


@pytest.mark.long
def test_the_entry_command_serves_what_was_deployed(deployed: Server, context: Path, tmp_path: Path) -> None:
    env = carry_out(context, tmp_path) | {"GREETING": SECRET}
    rows = np.random.default_rng(0).random((5, 4), np.float32)
    (want,) = ort.InferenceSession(MODEL).run(None, {"input": rows})
    process = start(context, tmp_path, env)
    try:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "served on" in line)
        url = line.split(" is served on ")[1].split(",")[0].strip()
        health = json.loads(dict(instructions(context))["HEALTHCHECK"].split("CMD ")[1])
        port = url.rpartition(":")[2]
        assert subprocess.run([sys.executable, "-c", health[2].replace("8000", port)]).returncode == 0
        found = httpx.post(f"{url}/predict/abc", json={"data": rows.tolist()}).json()
        assert np.allclose(found["result"], want, atol=1e-6)
        best = httpx.post(f"{url}/predict/abc?top_k=1", json={"data": rows[:1].tolist()}).json()["result"][0]
        assert best[0]["label"] == ["ant", "bee", "cat"][want[0].argmax()]
        assert httpx.get(f"{url}/v2/models/abc").json()["versions"] == ["1"]
        assert ("GREETING", SECRET) in environments_below(process.pid)
    finally:
        process.terminate()
        assert process.wait(timeout=30) is not None


def test_values_of_variables_are_given_when_it_starts(context: Path, tmp_path: Path) -> None:
    """No file of the context holds one; without it the container does not start, and says why."""
    assert not [path for path, content in files(context).items() if b"s3cret" in content]
    assert "-e GREETING " in (context / "README.md").read_text()
    process = start(context, tmp_path, carry_out(context, tmp_path))
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "--env 'GREETING': the environment has no such variable" in said


def environments_below(pid: int) -> set[tuple[str, str]]:
    """Of every process under it, as psutil reads them: with plain line ends."""
    import psutil

    return {pair for child in psutil.Process(pid).children(recursive=True) for pair in child.environ().items()}


@pytest.mark.parametrize("damage", ["changed", "missing", "no manifest"])
def test_a_changed_file_is_not_served(context: Path, tmp_path: Path, damage: str) -> None:
    env = carry_out(context, tmp_path) | {"GREETING": SECRET}
    file: Any = tmp_path / "srv" / "model" / "model.onnx"
    if damage == "changed":
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    elif damage == "missing":
        file.unlink()
    else:
        (tmp_path / "srv" / "manifest.json").write_text("{}")
    process = start(context, tmp_path, env)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert {"changed": "differs", "missing": "is missing", "no manifest": "is not a version's manifest"}[damage] in said
    assert said.count("\n") == 1
