"""Tells what a file or folder is that can be converted although nothing here serves it, by its content alone.

Nothing is loaded: heads of files, members of a zip archive, keys of JSON. What a served format is, the registry says.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

from modelport.engine.formats.huggingface_folder import model_folder, read_recipe
from modelport.engine.formats.litert_file import find_litert
from modelport.engine.formats.onnx_wire import likeness
from modelport.engine.formats.openvino_file import find_openvino
from modelport.engine.formats.skops_zip import find_skops
from modelport.engine.formats.torch_archive import find_archives
from modelport.errors import ArtifactRefused, InvalidInput

_HDF5 = b"\x89HDF\r\n\x1a\n"
_HEAD = 4096
_LARGEST_JSON = 1 << 30
_NEEDED = {".safetensors": "model", "tokenizer.json": "tokenizer"}
"""How the names of a language model's files end, and what saves them."""
#: What a converter calls the source, and people.
NAMES = {
    "keras": "a Keras model", "saved_model": "a TensorFlow SavedModel", "paddle": "a PaddlePaddle model",
    "xgboost": "an XGBoost model", "lightgbm": "a LightGBM model",
    "image_classifier": "a Hugging Face image classifier", "language": "a Hugging Face language model",
}  # fmt: skip


def recognise(folder: Path, files: Sequence[str]) -> tuple[str, str] | None:
    """The source's name, and the file (or the folder, relative) that holds it; None for anything else."""
    for name in files:
        if name.rpartition("/")[2] == "saved_model.pb":
            return "saved_model", name.rpartition("/")[0]
    if (found := _paddle(folder, files)) is not None:
        return "paddle", found
    if (found := _image_classifier(folder, files)) is not None:
        return "image_classifier", found
    if (found := _language(folder, files)) is not None:
        return "language", found
    for name in files:
        if (kind := _kind(folder / name)) is not None:
            return kind, name
    return None


def served_format(folder: Path, files: tuple[str, ...]) -> str | None:
    """The registry's name of what is served here as it is, by first signs; whether it is sound, inspection says."""
    if model_folder(folder, files) is not None:
        return "huggingface"
    if any(likeness(folder / name) != "other" for name in files):
        return "onnx"
    signs = {
        "sklearn": find_skops, "torch_export": find_archives, "litert": find_litert, "openvino": find_openvino,
    }  # fmt: skip
    return next((name for name, find in signs.items() if find(folder, files)), None)


def check_whole(kind: str, files: Sequence[str]) -> None:
    """Raise InvalidInput for what a source surely lacks, before anything is done."""
    for ending, saver in _NEEDED.items() if kind == "language" else ():
        if not any(name.endswith(ending) for name in files):
            raise InvalidInput(f"the folder has no {ending.strip('.')}: add it with {saver}.save_pretrained(folder)")


def check_task(folder: Path, files: tuple[str, ...]) -> None:
    """Raise InvalidInput for a Hugging Face folder of a task that nothing is converted of; ArtifactRefused for code."""
    recipe = read_recipe(folder, files)
    if recipe.task in ("translate", "other"):
        title = str((recipe.config.get("architectures") or ["unknown"])[0])[:100]
        raise InvalidInput(
            f"the model is a {title}: of Hugging Face folders encoders, classifiers and models that go on with a text "
            "(ForCausalLM) are converted"
        )


def _paddle(folder: Path, files: Sequence[str]) -> str | None:
    """The program: ``NAME.json`` (PaddlePaddle 3) or ``NAME.pdmodel``, with ``NAME.pdiparams`` beside it."""
    for name in files:
        stem = name.removesuffix(".pdiparams")
        if stem == name:
            continue
        for ending in (".json", ".pdmodel"):
            if stem + ending in files:
                return stem + ending
    return None


def _image_classifier(folder: Path, files: Sequence[str]) -> str | None:
    """The folder's place, empty or ending with a slash, where an image classifier's configuration is."""
    if not {"config.json", "preprocessor_config.json"} <= set(files):
        return None
    try:
        config = json.loads((folder / "config.json").read_bytes()[: 64 << 20])
        architecture = str((config.get("architectures") or [""])[0])
    except (ValueError, AttributeError, TypeError, IndexError, RecursionError):
        return None
    return "" if architecture.endswith("ForImageClassification") else None


def _language(folder: Path, files: Sequence[str]) -> str | None:
    """The folder's place where a model that writes is configured."""
    place = model_folder(folder, tuple(files))
    if place is None:
        return None
    try:
        return place if read_recipe(folder, tuple(files)).task == "generate" else None
    except ArtifactRefused:
        return None  # the way of the registry tells why


def _kind(path: Path) -> str | None:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith(_HDF5):
        return "keras"
    if head.startswith(b"PK\x03\x04"):
        return "keras" if _is_keras(path) else None
    if head.startswith((b"tree\nversion=", b"tree\r\nversion=")):
        return "lightgbm"
    if _is_xgboost(head):
        return "xgboost"
    return None


def _is_keras(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return {"config.json", "model.weights.h5"} <= set(archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        return False


def _is_xgboost(head: bytes) -> bool:
    """XGBoost's JSON or UBJSON: an object whose first key is ``learner`` or ``version``, with a learner in sight."""
    start = head.lstrip()
    if start.startswith(b"{L"):
        return b"learner" in head[:64]
    return (
        start.startswith(b"{") and start[1:64].lstrip().startswith((b'"learner"', b'"version"')) and b'"learner' in head
    )
