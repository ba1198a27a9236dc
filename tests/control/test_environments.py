"""Environments: one per set of requirements, whole or not there, swept when unused."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from modelport.control.environments import BuildFailed, Environments, name_of

# No requirement: nothing is fetched, so that these tests build real environments without an index.
NOTHING: list[str] = []


async def test_built_once_however_many_ask(tmp_path: Path) -> None:
    environments, log = Environments(tmp_path), tmp_path / "log"
    made = await asyncio.gather(*(environments.ensure(NOTHING, log) for _ in range(3)))
    assert len({environment.python for environment in made}) == 1
    text = log.read_text()
    assert text.count("building the environment") == 1
    assert text.count("the environment is built") == 1
    code = "import modelport.engine.frames as f, sys; print(f.__file__, sys.prefix)"
    env = {**os.environ, **made[0].variables}
    done = subprocess.run([made[0].python, "-c", code], env=env, capture_output=True, text=True)
    assert "numpy" in done.stderr, "the product is found there, and nothing of the server's other packages"

    # half an environment is none: what a crash left behind is built anew
    (made[0].folder / "modelport.json").unlink()
    shutil.rmtree(made[0].folder / "lib")
    await environments.ensure(NOTHING, log)
    assert log.read_text().count("the environment is built") == 2
    assert (made[0].folder / "lib").exists()

    assert made[0].packages == [], "nothing was asked for"
    assert environments.collect({made[0].name}, 0) == (0, 0)
    assert environments.collect(set(), 3600) == (0, 0)
    os.utime(made[0].folder / "modelport.json", (time.time() - 4000,) * 2)
    assert environments.collect(set(), 3600, dry_run=True)[0] == 1
    count, size = environments.collect(set(), 3600)
    assert count == 1
    assert size > 1e6
    assert not made[0].folder.exists()


async def test_a_failure_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_RETRIES", "0")  # else pip asks five times more, for longer each time
    log = tmp_path / "log"
    missing = ["modelport-no-such-package @ https://127.0.0.1:9/no-1.0-py3-none-any.whl"]
    with pytest.raises(BuildFailed, match="its environment could not be built: ERROR"):
        await Environments(tmp_path).ensure(missing, log)
    assert not (tmp_path / name_of(missing)).exists()
    assert "no-1.0" in log.read_text()


def test_a_name_means_its_requirements() -> None:
    assert name_of(["a==1", "b"]) == name_of(["b", "a==1"])
    assert name_of(["a==1"]) != name_of(["a==2"])
