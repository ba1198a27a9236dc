"""A version as one signed zip for a phone, a browser or a gateway box: the model, its manifest, a runner, hashes.

The same version gives the same bytes, but for the key that signs. Knows the registry; knows no HTTP.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Iterator
from importlib import resources
from typing import IO

from modelport.control import audit
from modelport.control.actors import Actor
from modelport.control.registry import Registry
from modelport.control.versions import Ref
from modelport.errors import InvalidInput
from modelport.schemas.models import Manifest
from modelport.settings import Settings
from modelport.storage.database import Database
from modelport.storage.disk import told_of_disk
from modelport.storage.signing import SigningKey

SUMS, SIGNATURE, KEY = "SHA256SUMS", "SHA256SUMS.sig", "public.pem"
_RUNNERS = {"onnx": ("run_onnx.py", "numpy onnxruntime"), "litert": ("run_litert.py", "numpy ai-edge-litert")}
_LIBRARIES = {"text": "tokenizers", "image": "pillow"}
#: What only training, or the story of a version, has a use for.
_LEFT_OUT = ("training/", "conversion/")
_CHUNK = 1 << 20
_WHEN = (1980, 1, 1, 0, 0, 0)
_README = """{model}:{version} as one folder, made by Modelport.

Run it: pip install {libraries}
        python runner.py request.json    with {{"inputs": [{{"name", "datatype", "shape", "data"}}]}} in request.json

Check it: openssl pkeyutl -verify -pubin -inkey public.pem -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig
          sha256sum -c SHA256SUMS
The first says that whoever has the private key of public.pem wrote the list; compare public.pem with the one that your
server's operator gave you. The second says that the files are those of the list.
"""


def build(
    settings: Settings, database: Database, registry: Registry, actor: Actor, name: str, ref: Ref
) -> tuple[str, IO[bytes]]:
    """The file's name, and the whole zip, open at its beginning; raises NotFound, InvalidInput for other formats."""
    shown = registry.version(actor, name, ref)
    manifest = shown.manifest
    if manifest.format not in _RUNNERS:
        raise InvalidInput(
            f"{name}:{shown.version} is {manifest.format}, and a bundle holds ONNX or LiteRT; convert it first: "
            f"modelport convert {name}:{shown.version} --to onnx"
        )
    key = SigningKey(settings.home)
    (settings.home / "cache").mkdir(exist_ok=True)
    file = tempfile.TemporaryFile(dir=settings.home / "cache")  # noqa: SIM115  (the caller reads it)
    try:
        with told_of_disk(), zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            sums = [f"{digest}  {path}\n" for path, digest in _contents(archive, registry, actor, manifest)]
            listed = "".join(sorted(sums, key=lambda line: line[66:])).encode()
            for path, content in ((SUMS, listed), (SIGNATURE, key.sign(listed)), (KEY, key.public_pem)):
                _add(archive, path, iter([content]))
        with database.session() as session:
            audit.record(session, actor, "version.bundle", f"{name}:{shown.version}", {"digest": manifest.digest})
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return f"{name}-{shown.version}.zip", file


def read(file: IO[bytes]) -> Iterator[bytes]:
    """Its chunks; it is closed behind the last one."""
    with file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _contents(
    archive: zipfile.ZipFile, registry: Registry, actor: Actor, manifest: Manifest
) -> Iterator[tuple[str, str]]:
    """Add every file; its path and SHA-256."""
    for entry in manifest.files:
        if not entry.path.startswith(_LEFT_OUT):
            yield entry.path, _add(archive, entry.path, registry.iterate_file(actor, entry))
    runner, libraries = _RUNNERS[manifest.format]
    more = sorted({_LIBRARIES[step.kind] for step in manifest.preprocessing})
    edge = resources.files("modelport.conversion.edge")
    texts = {
        "manifest.json": json.dumps(json.loads(manifest.model_dump_json()), indent=1),
        "runner.py": (edge / runner).read_text(),
        "README.txt": _README.format(
            model=manifest.model, version=manifest.version, libraries=" ".join([libraries, *more])
        ),
    }  # fmt: skip
    if more:
        texts["preprocess.py"] = (edge / "preprocess.py").read_text()
    if manifest.format == "onnx":
        texts["index.html"] = (edge / "index.html").read_text()
    taken = {entry.path for entry in manifest.files}
    for path, text in texts.items():
        if path in taken:
            raise InvalidInput(
                f"the version has a file {path!r} of its own, which a bundle needs; push it under another name"
            )
        yield path, _add(archive, path, iter([text.encode()]))


def _add(archive: zipfile.ZipFile, path: str, chunks: Iterator[bytes]) -> str:
    about = zipfile.ZipInfo(path, _WHEN)
    about.compress_type, about.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
    digest = hashlib.sha256()
    with archive.open(about, "w", force_zip64=True) as out:
        for chunk in chunks:
            digest.update(chunk)
            out.write(chunk)
    return digest.hexdigest()
