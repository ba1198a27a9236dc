"""Image files to tensors, against Pillow and numpy themselves (and OpenCV where it is installed)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modelport.engine.preprocessing import outer_signature, steps_of
from modelport.engine.preprocessing.step import Step
from modelport.errors import InvalidInput, ModelRejectedInput
from modelport.schemas.preprocessing import ImageStep
from modelport.tensors import Signature, TensorSpec

RANDOM = np.random.default_rng(0)
PHOTO = RANDOM.integers(0, 256, (60, 90, 3), dtype=np.uint8)  # wide
DYNAMIC = (-1, 3, -1, -1)


def step(shape: tuple[int, ...] = DYNAMIC, datatype: str = "FP32", **options: Any) -> Step:
    signature = Signature((TensorSpec("x", datatype, shape),), (TensorSpec("y", "FP32", (-1, 2)),))
    declared = ImageStep.model_validate({"kind": "image", "input": "x"} | options).model_dump()
    (made,) = steps_of([declared], signature)
    assert outer_signature([made], signature).inputs == (TensorSpec("image", "BYTES", (shape[0],)),)
    made.open(Path())
    return made


def file(pixels: Any, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(out, kind, **options)
    return out.getvalue()


def one(made: Step, row: bytes) -> Any:
    return made.apply([row])["x"][0]


def test_without_options_the_pixels_are_the_pixels() -> None:
    assert np.array_equal(one(step(), file(PHOTO)), PHOTO.transpose(2, 0, 1).astype(np.float32))
    assert np.array_equal(one(step((-1, -1, -1, 3), "UINT8", layout="NHWC"), file(PHOTO)), PHOTO)
    assert np.array_equal(one(step(channels="BGR"), file(PHOTO)), PHOTO[:, :, ::-1].transpose(2, 0, 1))
    grey = np.asarray(Image.fromarray(PHOTO).convert("L"))
    assert np.array_equal(one(step((-1, 60, 90), "UINT8", channels="L"), file(PHOTO)), grey)
    assert np.array_equal(one(step((-1, 5400), channels="L", size=[60, 90]), file(PHOTO)), grey.reshape(-1))


def test_shorter_and_crop_are_what_torchvision_does() -> None:
    found = one(step(size=30, resize="shorter", crop=[24, 20]), file(PHOTO))
    resized = np.asarray(Image.fromarray(PHOTO).resize((45, 30), Image.Resampling.BILINEAR))
    top, left = round((30 - 24) / 2), round((45 - 20) / 2)
    assert np.array_equal(found, resized[top : top + 24, left : left + 20].transpose(2, 0, 1))


def test_letterbox_keeps_the_aspect_ratio() -> None:
    found = one(step((-1, 3, 32, 48), resize="letterbox", fill=114, interpolation="nearest"), file(PHOTO)[:])
    assert found.shape == (3, 32, 48)
    square = one(step(size=60, resize="letterbox", fill=114), file(PHOTO))
    assert (square[:, :10] == 114).all() and (square[:, 50:] == 114).all()
    assert np.array_equal(square[:, 10:50], one(step(size=[40, 60]), file(PHOTO)))


def test_scale_mean_and_std() -> None:
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    found = one(step(scale="1/255", mean=mean, std=std), file(PHOTO))
    assert np.allclose(found, ((PHOTO / 255 - mean) / std).transpose(2, 0, 1), atol=1e-6)
    assert found.dtype == np.float32
    assert one(step(datatype="FP16", scale="1/255"), file(PHOTO)).dtype == np.float16


@pytest.mark.parametrize("size", [(17, 23), (133, 151)])
def test_without_antialias_it_samples_as_opencv(size: tuple[int, int]) -> None:
    cv2 = pytest.importorskip("cv2")
    smooth = np.asarray(Image.fromarray(PHOTO[:12, :12]).resize((90, 60), Image.Resampling.BICUBIC))
    want = cv2.resize(smooth, size[::-1], interpolation=cv2.INTER_LINEAR).astype(int)
    found = one(step(size=list(size), antialias=False), file(smooth)).astype(int)
    assert np.abs(found - want.transpose(2, 0, 1)).max() <= 1


def test_an_image_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter
    turned = file(Image.fromarray(PHOTO), exif=exif)
    assert np.array_equal(one(step(), turned), np.rot90(PHOTO, -1).transpose(2, 0, 1))


def test_modes() -> None:
    deep = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16)
    assert np.array_equal(one(step((-1, 16, 16), "UINT8", channels="L"), file(deep)), deep >> 8)
    for mode in ("P", "LA", "RGBA", "1", "L"):
        want = Image.fromarray(PHOTO).convert(mode).convert("RGB")
        assert np.array_equal(
            one(step(), file(Image.fromarray(PHOTO).convert(mode))), np.asarray(want).transpose(2, 0, 1)
        )
    cmyk = file(Image.fromarray(PHOTO).convert("CMYK"), "JPEG")
    assert one(step(), cmyk).shape == (3, 60, 90)
    assert np.array_equal(one(step(), file(PHOTO, "WEBP", lossless=True)), PHOTO.transpose(2, 0, 1))


def test_batches() -> None:
    assert step((-1, 3, 8, 8)).apply([])["x"].shape == (0, 3, 8, 8)
    sizes = [file(PHOTO), file(PHOTO[:30])]
    assert step(size=8).apply(sizes)["x"].shape == (2, 3, 8, 8)
    with pytest.raises(ModelRejectedInput, match="row 1 is an image of another size than row 0"):
        step().apply(sizes)


@pytest.mark.parametrize("cut", [0, 8, 20, 40, 60, -1])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_damaged_file_names_its_row(kind: str, cut: int) -> None:
    """Cut off, or with bytes turned over: refused, or (a decoder may recover) an image of the right shape."""
    whole = file(PHOTO, kind)
    noise = bytearray(whole)
    for position in RANDOM.integers(8, len(noise), 20):
        noise[position] ^= 0xFF
    made = step(size=8)
    for row in (whole[:cut], bytes(noise)):
        try:
            assert made.apply([whole, row])["x"].shape == (2, 3, 8, 8)
        except ModelRejectedInput as error:
            assert error.message.startswith("input 'image': row 1: ")


def test_limits() -> None:
    with pytest.raises(ModelRejectedInput, match="90 × 60 pixels"):
        one(step(max_pixels=5000), file(PHOTO))
    with pytest.raises(ModelRejectedInput, match="sides are too different"):
        one(step(size=8000, resize="shorter"), file(np.zeros((1, 60_000), np.uint8)))
    with pytest.raises(ModelRejectedInput, match="fewer than the crop takes"):
        one(step(resize="none", crop=100), file(PHOTO))


@pytest.mark.parametrize(
    ("shape", "datatype", "options", "words"),
    [
        ((-1, 3, 8, 8), "FP32", {"size": 9}, "takes [3, 8, 8]"),
        ((-1, 3, 8, 8), "FP32", {"layout": "NHWC", "size": 8}, "takes [3, 8, 8]"),
        ((-1, 3, -1, -1), "BYTES", {}, "holds no pixels"),
        ((-1, 3, -1, -1), "UINT8", {"scale": "1/255"}, "leave out scale"),
        ((-1, 3, -1, -1), "FP32", {"size": 8, "crop": 9}, "is larger than size"),
        ((-1, 3, -1, -1), "FP32", {"size": [8, 9], "resize": "shorter"}, "takes one number"),
        ((-1, 3, -1, -1), "FP32", {"antialias": False, "interpolation": "lanczos"}, "bilinear"),
        ((), "FP32", {}, "takes []"),
    ],
)
def test_what_does_not_fit_is_refused(shape: Any, datatype: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match="preprocessing: ") as caught:
        step(shape, datatype, **options)
    assert words in caught.value.message
