"""Model, Model Version, manifest, and the bodies that push one."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from modelport.schemas.names import AliasName, LabelKey, LabelValue, Name, Sha256
from modelport.schemas.preprocessing import Preprocessing
from modelport.tensors import Signature

#: A relative path with forward slashes; each part is checked again where it becomes a file.
RelativePath = Annotated[str, Field(min_length=1, max_length=500, examples=["model.onnx"])]


class FileEntry(BaseModel):
    """One file of a version: where it lies inside, and the hash of its plain bytes."""

    path: RelativePath
    size: Annotated[int, Field(ge=0)]
    sha256: Sha256


class Inspection(BaseModel):
    """What was found out about an artifact from its content."""

    format: str
    """Entry-point name of the format, such as ``onnx``."""
    runtime: str
    """Entry-point name of the runtime that serves it by default."""
    signature: Signature
    labels: dict[str, list[str]] = {}
    """Class labels by output name, in the order of that output's last dimension."""
    details: dict[str, Any] = {}
    """Facts of the format: opset, producer, estimator class."""
    sample: dict[str, Any] | None = None
    """Example inputs that the artifact itself holds."""


class Manifest(BaseModel):
    """The immutable description of a version; its hash is the version's digest."""

    model: str
    version: int
    format: str
    runtime: str
    signature: Signature
    """What callers send and get."""
    preprocessing: Preprocessing = []
    """Steps that make the model's tensors of what callers send."""
    model_signature: Signature | None = None
    """What the model itself takes, where preprocessing changes it."""
    labels: dict[str, list[str]] = {}
    details: dict[str, Any] = {}
    files: list[FileEntry]
    size: int
    """Bytes of all files together."""
    digest: str
    """SHA-256 over the sorted (path, sha256) pairs of the files: two pushes of the same files have the same digest."""
    task: str = ""
    """What it is for, such as ``classification``: how its answers are judged. Empty where nobody said."""
    columns: dict[str, list[str]] = {}
    """Columns of a table by input, where the inputs' names do not tell; who asks about rows of a dataset uses it."""
    metrics: dict[str, float] = {}
    parents: list[str] = []
    """Versions (``name:number``) or data set versions that this one was made from."""
    sample: dict[str, Any] | None = None
    """Example inputs, as ``{"inputs": [V2 tensors]}``: proof and documentation use it."""
    description: str = ""
    licence: str = ""
    created_at: datetime
    created_by: str

    @property
    def served_bytes(self) -> int:
        """Bytes of the files that serving needs: all but those that training alone goes on from."""
        return sum(entry.size for entry in self.files if not entry.path.startswith("training/"))


class VersionPush(BaseModel):
    """Body of ``POST /models/{name}/versions``: every file's blob must have been uploaded."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "files": [{"path": "model.onnx", "size": 38211, "sha256": "9f86d0" + "0" * 58}],
                    "labels": {"team": "vision"},
                    "alias": "candidate",
                }
            ]
        },
    )

    files: Annotated[list[FileEntry], Field(min_length=1, max_length=10_000)]
    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=64)] = {}
    alias: AliasName | None = None
    task: Annotated[str, Field(pattern=r"^[a-z]{0,40}$")] = ""
    """What it is for: ``classification``, ``regression``, ``ranking``, ``anomaly``, ``forecast`` …"""
    columns: dict[str, Annotated[list[Annotated[str, Field(max_length=300)]], Field(max_length=100_000)]] = {}
    """Columns of a table by input, where the inputs' names do not tell."""
    metrics: Annotated[dict[Name, float], Field(max_length=256)] = {}
    parents: Annotated[list[Annotated[str, Field(max_length=300)]], Field(max_length=64)] = []
    class_labels: Annotated[list[Annotated[str, Field(max_length=300)]], Field(max_length=100_000)] | None = None
    """Names of the classes, when the artifact itself does not hold them."""
    preprocessing: Preprocessing = []
    """Steps that make the model's tensors of image files or texts, which callers then send instead."""
    sample: dict[str, Any] | None = None
    description: Annotated[str, Field(max_length=10_000)] = ""
    licence: Annotated[str, Field(max_length=200)] = ""


class ModelVersion(BaseModel):
    """A version as the API shows it: its manifest, and what is movable."""

    model: str
    version: int
    digest: str
    format: str
    size: int
    aliases: list[str] = []
    labels: dict[str, str] = {}
    deployed_in: list[str] = []
    """Names of the deployments that use it."""
    created_at: datetime
    created_by: str
    manifest: Manifest


class Model(BaseModel):
    """A model: a name, its versions and its aliases."""

    name: str
    latest_version: int | None
    versions: int
    """How many versions there are."""
    aliases: dict[str, int] = {}
    created_at: datetime


class MissingBlobsQuery(BaseModel):
    """Body of ``POST /blobs/missing``."""

    model_config = ConfigDict(extra="forbid")
    sha256: Annotated[list[Sha256], Field(max_length=10_000)]


class MissingBlobs(BaseModel):
    """Those of the asked hashes that have to be uploaded."""

    missing: list[str]


class AliasTarget(BaseModel):
    """Body of ``PUT /models/{name}/aliases/{alias}``."""

    model_config = ConfigDict(extra="forbid")
    version: Annotated[int, Field(ge=1, le=2**31 - 1)]


class LabelTarget(BaseModel):
    """Body of ``PUT /models/{name}/versions/{ref}/labels/{key}``."""

    model_config = ConfigDict(extra="forbid")
    value: LabelValue


class LineageNode(BaseModel):
    """A version, what it was made from, and what uses it."""

    version: str
    parents: list[str]
    children: list[str]
    deployments: list[str]
    packages: list[str] = []
    """What a Python predictor's requirements came to in its newest environment; empty before its first start."""


class GcReport(BaseModel):
    """What a collection removed, or would remove."""

    blobs: int
    environments: int = 0
    """Environments of Python predictors; all projects share them."""
    bytes: int
    dry_run: bool
