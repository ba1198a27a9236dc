"""Tables through the whole job: collected, learnt, judged as served on replicas, registered, asked by batch."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelport.control.actors import Actor
from modelport.control.assembly import build_services
from modelport.control.work.train import Train
from modelport.settings import Settings
from tests.data import lab as labs
from tests.training.tables import cars, elnino, fair, sklearn_table


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[labs.Lab]:
    monkeypatch.setitem(labs.KINDS, "train", Train)
    services = build_services(Settings(home=tmp_path / "home"), owner_token=None, keys_required=False)
    yield labs.Lab(services, Actor(1, "default", "tester", "admin"), tmp_path)
    services.database.close()


def parquet(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def learnt(lab: labs.Lab, table: pa.Table, **params: Any) -> dict[str, Any]:
    lab.collect("rows", {"rows.parquet": parquet(table)})
    return lab.run("train", data="rows", name="made", **params)


def test_mixed_columns_with_gaps_and_dates(lab: labs.Lab) -> None:
    result = learnt(lab, cars(), recipe="tabular", target="Origin", options={"model": "logistic", "importance": False})
    assert result["task"] == "classification" and result["accuracy"] > 0.75
    assert result["model"] == "made:1" and result["format"] == "onnx"
    lab.run("predict", model="made", data="rows", nulls="nan")
    assert {row["label"] for row in lab.rows("rows-predictions")} == {"Europe", "Japan", "USA"}


@pytest.mark.prove
@pytest.mark.parametrize("kind", ["bool", "string", "int"])
def test_a_target_of_every_type_is_judged(lab: labs.Lab, kind: str) -> None:
    table, _ = sklearn_table("breast_cancer")
    truth = table["target"].to_pylist()
    given = {"bool": [bool(v) for v in truth], "string": ["good" if v else "bad" for v in truth], "int": truth}[kind]
    table = table.drop(["target"]).append_column("label", pa.array(given))
    for recipe in ("tabular", "ranking", "anomaly"):
        result = learnt(lab, table, recipe=recipe, target="label")
        assert result["roc_auc"] > (0.95 if recipe != "anomaly" else 0.1)


@pytest.mark.prove
def test_rare_events_are_judged_by_their_score(lab: labs.Lab) -> None:
    result = learnt(lab, fair(), recipe="ranking", target="unfaithful", options={"model": "logistic"})
    assert result["task"] == "ranking" and result["roc_auc"] > 0.7
    assert result["pr_auc"] == pytest.approx(result["training"]["validation_pr_auc"], abs=1e-3)


@pytest.mark.prove
def test_anomalies_are_judged_by_labels(lab: labs.Lab) -> None:
    table, _ = sklearn_table("breast_cancer")
    table = table.drop(["target"]).append_column("bad", pa.array([1 - value for value in table["target"].to_pylist()]))
    result = learnt(lab, table, recipe="anomaly", target="bad", options={"method": "knn"})
    assert result["task"] == "anomaly" and result["roc_auc"] > 0.75
    without = learnt(lab, table.drop(["bad"]), recipe="anomaly")
    assert without["model"] == "made:2"


def test_forecasts_are_judged_by_the_time_after(lab: labs.Lab) -> None:
    options = {"time": "month", "season": 12, "horizon": 3, "model": "ridge"}
    result = learnt(lab, elnino(), recipe="forecast", target="temperature", options=options)
    assert result["task"] == "forecast" and result["main"] == "mae"
    assert result["mae"] < result["seasonal_naive_mae"] < result["naive_mae"]


def test_a_recipe_that_judges_itself_gives_no_figures_of_the_test_part(lab: labs.Lab) -> None:
    """What it tells is about the validation rows; nothing may pass for a test."""
    lab.collect("rows", {"rows.parquet": parquet(elnino())})
    lab.run("split", dataset="rows", name="parts", time="month", ratios={"train": 0.6, "validation": 0.2, "test": 0.2})
    options = {"time": "month", "season": 12, "horizon": 3, "model": "ridge"}
    result = lab.run("train", data="parts", recipe="forecast", target="temperature", name="made", options=options)
    assert set(result["figures"]) == {"validation"}
    assert any("part 'test' was not judged" in text for text in result["warnings"])
    metrics = lab.services.registry.version(lab.actor, "made").manifest.metrics
    assert not [name for name in metrics if name.startswith("test_")] and metrics["validation_mae"] == result["mae"]
    assert [one.data for one in lab.services.evaluations.list(lab.actor, "made")] == ["parts:1/validation"]


@pytest.mark.prove
def test_a_version_learns_on_and_old_rows_are_remembered(lab: labs.Lab) -> None:
    table, target = sklearn_table("breast_cancer")
    lab.collect("old", {"old.parquet": parquet(table.slice(0, 300))})
    lab.collect("new", {"new.parquet": parquet(table.slice(300))})
    shared: dict[str, Any] = {"recipe": "tabular", "target": target, "name": "made"}
    lab.run("train", data="old", options={"model": "sgd", "importance": False}, **shared)
    result = lab.run(
        "train", data="new", start="made:1", replay="old", max_forgotten=0.1, options={"importance": False}, **shared
    )
    assert result["model"] == "made:2" and result["accuracy"] > 0.9
    figures = result["figures"]
    assert figures["replay"]["accuracy"] > figures["replay_before"]["accuracy"] - 0.1
