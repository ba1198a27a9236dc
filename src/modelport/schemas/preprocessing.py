"""Preprocessing that a version declares: how what callers have (an image file, a text) becomes the model's tensors."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

TensorName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Side = Annotated[int, Field(ge=1, le=8192)]
Sides = Side | tuple[Side, Side]
Level = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
Levels = Level | tuple[Level, Level, Level]
Divisor = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]


def _fraction(value: Any) -> Any:
    """``"1/255"`` as a number; anything else as it is."""
    if isinstance(value, str) and value.count("/") == 1:
        above, _, below = value.partition("/")
        try:
            return float(above) / float(below)
        except (ValueError, ZeroDivisionError):
            return value
    return value


class ImageStep(BaseModel):
    """PNG, JPEG or WebP files (or base64 of them) to one input: decode, turn, resize, crop, scale, arrange."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["image"]
    input: TensorName
    """The model's input that gets the pixels: ``[rows, …]`` of a number type."""
    name: TensorName = "image"
    """What callers call it."""
    size: Sides | None = None
    """Pixels to resize to: one number for a square (or for the shorter side), or ``[height, width]``."""
    resize: Literal["exact", "shorter", "letterbox", "none"] | None = None
    """``exact`` ignores the aspect ratio, ``shorter`` makes the shorter side ``size``, ``letterbox`` fits the image
    into ``size`` and fills the rest. By default ``exact``, or ``none`` where no size is known."""
    crop: Sides | None = None
    """Middle part that is kept after resizing: one number, or ``[height, width]``."""
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    antialias: bool = True
    """Pillow's and torchvision's way of making an image smaller; false (bilinear alone) samples it as OpenCV does."""
    fill: Annotated[int, Field(ge=0, le=255)] = 0
    """Grey level around a letterboxed image."""
    channels: Literal["RGB", "BGR", "L"] = "RGB"
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    """An input with fewer than 4 dimensions gets each image's values in this order, in one row."""
    scale: Annotated[Level, BeforeValidator(_fraction)] = 1.0
    """A value is ``(pixel * scale - mean) / std``, with pixels from 0 to 255; ``1/255`` may be written so."""
    mean: Levels = 0.0
    """One number, or one for each channel in the order of ``channels``."""
    std: Divisor | tuple[Divisor, Divisor, Divisor] = 1.0
    max_pixels: Annotated[int, Field(ge=1, le=1_000_000_000)] = 50_000_000
    """A larger image is refused before it is decoded."""


class TextStep(BaseModel):
    """Texts to token ids, with the tokenizer that lies among the version's files."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["text"]
    name: TensorName = "text"
    """What callers call it."""
    tokenizer: Annotated[str, Field(min_length=1, max_length=500)] = "tokenizer.json"
    """Path of the file inside the version, in the form of Hugging Face's ``tokenizers``."""
    ids: TensorName = "input_ids"
    """The model's input that gets the token ids, ``[rows, tokens]``."""
    mask: TensorName | None = None
    """The input that gets 1 for a token and 0 for padding; by default ``attention_mask`` where the model has it."""
    types: TensorName | None = None
    """The input that gets the segment ids; by default ``token_type_ids`` where the model has it."""
    max_length: Annotated[int, Field(ge=1, le=65_536)] = 512
    """Tokens that are kept of a text."""


Step = Annotated[ImageStep | TextStep, Field(discriminator="kind")]
Preprocessing = Annotated[list[Step], Field(max_length=16)]
