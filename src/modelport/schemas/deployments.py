"""Deployment: the wish, and what has become of it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from modelport.schemas.names import AliasName, Name

#: Variables that make a process load or run something else than it was started for.
_GRABBING = (
    "LD_", "DYLD_", "PYTHON", "MODELPORT_", "GCONV_", "GLIBC_", "MALLOC_", "BASH_",
    "OPENSSL_", "OMP_TOOL", "TORCHINDUCTOR_", "TRITON_", "OCL_ICD_", "CUDA_INJECTION", "VLLM_",
)  # fmt: skip
_GRABBING_NAMES = ("PATH", "HOME", "ENV", "IFS", "LOCPATH", "NLSPATH", "TMPDIR")


_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "K": 10**3, "M": 10**6, "G": 10**9}


def bytes_of(amount: str | None) -> int | None:
    """Of an amount such as ``512Mi``."""
    if amount is None:
        return None
    digits = amount.rstrip("KMGi")
    return int(digits) * _UNITS.get(amount[len(digits) :], 1)


def _harmless(name: str) -> str:
    if name.upper().startswith(_GRABBING) or name.upper() in _GRABBING_NAMES:
        where = "; MODELPORT_VLLM_VARIABLES is the setting" if name.upper().startswith("VLLM_") else ""
        raise ValueError(f"{name} decides what code runs, and is set by the operator only{where}; leave it out")
    return name


Amount = Annotated[str, Field(pattern=r"^[0-9]{1,9}(Ki|Mi|Gi|K|M|G)?$")]
"""Of memory, such as ``512Mi``."""
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$"), AfterValidator(_harmless)]
#: ``NAME``, ``NAME:VERSION`` or ``NAME@ALIAS``.
DraftReference = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}(:[1-9][0-9]{0,8}|@[A-Za-z0-9][A-Za-z0-9._-]{0,99})?$")
]
VariableValue = Annotated[str, Field(pattern=r"^[^\x00]*$", max_length=32_000)]


class EngineOptions(BaseModel):
    """What is asked of a language model's engine; an engine that does not know an option refuses it by its name."""

    model_config = ConfigDict(extra="forbid")

    max_model_len: Annotated[int, Field(ge=16, le=1 << 24)] | None = None
    """Tokens of prompt and answer together; by default what the model was made for."""
    max_num_seqs: Annotated[int, Field(ge=1, le=65_536)] | None = None
    """Texts that one replica writes at once."""
    cache_gb: Annotated[float, Field(gt=0, le=10_000)] | None = None
    """Memory of the cache of all texts together, GiB, on each device."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of each GPU's memory that weights and cache may take together."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] | None = None
    """What is computed in; by default what the weights are stored in."""
    tensor_parallel_size: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Devices that share every layer."""
    pipeline_parallel_size: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Devices in a row, each with some of the layers."""
    prompt_lookup: bool | None = None
    """Whether beginnings that the text has already are tried as its next tokens."""
    num_assistant_tokens: Annotated[int, Field(ge=1, le=64)] | None = None
    """Tokens that are tried ahead in a step, by ``prompt_lookup`` or by the deployment's draft model."""
    enable_lora: bool | None = None
    """Whether the engine keeps room for LoRA adapters; the next two options imply it."""
    max_loras: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Different adapters that are written with in one step; others wait."""
    max_lora_rank: Annotated[int, Field(ge=1, le=512)] | None = None
    """Of the largest adapter."""

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.enable_lora is False and (self.max_loras or self.max_lora_rank):
            raise ValueError("max_loras and max_lora_rank keep room for adapters, and enable_lora=false wants none")
        return self

    @property
    def takes_adapters(self) -> bool:
        """Whether room is kept for them."""
        return bool(self.enable_lora or self.max_loras or self.max_lora_rank)

    @property
    def asked(self) -> dict[str, Any]:
        """Those that are set."""
        return self.model_dump(exclude_none=True)

    @property
    def devices(self) -> int:
        """That one replica needs."""
        return (self.tensor_parallel_size or 1) * (self.pipeline_parallel_size or 1)


class Cascade(BaseModel):
    """A smaller model is asked first; its answer is kept where every test that is set here passes."""

    model_config = ConfigDict(extra="forbid")

    first: Name
    """Endpoint of the smaller model, in the same project."""
    mean_logprob: Annotated[float, Field(le=0, ge=-100)] | None = None
    """Least mean of its tokens' log-probabilities, such as -0.4."""
    min_logprob: Annotated[float, Field(le=0, ge=-100)] | None = None
    """Least log-probability of any token, such as -3."""
    agreement: Annotated[float, Field(gt=0, le=1)] | None = None
    """Least share of further samples that say the same, such as 0.5."""
    samples: Annotated[int, Field(ge=2, le=16)] = 3
    """Samples for ``agreement``; the answer itself is one of them."""
    valid_json: bool = False
    """The answer has to be JSON."""

    @model_validator(mode="after")
    def _has_a_test(self) -> Self:
        if self.mean_logprob is None and self.min_logprob is None and self.agreement is None and not self.valid_json:
            raise ValueError("set a test: mean_logprob, min_logprob, agreement or valid_json")
        return self


class DeploymentSpec(BaseModel):
    """How a version is to be run. Every field has a default that serves."""

    model_config = ConfigDict(extra="forbid")

    replicas: Annotated[int, Field(ge=0, le=256)] = 1
    """Copies of the model, each in a process of its own."""
    runtime: Name | None = None
    """Entry-point name of the runtime; by default the one of the version's format."""
    max_batch: Annotated[int, Field(ge=1, le=65_536)] = 32
    """Rows that one run takes at most; how many are worth it below that is learnt from what runs cost."""
    max_delay_ms: Annotated[float, Field(ge=0, le=10_000)] = 0
    """How long a request may wait for company although a replica is free; 0 never waits."""
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    """Threads of the runtime inside one replica."""
    cpu: Annotated[float, Field(gt=0, le=1024)] | None = None
    """Cores that a replica may use (a limit where the placement can hold one)."""
    memory: Amount | None = None
    """Most memory of one replica, such as ``512Mi``; beyond it the replica fails its allocations."""
    base: Name | None = None
    """Of an adapter: the deployment whose replicas it runs on. By default the one of the model it was trained on."""
    draft: DraftReference | None = None
    """A small language model of the same family that writes a few tokens ahead; recorded as ``NAME:VERSION``."""
    gpu: Annotated[int, Field(ge=0, le=64)] = 0
    """GPUs of one replica."""
    cache: Amount | None = None
    """Answers that each gateway keeps for equal inputs, such as ``64Mi``; only for a model whose answer depends on
    nothing else. By default none."""
    timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 60
    """A run that takes longer is hung: its replica is killed and replaced."""
    start_timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 120
    """Time that a replica has to load and prove itself."""
    engine: EngineOptions = EngineOptions()
    """What is asked of a language model's engine, such as vLLM."""
    env: Annotated[dict[VariableName, VariableValue], Field(max_length=100)] = {}
    """Environment variables of the replica; no secrets: whoever may look at the deployment sees them."""
    fallback: Annotated[list[Name], Field(max_length=8)] = []
    """Endpoints that answer in its place, in this order: when it fails, is overloaded, or a key's tokens are spent."""
    cascade: Cascade | None = None
    """A smaller language model that is asked first."""

    @model_validator(mode="after")
    def _tries_ahead_in_one_way(self) -> Self:
        if self.draft is not None and self.engine.prompt_lookup:
            raise ValueError("tokens are tried ahead by a draft model or by engine.prompt_lookup: leave one out")
        if self.engine.num_assistant_tokens is not None and self.draft is None and not self.engine.prompt_lookup:
            raise ValueError("engine.num_assistant_tokens needs a draft model, or engine.prompt_lookup=true")
        return self


class DeploymentApply(BaseModel):
    """Body of ``PUT /deployments/{name}`` and a document of ``modelport apply -f``."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"model": "digits", "alias": "champion", "spec": {"replicas": 2}}]},
    )

    model: Name
    version: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    """A version number; without it, and without an alias, the newest version."""
    alias: AliasName | None = None
    """Resolved when applied, and recorded."""
    follow: bool = False
    """Roll on to a new version when the alias moves."""
    spec: DeploymentSpec = DeploymentSpec()


class DeploymentDocument(DeploymentApply):
    """One YAML document of ``modelport apply -f``."""

    name: Name | None = None
    """Endpoint name; by default the model's."""


class ReplicaStatus(BaseModel):
    """One running copy."""

    id: str
    state: Literal["starting", "ready", "draining", "failed"]
    pid: int | None = None
    revision: int
    restarts: int = 0
    memory_mb: float | None = None
    """Resident memory, MB."""
    uptime_s: float | None = None


class Deployment(BaseModel):
    """A deployment as the API shows it."""

    name: str
    model: str
    version: int
    """The version that is wished for."""
    serving_version: int | None
    """The version that answers now; None when nothing does."""
    alias: str | None = None
    follow: bool = False
    revision: int
    serving_revision: int | None
    state: Literal["starting", "ready", "degraded", "updating", "failed", "stopped"]
    reason: str | None = None
    """Why it is not ready, in one line."""
    log_tail: list[str] = []
    """The last lines that a failed replica wrote."""
    replicas_ready: int
    spec: DeploymentSpec
    replicas: list[ReplicaStatus] = []
    batching: str | None = None
    """Whether requests share runs, and if not why."""
    created_at: datetime
    updated_at: datetime
