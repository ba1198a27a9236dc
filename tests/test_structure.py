"""The habits that keep the product simple: layers, types, sizes, names, start-up cost, the README's map."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "modelport"
FILES = sorted(path for path in SOURCE.rglob("*.py") if "_pb2" not in path.name)
HEAVY = ("torch", "ray", "transformers", "onnx", "onnxruntime", "sklearn", "sqlalchemy", "fastapi", "pydantic", "grpc")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def tool(name: str) -> str:
    return str(Path(sys.executable).parent / name)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param((tool("ruff"), "check", "."), id="ruff"),
        pytest.param((tool("ruff"), "format", "--check", "."), id="format"),
        pytest.param((tool("lint-imports"),), id="layers"),
        pytest.param((tool("mypy"),), id="types"),
    ],
)
def test_checks_hold(command: tuple[str, ...]) -> None:
    done = run(*command)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_file_is_crowded(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 500
    assert path.stem not in ("utils", "common", "helpers", "util", "misc")
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "a module says what it does, in the data's words"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= 60, f"{node.name} has {lines} lines, signature and all"


def loaded_by(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(' '.join(sorted(m.partition('.')[0] for m in sys.modules)))"
    done = run(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("import modelport", ()),
        ("import modelport.supervisor", ()),
        ("import modelport.engine.replica", ()),
        ("import modelport.engine.runtimes.onnx", ("onnxruntime",)),
        ("import modelport.api.gateway", ()),
        ("import modelport.cli.main", ()),
    ],
)
def test_start_up_pulls_in_nothing_heavy(statement: str, allowed: tuple[str, ...]) -> None:
    assert loaded_by(statement).isdisjoint(set(HEAVY) - set(allowed))


def test_the_server_itself_learns_and_runs_nothing() -> None:
    """Control asks recipes, methods and routes what they take; what they work with is for the processes of jobs."""
    heavy = {"torch", "ray", "transformers", "onnx", "onnxruntime", "sklearn", "daft", "pyarrow", "pandas", "alembic"}
    assert loaded_by("import modelport.api.control").isdisjoint(heavy)


def test_a_replica_needs_only_numpy() -> None:
    third_party = loaded_by("import modelport.engine.replica") - set(sys.stdlib_module_names)
    assert {name for name in third_party if not name.startswith("_")} <= {"modelport", "numpy", "sitecustomize"}


def test_the_plain_install_needs_no_heavy_library() -> None:
    from importlib.metadata import requires

    plain = {
        re.split(r"[^A-Za-z0-9_-]", line)[0].lower() for line in requires("modelport") or () if "extra ==" not in line
    }
    assert plain.isdisjoint({"torch", "ray", "transformers", "pandas", "tensorflow"})
    assert {"onnxruntime", "scikit-learn", "numpy"} <= plain


def test_the_readme_knows_the_tree() -> None:
    """Every folder of the source is named in the README's map, and everything that the map names is there."""
    text = (ROOT / "README.md").read_text()
    block = re.search(r"<!-- map -->\n```text\n(.*?)```", text, re.DOTALL)
    assert block, "the README has a map"
    named = {line.split()[0].rstrip("/") for line in block.group(1).splitlines() if line.strip()}
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing, f"the map names what is not there: {missing}"
    packages = {str(p.parent.relative_to(ROOT)) for p in SOURCE.rglob("__init__.py")} - {"src/modelport"}
    top = {name for name in packages if name.count("/") == 2}
    assert top <= named, f"the map leaves out {sorted(top - named)}"


def test_nothing_unpickles() -> None:
    banned = re.compile(
        r"^\s*(import|from) (pickle|joblib|cloudpickle|dill|marshal|shelve)\b|torch\.load\((?!.*weights_only=True)",
        re.MULTILINE,
    )
    for path in FILES:
        assert not banned.search(path.read_text()), path


@pytest.mark.xdist_group("together")
def test_tests_that_share_a_server_share_a_worker(request: pytest.FixtureRequest) -> None:
    """Where a pytest and a pytest-xdist do not fit, groups are forgotten without a word, and servers start in vain."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        assert request.node.nodeid.endswith("@together")
