"""The public benchmark's own parts: models are the same everywhere, bodies read back, tables tell the truth."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnxruntime
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(FOLDER))

import contenders  # noqa: E402
import models  # noqa: E402
import picture  # noqa: E402
import report  # noqa: E402
import wire  # noqa: E402


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, models.Model]:
    return models.write(tmp_path_factory.mktemp("models"))


def test_models_are_the_same_bytes_every_time(written: dict[str, models.Model], tmp_path: Path) -> None:
    again = models.write(tmp_path)
    assert {name: model.file.read_bytes() for name, model in again.items()} == {
        name: model.file.read_bytes() for name, model in written.items()
    }


def test_models_take_batches_and_their_rows_do_not_mix(written: dict[str, models.Model]) -> None:
    for model in written.values():
        session = onnxruntime.InferenceSession(str(model.file), providers=["CPUExecutionProvider"])
        other = model.row[::-1].copy()
        alone = session.run(None, {"input": model.row[None]})[0][0]
        together = session.run(None, {"input": np.stack([other, model.row])})[0]
        np.testing.assert_allclose(together[1], alone, rtol=1e-3, atol=1e-4)
        assert not np.allclose(together[0], together[1]), "a model that says the same to all would hide wrong answers"


def test_bodies_have_the_sizes_that_are_promised(written: dict[str, models.Model]) -> None:
    sizes = {name: len(wire.request("rows" if name == "m1" else "raw", written[name].row)[1]) for name in written}
    assert 400 < sizes["m1"] < 500
    assert (sizes["m2"], sizes["m3"]) == (602_112, 4_096)


def test_every_contender_sends_the_row_exactly(written: dict[str, models.Model]) -> None:
    """A request's own numbers, read as an answer of the same wire would be."""
    for contender in contenders.CONTENDERS:
        for name, used in contender.wire.items():
            headers, body = wire.request(used, written[name].row)
            for ours, theirs in ((b'"data":', b'"result":'), (b'"inputs"', b'"outputs"')):
                if used in ("rows", "v2-json", "v2-base64"):
                    body = body.replace(ours, theirs if used == "rows" or ours != b'"data":' else ours)
            if used == "bento-json":
                body = body.removeprefix(b'{"data":').removesuffix(b"}")
            if used.startswith("mlflow"):
                body = body.replace(b'"inputs"', b'"predictions"')
            np.testing.assert_array_equal(wire.answer(used, headers, body), written[name].row.reshape(-1))


def record(contender: str, number: int, rate: float, layout: str = "one") -> dict[str, Any]:
    load = {"1": {"rate": rate, "p50_ms": 1.0, "p99_ms": 2.0, "failed": 0}}
    return {
        "round": number, "layout": layout, "model": "m1", "contender": contender, "cold_s": 1.0,
        "pss_idle_mb": 10.0, "pss_loaded_mb": 20.0, "load": load,
    }  # fmt: skip


def results(*records: dict[str, Any]) -> dict[str, Any]:
    raw = [{"round": 1, "layout": "one", "model": "m1", "batch": 1, "rows_per_s": 1000.0}]
    facts = dict.fromkeys(
        ("date", "processor", "cores", "load_average_before", "python", "onnxruntime", "command"), "x"
    )
    return {**facts, "raw": raw, "failures": [], "records": list(records)}


def test_ratios_are_medians_within_rounds() -> None:
    """A round in which the whole machine was slow does not move them."""
    ours = [record("modelport", 1, 200), record("modelport", 2, 20), record("modelport", 3, 220)]
    theirs = [record("mosec", 1, 100), record("mosec", 2, 10), record("mosec", 4, 999)]
    assert report.ratio(ours, theirs, "1") == 2
    assert report.rate(ours, "1") == 200
    assert report.ratio(ours, [], "1") is None
    assert report.ratio(ours, [record("mosec", 1, 0)], "1") is None  # a peer that answered nothing


def test_table_names_the_best_peer_and_not_a_limit() -> None:
    found = results(
        record("modelport", 1, 300), record("mosec", 1, 200), record("fastapi", 1, 100), record("echo-granian", 1, 900)
    )
    text = report.markdown(found)
    assert "Modelport is 1.50 × mosec at 1 (the best peer of each column)." in text
    assert "| raw ONNX Runtime, batch 1 | 1,000 | 0.30 × |" in text
    assert "| FastAPI by hand | 100 | 3.00 × | 10 / 20 | 1.00 | 0 |" in text


def test_two_layouts_and_two_replicas_are_compared() -> None:
    found = results(
        record("modelport", 1, 100), record("modelport", 1, 120, "two"), record("modelport-2", 1, 210, "two")
    )
    text = report.markdown(found)
    assert "| m1 | Modelport, two replicas | 2.10 × |" in text
    assert "Two replicas against one, two cores\n\n|  | at 1 |\n| --- | --- |\n| m1 | 1.75 × |" in text


def test_picture_is_a_picture() -> None:
    panel = picture.Panel("a < b", ["1", "16"], {"Modelport": [10, 20], "x & y": [0, 5]}, {"Modelport"}, 30)
    drawn = ElementTree.fromstring(picture.svg([panel]))
    bars = [bar for bar in drawn.iter("{http://www.w3.org/2000/svg}rect") if bar.get("fill") != "white"]
    widths = [float(bar.get("width", "")) for bar in bars]
    assert widths[1] == pytest.approx(2 * widths[0], rel=1e-3)
    assert widths[2] == 0
