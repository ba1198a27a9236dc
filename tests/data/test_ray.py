"""Daft on a real Ray cluster of this machine: the same jobs make the same versions as in the job's own process."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from modelport.data import engine
from modelport.errors import MissingExtra

_JOBS = """
import json, sys
from pathlib import Path
from modelport.control.actors import Actor
from modelport.control.assembly import build_services
from modelport.settings import Settings
from tests.data.lab import Lab

engine, folder = sys.argv[1], Path(sys.argv[2])
settings = Settings(home=folder / "home", data={"engine": engine})
services = build_services(settings, owner_token=None, keys_required=False)
lab = Lab(services, Actor(1, "default", "tester", "admin"), folder)
left = "k,v,s\\n" + "".join(f"{i % 500},{i * 0.5},t{i % 7}\\n" for i in range(20_000))
right = "k,w\\n" + "".join(f"{i},{i * i}\\n" for i in range(400))
rules = [{"rule": "duplicates", "columns": ["v"]}, {"rule": "outliers", "columns": ["v"], "method": "iqr"}]
made = [
    lab.collect("left", {"a.csv": left}),
    lab.collect("right", {"b.csv": right}),
    lab.run("clean", dataset="left", name="clean", recipe={"rules": rules}),
    lab.run("join", left="clean", right="right", on=["k"], name="joined"),
    lab.run("split", dataset="joined", name="parts", seed=3),
]
import daft
print(json.dumps([daft.get_or_create_runner().name, [one["digest"] for one in made], made[3]["rows"]]))
"""


def _made(name: str, folder: Path) -> list[object]:
    (folder / name).mkdir()
    done = subprocess.run(
        [sys.executable, "-c", _JOBS, name, str(folder / name)], capture_output=True, text=True, timeout=170
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
def test_jobs_on_a_cluster_make_the_same_versions(tmp_path: Path) -> None:
    native, cluster = _made("native", tmp_path), _made("ray", tmp_path)
    assert (native[0], cluster[0]) == ("native", "ray")
    assert native[1:] == cluster[1:] and native[2] == 16_000


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"modelport\[ray\]"):
        engine.use_runner.__wrapped__("ray")
