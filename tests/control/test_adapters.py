"""Which deployment an adapter runs on: the one that is named, or the only one that it was made for."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from modelport.control.adapters import on_its_base
from modelport.errors import InvalidInput
from modelport.schemas.deployments import DeploymentSpec, EngineOptions
from modelport.schemas.models import Manifest
from modelport.tensors import Signature


def version(model: str, number: int = 1, *parents: str, form: str = "huggingface", **details: Any) -> Manifest:
    return Manifest(
        model=model, version=number, format=form, runtime="", signature=Signature((), ()), details=details, files=[],
        size=0, digest="", parents=list(parents), created_at=datetime(2026, 1, 1), created_by="somebody",
    )  # fmt: skip


LLAMA, LLAMA2 = version("llama", 1, task="generate"), version("llama", 2, task="generate")
ON_VLLM = DeploymentSpec(runtime="vllm")
DEPLOYED = {
    "chat": (DeploymentSpec(), LLAMA),
    "next": (DeploymentSpec(), LLAMA2),
    "digits": (DeploymentSpec(), version("digits", form="onnx")),
    "small": (DeploymentSpec(), version("q", task="embed")),
    "full": (ON_VLLM, version("p", task="generate")),
    "roomy": (
        ON_VLLM.model_copy(update={"engine": EngineOptions(max_lora_rank=8)}), version("p", 2, task="generate")
    ),
}  # fmt: skip


def adapter(*parents: str, **details: Any) -> Manifest:
    return version("pirate", 1, *parents, task="adapter", **details)


@pytest.mark.parametrize(
    ("wish", "made", "base"),
    [
        (DeploymentSpec(base="next"), adapter("llama:1"), "next"),
        (DeploymentSpec(), adapter("texts:3", "llama:1"), "chat"),
        (DeploymentSpec(), adapter("texts:3", "llama:2"), "next"),
        (DeploymentSpec(), adapter("p:2"), "roomy"),
        (DeploymentSpec(), adapter(base="meta/Q"), None),
        (DeploymentSpec(), adapter(base="meta/Llama"), None),
    ],
)
def test_the_base(wish: DeploymentSpec, made: Manifest, base: str | None) -> None:
    if base is not None:
        assert on_its_base(wish, made, DEPLOYED).base == base
    else:
        with pytest.raises(InvalidInput, match="chat, next may be its base|language model that was pushed"):
            on_its_base(wish, made, DEPLOYED)


def test_the_only_model_of_the_name_in_its_files() -> None:
    only = {name: found for name, found in DEPLOYED.items() if name != "next"}
    assert on_its_base(DeploymentSpec(), adapter(base="meta/Llama"), only).base == "chat"


@pytest.mark.parametrize(
    ("wish", "made", "why"),
    [
        (DeploymentSpec(base="chat"), LLAMA, "no adapter; leave it out"),
        (DeploymentSpec(base="full"), adapter(), "without room for adapters; deploy it again with"),
        (DeploymentSpec(base="gone"), adapter(), "no deployment 'gone'"),
        (DeploymentSpec(base="digits"), adapter(), "'digits' is onnx"),
        (DeploymentSpec(base="chat", replicas=3), adapter(), "all replicas of its base"),
        (DeploymentSpec(), adapter(), "say which deployment"),
    ],
)
def test_no_base(wish: DeploymentSpec, made: Manifest, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        on_its_base(wish, made, DEPLOYED)


def test_a_model_of_its_own() -> None:
    assert on_its_base(DeploymentSpec(), LLAMA, {}) == DeploymentSpec()
