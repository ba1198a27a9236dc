"""scikit-learn models saved with skops: what is read, what is trusted, and that serving gives their own answers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import MultinomialNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from modelport.engine.formats.sklearn import SklearnFormat
from modelport.engine.runtime import Inspected, LoadOptions, Trust
from modelport.engine.runtimes.sklearn import SklearnRuntime
from modelport.errors import ArtifactRefused, ModelRejectedInput
from modelport.tensors import Array, TensorSpec, check_inputs, datatype_of

IRIS, IRIS_TARGET = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[IRIS_TARGET]
DIABETES, DIABETES_TARGET = load_diabetes(return_X_y=True)
TREES = ("sklearn.tree._tree.Tree",)
TEXTS = ["the cat sat", "dogs run far", "a cat naps", "a dog ran"]


def look(folder: Path, estimator: Any, trust: tuple[str, ...] = ()) -> Inspected:
    skops.io.dump(estimator, folder / "anything.bin")
    files = ("anything.bin",)
    assert SklearnFormat().recognises(folder, files)
    return SklearnFormat().inspect(folder, files, Trust(trust))


def serve(folder: Path, found: Inspected, rows: Array, trust: tuple[str, ...] = ()) -> dict[str, Array]:
    options = LoadOptions(folder, ("anything.bin",), found.signature, found.labels, 1, Trust(trust))
    check_inputs(found.signature, {"input": rows})
    outputs = SklearnRuntime.load(options).infer({"input": rows})
    for spec in found.signature.outputs:
        array = outputs[spec.name]
        assert datatype_of(array.dtype) == spec.datatype
        assert array.shape == (len(rows), *spec.shape[1:])
    return outputs


CLASSIFIERS: list[Callable[[], Any]] = [
    lambda: LogisticRegression(max_iter=300),
    lambda: make_pipeline(StandardScaler(), SVC(probability=True)),
    lambda: MLPClassifier((8,), max_iter=50),
    lambda: RandomForestClassifier(5, n_jobs=-1),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", CLASSIFIERS, ids=["logistic", "pipeline", "mlp", "forest"])
@pytest.mark.parametrize("target", [IRIS_TARGET, NAMES], ids=["numbers", "names"])
def test_classifiers(make: Callable[[], Any], target: Array, tmp_path: Path) -> None:
    estimator = make().fit(IRIS, target)
    found = look(tmp_path, estimator, TREES)
    assert found.signature.inputs == (TensorSpec("input", "FP64", (-1, 4)),)
    assert found.labels == {"probabilities": [str(name) for name in estimator.classes_]}
    answer = serve(tmp_path, found, IRIS, TREES)
    expected = estimator.predict(IRIS)
    labels = answer["label"].tolist()
    assert [x.decode() if isinstance(x, bytes) else x for x in labels] == expected.tolist()
    np.testing.assert_array_equal(answer["probabilities"], estimator.predict_proba(IRIS))


@pytest.mark.parametrize(
    ("estimator", "output", "datatype"),
    [
        (LinearRegression().fit(DIABETES, DIABETES_TARGET), (-1,), "FP64"),
        (LinearRegression().fit(DIABETES, np.stack([DIABETES_TARGET] * 3, 1)), (-1, 3), "FP64"),
        (PCA(2).fit(DIABETES), (-1, 2), "FP64"),
        (KMeans(3, n_init=1).fit(DIABETES), (-1,), "INT64"),
    ],
    ids=["regressor", "several-outputs", "transformer", "clusterer"],
)
def test_others_give_one_output(estimator: Any, output: tuple[int, ...], datatype: str, tmp_path: Path) -> None:
    found = look(tmp_path, estimator)
    assert found.signature.outputs == (TensorSpec("output", datatype, output),)
    method = estimator.predict if hasattr(estimator, "predict") else estimator.transform
    np.testing.assert_array_equal(serve(tmp_path, found, DIABETES)["output"], method(DIABETES))


def test_sparse_results_become_dense(tmp_path: Path) -> None:
    encoder = OneHotEncoder(handle_unknown="ignore").fit(np.array([[1.0], [2.0]]))
    found = look(tmp_path, encoder)
    assert serve(tmp_path, found, np.array([[2.0], [1.0]]))["output"].tolist() == [[0, 1], [1, 0]]


def test_texts(tmp_path: Path) -> None:
    estimator = make_pipeline(TfidfVectorizer(), MultinomialNB()).fit(TEXTS, ["cat", "dog", "cat", "dog"])
    found = look(tmp_path, estimator)
    assert found.signature.inputs == (TensorSpec("input", "BYTES", (-1,)),)
    rows = np.array([b"the cat", b"a dog"], object)
    assert serve(tmp_path, found, rows)["label"].tolist() == [b"cat", b"dog"]
    with pytest.raises(ModelRejectedInput, match="not UTF-8"):
        serve(tmp_path, found, np.array([b"\xff"], object))


def test_a_classifier_without_probabilities(tmp_path: Path) -> None:
    found = look(tmp_path, RidgeClassifier().fit(IRIS, IRIS_TARGET))
    assert [spec.name for spec in found.signature.outputs] == ["label"]


def test_several_labels_per_row(tmp_path: Path) -> None:
    both = np.stack([IRIS_TARGET, IRIS_TARGET % 2], 1)
    found = look(tmp_path, MultiOutputClassifier(LogisticRegression(max_iter=300)).fit(IRIS, both))
    assert found.signature.outputs == (TensorSpec("label", "INT64", (-1, 2)),)


def test_values_that_the_estimator_refuses(tmp_path: Path) -> None:
    found = look(tmp_path, LogisticRegression(max_iter=300).fit(IRIS, IRIS_TARGET))
    with pytest.raises(ModelRejectedInput, match="NaN") as caught:
        serve(tmp_path, found, np.full((1, 4), np.nan))
    assert "\n" not in caught.value.message


def test_untrusted_types_are_named_and_nothing_is_loaded(tmp_path: Path) -> None:
    forest = RandomForestClassifier(2).fit(IRIS, IRIS_TARGET)
    with pytest.raises(ArtifactRefused, match=r"sklearn\.tree\._tree\.Tree.*MODELPORT_TRUST_SKLEARN_TYPES"):
        look(tmp_path, forest)
    found = look(tmp_path, forest, TREES)
    with pytest.raises(ArtifactRefused, match="does not trust"):
        serve(tmp_path, found, IRIS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OneHotEncoder().fit(np.array([["a"], ["b"]], object)), "skl2onnx"),
        (lambda: [1, 2], "not a scikit-learn estimator"),
        (LogisticRegression, "not fitted"),
    ],
)
def test_what_cannot_be_served_says_why(make: Callable[[], Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactRefused, match=message):
        look(tmp_path, make())


def test_columns_chosen_by_position(tmp_path: Path) -> None:
    chosen = ColumnTransformer([("scale", StandardScaler(), [0, 2])]).fit(IRIS)
    found = look(tmp_path, chosen)
    np.testing.assert_array_equal(serve(tmp_path, found, IRIS)["output"], chosen.transform(IRIS))


def test_outliers(tmp_path: Path) -> None:
    forest = IsolationForest(n_estimators=5, random_state=0).fit(IRIS)
    found = look(tmp_path, forest, TREES)
    np.testing.assert_array_equal(serve(tmp_path, found, IRIS, TREES)["output"], forest.predict(IRIS))


def test_no_estimator_costs_a_load_of_torch(tmp_path: Path) -> None:
    """Where torch is installed: this one only says that somebody loaded it."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("print('torch is loaded')\n")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    plain = "import sklearn.externals.array_api_compat.torch"
    done = subprocess.run([sys.executable, "-c", plain], env=env, capture_output=True, text=True)
    assert "torch is loaded" in done.stdout, "there would be nothing to see"
    code = "import modelport.engine.runtimes.sklearn, sklearn.linear_model; print('done')"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout == "done\n", done.stderr
