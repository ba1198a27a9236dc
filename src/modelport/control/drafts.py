"""Draft models: small versions that write a few tokens ahead, which the deployed model then reads in one step.

Here: which version is meant, and whether it can write ahead for that model. Knows manifests; knows no engine.
"""

from __future__ import annotations

from modelport.errors import InvalidInput
from modelport.schemas.models import Manifest

_TAKES = {"vllm": "huggingface"}
"""The format of a draft, by the runtime of the model. OpenVINO GenAI 2026.4 has drafts too, and ends when a text is
written by chance with one ("content_length <= prompt_ids.size() + m_generated_ids.size()", every second text)."""


def parts_of(reference: str) -> tuple[str, str | None]:
    """The model, and its version or alias if one is named."""
    model, at, alias = reference.partition("@")
    if at:
        return model, alias
    model, _, number = model.partition(":")
    return model, number or None


def check_draft(runtime: str, manifest: Manifest, draft: Manifest) -> None:
    """Raises InvalidInput unless it runs on the same engine and has the same words."""
    name = f"{draft.model}:{draft.version}"
    wanted = _TAKES.get(runtime)
    if wanted is None:
        raise InvalidInput(
            f"spec.draft: the runtime {runtime} writes without a draft model; leave it out, or deploy with --runtime "
            f"{' or '.join(_TAKES)}"
        )
    if draft.details.get("task") != "generate" or draft.format != wanted:
        raise InvalidInput(
            f"spec.draft: {name} is {draft.format}, and the runtime {runtime} takes a language model of the format "
            f"{wanted} as a draft"
        )
    if why := draft.details.get("not_served"):
        raise InvalidInput(f"spec.draft: {name} cannot be run: {why}")
    ours, theirs = manifest.details.get("vocabulary"), draft.details.get("vocabulary")
    if ours and theirs and ours != theirs:
        raise InvalidInput(
            f"spec.draft: {name} and {manifest.model}:{manifest.version} have different vocabularies: a draft has to "
            "be of the same family, with the same tokenizer"
        )
