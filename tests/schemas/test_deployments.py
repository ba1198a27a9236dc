"""What a deployment may not ask for."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from modelport.schemas.deployments import DeploymentSpec


@pytest.mark.parametrize(
    "name",
    [
        "LD_PRELOAD", "PYTHONPATH", "PATH", "MODELPORT_SECRET", "OPENSSL_CONF", "openssl_conf", "OPENSSL_MODULES",
        "OMP_TOOL_LIBRARIES", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "OCL_ICD_VENDORS", "VLLM_CACHE_ROOT",
        "CUDA_INJECTION64_PATH",
    ],
)  # fmt: skip
def test_a_variable_that_loads_code_is_the_operators(name: str) -> None:
    with pytest.raises(ValidationError, match="decides what code runs"):
        DeploymentSpec(env={name: "/tmp/x"})


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "HF_TOKEN", "SSL_CERT_FILE", "CUDA_VISIBLE_DEVICES", "TZ"])
def test_others_are_the_deployments_own(name: str) -> None:
    assert DeploymentSpec(env={name: "1"}).env == {name: "1"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout_s": float("nan")}, {"timeout_s": float("inf")}, {"timeout_s": 0}, {"memory": "5x"}, {"replicas": -1},
        {"max_batch": 0}, {"env": {"A": "a\0b"}}, {"env": {"A=B": "c"}}, {"env": {"A\n": "c"}}, {"replica": 2},
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DeploymentSpec.model_validate(wrong)
