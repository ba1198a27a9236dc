"""Builders of hostile and mistaken artifacts: each writes into a folder, and says what the refusal has to name.

Those that would run code when loaded carelessly would create ``PROOF``.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import pickle
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests import onnx_models

PROOF = Path(tempfile.gettempdir()) / f"modelport-artifact-ran-code-{os.getpid()}"
Build = Callable[[Path], object]


@dataclass(frozen=True)
class Row:
    """One artifact, and a part of the message that refuses it."""

    name: str
    build: Build
    expected: str
    needs: Callable[[], bool] | None = None


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {PROOF}",)


def _write(name: str, content: bytes) -> Build:
    return lambda folder: (folder / name).write_bytes(content)


def _pickle(protocol: int = 4) -> bytes:
    return pickle.dumps(_Evil(), protocol)


def _zip(members: dict[str, bytes], **options: Any) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def _npy_objects() -> bytes:
    file = BytesIO()
    np.save(file, np.array([_Evil()], object))
    return file.getvalue()


# Pickles in every dress, and other formats that are not served

_PICKLES = [
    *(Row(f"pickle-protocol-{n}", _write("model.pkl", _pickle(n)), "pickle") for n in range(6)),
    *(
        Row(f"pickle-called-{name}", _write(name, _pickle()), "pickle")
        for name in ("model.onnx", "model.joblib", "model.skops", "model", "weights.bin", "model.json")
    ),
    Row("pickle-in-gzip", _write("model.pkl.gz", gzip.compress(_pickle())), "pickle"),
    Row("pickle-in-zlib", _write("model.joblib", zlib.compress(_pickle())), "pickle"),
    Row("pickle-in-xz", _write("model.joblib", lzma.compress(_pickle())), "pickle"),
    Row("pickle-in-lzma", _write("m.joblib", lzma.compress(_pickle(), lzma.FORMAT_ALONE)), "pickle"),
    Row("pickle-in-bzip2", _write("model.joblib", bz2.compress(_pickle())), "pickle"),
    Row("pickle-in-lz4", _write("model.joblib", b"\x04\x22\x4d\x18" + _pickle()), "pickle"),
    Row("pickle-in-zip", _write("model.zip", _zip({"deep/model.bin": _pickle()})), "pickle"),
    Row(
        "torch",
        _write("model.pt", _zip({"archive/data.pkl": _pickle(2), "archive/version": b"3"})),
        "torch.onnx.export",
    ),
    Row("torchscript", _write("m.pt", _zip({"m/data.pkl": _pickle(2), "m/constants.pkl": _pickle(2)})), "TorchScript"),
    Row(
        "torch-before-1.6", _write("model.pth", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."), "pickle"
    ),
    Row(
        "torch-export",
        _write("model.pt2", _zip({"m/archive_format": b"pt2", "m/models/m.json": b"{}"})),
        "torch",
    ),
    Row(
        "numpy-of-objects",
        _write("model.npy", _npy_objects()),
        "numpy array",
    ),
]
_OTHERS = [
    Row("empty-folder", lambda folder: None, "empty"),
    Row("empty-file", _write("model.onnx", b""), "empty"),
    Row("keras-h5", _write("model.h5", b"\x89HDF\r\n\x1a\n" + bytes(100)), "Keras"),
    Row("keras", _write("model.keras", _zip({"config.json": b"{}", "model.weights.h5": b"x"})), "Keras"),
    Row("saved-model", _write("saved_model.pb", b"\x08\x01\x12\x02\x0a\x00"), "SavedModel"),
    Row(
        "litert-damaged",
        _write("model.onnx", b"\x1c\0\0\0TFL3" + bytes(64)),
        "LiteRT",
        needs=lambda: find_spec("ai_edge_litert") is not None,
    ),
    Row("safetensors", _write("model.safetensors", struct.pack("<Q", 2) + b"{}"), "safetensors"),
    Row("git-lfs", _write("model.onnx", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "git lfs pull"),
    Row("html", _write("model.onnx", b"<!DOCTYPE html><html><body>Not found</body></html>"), "HTML"),
    Row("text", _write("model.onnx", b"this is my model, please serve it"), "not known"),
    Row("zeros", _write("model.onnx", bytes(4096)), "not known"),
    Row("noise", _write("model.onnx", np.random.default_rng(0).bytes(4096)), "not known"),
    Row("tar", _write("model.tar", bytes(257) + b"ustar\x0000" + bytes(300)), "unpack"),
    Row("zip", _write("model.zip", _zip({"model.onnx": onnx_models.mlp()})), "unpack"),
    Row("zip-damaged", _write("model.zip", _zip({"model.onnx": onnx_models.mlp()})[:-30]), "damaged zip"),
    Row("gzip-bomb", _write("model.onnx", gzip.compress(bytes(200 << 20))), "gzip"),
    Row("elf", _write("model.onnx", b"\x7fELF" + bytes(64)), "program"),
]


# What is not a plain file


def _link(folder: Path) -> None:
    (folder / "model.onnx").symlink_to("/etc/passwd")


def _link_chain(folder: Path) -> None:
    onnx_models.with_external_data(folder)
    (folder / "weights.bin").rename(folder / "real.bin")
    (folder / "weights.bin").symlink_to("real.bin")


def _linked_folder(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(onnx_models.mlp())
    (folder / "data").symlink_to("/etc")


def _device(folder: Path) -> None:
    os.mknod(folder / "model.onnx", stat.S_IFCHR | 0o666, os.makedev(1, 5))


def _deep(folder: Path) -> None:
    (folder / "/".join("d" * 40)).mkdir(parents=True)


def _hard_link_to_less(folder: Path) -> None:
    """What ONNX Runtime would have read past the end of."""
    onnx_models.with_external_data(folder)
    (folder / "weights.bin").unlink()
    (folder / "other").write_bytes(b"short")
    os.link(folder / "other", folder / "weights.bin")


_FILES = [
    Row("symlink", _link, "symbolic link"),
    Row("symlink-to-data", _link_chain, "symbolic link"),
    Row("symlink-to-folder", _linked_folder, "symbolic link"),
    Row("named-pipe", lambda folder: os.mkfifo(folder / "model.onnx"), "named pipe"),
    Row("device", _device, "device", needs=lambda: os.geteuid() == 0 and _may_make_devices()),
    Row("nested-folders", _deep, "nested too deeply"),
    Row("newline-in-name", _write("model\n.onnx", onnx_models.mlp()), "file name"),
    Row("hard-link-to-less", _hard_link_to_less, "which has 5"),
    Row("two-models", lambda folder: [(folder / n).write_bytes(onnx_models.mlp()) for n in "ab"], "2 ONNX models"),
]


def _may_make_devices() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        try:
            _device(Path(folder))
        except OSError:
            return False
    return True


# ONNX: external data


def _external(**entries: str | None) -> Build:
    """A model with external data whose first tensor's entries are changed, or removed when None."""

    def build(folder: Path) -> None:
        path = onnx_models.with_external_data(folder)
        model = onnx.load(path, load_external_data=False)
        tensor = model.graph.initializer[0]
        found = {pair.key: pair.value for pair in tensor.external_data} | entries
        del tensor.external_data[:]
        for key, value in found.items():
            if value is not None:
                tensor.external_data.add(key=key, value=value)
        path.write_bytes(model.SerializeToString())

    return build


def _external_without_file(folder: Path) -> None:
    onnx_models.with_external_data(folder)
    (folder / "weights.bin").unlink()


def _external_wrong_dims(folder: Path) -> None:
    path = onnx_models.with_external_data(folder)
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].dims[:] = [1 << 20, 1 << 20]
    path.write_bytes(model.SerializeToString())


_EXTERNAL = [
    Row("external-parent", _external(location="../../../etc/passwd"), "leaves the folder"),
    Row("external-parent-inside", _external(location="a/../../weights.bin"), "leaves the folder"),
    Row("external-absolute", _external(location="/etc/passwd"), "leaves the folder"),
    Row("external-encoded", _external(location="%2e%2e/%2e%2e/etc/passwd"), "missing"),
    Row("external-backslash", _external(location="..\\weights.bin"), "no file name"),
    Row("external-drive", _external(location="C:/weights.bin"), "no file name"),
    Row("external-nul", _external(location="weights.bin\0.txt"), "no file name"),
    Row("external-url", _external(location="file:///etc/passwd"), "no file name"),
    Row("external-memory-address", _external(location="*/_ORT_MEM_ADDR_/*", offset="4096"), "missing"),
    Row("external-empty", _external(location=""), "no file name"),
    Row("external-no-location", _external(location=None), "no file name"),
    Row("external-itself", _external(location="model.onnx"), "itself"),
    Row("external-missing", _external_without_file, "weights.bin"),
    Row("external-negative-offset", _external(offset="-1"), "offset"),
    Row("external-huge-offset", _external(offset=str(1 << 70)), "offset"),
    Row("external-offset-beyond", _external(offset="999999999"), "which has"),
    Row("external-negative-length", _external(length="-8"), "length"),
    Row("external-huge-length", _external(length=str((1 << 63) - 1)), "length"),
    Row("external-short-length", _external(length="4"), "length says 4"),
    Row("external-text-length", _external(length="many"), "length"),
    Row("external-wrong-dims", _external_wrong_dims, "length"),
]


# ONNX: the model itself


def _model(change: Callable[[onnx.ModelProto], object]) -> Build:
    def build(folder: Path) -> None:
        model = onnx.load_model_from_string(onnx_models.mlp())
        change(model)
        (folder / "model.onnx").write_bytes(model.SerializeToString())

    return build


def _set(field: str, value: Any) -> Callable[[onnx.ModelProto], object]:
    return lambda model: setattr(model, field, value)


def _dims(*dims: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].dims[:] = dims

    return change


def _nested(depth: int) -> bytes:
    """A graph inside an attribute inside a node inside a graph…, ``depth`` times."""

    def field(number: int, content: bytes) -> bytes:
        length, out = len(content), bytearray([number << 3 | 2])
        while length > 0x7F:
            out.append(length & 0x7F | 0x80)
            length >>= 7
        return bytes(out) + bytes([length]) + content

    graph = b""
    for _ in range(depth):
        graph = field(1, field(5, field(6, graph)))
    return b"\x08\x0a" + field(8, b"\x10\x15") + field(7, graph)


def _node(op_type: str, domain: str = "", **attributes: Any) -> Build:
    node = helper.make_node(op_type, ["input"], ["output"], domain=domain, **attributes)
    model = onnx_models.model(
        [node],
        [onnx_models.value("input", "FP32", (-1,))],
        [onnx_models.value("output", "FP32", (-1,))],
        domains=[domain] if domain else [],
    )
    return _write("model.onnx", model.SerializeToString())


def _edge(change: Callable[[onnx.GraphProto], object]) -> Build:
    return _model(lambda model: change(model.graph))


def _recursive(folder: Path) -> None:
    call = helper.make_node("Again", ["x"], ["y"], domain="own")
    again = helper.make_function("own", "Again", ["x"], ["y"], [call], [helper.make_opsetid("own", 1)])
    model = onnx_models.model(
        [helper.make_node("Again", ["input"], ["output"], domain="own")],
        [onnx_models.value("input", "FP32", (-1,))],
        [onnx_models.value("output", "FP32", (-1,))],
        domains=["own"],
    )
    model.functions.append(again)
    (folder / "model.onnx").write_bytes(model.SerializeToString())


def _sequence(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_sequence_value_info(name, TensorProto.FLOAT, None)


_ONNX = [
    Row("onnx-truncated", _write("model.onnx", onnx_models.mlp()[:-50]), "truncated"),
    Row("onnx-damaged", _write("model.onnx", onnx_models.mlp().replace(b"Gemm", b"\xff\xff\xff\xff")), ""),
    Row("onnx-nested-10000", _write("model.onnx", _nested(10_000)), "nested too deeply"),
    Row("onnx-ir-version", _model(_set("ir_version", 99)), "ir_version"),
    Row("onnx-opset", _model(lambda m: setattr(m.opset_import[0], "version", 999)), "opset"),
    Row("onnx-unknown-operator", _node("Frobnicate"), "Frobnicate"),
    Row("onnx-custom-domain", _node("Magic", "com.example"), "'com.example'"),
    Row("onnx-python-operator", _node("PythonOp", "com.microsoft", pickled="x"), "PythonOp"),
    Row("onnx-recursive-function", _recursive, ""),
    Row("onnx-negative-dims", _model(_dims(-4, -8)), "impossible dimensions"),
    Row("onnx-huge-dims", _model(_dims(1 << 62, 1 << 62)), "impossible dimensions"),
    Row("onnx-lying-dims", _model(_dims(400, 800)), "bytes and holds"),
    Row(
        "onnx-negative-input", _edge(lambda g: setattr(g.input[0].type.tensor_type.shape.dim[1], "dim_value", -5)), "-5"
    ),
    Row("onnx-duplicate-input", _edge(lambda g: g.input.append(g.input[0])), "input"),
    Row("onnx-duplicate-output", _edge(lambda g: g.output.append(g.output[0])), "output"),
    Row("onnx-no-output", _edge(lambda g: g.ClearField("output")), "output"),
    Row(
        "onnx-input-without-rank",
        _edge(lambda g: g.input[0].type.tensor_type.ClearField("shape")),
        "number of dimensions",
    ),
    Row("onnx-control-characters", _edge(lambda g: g.output[0].__setattr__("name", "a\nb")), ""),
    Row("onnx-sequence-input", _edge(lambda g: g.input.append(_sequence("more"))), "sequence"),
    Row("onnx-complex-input", _edge(lambda g: setattr(g.input[0].type.tensor_type, "elem_type", 14)), "COMPLEX64"),
    Row("onnx-missing-tensor", _edge(lambda g: g.ClearField("initializer")), "w0"),
]


# skops


def _skops(estimator: Any = None) -> bytes:
    import skops.io
    from sklearn.linear_model import LinearRegression

    return skops.io.dumps(estimator or LinearRegression().fit([[0.0], [1.0]], [0, 1]))


def _skops_with(change: Callable[[dict[str, bytes]], dict[str, bytes] | None]) -> Build:
    """A skops file whose members are changed, or replaced by those returned."""

    def build(folder: Path) -> None:
        with zipfile.ZipFile(BytesIO(_skops())) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        members = change(members) or members
        (folder / "model.skops").write_bytes(_zip(members))

    return build


def _schema(**changes: Any) -> Build:
    def change(members: dict[str, bytes]) -> None:
        members["schema.json"] = json.dumps(json.loads(members["schema.json"]) | changes).encode()

    return _skops_with(change)


def _skops_object(thing: Callable[[], Any]) -> Build:
    return lambda folder: (folder / "model.skops").write_bytes(_skops(thing()))


def _untrusted() -> Any:
    from sklearn.preprocessing import FunctionTransformer

    return FunctionTransformer(os.system)


def _unfitted() -> Any:
    from sklearn.linear_model import LinearRegression

    return LinearRegression()


def _skops_raw(change: Callable[[bytearray], object]) -> Build:
    def build(folder: Path) -> None:
        raw = bytearray(_skops())
        change(raw)
        (folder / "model.skops").write_bytes(raw)

    return build


def _patch_directory(offset: int, value: bytes) -> Callable[[bytearray], None]:
    """Change the first entry of a zip's central directory."""

    def change(raw: bytearray) -> None:
        at = raw.find(b"PK\x01\x02") + offset
        raw[at : at + len(value)] = value

    return change


def _flip_content(raw: bytearray) -> None:
    at = raw.find(b"\x93NUMPY") + 100
    raw[at] ^= 0xFF


def _zip_member(name: str, mode: int = 0) -> Build:
    def build(folder: Path) -> None:
        file = BytesIO(_skops())
        with zipfile.ZipFile(file, "a") as archive:
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            archive.writestr(member, "/etc/passwd")
        (folder / "model.skops").write_bytes(file.getvalue())

    return build


def _nul_in_name(folder: Path) -> None:
    _zip_member("a~b")(folder)
    path = folder / "model.skops"
    path.write_bytes(path.read_bytes().replace(b"a~b", b"a\0b"))


def _zip_bomb(folder: Path) -> None:
    members = {"schema.json": b"{}", "bomb.npy": bytes(300 << 20)}
    (folder / "model.skops").write_bytes(_zip(members, compression=zipfile.ZIP_DEFLATED))


_SYSTEM = {"__class__": "system", "__module__": "posix", "__loader__": "TypeNode", "content": {}}
_SKOPS = [
    Row("skops-untrusted", _skops_object(_untrusted), "MODELPORT_TRUST_SKLEARN_TYPES"),
    Row("skops-untrusted-named", _skops_object(_untrusted), "system"),
    Row("skops-unfitted", _skops_object(_unfitted), "not fitted"),
    Row("skops-not-an-estimator", _skops_object(lambda: {"a": 1}), "not a scikit-learn estimator"),
    Row("skops-lying-class", _schema(__class__="system", __module__="os"), "os.system"),
    Row("skops-lying-loader", _schema(__loader__="FunctionNode"), "skops"),
    Row("skops-unknown-loader", _schema(__loader__="NoSuchNode"), "damaged"),
    Row("skops-old-protocol", _schema(protocol=-1), "damaged"),
    Row("skops-reduce", _schema(content=_SYSTEM | {"__loader__": "ReduceNode"}), ""),
    Row(
        "skops-type-as-estimator",
        _skops_with(lambda m: {"schema.json": json.dumps(_SYSTEM | {"protocol": 2}).encode()}),
        "posix.system",
    ),
    Row("skops-schema-no-json", _skops_with(lambda m: {**m, "schema.json": b"{"}), "damaged"),
    Row("skops-schema-deep", _skops_with(lambda m: {**m, "schema.json": b"[" * 200_000}), "damaged"),
    Row("skops-schema-list", _skops_with(lambda m: {**m, "schema.json": b"[]"}), "damaged"),
    Row("skops-missing-array", _skops_with(lambda m: {"schema.json": m["schema.json"]}), "damaged"),
    Row(
        "skops-array-of-objects",
        _skops_with(lambda m: {k: _npy_objects() if k.endswith("npy") else v for k, v in m.items()}),
        "",
    ),
    Row("skops-slip", _zip_member("../../etc/cron.d/x"), "no plain name"),
    Row("skops-absolute", _zip_member("/etc/passwd"), "no plain name"),
    Row("skops-nul", _nul_in_name, "no plain name"),
    Row("skops-link", _zip_member("link", stat.S_IFLNK | 0o777), "a link"),
    Row("skops-twice", _zip_member("schema.json"), "two members"),
    Row("skops-bomb", _zip_bomb, "times its size"),
    Row("skops-checksum", _skops_raw(_flip_content), "damaged"),
    Row("skops-lying-size", _skops_raw(_patch_directory(24, struct.pack("<I", 1 << 30))), "skops file"),
    Row("skops-size-beyond", _skops_raw(_patch_directory(20, struct.pack("<II", 1 << 30, 1 << 30))), "leaves the file"),
    Row("skops-encrypted", _skops_raw(_patch_directory(8, b"\x01\x00")), "encrypted"),
    Row("skops-odd-compression", _skops_raw(_patch_directory(10, b"\x63\x00")), "unusual"),
    Row("skops-truncated", _skops_raw(lambda raw: raw.__delitem__(slice(-40, None))), "zip"),
]


ROWS: list[Row] = [*_PICKLES, *_OTHERS, *_FILES, *_EXTERNAL, *_ONNX, *_SKOPS]
