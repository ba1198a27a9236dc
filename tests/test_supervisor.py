"""The supervisor's housekeeping; what it does to processes is tested from outside (tests/services, tests/chaos)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from modelport.supervisor import Child, Config, Supervisor


def test_logs_of_replicas_that_have_ended_do_not_pile_up(tmp_path: Path) -> None:
    supervisor: Any = Supervisor(Config(str(tmp_path), "127.0.0.1", 0, None, 1, {}))
    logs = tmp_path / "logs"
    logs.mkdir()
    for number in range(300):
        file = logs / f"replica-1-abc-{number}.log"
        file.touch()
        os.utime(file, (number, number))
    for name in ("control.log", "gateway-0.log", "replica-1-abc-7.log.1"):
        (logs / name).touch()
        os.utime(logs / name, (0, 0))
    with subprocess.Popen(["true"]) as process:
        supervisor._children["1-abc-7"] = Child("1-abc-7", process)
    supervisor._drop_old_logs()
    left = {file.name for file in logs.iterdir()}
    running = {"replica-1-abc-7.log", "replica-1-abc-7.log.1"}
    assert left == {f"replica-1-abc-{n}.log" for n in range(100, 300)} | {"control.log", "gateway-0.log"} | running
