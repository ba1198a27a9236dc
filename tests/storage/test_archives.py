"""Archives: what comes out, and what never does."""

from __future__ import annotations

import io
import resource
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelport.errors import ArtifactRefused, ModelportError, TooLarge
from modelport.storage.archives import is_archive, unpack

Members = dict[str, bytes]


def zipped(path: Path, members: Members) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, members: Members) -> Path:
    mode = {".gz": "w:gz", ".bentomodel": "w:xz"}.get(path.suffix, "w:")
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


Pack = Callable[[Path, Members], Path]
KINDS: list[tuple[str, Pack]] = [
    ("m.zip", zipped), ("m.tar", tarred), ("m.tar.gz", tarred), ("m.bentomodel", tarred),
]  # fmt: skip
kinds = pytest.mark.parametrize(("name", "pack"), KINDS, ids=[name for name, _ in KINDS])


def out(archive: Path, max_bytes: int = 1 << 20, max_files: int = 10) -> dict[str, bytes]:
    folder = archive.parent / "out"
    unpack(archive, folder, max_bytes=max_bytes, max_files=max_files)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@kinds
def test_files_come_out(name: str, pack: Pack, tmp_path: Path) -> None:
    members = {"a.txt": b"a", "b/c.bin": bytes(2000)}
    archive = pack(tmp_path / name, members)
    assert is_archive(archive) and out(archive) == members


@kinds
@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "a\\..\\x", "C:x", "a//b", "a\n"])
def test_paths_that_leave_the_folder(name: str, pack: Pack, path: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactRefused):
        out(pack(tmp_path / name, {path: b"x"}))
    assert not (tmp_path / "x").exists()


@kinds
def test_limits_are_those_of_what_comes_out(name: str, pack: Pack, tmp_path: Path) -> None:
    archive = pack(tmp_path / name, {"bomb": bytes(5_000_000)})
    assert name == "m.tar" or archive.stat().st_size < 20_000
    with pytest.raises(TooLarge, match="1048576 bytes"):
        out(archive)


def test_many_files(tmp_path: Path) -> None:
    with pytest.raises(TooLarge, match="more than 10 files"):
        out(zipped(tmp_path / "m.zip", {f"{number}": b"" for number in range(11)}))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_same_path_twice(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        archive.writestr("a", b"1")
        archive.writestr("a", b"2")
    with pytest.raises(ArtifactRefused, match="twice"):
        out(tmp_path / "m.zip")


def test_a_file_that_is_also_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ArtifactRefused):
        out(tarred(tmp_path / "m.tar", {"a": b"1", "a/b": b"2"}))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_tar(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "m.tar", "w") as archive:
        info = tarfile.TarInfo("a")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(ArtifactRefused, match="no plain file"):
        out(tmp_path / "m.tar")


def test_links_in_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        info = zipfile.ZipInfo("a")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(ArtifactRefused, match="no plain file"):
        out(tmp_path / "m.zip")


@kinds
def test_damage(name: str, pack: Pack, tmp_path: Path) -> None:
    archive = pack(tmp_path / name, {"a": bytes(range(256)) * 400})
    raw = archive.read_bytes()
    archive.write_bytes(raw[: len(raw) // 2] if "zip" not in name else raw[:60] + b"\xff" * 20 + raw[80:])
    with pytest.raises(ArtifactRefused):
        out(archive)


def test_what_only_looks_like_an_archive(tmp_path: Path) -> None:
    (tmp_path / "m.zip").write_bytes(b"x")
    assert not is_archive(tmp_path / "m.zip")
    assert not is_archive(zipped(tmp_path / "model.skops", {"a": b""})), "a format that is a zip itself stays whole"


def _damaged() -> list[tuple[str, bytes]]:
    """Archives with one thing changed, each of which made a library raise something of its own."""
    members = {"a/model.onnx": b"hello" * 300, "ü.txt": b"x" * 10}

    def packed(name: str, pack: Pack) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            return pack(Path(folder) / name, members).read_bytes()

    found = []
    gzipped, plain = packed("m.tar.gz", tarred), packed("m.zip", zipped)
    found += [("m.tar.gz", gzipped[:cut]) for cut in (20, len(gzipped) // 2, len(gzipped) - 3)]
    found += [("m.tar.gz", gzipped[:-8] + bytes(4) + gzipped[-4:])]  # another check sum
    name = "ü".encode()
    found += [("m.zip", plain.replace(name, b"\xff\xff"))]  # no UTF-8 where it says UTF-8
    bzipped = io.BytesIO()
    with zipfile.ZipFile(bzipped, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a", b"hello" * 300)
    found += [("m.zip", bzipped.getvalue().replace(b"1AY&SY", b"1AY&SZ"))]
    return found


@pytest.mark.parametrize(("name", "content"), _damaged(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_damaged_archive_is_refused_as_such(name: str, content: bytes, tmp_path: Path) -> None:
    archive = tmp_path / name
    archive.write_bytes(content)
    assert is_archive(archive)
    with pytest.raises(ArtifactRefused, match=r"is damaged \(\w+\); pack it again"):
        out(archive)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_no_damage_raises_anything_else(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        name, pack = data.draw(st.sampled_from(KINDS))
        archive = pack(Path(folder) / name, {"a/model.onnx": b"hello" * 300, "ü.txt": b"x"})
        content = bytearray(archive.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        archive.write_bytes(content[: data.draw(st.integers(0, len(content)))])
        with suppress(ModelportError):
            if is_archive(archive):
                out(archive)


def test_a_full_disk_is_not_the_archives_fault(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "m.zip", {"a": bytes(100_000)})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(OSError):  # EFBIG here; ENOSPC on a full disk
            out(archive)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
