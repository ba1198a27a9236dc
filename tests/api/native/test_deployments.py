"""The logs of replicas, as they are followed."""

from __future__ import annotations

from pathlib import Path

from modelport.api.native.deployments import log_lines_since


def test_a_log_is_followed_by_whole_lines(tmp_path: Path) -> None:
    log = tmp_path / "replica.log"
    log.write_bytes(b"one\ntwo\nthr")
    assert log_lines_since(log, 4) == ("two\n", 8)
    assert log_lines_since(log, 8) == ("", 8)
    log.write_bytes(b"new\n")  # rotated
    assert log_lines_since(log, 8) == ("new\n", 4)


def test_a_line_of_many_megabytes_holds_up_no_follower(tmp_path: Path) -> None:
    log = tmp_path / "replica.log"
    written = b"x" * 2_500_000 + b"\nlast\n"
    log.write_bytes(written)
    seen, position = "", 0
    for _ in range(4):
        text, position = log_lines_since(log, position)
        seen += text
    assert (seen.encode(), position) == (written, len(written))
