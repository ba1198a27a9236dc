"""Artifacts, in a folder and behind an fsspec URL: addressing, checks, atomicity, folders of versions."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from modelport.errors import InvalidInput, TooLarge, Unavailable
from modelport.schemas.models import FileEntry
from modelport.storage.artifacts import Artifacts

DATA = b"weights" * 1000


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def entry(path: str, data: bytes = DATA) -> FileEntry:
    return FileEntry(path=path, size=len(data), sha256=sha(data))


@pytest.fixture(params=["local", "memory"])
def artifacts(request: pytest.FixtureRequest, tmp_path: Path) -> Artifacts:
    url = (tmp_path / "store").as_uri() if request.param == "local" else f"memory://{uuid.uuid4().hex}"
    return Artifacts(url, tmp_path / "cache")


@pytest.fixture
def local(tmp_path: Path) -> Artifacts:
    return Artifacts((tmp_path / "store").as_uri(), tmp_path / "cache")


def files_under(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def put(artifacts: Artifacts, data: bytes = DATA, project: int = 1) -> str:
    artifacts.write(project, sha(data), [data])
    return sha(data)


def test_what_is_written_is_read(artifacts: Artifacts) -> None:
    chunks = [DATA[i : i + 100] for i in range(0, len(DATA), 100)]
    assert artifacts.write(1, sha(DATA), chunks, size=len(DATA)) == len(DATA)
    assert artifacts.exists(1, sha(DATA))
    assert b"".join(artifacts.iterate(1, sha(DATA))) == DATA


def test_an_empty_content_is_one_too(artifacts: Artifacts) -> None:
    put(artifacts, b"")
    assert b"".join(artifacts.iterate(1, sha(b""))) == b""


def test_projects_do_not_share(artifacts: Artifacts) -> None:
    put(artifacts)
    assert not artifacts.exists(2, sha(DATA))


def test_equal_contents_are_kept_once(local: Artifacts, tmp_path: Path) -> None:
    put(local)
    put(local)
    assert len(files_under(tmp_path / "store")) == 1


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"sha256": "0" * 64}, InvalidInput),
        ({"size": 1}, InvalidInput),
        ({"limit": len(DATA) - 1}, TooLarge),
    ],
)
def test_a_wrong_body_leaves_nothing(local: Artifacts, tmp_path: Path, wrong: dict, error: type[Exception]) -> None:
    with pytest.raises(error):
        local.write(1, **{"sha256": sha(DATA), "chunks": [DATA], **wrong})
    assert files_under(tmp_path) == []


def test_a_caller_that_goes_away_leaves_nothing(artifacts: Artifacts, tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield DATA
        raise ConnectionError

    with pytest.raises(ConnectionError):
        artifacts.write(1, sha(DATA), broken())
    assert files_under(tmp_path) == []
    assert not artifacts.exists(1, sha(DATA))


def test_a_killed_writer_leaves_only_a_temporary_file(local: Artifacts, tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from modelport.storage.artifacts import Artifacts
def chunks():
    yield b"half"
    os.kill(os.getpid(), signal.SIGKILL)
Artifacts({str((tmp_path / "store").as_uri())!r}, Path({str(tmp_path / "cache")!r})).write(1, "0" * 64, chunks())
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == -9
    assert {path.parent.name for path in files_under(tmp_path / "store")} == {"tmp"}
    assert local.sweep(older_than_s=3600) == (0, 0)
    assert local.sweep(older_than_s=0, dry_run=True)[0] == 1
    assert local.sweep(older_than_s=0)[0] == 1
    assert files_under(tmp_path / "store") == []


def test_an_upload_that_is_alive_is_not_swept(local: Artifacts, tmp_path: Path) -> None:
    with local.staged([DATA]) as staged:
        assert local.sweep(older_than_s=0) == (0, 0)
        local.store(1, staged)
    assert local.exists(1, sha(DATA))


def test_damage_is_told_before_the_last_byte(local: Artifacts, tmp_path: Path) -> None:
    put(local)
    (stored,) = files_under(tmp_path / "store")
    stored.chmod(0o644)
    stored.write_bytes(DATA[:-1] + b"X")
    received = b""
    with pytest.raises(Unavailable, match="damaged"):
        for chunk in local.iterate(1, sha(DATA)):
            received += chunk
    assert len(received) < len(DATA)


def test_a_lost_content_says_so(artifacts: Artifacts) -> None:
    put(artifacts)
    artifacts.delete(1, sha(DATA))
    artifacts.delete(1, sha(DATA))
    with pytest.raises(Unavailable, match="push it again"):
        next(artifacts.iterate(1, sha(DATA)))
    with pytest.raises(Unavailable, match="push it again"):
        artifacts.materialize(1, "d" * 64, [entry("m")])


def test_a_version_becomes_a_read_only_folder(artifacts: Artifacts) -> None:
    put(artifacts)
    put(artifacts, b"data")
    files = [entry("model.onnx"), entry("weights/0.bin", b"data"), entry("weights/1.bin", b"data")]
    folder = artifacts.materialize(1, "d" * 64, files)
    assert sorted(p.relative_to(folder).as_posix() for p in files_under(folder)) == [f.path for f in files]
    assert (folder / "model.onnx").read_bytes() == DATA
    assert {oct(p.stat().st_mode & 0o777) for p in files_under(folder)} == {"0o444"}
    assert oct((folder / "weights").stat().st_mode & 0o777) == oct(folder.stat().st_mode & 0o777) == "0o555"
    assert artifacts.materialize(1, "d" * 64, files) == folder


def test_local_folders_cost_no_space(local: Artifacts) -> None:
    put(local)
    assert (local.materialize(1, "d" * 64, [entry("m")]) / "m").stat().st_nlink == 2


def test_many_may_materialize_at_once(artifacts: Artifacts, tmp_path: Path) -> None:
    put(artifacts)
    files = [entry(f"{i}.bin") for i in range(20)]
    start = threading.Barrier(6)

    def make(_: int) -> Path:
        start.wait()
        return artifacts.materialize(1, "d" * 64, files)

    with ThreadPoolExecutor(6) as pool:
        folders = set(pool.map(make, range(6)))
    assert len(folders) == 1
    assert len(list(folders.pop().iterdir())) == 20
    assert [path.name for path in (tmp_path / "cache" / "versions" / "1").iterdir()] == ["d" * 64]


def test_a_download_that_is_damaged_makes_no_folder(tmp_path: Path) -> None:
    import fsspec

    url = f"memory://{uuid.uuid4().hex}"
    artifacts = Artifacts(url, tmp_path / "cache")
    put(artifacts)
    with fsspec.open(f"{url}/1/{sha(DATA)[:2]}/{sha(DATA)}", "wb") as file:
        file.write(b"other")
    with pytest.raises(Unavailable, match="damaged"):
        artifacts.materialize(1, "d" * 64, [entry("m")])
    assert files_under(tmp_path) == []


def test_hostile_paths_make_no_file(artifacts: Artifacts, tmp_path: Path) -> None:
    put(artifacts)
    with pytest.raises(InvalidInput):
        artifacts.materialize(1, "d" * 64, [entry("../../escaped")])
    assert not list(tmp_path.rglob("escaped"))


def test_eviction_keeps_what_is_needed_and_what_is_fresh(artifacts: Artifacts) -> None:
    put(artifacts)
    kept, gone = (artifacts.materialize(1, digit * 64, [entry("sub/m")]) for digit in "ab")
    artifacts.evict(1, {"a" * 64}, older_than_s=3600)
    assert kept.exists()
    assert gone.exists()
    artifacts.evict(1, {"a" * 64}, older_than_s=0)
    assert kept.exists()
    assert not gone.exists()


def test_an_eviction_that_is_cut_short_leaves_no_half_a_version(
    artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(artifacts)
    files = [entry("a"), entry("b")]
    folder = artifacts.materialize(1, "a" * 64, files)

    def cut_short(folder: Path, **_: object) -> None:
        (folder / "a").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("shutil.rmtree", cut_short)
        artifacts.evict(1, set(), older_than_s=0)
    assert not folder.exists()
    assert sorted(path.name for path in artifacts.materialize(1, "a" * 64, files).iterdir()) == ["a", "b"]
    artifacts.evict(1, {"a" * 64}, older_than_s=0)
    assert [path.name for path in folder.parent.iterdir()] == ["a" * 64], "what was left of it goes the next time"


def test_a_folder_that_is_being_made_is_not_evicted(artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    put(artifacts)
    bring = Artifacts._bring

    def slowly(self: Artifacts, *args: object) -> None:
        self.evict(1, set(), older_than_s=0)  # another process, in the middle of a long download
        bring(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Artifacts, "_bring", slowly)
    folder = artifacts.materialize(1, "a" * 64, [entry("a"), entry("b")])
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b"]


def test_an_unknown_kind_of_url_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"artifacts\.url"):
        Artifacts("gopher://x", tmp_path)


def test_constant_memory(tmp_path: Path) -> None:
    """A content larger than the memory that the process may take passes through it."""
    code = f"""
import hashlib, resource, sys
from pathlib import Path
from modelport.storage.artifacts import Artifacts
store = Artifacts({(tmp_path / "store").as_uri()!r}, Path({str(tmp_path / "cache")!r}))
block, blocks = bytes(1 << 20), 192
digest = hashlib.sha256()
for _ in range(blocks): digest.update(block)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
store.write(1, digest.hexdigest(), (block for _ in range(blocks)))
for _ in store.iterate(1, digest.hexdigest()): pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert int(done.stdout) < 16 * 1024  # kB, for 192 MB
