"""Image files to pixels as a model wants them, row by row: decoded, turned upright, resized, cropped, scaled.

Knows one input's specification and the declared options (``schemas.preprocessing.ImageStep``); knows no runtime.
"""

from __future__ import annotations

import base64
import binascii
import importlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from modelport.engine.preprocessing.step import Step, find_input
from modelport.errors import InvalidInput, MissingExtra, ModelRejectedInput
from modelport.tensors import Array, Signature, TensorSpec, dtype_of

_FORMATS = ("PNG", "JPEG", "WEBP")
_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
_LARGEST_INPUT = 2 << 30
"""Bytes of the tensor that one request may become."""


class ImageInput(Step):
    """One input that is filled from image files."""

    def __init__(self, options: Mapping[str, Any], signature: Signature) -> None:
        self.name = options["name"]
        self._spec = spec = find_input(signature, options["input"], "input")
        self.fills = (spec.name,)
        self.rows = spec.shape[0] if spec.shape else -1
        self._options = options
        self._mode = "L" if options["channels"] == "L" else "RGB"
        self._depth = 1 if self._mode == "L" else 3
        self._size = _sides(options["size"])
        self._crop = _sides(options["crop"])
        self._channels_first = options["layout"] == "NCHW"
        self._scale = np.float32(options["scale"])
        self._mean, self._std = (np.asarray(options[key], np.float32) for key in ("mean", "std"))
        self._as_pixels = bool(self._scale == 1 and not self._mean.any() and (self._std == 1).all())
        self._resize = self._plan()
        self._row_shape = _fit(spec, self._depth, self._final_size(), self._channels_first)
        if spec.datatype in ("BYTES", "BOOL"):
            raise InvalidInput(
                f"preprocessing: input {spec.name!r} is {spec.datatype}, which holds no pixels: name another input"
            )
        if dtype_of(spec.datatype).kind in "iu" and not self._as_pixels:
            raise InvalidInput(f"preprocessing: input {spec.name!r} is {spec.datatype}: leave out scale, mean and std")
        if not options["antialias"] and options["interpolation"] != "bilinear":
            raise InvalidInput("preprocessing: antialias: false is for bilinear interpolation alone")
        if self._mode == "L" and (self._mean.ndim or self._std.ndim):
            raise InvalidInput("preprocessing: mean and std of one channel (L) are single numbers")

    def _plan(self) -> str:
        """How to resize; takes the size from the model's input where that is fixed and none was declared."""
        resize: str | None = self._options["resize"]
        if self._size is None and self._crop is None and resize in (None, "exact", "letterbox"):
            self._size = _fixed_size(self._spec, self._channels_first)
        if resize is None:
            return "none" if self._size is None else "exact"
        if resize != "none" and self._size is None:
            raise InvalidInput(f"preprocessing: resize {resize!r} needs a size: the model's input leaves it open")
        if resize == "shorter" and isinstance(self._options["size"], tuple | list):
            raise InvalidInput("preprocessing: resize 'shorter' takes one number as its size")
        return resize

    def _final_size(self) -> tuple[int, int] | None:
        """Height and width of every image, where they are fixed."""
        if self._crop is not None:
            if self._size is not None and any(c > s for c, s in zip(self._crop, self._size, strict=True)):
                raise InvalidInput(
                    f"preprocessing: crop {list(self._crop)} is larger than size {list(self._size)}: make size larger"
                )
            return self._crop
        return self._size if self._resize in ("exact", "letterbox") else None

    def open(self, folder: Path) -> None:
        """Load Pillow; raises MissingExtra."""
        try:
            self._image = _module("PIL.Image")
            self._turn = _module("PIL.ImageOps").exif_transpose
        except ModuleNotFoundError:
            raise MissingExtra("image", "preprocessing of images") from None
        self._image.MAX_IMAGE_PIXELS = None  # ours is the limit, and it is lower
        self._image.init()
        self._filter = self._image.Resampling[self._options["interpolation"].upper()]

    def apply(self, rows: list[bytes]) -> dict[str, Array]:
        """``[rows, …]`` of the input's data type; raises ModelRejectedInput naming the row."""
        dtype = dtype_of(self._spec.datatype)
        images: list[Array] = []
        size = 0
        for index, row in enumerate(rows):
            pixels = self._scaled(self._pixels(row, index)).astype(dtype, copy=False)
            if images and pixels.shape != images[0].shape:
                raise ModelRejectedInput(
                    f"input {self.name!r}: row {index} is an image of another size than row 0; send them one by one"
                )
            size += pixels.nbytes
            if size > _LARGEST_INPUT:
                raise ModelRejectedInput(
                    f"input {self.name!r}: {len(rows)} images are too many for one request; send fewer"
                )
            images.append(pixels)
        if not images:
            return {self._spec.name: np.empty((0, *(max(dim, 1) for dim in self._row_shape)), dtype)}
        shape = self._row_shape if -1 not in self._row_shape else images[0].shape
        return {self._spec.name: np.stack(images).reshape(len(images), *shape)}

    def _pixels(self, row: bytes, index: int) -> Array:
        """UINT8 [height, width, channels] of one row."""
        try:
            image = self._image.open(io.BytesIO(_file_of(row)), formats=_FORMATS)
            if image.width * image.height > self._options["max_pixels"]:
                raise ModelRejectedInput(
                    f"it has {image.width} × {image.height} pixels, which is over the limit; send a smaller one"
                )
            return self._arranged(self._turn(image))
        except MemoryError:
            raise
        except ModelRejectedInput as error:
            cause = error.message
        except Exception:  # Pillow's decoders raise many kinds for a damaged file
            cause = "it is not a PNG, JPEG or WebP image, or base64 of one, or it is damaged; send the file as it is"
        raise ModelRejectedInput(f"input {self.name!r}: row {index}: {cause}")

    def _arranged(self, image: Any) -> Array:
        if image.mode.startswith("I"):  # 16 bits a pixel
            image = self._image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        image = self._resized(image.convert(self._mode))
        if self._crop is not None:
            image = _middle(image, *self._crop)
        pixels = np.asarray(image).reshape(image.height, image.width, self._depth)
        return pixels[:, :, ::-1] if self._options["channels"] == "BGR" else pixels

    def _resized(self, image: Any) -> Any:
        if self._resize == "none" or self._size is None:
            return image
        height, width = self._size
        if self._resize == "exact":
            return self._to(image, width, height)
        if self._resize == "shorter":
            short = min(image.width, image.height)
            return self._to(image, int(width * image.width / short), int(width * image.height / short))
        ratio = min(width / image.width, height / image.height)
        inner = self._to(image, max(1, round(image.width * ratio)), max(1, round(image.height * ratio)))
        canvas = self._image.new(self._mode, (width, height), (self._options["fill"],) * self._depth)
        canvas.paste(inner, ((width - inner.width) // 2, (height - inner.height) // 2))
        return canvas

    def _to(self, image: Any, width: int, height: int) -> Any:
        if width * height > self._options["max_pixels"]:
            raise ModelRejectedInput(
                "its sides are too different: resized it has more pixels than the limit; crop it first"
            )
        if self._options["antialias"]:
            return image.resize((width, height), self._filter)
        steps = (image.width / width, 0, 0, 0, image.height / height, 0)
        return image.transform((width, height), self._image.Transform.AFFINE, steps, self._filter)

    def _scaled(self, pixels: Array) -> Array:
        if not self._as_pixels:
            pixels = (pixels.astype(np.float32) * self._scale - self._mean) / self._std
        return pixels.transpose(2, 0, 1) if self._channels_first else pixels

    def made_up(self, row: int, size: int) -> bytes:
        """A PNG of coloured noise; rows differ in size too."""
        height, width = self._size or self._crop or (size, size)
        pixels = np.random.default_rng(row).integers(0, 256, (height + row, width + 2 * row, 3), dtype=np.uint8)
        out = io.BytesIO()
        self._image.fromarray(pixels).save(out, "PNG")
        return out.getvalue()


def _module(name: str) -> Any:
    return importlib.import_module(name)


def _file_of(row: bytes) -> bytes:
    """The image file: the row itself, or what its base64 (perhaps as a data URL) holds."""
    if row.startswith(_MAGIC) or row[8:12] == b"WEBP":
        return row
    if row[:5] == b"data:":
        row = row.partition(b",")[2]
    try:
        return base64.b64decode(b"".join(row.split()), validate=True)
    except binascii.Error:
        return row


def _sides(declared: Any) -> tuple[int, int] | None:
    """Height and width."""
    if declared is None or not isinstance(declared, int):
        return None if declared is None else (declared[0], declared[1])
    return declared, declared


def _fixed_size(spec: TensorSpec, channels_first: bool) -> tuple[int, int] | None:
    """Height and width that the model's input asks for, when it names both."""
    if len(spec.shape) == 4:
        height, width = spec.shape[2:] if channels_first else spec.shape[1:3]
    elif len(spec.shape) == 3:
        height, width = spec.shape[1:]
    else:
        return None
    return (height, width) if height > 0 and width > 0 else None


def _fit(spec: TensorSpec, depth: int, size: tuple[int, int] | None, channels_first: bool) -> tuple[int, ...]:
    """The shape of one row of the input, -1 where it is the image's own; raises InvalidInput when pixels do not fit."""
    height, width = size or (-1, -1)
    made: tuple[int, ...] = (depth, height, width) if channels_first else (height, width, depth)
    want = spec.shape[1:]
    if len(want) == 2 and depth == 1:
        made = (height, width)
    elif len(want) == 1 and size is not None:
        made = (depth * height * width,)
    fits = len(made) == len(want) and all(w in (-1, m) or m == -1 for w, m in zip(want, made, strict=True))
    if not fits:
        raise InvalidInput(
            f"preprocessing: it makes rows of shape {list(made)}, the model's input {spec.name!r} takes {list(want)}; "
            "set size, crop, channels or layout"
        )
    return made


def _middle(image: Any, height: int, width: int) -> Any:
    if image.height < height or image.width < width:
        raise ModelRejectedInput(
            f"it has {image.width} × {image.height} pixels, fewer than the crop takes; send a larger one"
        )
    top, left = round((image.height - height) / 2), round((image.width - width) / 2)
    return image.crop((left, top, left + width, top + height))
