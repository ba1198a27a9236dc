"""Push and pull: what travels, what is refused, what is left behind."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from modelport.errors import Conflict, InvalidInput, NotFound
from modelport.sdk.models import sample_tensors
from tests.sdk.fake import FakeRegistry, async_client, client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of two files in a folder, with things that are not pushed."""
    made = tmp_path / "model"
    (made / "weights").mkdir(parents=True)
    (made / ".git").mkdir()
    (made / ".git" / "config").write_text("x")
    (made / ".DS_Store").write_text("x")
    (made / "model.onnx").write_bytes(b"graph")
    (made / "weights" / "0.bin").write_bytes(b"w" * 3_000_000)
    return made


def test_push_sends_only_what_is_missing(folder: Path) -> None:
    registry = FakeRegistry()
    client(registry).models.push(folder, "m", labels={"team": "a"}, alias="champion", metrics={"acc": 0.5})
    assert len(registry.uploads) == 2
    sent = registry.pushes[0]
    assert [entry["path"] for entry in sent["files"]] == ["model.onnx", "weights/0.bin"]
    assert (sent["labels"], sent["alias"], sent["metrics"]) == ({"team": "a"}, "champion", {"acc": 0.5})
    (folder / "model.onnx").write_bytes(b"another graph")
    client(registry).models.push(folder, "m")
    assert registry.uploads[2:] == [hashlib.sha256(b"another graph").hexdigest()]


async def test_the_loop_goes_on_while_files_are_hashed(folder: Path) -> None:
    threads: dict[str, set[int]] = {}

    def progress(stage: str, done: int, total: int) -> None:
        threads.setdefault(stage, set()).add(threading.get_ident())

    registry = FakeRegistry()
    async with async_client(registry) as found:
        await found.models.push(folder, "m", progress=progress)
        assert threading.get_ident() not in threads["hash"]
        (folder / "model.onnx").unlink()
        (folder / "model.onnx").symlink_to("weights/0.bin")
        with pytest.raises(InvalidInput, match="is a link"):
            await found.models.push(folder, "m")
    assert len(registry.pushes) == 1


def test_equal_files_travel_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"same")
    registry = FakeRegistry()
    client(registry).models.push(tmp_path, "m")
    assert len(registry.uploads) == 1
    assert len(registry.pushes[0]["files"]) == 2


def test_progress_reaches_the_end_of_every_stage(folder: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    registry = FakeRegistry()
    client(registry).models.push(folder, "m", progress=lambda *step: seen.append(step))
    client(registry).models.pull("m", 1, tmp_path / "out", progress=lambda *step: seen.append(step))
    size = 3_000_005
    for stage in ("hash", "upload", "download"):
        done = [step[1] for step in seen if step[0] == stage]
        assert done == sorted(done) and done[0] == 0 and done[-1] == size


async def test_push_and_pull_asynchronously(folder: Path, tmp_path: Path) -> None:
    registry = FakeRegistry()
    async with async_client(registry) as found:
        await found.models.push(folder, "m")
        await found.models.pull("m", "champion", tmp_path / "out")
    assert (tmp_path / "out" / "weights" / "0.bin").read_bytes() == b"w" * 3_000_000


def test_a_link_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (folder / "weights" / "1.bin").symlink_to(tmp_path / "secret")
    with pytest.raises(InvalidInput, match=r"weights/1\.bin.*link"):
        client(FakeRegistry()).models.push(folder, "m")


def test_a_linked_folder_is_not_skipped_silently(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (folder / "more").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidInput, match=r"more.*link"):
        client(FakeRegistry()).models.push(folder, "m")


def test_nothing_to_push(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        client(FakeRegistry()).models.push(tmp_path / "no", "m")
    with pytest.raises(InvalidInput, match="no file"):
        client(FakeRegistry()).models.push(tmp_path, "m")


def test_arguments_are_checked_before_anything_is_sent(folder: Path) -> None:
    registry = FakeRegistry()
    with pytest.raises(InvalidInput, match="alias"):
        client(registry).models.push(folder, "m", alias="12")
    assert not registry.uploads


def test_pull_writes_the_files(folder: Path, tmp_path: Path) -> None:
    registry = FakeRegistry()
    client(registry).models.push(folder, "m")
    target = tmp_path / "deep" / "out"
    client(registry).models.pull("m", 1, target)
    assert (target / "model.onnx").read_bytes() == b"graph"
    assert sorted(path.name for path in target.parent.iterdir()) == ["out"]


def test_pull_tries_a_broken_download_again(folder: Path, tmp_path: Path) -> None:
    registry = FakeRegistry()
    client(registry).models.push(folder, "m")
    broken = [0]

    def answer(request: httpx.Request) -> httpx.Response:
        whole = registry(request)
        if request.url.path.endswith("0.bin") and not broken[0]:
            broken[0] = 1
            return httpx.Response(200, stream=_Cut(whole.content[:1000]))
        return whole

    client(answer).models.pull("m", 1, tmp_path / "out")
    assert broken[0] == 1
    assert (tmp_path / "out" / "weights" / "0.bin").stat().st_size == 3_000_000


class _Cut(httpx.SyncByteStream):
    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def __iter__(self) -> Any:
        yield self._raw
        raise httpx.ReadError("reset")


@pytest.mark.parametrize("content", [b"grapX", b"gra", b"graph and more"])
def test_pull_leaves_nothing_when_a_file_is_not_what_the_manifest_says(
    folder: Path, tmp_path: Path, content: bytes
) -> None:
    registry = FakeRegistry()
    client(registry).models.push(folder, "m")
    registry.blobs[hashlib.sha256(b"graph").hexdigest()] = content
    with pytest.raises(InvalidInput, match=r"model\.onnx"):
        client(registry).models.pull("m", 1, tmp_path / "out" / "here")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    "path",
    ["../x", "/etc/x", "a/../../x", "a//b", "./a", "a\\b", "..", "a\nb", "C:/x", "C:x", "a/", "\x00"],
)
def test_pull_refuses_a_path_that_could_leave_the_folder(tmp_path: Path, path: str) -> None:
    registry = FakeRegistry(manifest_files=[{"path": path, "size": 1, "sha256": "0" * 64}])
    with pytest.raises(InvalidInput, match="no plain relative path"):
        client(registry).models.pull("m", 1, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_pull_refuses_names_that_are_one_file_elsewhere(tmp_path: Path) -> None:
    entries = [{"path": path, "size": 1, "sha256": "0" * 64} for path in ("A.bin", "a.BIN")]
    with pytest.raises(InvalidInput, match="twice"):
        client(FakeRegistry(manifest_files=entries)).models.pull("m", 1, tmp_path / "out")


def test_pull_does_not_overwrite(folder: Path) -> None:
    registry = FakeRegistry()
    client(registry).models.push(folder, "m")
    with pytest.raises(Conflict, match="not an empty folder"):
        client(registry).models.pull("m", 1, folder)


def test_sample_from_arrays_and_lists() -> None:
    given = {"x": [[1.5, 2]], "n": np.array([3], np.int32), "s": ["a"]}
    assert sample_tensors(given)["inputs"] == [
        {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.5, 2.0]},
        {"name": "n", "datatype": "INT32", "shape": [1], "data": [3]},
        {"name": "s", "datatype": "BYTES", "shape": [1], "data": ["a"]},
    ]
    assert sample_tensors({"inputs": [1]}) == {"inputs": [1]}
