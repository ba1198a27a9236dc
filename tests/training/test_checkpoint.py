"""Checkpoints: whole or not there, torn ones passed over, a full disk told."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from modelport.training.checkpoint import Checkpoints, read_tensors, write_tensors


def test_values_come_back_as_they_were(tmp_path: Path) -> None:
    tied = torch.randn(3, 4)
    value = {
        "weights": {"a": tied, "b": tied, "half": torch.arange(6).reshape(2, 3).T.to(torch.bfloat16)},
        "part": tied[1:, 1:], "none": torch.empty(0, 3), "one": torch.tensor(3),
        "groups": [{"betas": (0.9, 0.999), "params": [0, 1], "fused": None}], "state": {0: {"step": 1}, 1: {}},
        "number": 0.1 + 0.2, "infinite": math.inf, "text": "ä", "truth": True,
    }  # fmt: skip
    write_tensors(tmp_path / "one.safetensors", value)
    found = read_tensors(tmp_path / "one.safetensors")
    flat = repr(value)
    assert repr(found) == flat
    assert (
        found["groups"] == value["groups"] and found["state"] == value["state"] and found["number"] == value["number"]
    )
    assert torch.equal(found["weights"]["half"], value["weights"]["half"])
    with pytest.raises(TypeError, match="weights.x is a set"):
        write_tensors(tmp_path / "two.safetensors", {"weights": {"x": set()}})


@pytest.mark.parametrize("harm", ["cut", "flipped", "empty", "gone"])
def test_a_torn_one_is_passed_over(tmp_path: Path, harm: str) -> None:
    kept = Checkpoints(tmp_path)
    for step in (10, 20, 30):
        kept.keep(step, {"step": step, "weights": {"a": torch.full((100,), float(step))}})
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [name[:17] for name in names] == ["last-000000000020", "last-000000000030"]
    newest = tmp_path / names[-1]
    whole = newest.read_bytes()
    if harm == "gone":
        newest.unlink()
    else:
        flipped = whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]
        newest.write_bytes({"cut": whole[:-1], "flipped": flipped, "empty": b""}[harm])
    (tmp_path / "last.unfinished").write_bytes(whole[:50])
    found = Checkpoints(tmp_path).newest()
    assert found is not None and found["step"] == 20 and found["weights"]["a"][0] == 20
    assert not list(tmp_path.glob("*.unfinished"))


def test_the_best_weights_outlive_the_checkpoints_between(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    best = kept.keep_best(1, {"a": torch.ones(3)})
    for step in range(2, 9):
        kept.keep(step, {"step": step, "best_file": best})
    weights = kept.best(best)
    assert weights is not None and torch.equal(weights["a"], torch.ones(3))
    (tmp_path / best).write_bytes(b"torn")
    assert kept.newest() is None  # what points to nothing is no checkpoint


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    """The size of files is limited: writing fails with the system's own error."""
    code = """
import resource, signal, sys, torch
from pathlib import Path
from modelport.errors import Unavailable
from modelport.training.checkpoint import Checkpoints
kept = Checkpoints(Path(sys.argv[1]))
kept.keep(1, {"step": 1, "a": torch.zeros(10)})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    kept.keep(2, {"step": 2, "a": torch.zeros(1 << 20)})
except Unavailable as error:
    print(error.message)
print(kept.newest()["step"], len(list(Path(sys.argv[1]).iterdir())))
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "the server's disk is full: no checkpoint could be kept at step 2; free space and resume the job, it goes on "
        "from the checkpoint before",
        "1 1",
    ], done.stderr
