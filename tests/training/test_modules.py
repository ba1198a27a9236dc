"""The recipe module: networks of the caller's own on real rows, and how their mistakes are told."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pyarrow as pa
import pytest

from modelport.data.writing import write_parts
from modelport.errors import InvalidInput
from modelport.schemas.datasets import Column, Facts
from modelport.training import recipe
from modelport.training.recipe import Start, Trained, TrainingData
from modelport.training.recipes.module import ModuleRecipe
from tests.training.images import digit_files
from tests.training.runs import new_run

DOCUMENT = Path(__file__).parents[2] / "docs" / "training-networks.md"
NET = DOCUMENT.read_text().partition("<!-- net.py -->\n```python\n")[2].partition("```")[0]
"""The documented example."""


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Each test brings its own ``net.py``."""
    path = list(sys.path)
    yield
    sys.path[:] = path
    for name in [name for name in sys.modules if name.partition(".")[0] in ("net", "parts_of_net")]:
        del sys.modules[name]


def table(name: str) -> pa.Table:
    """scikit-learn's data of this name; numbers, and the target."""
    from sklearn import datasets

    found = getattr(datasets, f"load_{name}")()
    columns = {str(column).replace(" ", "_"): found.data[:, at] for at, column in enumerate(found.feature_names)}
    return pa.table({**columns, "target": found.target})


def data_of(folder: Path, rows: pa.Table, held: int, replay: pa.Table | None = None) -> TrainingData:
    """The last ``held`` of shuffled rows to judge by."""
    order = np.random.default_rng(0).permutation(len(rows))
    rows = rows.take(order)
    parts: list[Sequence[Path]] = [
        write_parts(folder / name, rows.schema, part.to_batches()) if part is not None else ()
        for name, part in (("train", rows[:-held]), ("validation", rows[-held:]), ("replay", replay))
    ]
    values = rows["target"].to_pylist()
    known = [value for value in values if value is not None]
    distinct = len(set(known))
    kind = str(rows.schema.field("target").type)
    columns = [
        Column(name=name, type=str(rows.schema.field(name).type)) for name in rows.column_names if name != "target"
    ]
    target = Column(name="target", type=kind, distinct=distinct, nulls=len(values) - len(known))
    features = {column.name: column.type for column in columns}
    facts = Facts(rows=len(rows), columns=[*columns, target])
    return TrainingData(tuple(parts[0]), tuple(parts[1]), features, "target", kind, facts, tuple(parts[2]))


def learn(
    folder: Path, data: TrainingData, files: dict[str, str], options: dict[str, Any], **more: Any
) -> tuple[Trained, Path]:
    code = folder / "code"
    code.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (code / name).parent.mkdir(exist_ok=True)
        (code / name).write_text(text)
    module = ModuleRecipe()
    settled = recipe.options_of(module, {"build": "net:build", "epochs": 30, "learning_rate": 0.01} | options)
    module.check(data, settled)
    run, _ = new_run(folder, code=code, **more)
    return module.train(run, data, settled), run.out


def answers(out: Path, rows: pa.Table) -> Any:
    """ONNX Runtime's, for raw columns by their names."""
    session = ort.InferenceSession(out / "model.onnx")
    given = {one.name: rows[one.name].to_numpy().astype(np.float32).reshape(-1, 1) for one in session.get_inputs()}
    return session.run(None, given)[0]


def test_a_network_of_ones_own_is_as_good_as_scikit_learn(tmp_path: Path) -> None:
    from sklearn.neural_network import MLPClassifier
    from sklearn.preprocessing import StandardScaler

    rows = table("breast_cancer")
    data = data_of(tmp_path, rows, 150)
    trained, out = learn(tmp_path, data, {"net.py": NET}, {"params": {"hidden": 32}})
    shuffled = rows.take(np.random.default_rng(0).permutation(len(rows)))
    truth = shuffled["target"].to_numpy()
    found = answers(out, shuffled[-150:])
    accuracy = float((found.argmax(1) == truth[-150:]).mean())
    matrix = np.stack([shuffled[name].to_numpy() for name in data.features], 1)
    scaler = StandardScaler().fit(matrix[:-150])
    reference = MLPClassifier(32, max_iter=500, random_state=0).fit(scaler.transform(matrix[:-150]), truth[:-150])
    assert accuracy >= reference.score(scaler.transform(matrix[-150:]), truth[-150:]) - 0.02
    assert trained.task == "classification"
    assert trained.class_labels == ["0", "1"]
    assert trained.report["parity"]["agreement"] == 1.0
    assert trained.inputs == {}


def test_numbers_with_gaps_are_predicted(tmp_path: Path) -> None:
    """Regression on a table with missing values, which the served model fills as training did."""
    rows = table("diabetes")
    holes = rows["bmi"].to_numpy().copy()
    holes[::7] = np.nan
    rows = rows.set_column(rows.column_names.index("bmi"), "bmi", pa.array(holes))
    data = data_of(tmp_path, rows, 100)
    options = {"params": {"hidden": 8}, "epochs": 25, "monitor": "rmse"}
    trained, out = learn(tmp_path, data, {"net.py": NET}, options)
    shuffled = rows.take(np.random.default_rng(0).permutation(len(rows)))[-100:]
    found, truth = answers(out, shuffled), shuffled["target"].to_numpy()
    assert found.shape == (100,)
    assert np.isfinite(found).all()
    error = float(np.sqrt(np.mean((found - truth) ** 2)))
    assert error < 0.85 * truth.std()
    best = trained.report["history"][int(trained.metrics["best_epoch"]) - 1]
    assert error == pytest.approx(best["validation_rmse"], rel=1e-4)


IMAGES = """
from torch import nn
from torch.nn import functional

class Net(nn.Module):
    def __init__(self, data):
        super().__init__()
        channels, height, width = data.image
        self.look = nn.Conv2d(channels, 8, 3, padding=1)
        self.head = nn.Linear(8 * height * width // 4 + data.vectors["sums"] + len(data.columns), len(data.classes))

    def forward(self, numbers, sums, image):
        seen = functional.max_pool2d(functional.relu(self.look(image)), 2).flatten(1)
        import torch
        return self.head(torch.cat([seen, sums, numbers], 1))

class build:
    def __init__(self, data):
        self.network = Net(data)
        self.groups = [(self.network.head, 1.0, 0), ([self.network.look], 0.5, 1)]

    def loss(self, found, target):
        return functional.cross_entropy(found, target)
"""


def test_images_lists_and_numbers_go_in_together(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    files, labels = digit_files(slice(0, 600))
    sums = load_digits().images[:600].sum(1) / 100
    rows = pa.table({
        "photo": pa.array(files, pa.binary()), "sums": pa.array(sums.tolist()),
        "ink": sums.sum(1), "target": [f"digit {label}" for label in labels],
    })  # fmt: skip
    data = data_of(tmp_path, rows, 150)
    options = {"image_size": 8, "channels": "L", "epochs": 10}
    trained, out = learn(tmp_path, data, {"net.py": IMAGES}, options)
    assert trained.report["history"][-1]["validation_accuracy"] > 0.85
    names = {one.name: one.shape[1:] for one in ort.InferenceSession(out / "model.onnx").get_inputs()}
    assert names == {"ink": [1], "sums": [8], "pixels": [1, 8, 8]}
    assert trained.preprocessing[0]["name"] == "photo"
    assert trained.class_labels == [f"digit {digit}" for digit in range(10)]


def test_what_the_network_does_not_ask_for_is_left_out(tmp_path: Path) -> None:
    """Images come with their sizes, and a network that looks at pixels alone need not know."""
    files, labels = digit_files(slice(0, 200))
    rows = pa.table({"image": pa.array(files, pa.binary()), "width": [8] * 200, "target": labels})
    text = IMAGES.replace(' + data.vectors["sums"] + len(data.columns)', "").replace("numbers, sums, image", "image")
    text = text.replace("torch.cat([seen, sums, numbers], 1)", "seen")
    options = {"image_size": 8, "channels": "L", "epochs": 1}
    trained, out = learn(tmp_path, data_of(tmp_path, rows, 40), {"net.py": text}, options)
    assert [one.name for one in ort.InferenceSession(out / "model.onnx").get_inputs()] == ["pixels"]
    assert trained.warnings[-1] == "the network does not ask for the columns width; they are left out"


def test_training_goes_on_from_a_version(tmp_path: Path) -> None:
    rows = table("wine")
    first, out = learn(tmp_path / "first", data_of(tmp_path / "first", rows, 40), {"net.py": NET}, {"epochs": 20})
    start = Start(out, {}, {"probabilities": first.class_labels or []}, [])
    data = data_of(tmp_path / "second", rows[:120], 30, replay=rows[120:])
    second, _ = learn(
        tmp_path / "second", data, {"net.py": NET}, {"epochs": 1, "learning_rate": 1e-6, "replay_share": 0.25},
        start=start,
    )  # fmt: skip
    assert second.report["replayed"] == 22
    assert second.report["history"][0]["validation_accuracy"] > 0.85
    wrong = (json.loads((out / "training/model.json").read_text()), "another")
    assert wrong[0]["recipe"] == "module"
    with pytest.raises(InvalidInput, match=r"start: .*layers\.0\.bias is \[64\] and not \[5\], and 2 more"):
        learn(
            tmp_path / "other",
            data_of(tmp_path / "other", rows, 30),
            {"net.py": NET},
            {"params": {"hidden": 5}},
            start=start,
        )


INNER = "def made(data):\n    return 1 / 0\n"
LAST = "return self.layers(numbers)"
LATER = NET.replace(LAST, f"if self.training: raise ValueError('not today')\n        {LAST}")
BRANCH = NET.replace(LAST, "return self.layers(numbers if float(numbers.sum()) > -1e9 else -numbers)")
RAISES = "def build(data):\n    raise KeyError('no such column')\n"
BAD = {
    "raises": ({"net.py": RAISES}, r"net:build failed: KeyError: 'no such column' \(net\.py, line 2\)"),
    "deep": (
        {"net.py": "from parts_of_net import inner\nbuild = inner.made\n", "parts_of_net/inner.py": INNER},
        r"ZeroDivisionError: division by zero \(parts_of_net/inner\.py, line 2\)",
    ),
    "syntax": ({"net.py": "def build(data:\n"}, r"SyntaxError: .* \(net\.py, line 1\)"),
    "missing file": ({}, r"ModuleNotFoundError: No module named 'net'"),
    "no function": ({"net.py": "x = 1\n"}, r"'net' has no function 'build'"),
    "no pair": ({"net.py": "def build(data):\n    return 3\n"}, r"has to give back \(network, loss\).*it gave int"),
    "too many params": (
        {"net.py": NET}, r"TypeError: build\(\) got an unexpected keyword argument 'depth'", {"params": {"depth": 3}},
    ),
    "forward": (
        {"net.py": NET.replace("return self.layers(numbers)", "return self.layers(numbers[:, :5])")},
        r"RuntimeError: .*shapes cannot be multiplied.* \(net\.py, line 10\)",
    ),
    "shape": (
        {"net.py": NET.replace("hidden, len(data.classes))", "hidden, 7)")},
        r"gave \[2, 7\]; it has to give \[rows, 3\]",
    ),
    "loss": (
        {"net.py": NET.replace("nn.CrossEntropyLoss()", "nn.CrossEntropyLoss(reduction='none')")},
        r"the loss has to be one number",
    ),
    "later": ({"net.py": LATER}, r"ValueError: not today \(net\.py, line 10\)"),
    "untraceable": ({"net.py": BRANCH}, r"the network cannot be put into ONNX"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_the_callers_mistakes_are_told_with_their_lines(tmp_path: Path, name: str) -> None:
    files, message, *more = BAD[name]
    data = data_of(tmp_path, table("wine"), 40)
    with pytest.raises(InvalidInput, match=message) as raised:
        learn(tmp_path, data, files, {"epochs": 1, **(more[0] if more else {})})
    assert str(tmp_path) not in raised.value.message
    assert "site-packages" not in raised.value.message


def test_columns_that_no_network_takes_are_named(tmp_path: Path) -> None:
    rows = table("wine").append_column("colour", pa.array(["red"] * 178))
    with pytest.raises(InvalidInput, match="column 'colour' is string, which no network takes; exclude it"):
        learn(tmp_path / "text", data_of(tmp_path / "text", rows, 40), {"net.py": NET}, {})
    ragged = table("wine").append_column("list", pa.array([[1.0] * (1 + at % 2) for at in range(178)]))
    with pytest.raises(InvalidInput, match="column 'list': a network needs lists of one length"):
        learn(tmp_path / "list", data_of(tmp_path / "list", ragged, 40), {"net.py": NET}, {})
    same = table("wine").append_column("copy", table("wine")["target"])
    trained, _ = learn(tmp_path / "leak", data_of(tmp_path / "leak", same, 40), {"net.py": NET}, {"epochs": 1})
    assert any("'copy'" in warning for warning in trained.warnings)
