"""Draft models: which version is meant, whether it fits, and that it is kept while a deployment uses it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from modelport.control import audit
from modelport.control.actors import Actor
from modelport.control.deployments import Deployments
from modelport.control.drafts import check_draft, parts_of
from modelport.control.registry import Registry
from modelport.control.runnable import check_runnable
from modelport.engine.runtime import Trust
from modelport.errors import Conflict, InvalidInput, NotFound
from modelport.schemas.deployments import DeploymentApply, DeploymentSpec
from modelport.schemas.models import VersionPush
from modelport.storage.database import Database
from tests import huggingface_models
from tests.control.conftest import Push, upload
from tests.control.test_adapters import version

BIG = version("big", task="generate", vocabulary="abc")


@pytest.mark.parametrize(
    ("reference", "parts"), [("small", ("small", None)), ("small:3", ("small", "3")), ("small@best", ("small", "best"))]
)
def test_a_reference(reference: str, parts: tuple[str, str | None]) -> None:
    assert parts_of(reference) == parts
    assert DeploymentSpec(draft=reference).draft == reference


@pytest.mark.parametrize(
    ("runtime", "draft", "why"),
    [
        ("transformers", version("small", task="generate"), "transformers writes without a draft model"),
        ("vllm", version("small", form="gguf", task="generate"), "is gguf, and the runtime vllm takes"),
        ("openvino-genai", version("small", form="gguf", task="generate"), "writes without a draft model"),
        ("vllm", version("small", task="embed"), "takes a language model"),
        ("vllm", version("small", task="generate", vocabulary="xyz"), "small:1 and big:1 have different vocabularies"),
        ("vllm", version("s", task="generate", not_served="why"), "cannot be run: why"),
    ],
)
def test_what_cannot_write_ahead(runtime: str, draft: Any, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        check_draft(runtime, BIG, draft)


@pytest.mark.parametrize("known", [{"vocabulary": "abc"}, {}])
def test_what_can(known: dict[str, str]) -> None:
    check_draft("vllm", BIG, version("small", task="generate", **known))


@pytest.mark.parametrize(
    "spec",
    [
        {"draft": "small", "engine": {"prompt_lookup": True}},
        {"engine": {"num_assistant_tokens": 3}},
        {"engine": {"num_assistant_tokens": 0, "prompt_lookup": True}},
        {"engine": {"enable_lora": False, "max_loras": 2}},
        {"draft": "../small"},
        {"draft": "small:0"},
    ],
)
def test_what_is_no_wish(spec: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="draft|num_assistant_tokens|max_loras"):
        DeploymentSpec.model_validate(spec)


def push_causal(registry: Registry, actor: Actor, name: str, folder: Path, words: int = 0, weight: int = 0) -> None:
    """A language model whose tokenizer has so many words more."""
    huggingface_models.causal(folder)
    tokenizer = huggingface_models.tokenizer()
    tokenizer["model"]["vocab"] |= {f"word{number}": 100 + number for number in range(words)}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "notes.txt").write_text(str(weight))
    files = [upload(registry, actor, path.read_bytes(), path.name) for path in sorted(folder.iterdir())]
    registry.push(actor, name, VersionPush(files=files, alias="best"))


def test_a_deployment_with_a_draft(
    registry: Registry, actor: Actor, stranger: Actor, push: Push, database: Database, tmp_path: Path
) -> None:
    deployments = Deployments(database, registry.resolve)
    deployments.check = partial(check_runnable, Trust())
    push_causal(registry, actor, "big", tmp_path / "big")
    push_causal(registry, actor, "small", tmp_path / "small", weight=1)
    push_causal(registry, actor, "other", tmp_path / "other", words=3)
    push_causal(registry, stranger, "theirs", tmp_path / "theirs", weight=2)

    def deploy(**spec: Any) -> DeploymentSpec:
        wish = DeploymentApply(model="big", spec=DeploymentSpec.model_validate({"runtime": "vllm", **spec}))
        return deployments.apply(actor, "big", wish).spec

    for draft, why in (("other", "different vocabularies"), ("theirs", "no model 'theirs'"), ("small:7", "'7'")):
        with pytest.raises((InvalidInput, NotFound), match=why):
            deploy(draft=draft)
    with pytest.raises(NotFound):
        deployments.get(actor, "big")

    assert deploy(draft="small@best").draft == "small:1"
    (wishes,) = deployments.wishes()
    assert wishes.desired.draft is not None
    assert wishes.desired.draft[1].model == "small"
    assert audit.rows(database, actor, 1)[0].detail["draft"] == "small:1"
    assert registry.version(actor, "small").deployed_in == ["big"]
    registry.delete_alias(actor, "small", "best")
    with pytest.raises(Conflict, match="in use by big"):
        registry.delete_version(actor, "small", 1)

    # the revision is history, its draft goes, and nobody comes back to it
    deployments.proven(wishes.deployment_id, 1)
    deploy()
    deployments.proven(wishes.deployment_id, 2)
    registry.delete_version(actor, "small", 1)
    with pytest.raises(NotFound):
        deployments.rollback(actor, "big")
    assert deployments.get(actor, "big").revision == 2
