"""The mark says whose frame was run, also to those who look when the replica is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelport.engine.running import Running, mark_of


def test_the_mark_outlives_its_writer_and_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Running.open("r.sock") is None, "nothing is known"
    replica = Running.create("r.sock")
    gateway = Running.open("r.sock")
    assert gateway is not None
    assert gateway.connection == 0
    replica.connection = 7
    mark_of("r.sock").unlink()
    del replica
    assert gateway.connection == 7
    again = Running.create("r.sock")
    assert again.connection == 0
