"""``modelport serve`` beside a registry's server: its figures, and what it can be asked as ``deploy`` can."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests import onnx_models
from tests.services.served import Served, serve, talking_weights, unpacked


def figures(url: str, key: str | None = None) -> dict[str, float]:
    """By name and the labels that tell samples of one model apart."""
    answer = httpx.get(f"{url}/metrics", headers={"Authorization": f"Bearer {key}"} if key else {})
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        sample.name + "".join(f" {sample.labels[name]}" for name in ("outcome", "code") if name in sample.labels):
            sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if "le" not in sample.labels
    }  # fmt: skip


def test_it_tells_its_figures_and_keeps_answers(tmp_path: Path) -> None:
    file = tmp_path / "digits.onnx"
    file.write_bytes(onnx_models.identity("FP32", (-1, 3)))
    with serve(file, tmp_path, "--cache", "1Mi", "--memory", "4Gi", "--key", "secret", "--replicas", "2") as served:
        auth = {"Authorization": "Bearer secret"}
        for row in ([1, 2, 3], [1, 2, 3], [4, 5, 6]):
            answer = httpx.post(f"{served.url}/predict/digits", json={"data": [row]}, headers=auth)
            assert answer.status_code == 200, answer.text
        assert httpx.get(f"{served.url}/metrics").status_code == 401, "with a key figures are for its owner"
        deadline = time.monotonic() + 30
        while (found := figures(served.url, "secret"))["modelport_replicas_ready"] < 2:  # one is enough to begin
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert found["modelport_inferences_total success"] == 2, "a model was asked so often"
        assert found["modelport_cache_hits_total"] == 1
        assert (found["modelport_replicas_ready"], found["modelport_replica_restarts_total"]) == (2, 0)
        assert found["modelport_replica_memory_bytes"] > 1e6
        assert found["modelport_http_requests_total 200"] >= 3


@pytest.mark.xdist_group("language")
def test_a_language_models_figures_have_vllms_names_too(talking: Served) -> None:
    body = {"model": "smollm2", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3}
    before = figures(talking.url)
    assert httpx.post(f"{talking.url}/v1/chat/completions", json=body, timeout=60).status_code == 200
    after = figures(talking.url)
    for name in ("vllm:generation_tokens_total", "modelport_generated_tokens_total"):
        assert after[name] - before.get(name, 0) == 3
    assert {"vllm:time_to_first_token_seconds_count", "modelport_first_token_seconds_count"} <= after.keys()


def refused(file: Path, *flags: str) -> str:
    argv = [sys.executable, "-m", "modelport.cli.main", "serve", str(file), "--port", "0", *flags]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, env=os.environ)
    assert done.returncode in (1, 2), done.stderr
    assert "Traceback" not in done.stderr
    return " ".join(done.stderr.split())


def test_what_it_cannot_be_asked_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    file = tmp_path / "digits.onnx"
    file.write_bytes(onnx_models.identity("FP32", (-1, 3)))
    assert "the runtime onnx has no option 'max_model_len'" in refused(file, "--engine", "max_model_len=512")
    assert "vllm does not run model 'digits', which is onnx" in refused(file, "--runtime", "vllm")


@pytest.mark.long
def test_a_folder_on_the_engine_that_was_asked_for(tmp_path: Path) -> None:
    """vLLM, in the interpreter that VLLM_PYTHON names: there where it has an environment."""
    python = os.environ.get("VLLM_PYTHON") or pytest.skip("VLLM_PYTHON names no interpreter that has vLLM")
    folder = unpacked(talking_weights(), tmp_path / "smollm2")
    flags = ("--runtime", "vllm", "--engine", "max_model_len=512", "--engine", "cache_gb=0.25", "--name", "small",
             "--start-timeout", "200")  # fmt: skip
    with serve(folder, tmp_path, *flags, MODELPORT_VLLM_PYTHON=str(python)) as served:
        card = httpx.get(f"{served.url}/v1/models").json()["data"][0]
        assert (card["id"], card["max_model_len"]) == ("small", 512)
        body = {"model": "small", "prompt": "The capital of France is", "max_tokens": 4, "temperature": 0}
        answer = httpx.post(f"{served.url}/v1/completions", json=body, timeout=100).json()
        assert "Paris" in answer["choices"][0]["text"]
        assert figures(served.url)["vllm:generation_tokens_total"] == 4
