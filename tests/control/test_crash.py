"""A server that is killed at any moment of a push leaves a whole version or none, and the next push works."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import onnx_models

# Forks a child per moment: the n-th time it is about to run a statement, commit, or rename, it is gone.
_SCRIPT = """
import json, os, signal, sys
from pathlib import Path
from sqlalchemy import event
from modelport.control.actors import Actor
from modelport.control.blobs import Limits
from modelport.control.registry import Registry
from modelport.engine.inspect import inspect
from modelport.engine.runtime import Trust
from modelport.schemas.models import VersionPush
from modelport.storage.artifacts import Artifacts
from modelport.storage.database import Database

home, url, data = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]).read_bytes()
actor = Actor(1, "default", "tester", "admin")
inspect(Path(sys.argv[3]), Trust())  # imports, once

def registry():
    store = Artifacts((home / "store").as_uri(), home / "cache")
    return Registry(database := Database(url), store, lambda folder, _: inspect(folder, Trust()), Limits()), database

def push(at, into):
    left = at
    def moment(*_, **__):
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    found, database = registry()
    event.listen(database.engine, "before_cursor_execute", moment)
    event.listen(database.engine, "commit", moment)
    sys.addaudithook(lambda name, _: moment() if name in ("os.rename", "os.link", "os.mkdir", "os.chmod") else None)
    entry = found.add_file(actor, "model.onnx", [data])
    found.push(actor, into, VersionPush(files=[entry], alias="champion", labels={"k": "v"}, parents=["p:1"]))

at = whole = 0
while True:
    child = os.fork()
    if child == 0:
        push(at, f"m{at}")
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    found, database = registry()
    models = {model.name: model for model in found.models(actor)}
    if (model := models.get(f"m{at}")) is not None:
        version = found.version(actor, model.name, "champion")
        assert (model.versions, model.aliases, version.labels) == (1, {"champion": 1}, {"k": "v"}), model
        assert b"".join(found.iterate_file(actor, found.find_file(actor, model.name, 1, "model.onnx"))) == data
        whole += 1
    database.close()
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
    at += 1
found, database = registry()
entry = found.add_file(actor, "model.onnx", [data])
assert found.push(actor, "after", VersionPush(files=[entry])).version == 1
assert found.gc(actor).blobs == 0  # within the grace time nothing goes
database.close()
print(json.dumps({"moments": at, "whole": whole}))
"""


def test_a_push_that_is_killed_is_whole_or_nothing(database_url: str, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(onnx_models.identity())
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(tmp_path), database_url, str(model)],
        capture_output=True,
        text=True,
        timeout=150,
    )
    if done.returncode:
        pytest.fail(done.stderr)
    counts = json.loads(done.stdout)
    assert counts["moments"] > 20
    assert counts["whole"] >= 1
