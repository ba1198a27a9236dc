"""What is not served here, recognised by its content, and what to do instead.

A table of magic numbers and a few closer looks. Nothing is unpickled, imported or unpacked to disk: of a compressed
file 64 KB are looked into. Knows no format that is served.
"""

from __future__ import annotations

import bz2
import contextlib
import io
import lzma
import pickletools
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

_PEEK = 64 << 10
_MOST_OPCODES = 5_000

_EXPORT_ONNX = "export the model to ONNX and push that"
_PICKLE = (
    "a pickle runs code when it is loaded, so no pickle is accepted. scikit-learn: save it with skops.io.dump, or "
    "convert it with skl2onnx; PyTorch: torch.export.save or torch.onnx.export; others: export to ONNX"
)
_TORCH = (
    "a PyTorch file holds pickles: save the model with torch.export.save(torch.export.export(model, args), "
    "'model.pt2'), or export it with torch.onnx.export(model, args, 'model.onnx', dynamo=True)"
)
_CONVERT = "`modelport convert FILE --to onnx --name NAME` makes it one that is served"
_KERAS = f"a Keras file can hold code, so it is not run as it is: {_CONVERT}"
_UNPACK = "unpack it and push the folder"

#: Offset, magic bytes, what the file is, what to do.
_MAGICS: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself", "run 'git lfs pull' and push again"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras .h5)", _KERAS),
    (0, b"\x93NUMPY", "a numpy array", "it is data, not a model"),
    (4, b"ORTM", "a model in ONNX Runtime's own format", "push the .onnx file that it was made from"),
    (4, b"ET12", "an ExecuTorch program", _EXPORT_ONNX),
    (0, b"CBM1", "a CatBoost model", "save it with model.save_model('model.onnx', format='onnx')"),
    (0, b"tree\nversion=", "a LightGBM model", _CONVERT),
    (0, b'{"learner":', "an XGBoost model", _CONVERT),
    (0, b"{L\x00\x00\x00\x00\x00\x00", "an XGBoost model", _CONVERT),
    (257, b"ustar", "a tar archive", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (0, b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (0, b"\x04\x22\x4d\x18", "an lz4 file (joblib writes such pickles)", _PICKLE),
    (0, b"\x28\xb5\x2f\xfd", "a zstd file", "decompress it first; pickles are refused in any wrapping"),
    (0, b"\x7fELF", "a program", _EXPORT_ONNX),
    (0, b"MZ", "a program", _EXPORT_ONNX),
    (0, b"%PDF", "a PDF document", _EXPORT_ONNX),
    (0, b"PAR1", "a Parquet file", "it is data, not a model"),
)
#: Magic bytes of compressed files, their name, and what makes a decompressor.
_WRAPPINGS: tuple[tuple[bytes, str, Callable[[], object]], ...] = (
    (b"\x1f\x8b", "gzip", lambda: zlib.decompressobj(zlib.MAX_WBITS | 16)),
    (b"\x78\x01", "zlib", zlib.decompressobj),
    (b"\x78\x5e", "zlib", zlib.decompressobj),
    (b"\x78\x9c", "zlib", zlib.decompressobj),
    (b"\x78\xda", "zlib", zlib.decompressobj),
    (b"\xfd7zXZ\x00", "xz", lambda: lzma.LZMADecompressor(memlimit=256 << 20)),
    (b"\x5d\x00\x00", "lzma", lambda: lzma.LZMADecompressor(memlimit=256 << 20)),
    (b"BZh", "bzip2", bz2.BZ2Decompressor),
)


def advice(folder: Path, files: tuple[str, ...]) -> str:
    """One line on why nothing in the folder can be served, and the next step."""
    known = "what is served: an ONNX model (with its external data), or a scikit-learn model saved with skops"
    if "saved_model.pb" in files:
        return f"this is a TensorFlow SavedModel: {_CONVERT}"
    for name in files:
        found = _what_is(folder / name)
        if found is not None:
            what, next_step = found
            return f"{name[:120]!r} is {what}: {next_step}"
    shown = ", ".join(repr(name[:80]) for name in files[:3]) + (" …" if len(files) > 3 else "")
    return f"{shown}: the format is not known; {known}"


def _what_is(path: Path) -> tuple[str, str] | None:
    with path.open("rb") as file:
        head = file.read(_PEEK)
    if not head:
        return "empty", "write or copy it again"
    for wrapping, name, decompressor in _WRAPPINGS:
        if head.startswith(wrapping):
            return _what_is_inside(head, name, decompressor)
    if head.startswith(b"PK\x03\x04") or head.startswith(b"PK\x05\x06"):
        return _what_is_zip(path)
    return _what_are(head)


def _what_are(head: bytes) -> tuple[str, str] | None:
    for offset, magic, what, next_step in _MAGICS:
        if head.startswith(magic, offset):
            return what, next_step
    start = head[:512].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "an HTML page", "the download of the model failed: fetch it again"
    if start.startswith(b"<?xml") or start.startswith(b"<net"):
        return "an XML document (PMML or OpenVINO)", _EXPORT_ONNX
    if head[8:9] == b"{" and 0 < int.from_bytes(head[:8], "little") < 100 << 20:
        return "a safetensors file: weights without the computation", _EXPORT_ONNX
    if is_pickle(head):
        return "a pickle (also joblib, cloudpickle, dill, .pt, .pkl)", _PICKLE
    return None


def _what_is_inside(head: bytes, wrapping: str, decompressor: Callable[[], object]) -> tuple[str, str]:
    inside = b""
    with contextlib.suppress(zlib.error, lzma.LZMAError, OSError, EOFError, ValueError):
        inside = decompressor().decompress(head, _PEEK)  # type: ignore[attr-defined]
    found = _what_are(inside) if inside else None
    if found is not None:
        return f"a {wrapping} file with {found[0]} in it", found[1]
    return f"a {wrapping} file", "decompress it and push what is inside"


def _what_is_zip(path: Path) -> tuple[str, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()[:10_000]
            tails = {member.rsplit("/", 1)[-1] for member in members}
            if "data.pkl" in tails:
                return (
                    "a TorchScript archive" if "constants.pkl" in tails else "a PyTorch archive with a pickle"
                ), _TORCH
            if "model.weights.h5" in tails:
                return "a Keras archive", _KERAS
            if members and all(member.endswith(".npy") for member in members):
                return "a numpy archive (.npz)", "it is data, not a model"
            if any(_member_is_pickle(archive, member) for member in members[:1_000]):
                return "a zip archive with a pickle in it", _PICKLE
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, OSError):
        return "a damaged zip archive", "write or copy it again"
    return "a zip archive", _UNPACK


def _member_is_pickle(archive: zipfile.ZipFile, name: str) -> bool:
    try:
        with archive.open(name) as member:
            return is_pickle(member.read(_PEEK))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error, lzma.LZMAError, OSError, EOFError):
        return False


def is_pickle(head: bytes) -> bool:
    """Whether bytes are the start of a pickle of any protocol: its opcodes are walked, nothing is run."""
    opcodes: list[str] = []
    truncated = False
    try:
        for opcode, _, _ in pickletools.genops(io.BytesIO(head)):
            opcodes.append(opcode.name)
            if len(opcodes) >= _MOST_OPCODES:
                break
    except (ValueError, UnicodeDecodeError, IndexError, OverflowError):
        truncated = True
    if opcodes[:1] == ["PROTO"]:
        return len(opcodes) > 1 and head[1] <= 5
    acting = {"GLOBAL", "STACK_GLOBAL", "INST", "REDUCE", "BUILD", "OBJ", "PUT", "BINPUT", "MEMOIZE"}
    ended = not truncated and opcodes[-1:] == ["STOP"]
    return (ended or len(opcodes) > 50) and not acting.isdisjoint(opcodes)
