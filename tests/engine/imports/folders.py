"""Folders as other products write them, around real small ONNX models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests import onnx_models

CONFIG = """
# what Triton's own examples look like
name: "mlp"
platform: "onnxruntime_onnx"
max_batch_size: 8
input [ { name: "input" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [
  { name: "output" data_type: TYPE_FP32 dims: [ 3 ] label_filename: "labels.txt" }
]
dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100 }
instance_group [ { count: 2 kind: KIND_CPU } ]
parameters { key: "intra_op_thread_count" value: { string_value: "1" } }
"""


def triton(folder: Path, config: str | None = CONFIG, versions: tuple[int, ...] = (1,)) -> Path:
    """One model of a repository: a multilayer perceptron [-1, 4] to [-1, 3], another in each version."""
    folder.mkdir(parents=True, exist_ok=True)
    if config is not None:
        (folder / "config.pbtxt").write_text(config)
        (folder / "labels.txt").write_text("cat\ndog\nfox\n")
    for version in versions:
        (folder / str(version)).mkdir()
        (folder / str(version) / "model.onnx").write_bytes(onnx_models.mlp(seed=version))
    return folder


def mlflow(folder: Path, example: Any = None, flavor: str = "onnx", content: bytes | None = None) -> Path:
    """An MLflow model folder, as ``mlflow.onnx.save_model`` with a signature and an input example writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = "model.onnx" if flavor == "onnx" else "model.pkl"
    (folder / file).write_bytes(onnx_models.mlp() if content is None else content)
    (folder / "conda.yaml").write_text("name: mlflow-env\nchannels: [conda-forge]\n")
    (folder / "requirements.txt").write_text("mlflow==3.1.0\nonnx==1.18.0\n")
    spec = {"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 4]}}
    lines = [
        "artifact_path: model",
        "flavors:",
        f"  {flavor}:",
        f"    data: {file}",
        "    onnx_version: 1.18.0",
        "    providers: [CPUExecutionProvider]",
        "  python_function:",
        f"    loader_module: mlflow.{flavor}",
        "mlflow_version: 3.1.0",
        "model_uuid: 5d1f5a6c1d0e4f7c9f7a3b0c",
        "run_id: 1f3a",
        "signature:",
        f"  inputs: '{json.dumps([spec])}'",
        "  params: null",
    ]
    if example is not None:
        (folder / "input_example.json").write_text(json.dumps(example))
        lines += ["saved_input_example_info:", "  artifact_path: input_example.json", "  type: ndarray"]
    (folder / "MLmodel").write_text("\n".join(lines) + "\n")
    return folder


def bentoml(folder: Path, content: bytes | None = None) -> Path:
    """A model out of BentoML's store."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "saved_model.onnx").write_bytes(onnx_models.mlp() if content is None else content)
    (folder / "model.yaml").write_text(
        "name: iris_clf\nversion: 3vl5n7qkcwqe5uqj\nmodule: bentoml.onnx\nlabels: {}\nmetadata: {}\n"
        "context:\n  framework_name: onnx\n  bentoml_version: 1.4.8\napi_version: v2\n"
        "creation_time: '2026-01-02T03:04:05+00:00'\n"
    )
    return folder
