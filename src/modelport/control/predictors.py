"""Whether this server runs a version that is a Python predictor: asked when it is deployed, and again at every start.

The runtime decides, not the format: no other version can be handed to the runtime that executes Python.
"""

from __future__ import annotations

from modelport.engine.formats.predictor import NOT_ALLOWED
from modelport.errors import InvalidInput, NotAllowed
from modelport.schemas.deployments import DeploymentSpec
from modelport.schemas.models import Manifest

_RUNTIME = "predictor"


def check_predictor(allowed: bool, manifest: Manifest, spec: DeploymentSpec) -> None:
    """Raise NotAllowed unless the operator allows predictors, InvalidInput for a version that is none."""
    wanted = spec.runtime or manifest.runtime
    if wanted != _RUNTIME:
        return
    if manifest.runtime != _RUNTIME:
        raise InvalidInput(
            f"spec.runtime: {_RUNTIME} runs Python predictors only, and this version is {manifest.format}: leave it out"
        )
    if not allowed:
        raise NotAllowed(NOT_ALLOWED)
