"""Real forests and boosted trees become smaller and answer alike; what cannot be is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pyarrow as pa
import pytest
from onnx import helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn import datasets, ensemble

from modelport.compression.method import Model, method_of
from modelport.compression.trees import graph, leaves
from modelport.compression.trees.ensemble import read, write
from modelport.errors import InvalidInput
from modelport.training.recipe import Trained, options_of
from modelport.training.recipes.tabular import Tabular
from tests.compression.versions import version_of
from tests.training import tables
from tests.training.tables import Case, Served


def version(folder: Path, table: pa.Table, target: str, **options: Any) -> tuple[Case, Model, pa.Table]:
    """A version that was trained here, and rows that neither it nor what shrinks it has seen."""
    order = np.random.default_rng(0).permutation(len(table))
    unseen, rest = table.take(order[: len(table) // 4]), table.take(order[len(table) // 4 :])
    found = tables.case(folder, rest, target)
    trained, _ = found.train(Tabular(), importance=False, **options)
    return found, version_of(folder / "run" / "out", trained), unseen


def shrunk(found: Case, model: Model, name: str = "shrunk", **options: Any) -> tuple[Trained, Served]:
    """By the method, as the job asks it."""
    method, data = method_of("trees"), found.data()
    checked = options_of(method, options)  # type: ignore[arg-type]
    method.check(model, data, checked)
    run = found.run(name)
    trained = method.compress(run, model, data, checked)
    version_of(run.out, trained)  # it can be registered
    return trained, Served(run.out)


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Model, pa.Table]:
    """A forest that tells cancers apart (569 rows)."""
    table, target = tables.sklearn_table("breast_cancer")
    return version(tmp_path_factory.mktemp("cells"), table, target, model="forest")


def accuracy(served: Served, rows: pa.Table) -> float:
    return float((served.ask(rows)["label"] == rows["target"].to_numpy()).mean())


def size(model: Model | Path) -> int:
    return ((model.folder if isinstance(model, Model) else model) / "model.onnx").stat().st_size


def test_a_forest_becomes_smaller_and_answers_nearly_alike(cells: tuple[Case, Model, pa.Table]) -> None:
    found, model, unseen = cells
    trained, served = shrunk(found, model)
    assert size(model) / size(found.folder / "shrunk" / "out") >= 4
    assert accuracy(served, unseen) >= accuracy(Served(model.folder), unseen) - 0.02
    chances = served.ask(unseen)["probabilities"]
    assert chances.shape == (len(unseen), 2)
    assert np.allclose(chances.sum(1), 1, atol=1e-5)
    assert trained.report["after"]["leaves"] < trained.report["before"]["leaves"] / 2
    assert served.found.labels == Served(model.folder).found.labels == {"probabilities": ["0", "1"]}
    inputs = [one.name for one in served.found.signature.inputs]
    assert inputs == [one.name for one in model.manifest.signature.inputs]


def test_the_same_seed_gives_the_same_file(cells: tuple[Case, Model, pa.Table]) -> None:
    found, model, _ = cells
    for name in ("one", "two"):
        shrunk(found, model, name, trees=10, leaves=0.5)
    one, two = ((found.folder / name / "out" / "model.onnx").read_bytes() for name in ("one", "two"))
    assert one == two
    trees = read(graph.tree_node(onnx.load_from_string(one)))
    assert trees.trees == 10


@pytest.mark.parametrize("into", ["tree", "mlp"])
def test_a_forest_teaches_a_small_student(cells: tuple[Case, Model, pa.Table], into: str) -> None:
    found, model, unseen = cells
    _, served = shrunk(found, model, into, into=into)
    assert size(model) / size(found.folder / into / "out") > 4
    assert accuracy(served, unseen) > 0.88  # the commoner class alone is 0.63


def test_boosting_loses_its_last_rounds_and_numbers_stay_near(tmp_path: Path) -> None:
    table, target = tables.sklearn_table("diabetes")
    found, model, unseen = version(tmp_path, table, target, model="boosting")
    trained, served = shrunk(found, model, ratio=8)
    assert size(model) / size(tmp_path / "shrunk" / "out") >= 8
    old, new = (one.ask(unseen)["prediction"].reshape(-1) for one in (Served(model.folder), served))
    assert np.corrcoef(old, new)[0, 1] > 0.93
    assert trained.report["figure"] == "r2"
    assert trained.report["after"]["trees"] < 100


def test_classes_of_boosting_lose_rounds_together(tmp_path: Path) -> None:
    table, target = tables.sklearn_table("wine")
    found, model, unseen = version(tmp_path, table, target, model="boosting")
    trained, served = shrunk(found, model, max_drop=0.03)
    assert trained.report["after"]["bytes"] * 8 < trained.report["before"]["bytes"]
    assert trained.report["before"]["accuracy"] - trained.report["after"]["accuracy"] <= 0.03
    assert accuracy(served, unseen) > 0.85


def test_a_file_of_somebody_else(tmp_path: Path) -> None:
    """One matrix in, names of classes, scikit-learn's own boosting; the labels' output goes on."""
    bunch = datasets.load_wine()
    names = np.array(["barolo", "grignolino", "barbera"])[bunch.target]
    fitted = ensemble.GradientBoostingClassifier(n_estimators=60, random_state=0).fit(bunch.data[::2], names[::2])
    (tmp_path / "theirs").mkdir()
    proto = to_onnx(
        fitted, initial_types=[("X", FloatTensorType([None, 13]))], options={id(fitted): {"zipmap": False}},
        target_opset={"": 21, "ai.onnx.ml": 3},
    )  # fmt: skip
    (tmp_path / "theirs" / "model.onnx").write_bytes(proto.SerializeToString())
    vectors = pa.array(list(bunch.data), pa.list_(pa.float64()))
    found = tables.case(tmp_path, pa.table({"X": vectors, "wine": names}), "wine")
    model = version_of(tmp_path / "theirs", task="classification")
    for options in ({"ratio": 3}, {"into": "mlp"}):
        _, served = shrunk(found, model, str(options.get("into", "trees")), **options)
        answer = served._runtime.infer({"X": bunch.data.astype(np.float32)})
        assert [one.name for one in served.found.signature.outputs] == ["label", "probabilities"]
        assert np.mean([one.decode() == name for one, name in zip(answer["label"], names, strict=True)]) > 0.9


def test_trees_that_are_read_and_written_answer_as_before(cells: tuple[Case, Model, pa.Table]) -> None:
    _, model, unseen = cells
    proto = onnx.load(model.folder / "model.onnx")
    again = graph.with_node(proto, write(read(graph.tree_node(proto)), graph.tree_node(proto)))
    assert again.ByteSize() < 0.85 * proto.ByteSize()  # what says nothing is left out
    feed = {one.name: unseen[one.name].to_numpy()[:, None] for one in model.manifest.signature.inputs}
    old, new = (ort.InferenceSession(one.SerializeToString()).run(["probabilities"], feed)[0] for one in (proto, again))
    assert np.array_equal(old, new)


def test_merging_takes_the_leaves_that_say_nearly_the_same() -> None:
    """A tree of four leaves, 1, 1.1, 5 and 9: the first two become one, weighed by their rows."""
    node = helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", n_targets=1,
        nodes_treeids=[0] * 7, nodes_nodeids=list(range(7)), nodes_featureids=[0] * 7,
        nodes_values=[2.0, 1.0, 3.0, 0.0, 0.0, 0.0, 0.0], nodes_modes=["BRANCH_LEQ"] * 3 + ["LEAF"] * 4,
        nodes_truenodeids=[1, 3, 5, 0, 0, 0, 0], nodes_falsenodeids=[2, 4, 6, 0, 0, 0, 0],
        target_treeids=[0] * 4, target_nodeids=[3, 4, 5, 6], target_ids=[0] * 4, target_weights=[1.0, 1.1, 5.0, 9.0],
    )  # fmt: skip
    trees = read(node)
    rows = np.array([[0.0], [0.0], [0.0], [1.5], [2.5], [9.0]], np.float32)
    assert trees.sums(rows)[:, 0].tolist() == pytest.approx([1, 1, 1, 1.1, 5, 9])
    fewer = leaves.merged(trees, trees.reached(rows), 3)
    assert fewer.leaves == 3
    assert fewer.sums(rows)[:, 0].tolist() == pytest.approx([1.025] * 4 + [5, 9], abs=1e-3)
    assert leaves.merged(trees, trees.reached(rows), 1).leaves == 1
    refit = leaves.refitted(fewer, fewer.reached(rows), np.array([[2.0]] * 4 + [[5.0], [9.0]]), 1e-6, False)
    assert refit.sums(rows)[:, 0].tolist() == pytest.approx([2] * 4 + [5, 9], abs=1e-3)


def test_bad_input(cells: tuple[Case, Model, pa.Table], tmp_path: Path) -> None:
    found, model, _ = cells
    with pytest.raises(InvalidInput, match=r"no set of trees is 5000 times smaller.*the nearest is [0-9.]+ times"):
        shrunk(found, model, "a", ratio=5000)
    with pytest.raises(InvalidInput, match=r"loses at most 0 of accuracy.*the nearest"):
        shrunk(found, model, "b", into="tree", max_drop=0, max_leaves=2)
    with pytest.raises(InvalidInput, match=r"options.trees is for into=trees"):
        shrunk(found, model, "c", into="mlp", trees=3)
    table, target = tables.sklearn_table("wine")
    other, net, _ = version(tmp_path, table, target, model="logistic")
    with pytest.raises(InvalidInput, match="the model has no trees"):
        shrunk(other, net, "d")
    strange = tables.case(tmp_path / "strange", found.table.set_column(
        found.table.schema.get_field_index("target"), "target", pa.array([str(n % 5) for n in range(len(found.table))])
    ), "target")  # fmt: skip
    with pytest.raises(InvalidInput, match=r"class '[234]' is none of the model's"):
        shrunk(strange, model, "e")
