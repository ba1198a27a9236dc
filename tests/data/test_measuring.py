"""Versions measured as they are served, on real replicas: alone, by turns, and where nothing can be measured."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelport.control.work.measuring import Subject, _p99, _Turn, compare, measure
from modelport.control.work.questions import Rows, questions
from modelport.engine.proof import sample_inputs
from modelport.errors import InvalidInput, NotFound, Unavailable
from tests.data.digits import digits_onnx, digits_table
from tests.data.lab import Lab
from tests.onnx_models import crasher, fixed_batch, slow


def test_real_rows_through_a_real_replica(lab: Lab, tmp_path: Path) -> None:
    version = lab.push("digits", digits_onnx())
    part = tmp_path / "digits.parquet"
    pq.write_table(digits_table(), part)
    before = Path.cwd()
    rows = Rows([part], truth="label", inputs={"X": ["p*"]})
    found = measure(lab.job(), version.manifest, rows=rows, seconds=0.5)
    assert Path.cwd() == before
    assert found.model == "digits:1" and found.asked == "rows" and found.reason is None
    assert found.latency is not None and found.latency.batch == 1 and found.latency.calls >= 100
    assert 0 < found.latency.model_ms < found.latency.p50_ms <= found.latency.p99_ms
    assert [one.batch for one in found.throughput] == [32]
    assert found.rows_per_s > 32 * found.throughput[0].calls / 60  # rows count, not calls
    assert found.memory_mb is not None and 10 < found.memory_mb <= found.peak_mb < 2000
    assert 0 < found.start_s < 60
    assert found.served_bytes == found.total_bytes == len(digits_onnx())
    assert not list((tmp_path / "jobs" / "job-1").rglob("*.sock"))


def test_by_turns_the_work_decides_and_not_the_noise(lab: Lab) -> None:
    light, heavy = lab.push("work", slow(1)), lab.push("work", slow(8))
    found = compare(lab.job(), Subject(heavy.manifest), Subject(light.manifest), seconds=0.25)
    assert (found.one.model, found.other.model) == ("work:2", "work:1")
    assert found.one.asked == found.other.asked == "made up"
    assert found.faster_model > 2 and found.faster > 1.5 and found.more_rows > 1.5  # of eight, on a busy machine
    assert found.smaller == pytest.approx(heavy.size / light.size)
    assert 0.5 < found.leaner < 2


def test_a_draft_is_measured_by_its_sample_in_a_folder(lab: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "draft"
    (folder / "training").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(digits_onnx())
    (folder / "training" / "training.json").write_text("{}")
    sample = {"inputs": [{"name": "X", "datatype": "FP32", "shape": [2, 64], "data": list(range(128))}]}
    version = lab.push_files(
        "draft", {"model.onnx": digits_onnx(), "training/training.json": "{}"}, sample=sample
    )  # fmt: skip
    manifest = version.manifest.model_copy(update={"version": 0})
    found = measure(lab.job(), manifest, files=folder, batches=(1, 5), seconds=0.2)
    assert found.model == "draft:0" and found.asked == "sample"
    assert found.total_bytes - found.served_bytes == 2
    asked = questions(manifest, folder, None).ways[0]
    whole = sample_inputs(manifest.signature, sample)["X"]
    assert [inputs["X"].tolist() for inputs in asked(1)] == [whole[:1].tolist(), whole[1:].tolist()]
    assert [row[0] for row in asked(5)[0]["X"].tolist()] == [0, 64, 0, 64, 0]


def test_one_row_at_a_time_where_rows_share_no_run(lab: Lab) -> None:
    found = measure(lab.job(), lab.push("fixed", fixed_batch(2)).manifest, seconds=0.2)
    assert found.latency is not None and [one.batch for one in found.throughput] == [1]


def test_what_has_no_runtime_has_sizes_and_a_reason(lab: Lab) -> None:
    version = lab.push("digits", digits_onnx())
    kept = version.manifest.model_copy(update={"runtime": "", "details": {"not_served": "GGUF is for llama.cpp"}})
    found = compare(lab.job(), Subject(kept), Subject(version.manifest), seconds=0.2)
    assert found.one.reason == "GGUF is for llama.cpp" and found.one.latency is None and found.one.served_bytes > 0
    assert found.other.latency is not None and (found.faster, found.more_rows, found.leaner) == (None, None, None)


def test_bad_rows_and_a_replica_that_dies_are_told(lab: Lab, tmp_path: Path) -> None:
    version = lab.push("digits", digits_onnx())
    part = tmp_path / "other.parquet"
    pq.write_table(pa.table({"X": [[1.0, 2.0]], "label": [1]}), part)
    with pytest.raises(InvalidInput, match=r"no row can be asked about: column 'X' has .* takes \[64\]"):
        measure(lab.job(), version.manifest, rows=Rows([part], "label"))
    with pytest.raises(NotFound, match="inputs.X: the data has no column 'label'"):  # the truth is no input
        measure(lab.job(), version.manifest, rows=Rows([part], "label", {"X": ["label"]}))
    part = tmp_path / "deadly.parquet"
    pq.write_table(pa.table({"input": [1, -(2**63)]}), part)
    deadly = lab.push("crasher", crasher())
    with pytest.raises(Unavailable, match="crasher:1: its replica died while it was measured"):
        measure(lab.job(), deadly.manifest, rows=Rows([part]), seconds=0.2)


def test_one_bad_moment_does_not_make_the_p99() -> None:
    turns = [_Turn([10] * 150) for _ in range(6)]
    turns[2].all_ns[:20] = [1000] * 20
    assert _p99(turns) == 10
    assert _p99([_Turn([10] * 40 + [1000])]) == pytest.approx(604, abs=1)  # too few to be told by parts
