"""Batch inference over other runtimes than ONNX: rows out are what each library says of the same rows itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import skops.io
from sklearn.datasets import load_iris
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modelport.control.actors import Actor
from modelport.control.jobs.run import params_of
from modelport.control.work.predict import Predict
from modelport.errors import NotFound
from modelport.schemas.models import VersionPush
from modelport.storage import tables
from tests import huggingface_models
from tests.data.lab import Lab
from tests.data.test_predict import parquet
from tests.onnx_models import mlp

TEXTS = ["the cat", "a cat sat on the mat", "the  cat", "on the mat"] * 30


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The folder of a model to be pushed."""
    (tmp_path / "model").mkdir()
    return tmp_path / "model"


def _predicted(lab: Lab, data: pa.Table, **params: Any) -> pa.Table:
    lab.collect("data", {"t.parquet": parquet(data)})
    lab.run("predict", model="m", data="data", to="dataset:found", **params)
    found = lab.table("found")
    assert found.column("row").to_pylist() == list(range(len(data)))
    return found


def test_scikit_learn_by_the_names_of_columns(lab: Lab, model: Path) -> None:
    rows, classes = load_iris(return_X_y=True)
    frame = pd.DataFrame(rows, columns=["sepal_length", "sepal_width", "petal_length", "petal_width"])
    names = np.array(["setosa", "versicolor", "virginica"])[classes]
    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)).fit(frame, names)
    skops.io.dump(fitted, model / "model.skops")
    lab.push_folder("m", model)
    shuffled = frame[["petal_width", "sepal_width", "petal_length", "sepal_length"]].assign(kind=names)
    found = _predicted(lab, pa.Table.from_pandas(shuffled), keep=["kind"], probabilities=True, shard_rows=60, workers=2)
    assert found.column("label").to_pylist() == fitted.predict(frame).tolist()
    np.testing.assert_allclose(
        np.stack(found.column("probabilities").to_pylist()), fitted.predict_proba(frame), rtol=1e-5
    )


def test_scikit_learn_over_texts(lab: Lab, model: Path) -> None:
    fitted = make_pipeline(TfidfVectorizer(), MultinomialNB()).fit(TEXTS, ["b", "a", "b", "a"] * 30)
    skops.io.dump(fitted, model / "model.skops")
    lab.push_folder("m", model)
    assert _predicted(lab, pa.table({"text": TEXTS})).column("label").to_pylist() == fitted.predict(TEXTS).tolist()


def test_sentences_of_a_hugging_face_folder(lab: Lab, model: Path) -> None:
    pytest.importorskip("tokenizers")
    expected = huggingface_models.onnx_encoder(model)
    lab.push_folder("m", model)
    found = _predicted(lab, pa.table({"n": range(len(TEXTS)), "text": TEXTS}))
    np.testing.assert_allclose(np.stack(found.column("embeddings").to_pylist()), expected(TEXTS), atol=1e-6)


def test_a_classifier_of_transformers(lab: Lab, model: Path) -> None:
    pytest.importorskip("tokenizers")
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=10, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=16,
        id2label={0: "bad", 1: "good", 2: "odd"}, pad_token_id=0,
    )  # fmt: skip
    network = transformers.BertForSequenceClassification(config).eval()
    network.save_pretrained(model)
    huggingface_models.write(model, tokenizer_json=huggingface_models.tokenizer())
    lab.push_folder("m", model)
    found = _predicted(lab, pa.table({"text": TEXTS}), probabilities=True)
    for row, text in enumerate(TEXTS[:4]):
        ids = [2, *(huggingface_models.WORDS.index(word) for word in text.split()), 3]
        with torch.inference_mode():
            scores = torch.softmax(network(torch.tensor([ids])).logits, -1).numpy()[0]
        np.testing.assert_allclose(found.column("probabilities")[row].as_py(), scores, atol=1e-6)
        assert found.column("label")[row].as_py() == ["bad", "good", "odd"][int(scores.argmax())]


def test_another_projects_model_and_data_are_not_there(lab: Lab) -> None:
    lab.push("mine", mlp((2, 3)))
    lab.collect("mine", {"t.parquet": parquet(pa.table({"a": [1.0], "b": [2.0]}))})
    with lab.services.database.session() as session:
        session.add(tables.Project(id=2, name="other"))
    stranger = Actor(2, "other", "somebody", "admin")
    for params in ({"model": "mine", "data": "mine"}, {"model": "mine:1", "data": "mine:1"}):
        for name in ("mine", "none"):
            asked = {key: value.replace("mine", name) for key, value in params.items()}
            with pytest.raises(NotFound) as told:
                Predict().check(lab.services, stranger, params_of(Predict(), asked))
            assert told.value.message == f"there is no model {name!r}; `modelport models list` shows those there are"
    lab.services.registry.push(stranger, "mine", _push(lab, stranger))
    for name in ("mine", "none"):
        with pytest.raises(NotFound) as told:
            Predict().check(lab.services, stranger, params_of(Predict(), {"model": "mine", "data": name}))
        assert told.value.message == f"there is no dataset {name!r}; `modelport data list` shows those there are"


def _push(lab: Lab, actor: Actor) -> Any:
    mine, lab.actor = lab.actor, actor
    try:
        return VersionPush(files=lab.send({"model.onnx": mlp((2, 3))}))
    finally:
        lab.actor = mine
