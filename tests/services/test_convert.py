"""Conversion on a real server: formats in, versions out that answer over HTTP as their sources do; bundles."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import skops.io
from sklearn.datasets import load_diabetes, load_digits, load_wine
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modelport.errors import InvalidInput, ModelportError
from modelport.sdk.client import Client
from tests import onnx_models
from tests.services.conftest import Server

pytestmark = pytest.mark.xdist_group("convert")  # one server, one set of rows
long = pytest.mark.long
TREES = '["sklearn.tree._tree.Tree"]'
WINE, KINDS = load_wine(return_X_y=True)
NAMES = np.array(["barolo", "grignolino", "barbera"])[KINDS]


@pytest.fixture(scope="module")
def converting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server with rows to compare on."""
    env = {"MODELPORT_TRUST_SKLEARN_TYPES": TREES}
    found = Server(tmp_path_factory.mktemp("converting") / "home", ("--gateways", "1"), env).start()
    with found.client() as client:
        wine = pa.table({**{f"f{at}": WINE[:, at] for at in range(13)}, "kind": NAMES})
        client.datasets.collect(wine, "wine", label="kind")
    yield found
    found.stop()


@pytest.fixture
def client(converting: Server) -> Iterator[Client]:
    with converting.client() as found:
        yield found


def wine_pipeline(folder: Path) -> tuple[Any, Path]:
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(WINE, NAMES)
    skops.io.dump(model, folder / "wine.skops")
    return model, folder / "wine.skops"


def test_a_pipeline_becomes_onnx_and_answers_alike(client: Client, tmp_path: Path) -> None:
    model, file = wine_pipeline(tmp_path)
    before = client.models.push(file, "wine")
    job = client.conversions.convert("wine", "onnx", data="wine", inputs={"input": ["f*"]}, description="smaller")
    made = job.result or {}
    assert made["model"] == "wine:2" and made["format"] == "onnx" and made["compared_on"] == "178 rows of wine:1"
    assert made["parity"]["rows"] == 178 and made["parity"]["label_agreement"] == 1.0
    assert 0 < made["parity"]["max_absolute"] < 1e-5
    version = client.models.version("wine")
    assert {"wine:1", "dataset:wine:1", f"job:{job.id}"} == set(version.manifest.parents)
    assert version.manifest.labels == before.manifest.labels
    assert version.manifest.metrics["parity_label_agreement"] == 1.0
    client.deploy("wine", timeout=60)
    found = client.predict("wine", {"input": WINE[:5]})
    np.testing.assert_allclose(found["probabilities"], model.predict_proba(WINE[:5]), atol=1e-5)
    assert [name.decode() for name in found["label"].tolist()] == model.predict(WINE[:5]).tolist()
    client.models.pull("wine", 2, tmp_path / "pulled")
    report = json.loads((tmp_path / "pulled" / "conversion" / "conversion.json").read_text())
    assert report["tolerance"] == 0.001 and report["steps"][0]["report"]["opset"]["ai.onnx"] >= 11
    assert "network" in report["steps"][0]["confined"] and "skl2onnx" in report["steps"][0]["versions"]


@long
def test_openvino_serves_what_onnx_served_and_answers_that_differ_register_nothing(
    client: Client, converting: Server
) -> None:
    pytest.importorskip("openvino")
    rows = np.random.default_rng(0).random((4, 4), np.float32)
    converting.push("net", onnx_models.mlp(), class_labels=["a", "b", "c"])
    with pytest.raises(ModelportError, match=r"answers differently: .* nothing was registered"):
        client.conversions.convert("net", "openvino", tolerance=1e-12)
    assert len(client.models.versions("net")) == 1
    client.deploy("net", 1, timeout=60)
    before = client.predict("net", {"input": rows})
    made = client.conversions.convert("net", "openvino").result or {}
    assert made["model"] == "net:2" and made["compared_on"] == "made-up inputs"
    version = client.models.version("net").manifest
    assert version.format == "openvino" and list(version.labels.values()) == [["a", "b", "c"]]
    client.deploy("net", 2, timeout=60)
    after = client.predict("net", {"input": rows})
    np.testing.assert_allclose(after, before, atol=1e-6)


BAD: tuple[tuple[str, bytes, str], ...] = (
    ("model.pkl", b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x05hello\x94.", "pickle"),
    ("empty.onnx", b"", "is empty"),
    ("notes.txt", b"just text", "the format is not known"),
    ("data.npy", b"\x93NUMPY\x01\x00", "it is data, not a model"),
    ("model.zip", b"PK\x05\x06" + bytes(18), "zip archive"),
    ("page.html", b"<!doctype html><html></html>", "an HTML page"),
)


@pytest.mark.parametrize(("name", "content", "why"), BAD, ids=[name for name, _, _ in BAD])
def test_wrong_files_are_refused_before_work_begins(
    client: Client, tmp_path: Path, name: str, content: bytes, why: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelportError, match=why) as refused:
        client.conversions.convert(tmp_path / name, "onnx", name="wrong")
    assert refused.value.status == 422 and "/" not in refused.value.message.replace("and/or", "")


def test_wrong_wishes_are_refused_before_work_begins(client: Client, converting: Server, tmp_path: Path) -> None:
    converting.push("plain", digits())
    wishes: list[tuple[dict[str, Any], str, int]] = [
        ({"model": "nothing", "to": "openvino"}, "no model 'nothing'", 404),
        ({"model": "plain", "to": "onnx"}, "is onnx already", 400),
        ({"model": "plain", "to": "torch"}, "cannot become torch: it can become openvino, litert", 400),
        ({"model": "plain", "to": "tensorrt"}, "params.to", 400),
        ({"model": "plain", "to": "openvino", "batch": [1, 8]}, "openvino takes any number of rows", 400),
        ({"model": "plain", "to": "openvino", "data": "nothing"}, "nothing", 404),
        ({"model": "plain", "to": "openvino", "tolerance": -1}, "params.tolerance", 400),
        ({"to": "openvino"}, "give model or files", 400),
    ]
    for wish, why, status in wishes:
        with pytest.raises(ModelportError, match=why) as refused:
            client.jobs.submit("convert", wish)
        assert refused.value.status == status, wish
    with pytest.raises(InvalidInput, match="no file or folder"):
        client.conversions.convert(tmp_path / "gone.keras", "onnx")


def digits() -> bytes:
    from tests.data.digits import digits_onnx

    return digits_onnx()


ONLY = """
import runpy, sys
class Shut:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "modelport":
            raise ImportError(name)
sys.meta_path.insert(0, Shut())
sys.argv = ["runner.py", "request.json"]
sys.path.insert(0, ".")
runpy.run_path("runner.py", run_name="__main__")
"""


VERIFY = [
    "openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "public.pem", "-rawin", "-in", "SHA256SUMS", "-sigfile",
    "SHA256SUMS.sig",
]  # fmt: skip


def run_bundle(client: Client, name: str, folder: Path, inputs: list[dict[str, Any]]) -> dict[str, Any]:
    """What the bundle's own runner answers, in a folder with nothing else and without Modelport."""
    file = client.conversions.bundle(name, "latest", folder / "bundle.zip")
    box = folder / "box"
    with zipfile.ZipFile(file) as archive:
        archive.extractall(box)
    for command in (VERIFY, ["sha256sum", "--quiet", "-c", "SHA256SUMS"]):
        done = subprocess.run(command, cwd=box, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    (box / "request.json").write_text(json.dumps({"inputs": inputs}))
    env = {"PATH": os.defpath, "PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, "-I", "-c", ONLY], cwd=box, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)["outputs"]
    return answer


def test_a_bundle_answers_as_the_server_and_its_signature_holds(
    client: Client, converting: Server, tmp_path: Path
) -> None:
    converting.deploy("boxed", digits())
    rows = load_digits().data[:3].astype(np.float32)
    body = [{"name": "X", "datatype": "FP32", "shape": [3, 64], "data": rows.reshape(-1).tolist()}]
    found = run_bundle(client, "boxed", tmp_path, body)
    served = client.predict("boxed", {"X": rows})
    assert found["label"]["data"] == served["label"].tolist()
    np.testing.assert_allclose(
        np.reshape(found["probabilities"]["data"], found["probabilities"]["shape"]), served["probabilities"], atol=1e-6
    )
    box = tmp_path / "box"
    (box / "model.onnx").write_bytes(b"changed")
    assert subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=box, capture_output=True).returncode
    with (box / "SHA256SUMS").open("a") as sums:
        sums.write("0" * 64 + "  more\n")
    assert subprocess.run(VERIFY, cwd=box, capture_output=True).returncode
    key = converting.home / "signing.pem"
    assert key.stat().st_mode & 0o077 == 0
    with pytest.raises(ModelportError, match="there is a file"):
        client.conversions.bundle("boxed", 1, tmp_path / "bundle.zip")


def test_other_formats_have_no_bundle(client: Client, tmp_path: Path) -> None:
    _, file = wine_pipeline(tmp_path)
    client.models.push(file, "skopswine")
    with pytest.raises(InvalidInput, match=r"convert it first: modelport convert skopswine:1 --to onnx"):
        client.conversions.bundle("skopswine", 1, tmp_path / "no.zip")
    assert not list(tmp_path.glob("*.part")) and not (tmp_path / "no.zip").exists()


# With the sources' own libraries: long


def check(client: Client, name: str, inputs: dict[str, Any], expected: np.ndarray, atol: float = 1e-4) -> None:
    """The newest version, deployed, answers as the library did."""
    client.deploy(name, timeout=120)
    found: Any = client.predict(name, inputs)  # the array alone, where there is one output
    if isinstance(found, dict):
        found = next(value for value in found.values() if value.dtype.kind == "f")
    np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=atol)
    client.deployments.delete(name)


@long
@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_keras_without_tensorflow(client: Client, tmp_path: Path, ending: str) -> None:
    made = subprocess.run(
        [sys.executable, "-c", KERAS, str(tmp_path / f"model.{ending}"), str(tmp_path / "expected.npy")],
        env={**os.environ, "KERAS_BACKEND": "torch"}, capture_output=True, text=True,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    client.conversions.convert(tmp_path / f"model.{ending}", "onnx", name=f"keras-{ending}")
    images = np.random.default_rng(0).random((3, 8, 8, 1), np.float32)
    check(client, f"keras-{ending}", {"image": images}, np.load(tmp_path / "expected.npy"))


KERAS = """
import sys, keras, numpy as np
layers = [keras.Input((8, 8, 1), name="image"), keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.Flatten(),
          keras.layers.Dense(10, activation="softmax")]
model = keras.Sequential(layers)
model.save(sys.argv[1])
np.save(sys.argv[2], model.predict(np.random.default_rng(0).random((3, 8, 8, 1), np.float32), verbose=0))
"""


@long
def test_a_lambda_layer_is_refused_by_its_name(client: Client, tmp_path: Path) -> None:
    code = (
        "import sys, keras; keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: x * 2, name='twice')])"
        ".save(sys.argv[1])"
    )
    env = {**os.environ, "KERAS_BACKEND": "torch"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "evil.keras")], env=env, check=True, capture_output=True)
    with pytest.raises(ModelportError, match="layer 'twice' is a Lambda layer"):
        client.conversions.convert(tmp_path / "evil.keras", "onnx", name="evil")


@long
@pytest.mark.parametrize("ending", ["json", "ubj"])
def test_xgboost(client: Client, tmp_path: Path, ending: str) -> None:
    xgboost = pytest.importorskip("xgboost")
    model = xgboost.XGBClassifier(n_estimators=20).fit(WINE, KINDS)
    model.save_model(tmp_path / f"model.{ending}")
    classes = ["barolo", "grignolino", "barbera"]
    client.conversions.convert(
        tmp_path / f"model.{ending}", "onnx", name=f"xgb-{ending}", data="wine", inputs={"input": ["f*"]},
        class_labels=classes,
    )  # fmt: skip
    assert client.models.version(f"xgb-{ending}").manifest.labels["probabilities"] == classes
    check(client, f"xgb-{ending}", {"input": WINE.astype(np.float32)}, model.predict_proba(WINE.astype(np.float32)))


@long
def test_lightgbm(client: Client, tmp_path: Path) -> None:
    lightgbm = pytest.importorskip("lightgbm")
    rows, target = load_diabetes(return_X_y=True)
    model = lightgbm.LGBMRegressor(n_estimators=20, verbose=-1).fit(rows, target)
    model.booster_.save_model(tmp_path / "model.txt")
    client.conversions.convert(tmp_path / "model.txt", "onnx", name="lgb")
    check(client, "lgb", {"input": rows.astype(np.float32)}, model.predict(rows.astype(np.float32)), 1e-3)


@long
def test_gradient_boosting_by_the_command_line(client: Client, converting: Server, tmp_path: Path) -> None:
    rows, target = load_diabetes(return_X_y=True)
    model = GradientBoostingRegressor(n_estimators=20).fit(rows, target)
    skops.io.dump(model, tmp_path / "gbr.skops")
    done = converting.cli("convert", str(tmp_path / "gbr.skops"), "--to", "onnx", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == "gbr:1"
    check(client, "gbr", {"input": rows.astype(np.float32)}, model.predict(rows.astype(np.float32)), 1e-2)


def program(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """A torch program with any number of rows, and what torch answers."""
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 10), torch.nn.Softmax(1)
    ).eval()
    shapes = ({0: torch.export.Dim("rows")},)
    torch.export.save(torch.export.export(net, (torch.rand(2, 1, 8, 8),), dynamic_shapes=shapes), folder / "net.pt2")
    return lambda rows: net(torch.from_numpy(rows)).detach().numpy()


@long
@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_a_torch_program(client: Client, tmp_path: Path, to: str) -> None:
    answers = program(tmp_path)
    client.conversions.convert(tmp_path / "net.pt2", to, name=f"net-{to}")
    images = np.random.default_rng(0).random((5, 1, 8, 8), np.float32)
    version = client.models.version(f"net-{to}").manifest
    assert version.format == to and version.signature.has_batch_dimension
    check(client, f"net-{to}", {version.signature.inputs[0].name: images}, answers(images))


@long
@pytest.mark.timeout(900)
def test_litert_at_the_sizes_that_were_asked_for(client: Client, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    answers = program(tmp_path)
    made = client.conversions.convert(tmp_path / "net.pt2", "litert", name="net-litert", batch=[1, 4]).result or {}
    assert made["models"] == ["net-litert:1", "net-litert:2"]
    for number, rows in ((1, 1), (2, 4)):
        signature = client.models.version("net-litert", number).manifest.signature
        assert signature.inputs[0].shape == (rows, 1, 8, 8)
    images = np.random.default_rng(0).random((4, 1, 8, 8), np.float32)
    check(client, "net-litert", {signature.inputs[0].name: images}, answers(images))


@long
@pytest.mark.timeout(900)
def test_litert_by_way_of_onnx_takes_any_number_of_rows(client: Client, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    answers = program(tmp_path)
    client.conversions.convert(tmp_path / "net.pt2", "onnx", name="net-any")
    client.conversions.convert("net-any", "litert")
    version = client.models.version("net-any").manifest
    assert version.format == "litert" and version.signature.inputs[0].shape[0] == -1
    images = np.random.default_rng(0).random((4, 1, 8, 8), np.float32)
    check(client, "net-any", {version.signature.inputs[0].name: images}, answers(images))
    body = [{"name": version.signature.inputs[0].name, "datatype": "FP32", "shape": [4, 1, 8, 8],
             "data": images.reshape(-1).tolist()}]  # fmt: skip
    found = next(iter(run_bundle(client, "net-any", tmp_path, body).values()))
    np.testing.assert_allclose(np.reshape(found["data"], (4, 10)), answers(images), atol=1e-5)


TENSORFLOW = """
import sys, tensorflow as tf
class Net(tf.Module):
    def __init__(self):
        self.weights = tf.Variable(tf.reshape(tf.range(12, dtype=tf.float32) / 10, (4, 3)))
    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, name="x")])
    def answer(self, x):
        return {"scores": tf.nn.softmax(x @ self.weights)}
net = Net()
tf.saved_model.save(net, sys.argv[1], signatures={"serving_default": net.answer})
"""
PADDLE = """
import sys, paddle
net = paddle.nn.Sequential(paddle.nn.Linear(4, 3), paddle.nn.Softmax())
net[0].weight.set_value((paddle.arange(12, dtype="float32") / 10).reshape([4, 3]))
net[0].bias.set_value(paddle.zeros([3]))
net.eval()
paddle.jit.save(net, sys.argv[1] + "/net", input_spec=[paddle.static.InputSpec([None, 4], "float32", name="x")])
"""


@long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("kind", "script"), [("saved_model", TENSORFLOW), ("paddle", PADDLE)])
def test_frameworks_in_environments_of_their_own(
    client: Client, converting: Server, tmp_path: Path, kind: str, script: str
) -> None:
    """The model is made in the very environment that converts it: a first conversion of nothing builds that."""
    python = environment(converting, kind, tmp_path)
    (tmp_path / "make.py").write_text(script)
    done = subprocess.run([python, "make.py", "model"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    name = kind.replace("_", "-")
    client.conversions.convert(tmp_path / "model", "onnx", name=name)
    rows = np.random.default_rng(1).random((5, 4), np.float32)
    raised = np.exp(rows @ (np.arange(12, dtype=np.float32) / 10).reshape(4, 3))
    check(client, name, {"x": rows}, raised / raised.sum(1, keepdims=True))


def environment(server: Server, kind: str, folder: Path) -> str:
    """The interpreter of the environment that converts a kind."""
    import asyncio

    from modelport.control.environments import Environments
    from modelport.conversion import routes

    step = next(one for one in routes.CONVERTERS if one.source == kind)
    place = server.home / "environments"
    place.mkdir(exist_ok=True)
    return asyncio.run(Environments(place).ensure(routes.requirements_of(step), folder / "log")).python


@long
def test_a_language_model_becomes_one_file(client: Client, tmp_path: Path) -> None:
    """Both are asked what comes next after real texts; the file is read again by transformers, and quantized."""
    pytest.importorskip("gguf")
    transformers = pytest.importorskip("transformers")
    import torch

    from tests.training import tiny_models
    from tests.training.real_texts import topics

    texts = [text for text, _ in topics(60)]
    tiny_models.llama(tmp_path / "writer", texts, width=64)
    client.datasets.collect(pa.table({"text": texts}), "writings")
    client.models.push(tmp_path / "writer", "writer", licence="MIT")
    made = client.conversions.convert("writer", "gguf", data="writings").result or {}
    assert made["model"] == "writer:2" and made["format"] == "gguf"
    assert made["parity"]["rows"] == 16 and made["parity"]["label_agreement"] == 1.0
    assert made["parity"]["max_absolute"] < 1e-3
    version = client.models.version("writer").manifest
    assert version.licence == "MIT" and version.details["architecture"] == "llama"
    client.models.pull("writer", 2, tmp_path / "pulled")
    read = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "pulled", gguf_file="model.gguf").eval()
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "writer").eval()
    ids = torch.tensor([[5, 80, 300, 12]])
    with torch.no_grad():
        assert float((read(ids).logits.float() - plain(ids).logits).abs().max()) < 0.02
    quantized = [{"method": "quantize-language", "options": {"type": "q8_0"}}]
    smaller = client.compression.compress("writer", methods=quantized, data="writings", name="less").result or {}
    assert client.models.version("less").manifest.parents and smaller["model"] == "less:1"
    with pytest.raises(InvalidInput, match="cannot become onnx: it can become openvino, gguf"):
        client.conversions.convert(tmp_path / "writer", "onnx", name="no")
    changed = json.loads((tmp_path / "writer" / "config.json").read_text()) | {"architectures": ["GPTNeoXForCausalLM"]}
    (tmp_path / "writer" / "config.json").write_text(json.dumps(changed))
    with pytest.raises(ModelportError, match="the model is a GPTNeoXForCausalLM; GGUF files are written of Llama"):
        client.conversions.convert(tmp_path / "writer", "gguf", name="no")


@long
def test_a_text_classifier_brings_its_tokenizer(client: Client, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from tests.huggingface_models import tokenizer, write

    config = transformers.BertConfig(
        vocab_size=10, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        id2label={0: "bad", 1: "good"}, label2id={"bad": 0, "good": 1},
    )  # fmt: skip
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path / "hf")
    write(tmp_path / "hf", tokenizer_json=tokenizer())
    client.models.push(tmp_path / "hf", "mood")
    client.deploy("mood", timeout=120)
    texts = np.array([b"the cat sat", b"a mat"], object)
    before = client.predict("mood", {"text": texts})
    client.deployments.delete("mood")
    made = client.conversions.convert("mood", "openvino").result or {}
    assert made["model"] == "mood:2"
    version = client.models.version("mood").manifest
    assert version.format == "openvino" and version.labels == {"probabilities": ["bad", "good"]}
    check(client, "mood", {"text": texts}, before)


@long
def test_an_image_classifier_brings_its_processor(client: Client, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from tests.training.images import png

    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8,
        id2label={0: "cat", 1: "dog"}, label2id={"cat": 0, "dog": 1},
    )  # fmt: skip
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path / "vit")
    processor = {
        "size": {"height": 32, "width": 32}, "rescale_factor": 1 / 255, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    }  # fmt: skip
    (tmp_path / "vit" / "preprocessor_config.json").write_text(json.dumps(processor))
    client.conversions.convert(tmp_path / "vit", "onnx", name="pets")
    picture = png(np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8))
    import torch

    loaded = transformers.ViTForImageClassification.from_pretrained(tmp_path / "vit").eval()
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8).astype(np.float32)
    tensor = torch.from_numpy(((pixels / 255 - 0.5) / 0.5).transpose(2, 0, 1)[None])
    expected = torch.softmax(loaded(tensor).logits, -1).detach().numpy()
    assert client.models.version("pets").manifest.labels == {"probabilities": ["cat", "dog"]}
    check(client, "pets", {"image": np.array([picture], object)}, expected)
