"""Image files and texts, through every door of a real server, against the libraries' own answers in this process."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime as ort
import pytest
from PIL import Image

from modelport import errors
from tests import onnx_models
from tests.api import triton_table
from tests.services.conftest import Server

pytestmark = [pytest.mark.xdist_group("preprocessing"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def digits_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = Server(tmp_path_factory.mktemp("preprocessing")).start()
    yield found
    found.stop()


def png(pixels: Any, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def session(content: bytes) -> ort.InferenceSession:
    return ort.InferenceSession(content, providers=["CPUExecutionProvider"])


#: Every way in: the outputs by name, of a batch of files for the input ``image``.
Ask = Callable[[Server, str, list[bytes]], dict[str, Any]]


def _post(server: Server, path: str, body: Any) -> Any:
    answer = httpx.post(server.url + path, json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def by_v1_columns(server: Server, model: str, files: list[bytes]) -> dict[str, Any]:
    rows = [{"b64": base64.b64encode(file).decode()} for file in files]
    return {"": _post(server, f"/v1/models/{model}:predict", {"inputs": {"image": rows}})["outputs"]}


def by_v2_json(server: Server, model: str, files: list[bytes]) -> dict[str, Any]:
    data = [base64.b64encode(file).decode() for file in files]
    tensor = {"name": "image", "datatype": "BYTES", "shape": [len(files)], "data": data}
    found = _post(server, f"/v2/models/{model}/infer", {"inputs": [tensor]})
    return {out["name"]: np.array(out["data"]).reshape(out["shape"]) for out in found["outputs"]}


def by_predict(server: Server, model: str, files: list[bytes]) -> dict[str, Any]:
    rows = ["data:image/png;base64," + base64.b64encode(file).decode() for file in files]
    return {"": _post(server, f"/predict/{model}", {"data": rows})["result"]}


def by_sdk(server: Server, model: str, files: list[bytes]) -> dict[str, Any]:
    with server.client() as client:
        return {"": client.predict(model, files)}


def by_triton(protocol: str) -> Ask:
    def ask(server: Server, model: str, files: list[bytes]) -> dict[str, Any]:
        as_text = [base64.b64encode(file) for file in files] if protocol == "JSON" else files
        given = {"image": np.array(as_text, dtype=object)}
        found = triton_table.infer(protocol, server.url.removeprefix("http://"), server.grpc, model, given)
        return {"": found.as_numpy(_first_output(found))}

    return ask


def _first_output(found: Any) -> str:
    described = found.get_response()
    return described["outputs"][0]["name"] if isinstance(described, dict) else described.outputs[0].name


DOORS: dict[str, Ask] = {
    "v1": by_v1_columns,
    "v2-json": by_v2_json,
    "predict": by_predict,
    "sdk": by_sdk,
    **{f"triton-{protocol}": by_triton(protocol) for protocol in triton_table.PROTOCOLS},
}


def only(found: dict[str, Any]) -> Any:
    (value,) = found.values()
    return np.asarray(value)


DIGITS_STEP = {
    "kind": "image", "input": "input", "size": 8, "channels": "L", "scale": "16/255", "interpolation": "nearest",
}  # fmt: skip


@pytest.fixture(scope="module")
def digits(digits_server: Server) -> tuple[bytes, list[bytes]]:
    """A network over 8 × 8 grey images that takes 64 numbers; the images as PNG."""
    from sklearn.datasets import load_digits

    content = onnx_models.mlp((64, 32, 10))
    names = [f"digit {n}" for n in range(10)]
    digits_server.push("digits", content, preprocessing=[DIGITS_STEP], class_labels=names)
    with digits_server.client() as client:
        deployed = client.deploy("digits")
    assert deployed.batching == "up to 32 rows a run"
    images = load_digits().images[:20]
    return content, [png((image * 255 / 16).round().astype(np.uint8)) for image in images]


@pytest.mark.parametrize("door", DOORS)
def test_digits_as_png(digits_server: Server, digits: tuple[bytes, list[bytes]], door: str) -> None:
    content, files = digits
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(file)), np.float32).reshape(64) for file in files])
    (want,) = session(content).run(None, {"input": pixels * np.float32(16 / 255)})
    assert np.allclose(only(DOORS[door](digits_server, "digits", files)), want, atol=1e-6)


def test_the_signature_is_what_callers_send(digits_server: Server, digits: tuple[bytes, list[bytes]]) -> None:
    described = httpx.get(f"{digits_server.url}/v2/models/digits").json()
    assert described["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    with digits_server.client() as client:
        manifest = client.models.version("digits").manifest
        assert manifest.model_signature is not None
        assert manifest.model_signature.inputs[0].shape == (-1, 64)
        with pytest.raises(errors.InvalidInput, match="BYTES"):
            client.infer("digits", {"image": np.zeros((1, 64), np.float32)})


def test_a_file_by_the_sdk_and_the_command_line(
    digits_server: Server, digits: tuple[bytes, list[bytes]], tmp_path: Path
) -> None:
    from tests.services.test_cli import command

    (tmp_path / "three.png").write_bytes(digits[1][3])
    with digits_server.client() as client:
        alone = client.predict("digits", tmp_path / "three.png")
        assert alone.shape == (10,)
        (best,) = client.predict("digits", [tmp_path / "three.png"], top_k=1)
        assert best[0]["label"] == f"digit {alone.argmax()}"
    done = command(digits_server.home, "predict", "digits", str(tmp_path / "three.png"), "--top-k", "1", "-o", "json")
    assert json.loads(done.stdout)[0]["label"] == best[0]["label"], done.stderr
    rows = {"instances": [{"b64": base64.b64encode(digits[1][3]).decode()}]}
    found = _post(digits_server, "/v1/models/digits:predict?top_k=1", rows)
    assert found["predictions"][0][0]["label"] == best[0]["label"]


BAD = {
    "empty": b"",
    "text": b"not an image!",
    "truncated": png(np.zeros((64, 64, 3), np.uint8))[:-40],
    "gif": png(np.zeros((8, 8, 3), np.uint8), "GIF"),
    "bomb": png(np.zeros((8000, 7000), np.uint8)),
    "base64 of nothing": base64.b64encode(b"still not an image"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_images_are_refused_by_row(digits_server: Server, digits: tuple[bytes, list[bytes]], name: str) -> None:
    with digits_server.client() as client:
        with pytest.raises(errors.InvalidInput, match=r"^input 'image': row 1: .*(pixels|damaged)"):
            client.predict("digits", [digits[1][0], BAD[name]])
        assert client.predict("digits", digits[1][:1]).shape == (1, 10)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"input": "nothing"}, "'nothing' is no input of the model; it has input"),
    ({"size": 9}, "rows of shape"),
    ({"channels": "RGB"}, "rows of shape"),
    ({"kind": "sound"}, "preprocessing"),
    ({"resize": "crop"}, "preprocessing"),
    ({"sizes": 8}, "preprocessing"),
    ({"size": None}, "rows of shape"),
    ({"resize": "shorter", "size": None}, "needs a size"),
    ({"scale": "1/0"}, "scale"),
    ({"mean": [1, 2, 3]}, "one channel"),
    ({"std": 0}, "std"),
]


@pytest.mark.parametrize(("change", "words"), WRONG)
def test_preprocessing_that_does_not_fit_is_refused_at_push(
    digits_server: Server, digits: tuple[bytes, list[bytes]], change: dict[str, Any], words: str
) -> None:
    """By the server, whatever client sends it."""
    with digits_server.client() as client:
        entries = [entry.model_dump() for entry in client.models.version("digits").manifest.files]
    body = {"files": entries, "preprocessing": [DIGITS_STEP | change]}
    headers = {"authorization": f"Bearer {digits_server.token}"}
    answer = httpx.post(f"{digits_server.url}/api/v1/models/wrong/versions", json=body, headers=headers)
    assert answer.status_code in (400, 422), answer.text
    assert words in answer.json()["error"]["message"]


# -- text -----------------------------------------------------------------------------------------------------------


def make_tokenizer(path: Path) -> Any:
    """A small BERT-like tokenizer, trained here."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import TemplateProcessing
    from tokenizers.trainers import WordPieceTrainer

    tokenizer = Tokenizer(WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = BertNormalizer(), BertPreTokenizer()
    trainer = WordPieceTrainer(vocab_size=300, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    tokenizer.train_from_iterator(["a good film", "a bad film", "good, good! bad and boring: ünïcödé"], trainer)
    specials = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=specials)
    tokenizer.save(str(path))
    return tokenizer


TEXTS = ["a good film", "", "bad", "good and boring: ünïcödé " * 40]


@pytest.fixture(scope="module")
def sentiment(digits_server: Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, bytes]:
    """A classifier of texts, deployed with its tokenizer."""
    folder = tmp_path_factory.mktemp("sentiment")
    tokenizer = make_tokenizer(folder / "tokenizer.json")
    content = onnx_models.mean_of_embeddings(tokenizer.get_vocab_size(), ("bad", "good"))
    (folder / "model.onnx").write_bytes(content)
    with digits_server.client() as client:
        step = {"kind": "text", "max_length": 32}
        client.models.push(folder, "sentiment", preprocessing=[step], class_labels=["bad", "good"])
        assert client.deploy("sentiment").batching == "up to 32 rows a run"
    return tokenizer, content


@pytest.mark.parametrize("door", ["v1", "predict", "sdk", "sdk-row"])
def test_a_text_classifier_carries_its_tokenizer(
    digits_server: Server, sentiment: tuple[Any, bytes], door: str
) -> None:
    tokenizer, content = sentiment
    want = []
    for text in TEXTS:
        ids = tokenizer.encode(text).ids
        ids = [*ids[:31], ids[-1]] if len(ids) > 32 else ids
        feed = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), np.int64)}
        want.append(session(content).run(None, feed)[0][0])
    assert np.allclose(ask_texts(digits_server, door), np.stack(want), atol=1e-6)


def ask_texts(server: Server, door: str) -> Any:
    if door == "v1":
        return _post(server, "/v1/models/sentiment:predict", {"instances": TEXTS})["predictions"]
    if door == "predict":
        return _post(server, "/predict/sentiment", {"data": TEXTS})["result"]
    with server.client() as client:
        if door == "sdk":
            return client.predict("sentiment", TEXTS)
        return [client.predict("sentiment", text) for text in TEXTS]


def test_texts_that_are_refused(digits_server: Server, sentiment: tuple[Any, bytes]) -> None:
    with digits_server.client() as client:
        (best,) = client.predict("sentiment", ["a good film"], top_k=1)
        assert best[0]["label"] in ("bad", "good")
        with pytest.raises(errors.InvalidInput, match="row 1 is not UTF-8"):
            client.predict("sentiment", [b"fine", b"\xff\xfe"])
        with pytest.raises(errors.InvalidInput, match="row 0 is a text of"):
            client.predict("sentiment", ["x" * (2 << 20)])


def test_a_tokenizer_that_is_none_fails_the_deployment(digits_server: Server, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(onnx_models.mean_of_embeddings(10, ("bad", "good")))
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"}')
    with digits_server.client() as client:
        with pytest.raises(errors.InvalidInput, match="'other.json' is not among"):
            client.models.push(tmp_path, "broken", preprocessing=[{"kind": "text", "tokenizer": "other.json"}])
        client.models.push(tmp_path, "broken", preprocessing=[{"kind": "text"}])
        with pytest.raises(errors.ModelportError, match="tokenizer 'tokenizer.json' cannot be loaded"):
            client.deploy("broken")
