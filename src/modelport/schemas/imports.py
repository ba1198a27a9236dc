"""Bringing a model from where it lies: what is asked, and what came of it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from modelport.schemas.models import ModelVersion
from modelport.schemas.names import AliasName, LabelKey, LabelValue


class ImportRequest(BaseModel):
    """Body of ``POST /models/{name}/imports``."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"source": "s3://models/digits", "alias": "candidate"}]}
    )

    source: Annotated[str, Field(min_length=1, max_length=2000, pattern=r"^[^\x00-\x20\x7f]+$")]
    """``https://…``, ``hf://…``, or an object store that the operator allows: ``s3://… gs://… abfs://…``."""
    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=64)] = {}
    alias: AliasName | None = None
    """Points to the newest of the new versions."""
    description: Annotated[str, Field(max_length=10_000)] = ""
    licence: Annotated[str, Field(max_length=200)] = ""


class Imported(BaseModel):
    """The versions that were registered, oldest first."""

    items: list[ModelVersion]
