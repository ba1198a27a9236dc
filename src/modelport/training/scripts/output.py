"""What a script left: the files of a version, and ``modelport.json``, which tells what the files do not.

Everything in it is checked; it is taken away, since the version's manifest holds what it says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from modelport.errors import InvalidInput
from modelport.schemas.preprocessing import Preprocessing
from modelport.schemas.training import Task

TOLD = "modelport.json"
_LARGEST = 16 << 20
_EXPECTED = (
    "an ONNX, skops, torch.export or LiteRT file, a Hugging Face folder, or a Python predictor (predictor.py and "
    "modelport.yaml)"
)
_Text = Annotated[str, Field(max_length=1000)]


class Told(BaseModel):
    """``modelport.json``."""

    model_config = ConfigDict(extra="forbid")

    task: Task | None = None
    preprocessing: Preprocessing = []
    class_labels: Annotated[list[_Text], Field(max_length=100_000)] | None = None
    """Names of the classes, where the files do not hold them."""
    sample: dict[str, Any] | None = None
    """Example inputs, ``{"inputs": [V2 tensors]}``."""
    inputs: dict[str, list[str]] = {}
    """Columns by input of the model, where its names do not tell."""
    metrics: dict[
        Annotated[str, Field(min_length=1, max_length=100)], Annotated[float, Field(allow_inf_nan=False)]
    ] = {}
    warnings: Annotated[list[_Text], Field(max_length=1000)] = []


def take(out: Path) -> Told:
    """Check what lies there, and take ``modelport.json`` away; raises InvalidInput naming what is wrong."""
    entries = sorted(out.rglob("*"))
    for entry in entries:
        if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
            name = str(entry.relative_to(out))
            raise InvalidInput(f"MODELPORT_OUTPUT: {name[:200]!r} is a link or a device; write plain files there")
    told = _read(out / TOLD)
    (out / TOLD).unlink(missing_ok=True)
    if not any(entry.is_file() and entry != out / TOLD for entry in entries):
        raise InvalidInput(
            "the script ended well, but left no model in the folder MODELPORT_OUTPUT; it has to write there: "
            f"{_EXPECTED}"
        )
    return told


def _read(file: Path) -> Told:
    if not file.exists():
        return Told()
    if file.stat().st_size > _LARGEST:
        raise InvalidInput(f"{TOLD} is larger than {_LARGEST >> 20} MB")
    try:
        return Told.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part)[:100] for part in first["loc"])
        hint = f"; it takes {', '.join(Told.model_fields)}" if first["type"] == "extra_forbidden" else ""
        raise InvalidInput(f"{TOLD}{f': {where}' if where else ''}: {first['msg'][:300]}{hint}") from None
