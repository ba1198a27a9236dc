"""Conversion: have the server make a version of another format. Converting is a job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelport.errors import InvalidInput
from modelport.schemas.jobs import Job
from modelport.sdk.datasets import submitted
from modelport.sdk.files import Progress, ignore_progress
from modelport.sdk.flows import D_co, Flow, Operations, operation
from modelport.sdk.jobs import JobWatch, ignore_job
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
        ``cores``, ``memory_mb``, ``priority``, ``retries`` of the job. The result names the new version and tells how far
        its answers are from those before.
        """
        asked: dict[str, Any] = {"to": to, **params}
        local = local_path(model)
        if local is None:
            asked["model"] = str(model)
        else:
            asked["files"] = yield from sent([local], upload_progress)
            asked["name"] = asked.get("name") or local.resolve().stem
        return (yield from submitted("convert", asked, wait, watch))


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
