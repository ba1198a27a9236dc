"""A folder out of BentoML's model store: ``model.yaml`` names the model, its tag and the module that wrote it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from modelport.engine.imports.declared import Declaration, read_yaml
from modelport.engine.runtime import Inspected
from modelport.errors import ArtifactRefused

FILE = "model.yaml"
_BESIDE = {FILE, "custom_objects.pkl"}
_ADVICE = "save it as ONNX (bentoml.onnx.save_model, or a file) and push that"


def declaration(folder: Path, files: tuple[str, ...]) -> Declaration | None:
    """What ``model.yaml`` says; None when it is none of BentoML's."""
    found = read(folder) if FILE in files else None
    if found is None:
        return None
    module = found["module"]
    facts = {key: found[key][:200] for key in ("name", "version", "module", "creation_time") if _is_text(found, key)}

    def complete(inspected: Inspected) -> Inspected:
        return replace(inspected, details={**inspected.details, "imported_from": "bentoml", "bentoml": facts})

    inside = tuple(name for name in files if name not in _BESIDE)
    return Declaration(inside, complete, f"the BentoML model was written by {module[:50]!r}: {_ADVICE}")


def read(folder: Path) -> dict[str, Any] | None:
    """``model.yaml`` of BentoML's store; None when it is another product's."""
    try:
        found = read_yaml(folder, FILE)
    except ArtifactRefused:
        return None
    is_ours = isinstance(found, dict) and _is_text(found, "module") and "bentoml_version" in _context(found)
    return found if is_ours else None


def _context(found: dict[str, Any]) -> dict[str, Any]:
    context = found.get("context")
    return context if isinstance(context, dict) else {}


def _is_text(found: dict[str, Any], key: str) -> bool:
    return isinstance(found.get(key), str)
