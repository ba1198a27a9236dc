"""Whether this server runs a version: asked when it is deployed, and again at every start.

Some formats are stored without being served; some runtimes execute code of the artifact's author, and want the
operator's word. Knows manifests and what the operator trusts; knows no replica.
"""

from __future__ import annotations

from modelport.control.predictors import check_predictor
from modelport.engine.runtime import Trust
from modelport.errors import InvalidInput, NotAllowed
from modelport.schemas.deployments import DeploymentSpec
from modelport.schemas.models import Manifest

_NATIVE_RUNTIME = "aotinductor"


def check_runnable(trust: Trust, manifest: Manifest, spec: DeploymentSpec) -> None:
    """Raise InvalidInput for what no runtime here serves, NotAllowed for what the operator does not trust."""
    wanted = spec.runtime or manifest.runtime
    if not wanted:
        why = manifest.details.get("not_served", "no runtime here serves it")
        raise InvalidInput(f"model {manifest.model!r} is kept, but cannot be deployed: {why}")
    check_predictor(trust.python_predictors, manifest, spec)
    if wanted == _NATIVE_RUNTIME and not trust.native_code:
        raise NotAllowed(
            "the version is native code, which this server does not run: an operator who trusts its author can set "
            "MODELPORT_TRUST_NATIVE_CODE=true"
        )
