"""A process that is shut in: what it cannot do, told by such a process itself; and converters that run in one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from modelport.conversion import process
from modelport.errors import InvalidInput

TRIES = """
import ctypes, json, os, socket, subprocess, sys
from modelport.conversion import confine
folder, secret, port, parent = sys.argv[1], sys.argv[2], int(sys.argv[3]), os.getppid()
bounds = confine.Bounds(tuple(confine.interpreter_folders()), folder, 2 << 30, 60, 1 << 20)
held = confine.confine(bounds)
def tried(call):
    try:
        call()
        return "done"
    except Exception as error:
        return type(error).__name__
child = "import socket; socket.socket()"
print(json.dumps({
    "held": held,
    "socket": tried(lambda: socket.create_connection(("127.0.0.1", port))),
    "unix": tried(lambda: socket.socket(socket.AF_UNIX)),
    "childs_socket": subprocess.run([sys.executable, "-c", child], capture_output=True).returncode,
    "read": tried(lambda: open(secret).read()),
    "environment": tried(lambda: open(f"/proc/{parent}/environ", "rb").read()),
    "write": tried(lambda: open(secret + ".new", "w")),
    "own": tried(lambda: open(folder + "/mine", "w").write("x")),
    "large": tried(lambda: open(folder + "/large", "w").write("x" * (2 << 20))),
    "group": tried(os.setsid),
    "signal": tried(lambda: os.kill(parent, 0)),
    "memory": tried(lambda: bytearray(3 << 30)),
    "privileges": open("/proc/self/status").read().split("CapEff:")[1].split()[0],
}))
"""


def test_what_a_process_that_is_shut_in_cannot_do(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "secret").write_text("a key")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        argv = [sys.executable, "-c", TRIES, str(tmp_path / "own"), str(tmp_path / "secret"), str(port)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "network" in found["held"]
    assert found["socket"] == found["unix"] == "PermissionError" and found["childs_socket"] != 0
    assert found["group"] == "PermissionError" and found["large"] == "OSError" and found["memory"] == "MemoryError"
    assert found["own"] == "done" and int(found["privileges"], 16) == 0
    if "files" in found["held"]:
        assert found["read"] == found["write"] == found["environment"] == "PermissionError"
    assert not (tmp_path / "secret.new").exists()


@pytest.mark.long  # its library takes seconds to load
def test_a_damaged_file_costs_its_own_conversion_only(tmp_path: Path) -> None:
    pytest.importorskip("lightgbm")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "model.txt").write_text("tree\nversion=v4\nnum_class=1\nTree=0\nnum_leaves=999999\n")
    request = {"folder": str(tmp_path / "in"), "place": "model.txt", "files": ["model.txt"], "opset": None}
    with pytest.raises(InvalidInput) as refused:
        process.run("lightgbm_onnx:convert", request, tmp_path / "work", read=[tmp_path / "in"])
    assert str(tmp_path) not in refused.value.message


def test_a_converter_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    before = threading.active_count()
    place = tmp_path / "in"
    place.mkdir()
    os.mkfifo(place / "model.onnx")  # nobody writes into it: whoever reads it waits for ever
    rows = {"name": "x", "datatype": "FP32", "shape": [-1, 2]}
    request = {
        "signature": {"inputs": [rows], "outputs": [{**rows, "name": "y"}]}, "model_signature": None, "labels": {},
        "folder": str(place), "files": ["model.onnx"], "trust": [], "details": {}, "preprocessing": [], "inputs": None,
        "rows": 1, "own": False, "runtime": "modelport.engine.runtimes.onnx:OnnxRuntime",
    }  # fmt: skip
    with pytest.raises(InvalidInput, match=r"took more than 2 s"):
        process.run("served:answer", request, tmp_path / "work", read=[place], bounds=process.Bounds(time_s=2))
    assert threading.active_count() == before
    left = subprocess.run(["pgrep", "-f", str(tmp_path / "work")], capture_output=True, text=True)
    assert left.stdout == ""


def test_what_libraries_say_holds_no_place_of_this_machine() -> None:
    told = process.said(ValueError("\x1b[31mERROR\x1b[0m in /srv/somewhere/model.onnx\n\n  at node 3"))
    assert told == "ValueError: ERROR in … at node 3"
    told = process.said(
        RuntimeError("Check 'false' failed at src/a.cpp:1: x No conversion rule found for operations: ai.X")
    )
    assert told == "RuntimeError: No conversion rule found for operations: ai.X"
