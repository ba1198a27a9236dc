"""Whether this server runs a version: asked when it is deployed, and again at every start.

Some formats are stored without being served; some runtimes execute code of the artifact's author, and want the
operator's word. Knows manifests and what the operator trusts; knows no replica.
"""

from __future__ import annotations

from modelport import plugins
from modelport.control.adapters import is_adapter
from modelport.control.machine import gpu_count
from modelport.control.predictors import check_predictor
from modelport.engine.runtime import Inspected, Trust
from modelport.errors import InvalidInput, NotAllowed
from modelport.schemas.deployments import DeploymentSpec, EngineOptions
from modelport.schemas.models import Manifest

_NATIVE_RUNTIME = "aotinductor"
_ALSO = {("huggingface", "generate"): ("transformers", "vllm")}
"""By format and task, the runtimes that run such a version when it is asked for; its format's own always does."""
_OPTIONS = {
    "vllm": frozenset(EngineOptions.model_fields),
    "openvino-genai": frozenset({"cache_gb", "dtype", "prompt_lookup", "num_assistant_tokens"}),
}
"""Engine options that our runtimes know."""


def check_runnable(trust: Trust, manifest: Manifest, spec: DeploymentSpec) -> None:
    """Raise InvalidInput for what no runtime here serves, NotAllowed for what the operator does not trust."""
    if is_adapter(manifest):
        return  # its base runs it
    wanted = spec.runtime or manifest.runtime
    if not wanted:
        why = manifest.details.get("not_served", "no runtime here serves it")
        raise InvalidInput(f"model {manifest.model!r} is kept, but cannot be deployed: {why}")
    check_predictor(trust.python_predictors, manifest, spec)
    check_choice(manifest.model, manifest, wanted)
    check_engine(wanted, spec.engine)
    if wanted == _NATIVE_RUNTIME and not trust.native_code:
        raise NotAllowed(
            "the version is native code, which this server does not run: an operator who trusts its author can set "
            "MODELPORT_TRUST_NATIVE_CODE=true"
        )


def check_choice(model: str, found: Manifest | Inspected, wanted: str) -> None:
    """Raise InvalidInput for a runtime of ours that does not run this. Those of other packages are let through: their
    authors know what they run."""
    choices = _ALSO.get((found.format, str(found.details.get("task"))), ())
    if wanted == found.runtime or wanted in choices or not _is_ours(wanted):
        return
    also = ", ".join(dict.fromkeys(name for name in (found.runtime, *choices) if name)) or "none"
    raise InvalidInput(
        f"spec.runtime: {wanted} does not run model {model!r}, which is {found.format}; "
        f"of the runtimes here {also} may: leave it out, or name one of them"
    )


def check_engine(wanted: str, options: EngineOptions) -> None:
    """Raise InvalidInput for what this runtime's engine does not know, or this machine does not have."""
    known = _OPTIONS.get(wanted, frozenset())
    if _is_ours(wanted) and (strange := [name for name in options.asked if name not in known]):
        raise InvalidInput(f"spec.engine: the runtime {wanted} has no option {strange[0]!r}; leave it out")
    gpus = gpu_count()
    if not gpus and (options.pipeline_parallel_size or 1) > 1:  # its CPU workers cannot hand layers on
        raise InvalidInput("spec.engine: pipeline_parallel_size needs GPUs, and this machine has none; leave it out")
    if gpus and options.devices > gpus:
        raise InvalidInput(
            f"spec.engine: tensor_parallel_size × pipeline_parallel_size is {options.devices}, and this machine has "
            f"{gpus} GPUs"
        )


def _is_ours(runtime: str) -> bool:
    return plugins.reference("runtimes", runtime).startswith("modelport.")
