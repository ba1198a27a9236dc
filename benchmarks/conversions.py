"""The table of conversions: from each source to each target, how far answers are apart, on real data.

    python benchmarks/conversions.py [SOURCE …] [--write]

Starts a server of its own, makes small models of digits, wine and diabetes (scikit-learn's data) with their own
libraries, converts each to each target, and prints a Markdown table; ``--write`` puts it into docs/conversion.md. What
needs an environment of its own builds it: the first run takes many minutes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from modelport.errors import ModelportError
from modelport.sdk.client import Client

ROOT = Path(__file__).resolve().parents[1]
TARGETS = ("onnx", "openvino", "litert", "torch")
BEGIN, END = "<!-- table: benchmarks/conversions.py -->\n", "<!-- end of table -->\n"
TREES = (
    "sklearn.tree._tree.Tree", "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn._loss.link.LogitLink", "sklearn._loss.link.Interval", "sklearn._loss.link.MultinomialLogit",
    "sklearn._loss.loss.HalfMultinomialLoss", "sklearn._loss._loss.CyHalfMultinomialLoss",
)  # fmt: skip

#: Source, the file or folder, the data that it is compared on with its columns, and how it is made.
SKLEARN = """
import numpy as np, skops.io
from sklearn.datasets import load_wine
from sklearn.ensemble import *
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
rows, kinds = load_wine(return_X_y=True)
skops.io.dump({}.fit(rows, kinds), "{}")
"""
BOOSTING = """
from sklearn.datasets import load_wine
import xgboost, lightgbm
rows, kinds = load_wine(return_X_y=True)
xgboost.XGBClassifier(n_estimators=50).fit(rows, kinds).save_model("wine.json")
xgboost.XGBClassifier(n_estimators=50).fit(rows, kinds).save_model("wine.ubj")
lightgbm.LGBMClassifier(n_estimators=50, verbose=-1).fit(rows, kinds).booster_.save_model("wine.txt")
"""
KERAS = """
import keras
from sklearn.datasets import load_digits
images, kinds = load_digits(return_X_y=True)
layers = keras.layers
model = keras.Sequential([keras.Input((8, 8, 1), name="image"), layers.Conv2D(16, 3, activation="relu"),
                          layers.MaxPooling2D(), layers.Flatten(), layers.Dense(10, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy")
model.fit(images.reshape(-1, 8, 8, 1) / 16, kinds, epochs=5, verbose=0)
model.save("digits.keras")
model.save("digits.h5")
"""
TORCH = """
import torch
from sklearn.datasets import load_digits
images, kinds = load_digits(return_X_y=True)
x, y = torch.tensor(images / 16, dtype=torch.float32).reshape(-1, 1, 8, 8), torch.tensor(kinds)
net = torch.nn.Sequential(torch.nn.Conv2d(1, 16, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(576, 10),
                          torch.nn.Softmax(1))
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net
    def forward(self, image):
        return {"scores": self.net(image)}
optimizer = torch.optim.Adam(net.parameters(), 0.01)
for _ in range(60):
    optimizer.zero_grad()
    torch.nn.functional.nll_loss(torch.log(net(x) + 1e-9), y).backward()
    optimizer.step()
program = torch.export.export(Net().eval(), (x[:2],), dynamic_shapes={"image": {0: torch.export.Dim("rows")}})
torch.export.save(program, "digits.pt2")
"""
TEXT = """
import json, transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"a good bad film the was very plot and dull fine actors".split()]
tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
ends = [("[CLS]", 2), ("[SEP]", 3)]
tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
fast.save_pretrained("bert")
size = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128)
names = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}
transformers.set_seed(0)
texts = transformers.BertConfig(vocab_size=len(words), **size, **names)
transformers.BertForSequenceClassification(texts).save_pretrained("bert")
images = transformers.ViTConfig(image_size=32, patch_size=8, **size, **names)
transformers.ViTForImageClassification(images).save_pretrained("vit")
settings = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
json.dump(settings, open("vit/preprocessor_config.json", "w"))
"""
TENSORFLOW = """
import tensorflow as tf
class Net(tf.Module):
    def __init__(self):
        self.weights = tf.Variable(tf.random.normal((13, 3), seed=1) / 100)
    @tf.function(input_signature=[tf.TensorSpec((None, 13), tf.float32, name="input")])
    def answer(self, input):
        return {"scores": tf.nn.softmax(input @ self.weights)}
net = Net()
tf.saved_model.save(net, "saved_model", signatures={"serving_default": net.answer})
"""
PADDLE = """
import paddle
paddle.seed(1)
net = paddle.nn.Sequential(paddle.nn.Linear(13, 8), paddle.nn.ReLU(), paddle.nn.Linear(8, 3), paddle.nn.Softmax())
net.eval()
paddle.jit.save(net, "paddle/net", input_spec=[paddle.static.InputSpec([None, 13], "float32", name="input")])
"""
WINE, DIGITS = ("wine", {"input": ["f*"]}), ("digits", {})
SOURCES: dict[str, tuple[str, str, tuple[str, dict[str, list[str]]] | None]] = {
    "scikit-learn pipeline": (
        SKLEARN.format("make_pipeline(StandardScaler(), LogisticRegression())", "pipe.skops"), "pipe.skops", WINE),
    "scikit-learn forest": (SKLEARN.format("RandomForestClassifier()", "forest.skops"), "forest.skops", WINE),
    "scikit-learn gradient boosting": (
        SKLEARN.format("GradientBoostingClassifier()", "gb.skops"), "gb.skops", WINE),
    "scikit-learn HistGradientBoosting": (
        SKLEARN.format("HistGradientBoostingClassifier()", "hist.skops"), "hist.skops", WINE),
    "XGBoost .json": (BOOSTING, "wine.json", WINE),
    "XGBoost .ubj": (BOOSTING, "wine.ubj", WINE),
    "LightGBM .txt": (BOOSTING, "wine.txt", WINE),
    "Keras .keras": (KERAS, "digits.keras", DIGITS),
    "Keras .h5": (KERAS, "digits.h5", DIGITS),
    "torch.export .pt2": (TORCH, "digits.pt2", DIGITS),
    "Hugging Face text": (TEXT, "bert", None),
    "Hugging Face image": (TEXT, "vit", None),
    "TensorFlow SavedModel": (TENSORFLOW, "saved_model", WINE),
    "PaddlePaddle": (PADDLE, "paddle", WINE),
}  # fmt: skip
_OWN = {"TensorFlow SavedModel": "saved_model", "PaddlePaddle": "paddle"}


def main() -> None:
    """Print the table of the named sources, or of all."""
    wanted = [one for one in sys.argv[1:] if not one.startswith("-")] or list(SOURCES)
    with tempfile.TemporaryDirectory(prefix="conversions-") as place:
        home = Path(os.environ.get("CONVERSIONS_HOME", f"{place}/home"))
        env = {
            **os.environ, "MODELPORT_HOME": str(home), "MODELPORT_TRUST_SKLEARN_TYPES": json.dumps(TREES),
            "KERAS_BACKEND": "torch",
        }  # fmt: skip
        up = [sys.executable, "-m", "modelport", "up", "--detach", "--port", "0", "--grpc-port", "0"]
        subprocess.run(up, env=env, check=True, stdout=subprocess.DEVNULL)
        try:
            told = json.loads((home / "run" / "endpoint.json").read_text())
            with Client(told["url"], told["token"]) as client:
                table = _table(client, home, Path(place), env, wanted)
        finally:
            subprocess.run([sys.executable, "-m", "modelport", "down"], env=env, check=True, stdout=subprocess.DEVNULL)
    print(table)
    if "--write" in sys.argv:
        page = ROOT / "docs" / "conversion.md"
        before, _, rest = page.read_text().partition(BEGIN)
        page.write_text(f"{before}{BEGIN}{table}\n{END}{rest.partition(END)[2]}")


def _table(client: Client, home: Path, place: Path, env: dict[str, str], wanted: list[str]) -> str:
    _collect(client)
    lines = ["| source | " + " | ".join(TARGETS) + " |", "|---|" + "---|" * len(TARGETS)]
    for source in wanted:
        script, file, data = SOURCES[source]
        _make(home, place, env, source, script, file)
        cells = []
        for target in TARGETS:
            cells.append("as it is" if source.startswith("torch") and target == "torch" else _cell(
                client, place / file, target, data
            ))  # fmt: skip
            print(f"{source} → {target}: {cells[-1]}", file=sys.stderr, flush=True)
        lines.append(f"| {source} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(client: Client, path: Path, target: str, data: tuple[str, dict[str, list[str]]] | None) -> str:
    """The largest difference and the seconds; why not, where there is none."""
    name = f"{path.name.partition('.')[0]}-{path.suffix[1:] or 'folder'}-{target}"
    more: dict[str, Any] = {"data": data[0], "inputs": data[1]} if data else {}
    began = time.monotonic()
    try:
        made = client.conversions.convert(path, target, name=name, **more).result or {}
    except ModelportError as error:
        message = error.message.partition(": ")[2] if error.message.startswith("job ") else error.message
        print(f"  {message[:300]}", file=sys.stderr)
        return "–" if "cannot become" in message else "no: " + _short(message)
    seconds = time.monotonic() - began
    rows = f", {made['parity']['rows']} rows made up" if made["compared_on"] == "made-up inputs" else ""
    return f"{float(made['parity']['max_absolute']):.1e} ({seconds:.0f} s{rows})"


def _short(message: str) -> str:
    """Why, in a few words."""
    for sign, why in (("TreeEnsemble", "trees"), ("Normalizer", "ai.onnx.ml operators"), ("free dim", "free sizes"),
                      ("onnx2tf", "onnx2tf refuses"), ("LiteRT cannot prepare", "operators")):  # fmt: skip
        if sign in message:
            return why
    return " ".join(message.replace("|", "/").split())[:60]


def _collect(client: Client) -> None:
    import pyarrow as pa  # noqa: PLC0415
    from sklearn.datasets import load_digits, load_wine  # noqa: PLC0415

    rows, kinds = load_wine(return_X_y=True)
    client.datasets.collect(
        pa.table({**{f"f{at}": rows[:, at] for at in range(13)}, "kind": kinds}), "wine", label="kind"
    )
    images, digits = load_digits(return_X_y=True)
    pixels = pa.array((images / 16).astype("float32").tolist(), pa.list_(pa.float32()))
    client.datasets.collect(pa.table({"image": pixels, "digit": digits}), "digits", label="digit")


def _make(home: Path, place: Path, env: dict[str, str], source: str, script: str, file: str) -> None:
    """By the library's own interpreter: that of the environment which converts it, where it has one."""
    if (place / file).exists():
        return
    python = sys.executable
    if source in _OWN:
        import asyncio  # noqa: PLC0415

        from modelport.control.environments import Environments  # noqa: PLC0415
        from modelport.conversion import routes  # noqa: PLC0415

        step = next(one for one in routes.CONVERTERS if one.source == _OWN[source])
        (home / "environments").mkdir(exist_ok=True)
        wanted = routes.requirements_of(step)
        python = asyncio.run(Environments(home / "environments").ensure(wanted, place / "log")).python
    (place / "make.py").write_text(script)
    subprocess.run([python, "make.py"], cwd=place, env=env, check=True, capture_output=True)


if __name__ == "__main__":
    main()
