"""Conversion: have the server make a version of another format, which is a job; bring one home as a signed bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from modelport.errors import Conflict, InvalidInput
from modelport.schemas.jobs import Job
from modelport.sdk.datasets import submitted
from modelport.sdk.files import Progress, ignore_progress
from modelport.sdk.flows import D_co, Flow, Operations, Request, operation, path_of, send
from modelport.sdk.jobs import JobWatch, ignore_job
from modelport.sdk.models import API, Ref
from modelport.sdk.training import sent


class Conversions(Operations[D_co]):
    """``client.conversions``."""

    @operation
    def convert(
        self,
        /,
        model: str | Path,
        to: str,
        *,
        wait: bool = True,
        upload_progress: Progress = ignore_progress,
        watch: JobWatch = ignore_job,
        **params: Any,
    ) -> Flow[Job]:
        """Make ``NAME[:VERSION|@ALIAS]``, or a file or folder of this machine, one of the format ``to``.

        A ``Path``, or a text that names something that is there and is no model's name, is sent to the server; say
        ``name`` then. ``params`` are further fields of ``ConvertParams`` (``data``, ``batch``, ``tolerance`` …), and
        ``cores``, ``memory_mb``, ``priority``, ``retries`` of the job. The result names the new version and tells how
        far its answers are from those before.
        """
        asked: dict[str, Any] = {"to": to, **params}
        local = local_path(model)
        if local is None:
            asked["model"] = str(model)
        else:
            asked["files"] = yield from sent([local], upload_progress)
            asked["name"] = asked.get("name") or local.resolve().stem
        return (yield from submitted("convert", asked, wait, watch))

    @operation
    def bundle(self, name: str, ref: Ref, file: str | Path) -> Flow[Path]:
        """Write a version (ONNX or LiteRT), with a runner, hashes and a signature, into ``file``, a new zip.

        Raises Conflict when the file is there already, InvalidInput for other formats.
        """
        target = Path(file).expanduser().absolute()
        if target.exists():
            raise Conflict(f"there is a file {str(file)!r} already; give another name, or move it away")
        where = API + path_of("models", name, "versions", ref, "bundle")
        beside = target.with_name(f".{target.name}.part")
        try:
            with WholeSink(beside) as sink:
                yield from send(Request("GET", where, sink=sink, timeout=600))
            beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)
        return target


class WholeSink:
    """An answer's body as a file, from the beginning at every attempt."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("w+b")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()

    def headers(self) -> dict[str, str]:
        return {}

    def start(self, status: int) -> None:
        self._stream.seek(0)
        self._stream.truncate()

    def write(self, chunk: bytes) -> None:
        self._stream.write(chunk)


def local_path(model: str | Path) -> Path | None:
    """The file or folder that is meant; None for a model of the registry. Raises InvalidInput when it is not there."""
    path = Path(model).expanduser()
    looks = isinstance(model, Path) or "/" in str(model) or str(model).endswith(_ENDINGS)
    if looks and not path.exists():
        raise InvalidInput(f"there is no file or folder {str(model)!r} on this machine; give one, or a model's name")
    return path if looks else None


_ENDINGS = (
    ".keras", ".h5", ".pt2", ".skops", ".onnx", ".json", ".ubj", ".txt", ".tflite", ".pdmodel", ".pb", ".zip", ".pkl",
    ".pt", ".joblib",
)  # fmt: skip
