"""Texts and image files to the model's own tensors, as manifest.json declares it. Needs tokenizers, or Pillow."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np


def prepared(feed: dict[str, Any], manifest: dict[str, Any], here: Path) -> dict[str, Any]:
    """The inputs with every declared step done."""
    tensors = dict(feed)
    own = {spec["name"]: spec for spec in manifest["model_signature"]["inputs"]}
    for step in manifest["preprocessing"]:
        rows = tensors.pop(step["name"]).reshape(-1).tolist()
        tensors |= texts(step, rows, own, here) if step["kind"] == "text" else images(step, rows, own)
    return tensors


def texts(step: dict[str, Any], rows: list[str], own: dict[str, Any], here: Path) -> dict[str, Any]:
    """Token ids, mask and segment ids [rows, tokens]."""
    from tokenizers import Tokenizer  # noqa: PLC0415

    tokenizer = Tokenizer.from_file(str(here / step["tokenizer"]))
    tokenizer.enable_truncation(step["max_length"])
    padding = tokenizer.padding or {"pad_id": tokenizer.token_to_id("[PAD]") or 0, "pad_token": "[PAD]"}
    kept = ("direction", "pad_id", "pad_type_id", "pad_token")
    tokenizer.enable_padding(**{key: padding[key] for key in kept if key in padding})
    found = tokenizer.encode_batch(rows)
    parts = {
        step["ids"]: "ids", step["mask"] or "attention_mask": "attention_mask",
        step["types"] or "token_type_ids": "type_ids",
    }  # fmt: skip
    return {
        name: np.array([getattr(row, part) for row in found], own[name]["datatype"].lower())
        for name, part in parts.items() if name in own
    }  # fmt: skip


def images(step: dict[str, Any], rows: list[str], own: dict[str, Any]) -> dict[str, Any]:
    """Pixels [rows, …] of image files in base64."""
    from PIL import Image, ImageOps  # noqa: PLC0415

    if step["resize"] == "letterbox" or step["crop"] is not None or not step["antialias"]:
        raise SystemExit(
            "preprocess.py does not know letterboxes, crops and sampling without antialias: add yours here"
        )
    spec = own[step["input"]]
    made = []
    for row in rows:
        picture = ImageOps.exif_transpose(Image.open(io.BytesIO(base64.b64decode(row))))
        picture = picture.convert("L" if step["channels"] == "L" else "RGB")
        height, width = size_of(step, spec, picture)
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling[step["interpolation"].upper()])
        pixels = np.asarray(picture, np.float32).reshape(height, width, -1)
        pixels = pixels[..., ::-1] if step["channels"] == "BGR" else pixels
        pixels = (pixels * step["scale"] - np.float32(step["mean"])) / np.float32(step["std"])
        made.append(pixels.transpose(2, 0, 1) if step["layout"] == "NCHW" else pixels)
    stacked = np.stack(made).astype({"FP16": "float16", "FP32": "float32"}.get(spec["datatype"], "uint8"))
    return {step["input"]: stacked.reshape(len(rows), *[dim if dim > 0 else -1 for dim in spec["shape"][1:]])}


def size_of(step: dict[str, Any], spec: dict[str, Any], picture: Any) -> tuple[int, int]:
    """Height and width that it is resized to."""
    size, shape = step["size"], spec["shape"]
    if size is None and len(shape) == 4:
        size = shape[2:] if step["layout"] == "NCHW" else shape[1:3]
    if size is None or step["resize"] == "none" or min(size if isinstance(size, list) else [size]) < 1:
        return picture.height, picture.width
    if isinstance(size, list):
        return size[0], size[1]
    if step["resize"] != "shorter":
        return size, size
    shorter = min(picture.size)
    return round(picture.height * size / shorter), round(picture.width * size / shorter)
