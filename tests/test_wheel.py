"""The wheel: what is in it, what it pulls in, and that it serves a model from an empty venv, outside the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests import onnx_models

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "ray", "transformers", "pandas", "tensorflow", "jax", "boto3", "pyspark"}

pytestmark = [pytest.mark.xdist_group("wheel"), pytest.mark.timeout(600)]


def _run(*argv: str | Path, env: dict[str, str] | None = None, cwd: Path = ROOT) -> str:
    done = subprocess.run(
        [str(arg) for arg in argv], env=env, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, f"{argv}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _clean_env(**more: str) -> dict[str, str]:
    """The environment without what could let the checkout, or another server, in."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "MODELPORT_", "VIRTUAL_ENV", "COV_"))}
    return {**kept, **more}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "build", "--wheel", "--outdir", out, ROOT)
    (built,) = out.glob("modelport-*-py3-none-any.whl")
    return built


@pytest.fixture(scope="module")
def venv(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a venv that holds the wheel and what it needs, in the versions tested together."""
    folder = tmp_path_factory.mktemp("plain") / "venv"
    _run(sys.executable, "-m", "venv", folder)
    python = folder / "bin" / "python"
    pip = (python, "-m", "pip", "--disable-pip-version-check", "-q", "install", "-c", ROOT / "constraints.txt")
    _run(*pip, "--no-compile", wheel, env=_clean_env(), cwd=folder)  # compiled is what the server imports, then
    return folder / "bin"


@pytest.fixture
def home(venv: Path, tmp_path: Path) -> Iterator[Path]:
    """A home for one server, which is ended even when the test fails."""
    folder = tmp_path / "home"
    yield folder
    subprocess.run(
        [venv / "modelport", "down"], env=_clean_env(MODELPORT_HOME=str(folder)), cwd=tmp_path, capture_output=True
    )


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(n for n in names if n.endswith(".dist-info/METADATA"))).decode()
    inside = {str(p.relative_to(ROOT / "src")) for p in (ROOT / "src").rglob("*") if p.is_file()}
    tracked = set(_run("git", "ls-files", "src").split()) if (ROOT / ".git").exists() else set()
    for file in ("py.typed", "storage/migrations/versions/0001_first.py", "storage/migrations/env.py"):
        assert f"modelport/{file}" in names
    assert {f"src/{n}" for n in names} >= tracked, "a file of the package is not in the wheel"
    assert any(n.startswith("modelport/api/proto/") and n.endswith((".proto", ".binpb")) for n in names)
    assert any(n.endswith(".dist-info/licenses/LICENSE") for n in names)
    others = {n for n in names if n not in inside and ".dist-info/" not in n}
    assert others == set()
    assert not [n for n in names if n.endswith((".pth", ".pyc", ".so")) or "test" in Path(n).name]
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Python: >=3.11" in metadata


@pytest.mark.long
def test_the_plain_install_is_small(venv: Path) -> None:
    listed = json.loads(_run(venv / "python", "-m", "pip", "--disable-pip-version-check", "list", "--format", "json"))
    packages = {package["name"].lower() for package in listed} - {"pip", "setuptools"}
    assert packages & HEAVY == set()
    assert "modelport" in packages
    (site,) = (venv.parent / "lib").glob("python*/site-packages")
    own = [f for f in site.rglob("*") if f.is_file() and f.relative_to(site).parts[0] not in ("pip", "setuptools")]
    bytecode_mb = sum(f.stat().st_size for f in own if f.suffix == ".pyc") / 1e6
    size_mb = sum(f.stat().st_size for f in own) / 1e6 - bytecode_mb
    print(f"plain install: {len(packages)} packages, {size_mb:.0f} MB, and {bytecode_mb:.0f} MB of bytecode")
    assert size_mb < 450, "a new dependency made the plain install large"
    _run(venv / "python", "-m", "pip", "--disable-pip-version-check", "check")


def test_the_plain_install_serves_a_model(venv: Path, home: Path, tmp_path: Path) -> None:
    """up, push, deploy, predict, down: as a user types them, in a folder that is not the checkout."""
    env = _clean_env(MODELPORT_HOME=str(home), PYTHONSAFEPATH="1")
    (tmp_path / "sums.onnx").write_bytes(onnx_models.add_sub("FP32", 2))
    (tmp_path / "input.json").write_text('{"a": [[3, 4]], "b": [[1, 1]]}')

    def modelport(*args: str) -> str:
        return _run(venv / "modelport", *args, env=env, cwd=tmp_path)

    where = _run(venv / "python", "-c", "import modelport; print(modelport.__file__)", env=env, cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(venv.parent)
    modelport("up", "--detach", "--port", "0", "--grpc-port", "0")
    pid = json.loads((home / "run" / "endpoint.json").read_text())["pid"]
    tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    modelport("push", "sums.onnx", "--name", "sums")
    modelport("deploy", "sums")
    answer = modelport("predict", "sums", "input.json")
    tree += psutil.Process(pid).children(recursive=True)
    modelport("down")
    _, alive = psutil.wait_procs(tree, timeout=10)
    assert not alive, f"left running: {alive}"
    assert json.loads(answer) == {"sum": [[4, 5]], "difference": [[2, 3]]}
