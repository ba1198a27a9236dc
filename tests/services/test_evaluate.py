"""Evaluation on a real server: the command, its report as a page, the record, a gate of a pipeline."""

from __future__ import annotations

import json
import os
import random
import re
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest
from sklearn import metrics

from modelport.errors import ModelportError
from modelport.sdk.client import Client
from tests.data.digits import digits_onnx, digits_table
from tests.data.test_evaluate import worse_onnx
from tests.services.conftest import Server
from tests.services.test_predict_batch import processes

HOSTILE = "<script>alert(1)</script>"
STAGE = {"model": "digits", "data": "digits/test", "inputs": {"X": ["p*"]}, "intervals": 0}


class Tags(HTMLParser):
    """What a page consists of, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)
        if tag not in ("meta", "rect", "path", "polyline", "circle") or (tag in ("rect", "circle")):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def prepare(client: Client) -> None:
    halves = [HOSTILE if number % 3 else "right" for number in range(1797)]
    client.datasets.collect(digits_table().append_column("half", pa.array(halves)), "all", label="label")
    client.datasets.split("all", "digits", seed=3, ratios={"train": 0.6, "validation": 0.2, "test": 0.2})


@pytest.mark.timeout(300)
def test_the_command_its_page_its_record_and_a_gate(own_server: Callable[..., Server], tmp_path: Path) -> None:
    server = own_server("--gateways", "1", MODELPORT_TRUST_PYTHON_PREDICTORS="true")
    server.push("digits", digits_onnx())
    server.push("worse", worse_onnx())
    (tmp_path / "mine.py").write_text("def rows_seen(truth, predicted, rows):\n    return len(rows['p0'])\n")
    page, report = tmp_path / "report.html", tmp_path / "report.json"
    flags = ("--data", "digits/test", "--input", "X=p*", "--slice", "half", "--against", "worse", "--intervals", "200")
    with server.client() as client:
        prepare(client)
        done = server.cli(
            "evaluate", "digits:1", *flags, "--metric", "mine:rows_seen", "--code", str(tmp_path / "mine.py"),
            "--html", str(page), "--report", str(report),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        client.datasets.pull("digits", 1, tmp_path / "rows")
        found = json.loads(report.read_text())
        figures = found["report"]["figures"]
        check_figures(tmp_path / "rows" / "test", figures)
        assert figures["rows_seen"] == found["report"]["rows"]
        assert "digits:1 is better than worse:1" in done.stdout and "few rows" not in done.stdout
        assert re.search(r"^accuracy +0\.\d+ +0\.\d+ to ", done.stdout, re.MULTILINE)
        listed = client.evaluations.list("digits")
        assert [(one.id, one.data, one.opened_before) for one in listed] == [(found["id"], "digits:1/test", 0)]
        assert client.evaluations.get(found["id"]).report is not None
        check_page(page.read_text(), found)
        gate(client)
        graded(server, client, tmp_path / "price.html")
    shown = server.cli("evaluations", "show", "digits:1", "--json")
    assert json.loads(shown.stdout)["opened_before"] == 1
    table = server.cli("evaluations", "list", "--data", "digits:1/test").stdout
    assert table.splitlines()[0].split()[:3] == ["ID", "MODEL", "DATA"] and "worse:1" in table
    missing = server.cli("evaluations", "show", "nobody")
    assert missing.returncode == 1 and "'nobody' was not judged yet" in missing.stderr


def graded(server: Server, client: Client, page: Path) -> None:
    """Measured as it is served, with the quality that the record knows; shown with the version."""
    flags = ("--data", "digits/test", "--input", "X=p*", "--seconds", "0.2", "--html", str(page))
    done = server.cli("grade", "digits:1", *flags)
    assert done.returncode == 0, done.stderr
    (found,) = client.grades.list("digits")
    accuracy = client.evaluations.list("digits", 1)[0].figures["accuracy"]
    assert found.quality is not None and (found.quality.value, found.quality.data) == (accuracy, "digits:1/test")
    assert found.measured.asked == "rows" and found.grade in done.stdout
    assert page.read_text().count("<circle") == 1 and not Tags(page.read_text()).open
    assert f"grade    {found.grade}: " in server.cli("models", "show", "digits").stdout
    assert client.grades.family("digits").relatives[0].best
    assert server.cli("grades", "digits").stdout.splitlines()[-1].startswith("digits:1 ")
    bad = server.cli("grade", "digits", "--data", "digits/test")
    assert bad.returncode == 1 and "--input X=COLUMN" in bad.stderr


def check_figures(folder: Path, figures: dict[str, float]) -> None:
    """They are scikit-learn's, of what the model says in this process."""
    import pyarrow.parquet as pq

    table = pq.read_table(folder)
    images = np.stack([table.column(f"p{n}").to_numpy() for n in range(64)], axis=1).astype(np.float32)
    labels, chances = onnxruntime.InferenceSession(digits_onnx()).run(None, {"X": images})
    truth = table.column("label").to_numpy()
    assert figures["accuracy"] == metrics.accuracy_score(truth, labels)
    assert figures["mcc"] == pytest.approx(metrics.matthews_corrcoef(truth, labels))
    assert figures["log_loss"] == pytest.approx(metrics.log_loss(truth, chances), rel=1e-6)


def check_page(text: str, found: dict[str, Any]) -> None:
    """One file without a script or an address, well-formed, with everything escaped."""
    tags = Tags(text)
    assert not tags.open, tags.open
    assert HOSTILE not in text and "&lt;script&gt;" in text
    assert "script" not in tags.seen and not re.search(r"(src|href)=|url\(|@import", text)
    assert tags.seen.count("svg") == 4, "confusion, ROC, precision and recall, reliability"
    cells = tags.seen.count("rect")
    assert cells == 100
    assert all(label in text for label in found["report"]["labels"])
    assert "digits:1 is better than worse:1" in text


def gate(client: Client) -> None:
    """A pipeline goes on only behind figures that are good enough."""
    stages = [
        {"name": "judged", "kind": "evaluate", "params": STAGE, "require": "accuracy >= 0.9 and opened_before == 1"}
    ]
    run = client.jobs.wait(client.pipelines.run({"name": "good", "stages": stages}).id)
    assert run.state == "succeeded", run
    stages[0]["require"] = "accuracy >= 2"
    with pytest.raises(ModelportError, match="accuracy"):
        client.jobs.wait(client.pipelines.run({"name": "bad", "stages": stages}).id)


_KILLS = 20 if os.environ.get("MODELPORT_PROVE") else 2


@pytest.mark.timeout(900)
@pytest.mark.long
def test_kills_change_no_figure_and_open_no_row_twice(own_server: Callable[..., Server]) -> None:
    """``kill -9`` of the job's process at random moments: the same report, bit for bit, and one opening."""
    server = own_server("--gateways", "1", MODELPORT_JOBS_RETRIES="100", MODELPORT_JOBS_BACKOFF_S="0.1")
    server.push("digits", digits_onnx())
    told: dict[str, Any] = {"inputs": {"X": ["p*"]}, "batch": 8, "intervals": 300, "wait": False}
    chance, kills = random.Random(7), 0
    with server.client() as client:
        client.datasets.collect(pa.concat_tables([digits_table()] * 12), "digits", label="label")
        began = time.monotonic()
        whole = client.jobs.wait(client.evaluations.evaluate("digits", "digits", **told).id)
        took = time.monotonic() - began
        assert whole.result is not None
        wanted = client.evaluations.get(whole.result["evaluation"])
        runs = 0
        while kills < _KILLS:
            job = client.evaluations.evaluate("digits", "digits", retries=100, **told)
            runs += 1
            while client.jobs.get(job.id).state not in ("succeeded", "failed"):
                time.sleep(chance.uniform(0.2, max(0.4, took / 2)))
                found = processes(server, "modelport.control.jobs.worker")
                if found and kills < _KILLS:
                    found[0].kill()
                    kills += 1
            ended = client.jobs.wait(job.id)
            assert ended.result is not None
            kept = client.evaluations.get(ended.result["evaluation"])
            assert kept.report is not None and wanted.report is not None
            assert kept.report.model_dump(exclude={"warnings"}) == wanted.report.model_dump(exclude={"warnings"})
            assert kept.opened_before == runs and len(client.evaluations.list("digits")) == runs + 1
            print(f"{job.id}: attempt {ended.attempt}, {kills} kills so far, figures equal, opened once")
