"""Conversion: the parameters of the job that makes a version of another format."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from modelport.schemas.datasets import ColumnName, DatasetRef
from modelport.schemas.models import FileEntry
from modelport.schemas.names import AliasName, LabelKey, LabelValue, Name
from modelport.schemas.training import ModelRef

Target = Literal["onnx", "openvino", "litert", "torch", "gguf"]


class ConvertParams(BaseModel):
    """Job ``convert``: a version, or files that no runtime serves, as a version of another format."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"model": "wine:1", "to": "onnx", "data": "wine:1/test"}]}
    )

    model: ModelRef | None = None
    """The version to convert; or give ``files``."""
    files: Annotated[list[FileEntry], Field(max_length=10_000)] = []
    """A model's files; their blobs must have been uploaded."""
    to: Target
    name: Name | None = None
    """The model whose next version it becomes. [the model's own name]"""
    data: DatasetRef | None = None
    """Rows that the answers are compared on. [the version's sample, else made-up ones]"""
    inputs: dict[str, Annotated[list[ColumnName], Field(min_length=1, max_length=100_000)]] = {}
    """Columns by input, where names do not tell."""
    rows: Annotated[int, Field(ge=1, le=100_000)] = 256
    """Rows to compare on, at most."""
    batch: Annotated[list[Annotated[int, Field(ge=1, le=65_536)]], Field(max_length=16)] = []
    """Rows that one run takes, where the target fixes them: a version for each number. [any number, else 1]"""
    opset: Annotated[int, Field(ge=11, le=26)] | None = None
    """Of the ONNX file. [the converter's]"""
    precision: Literal["fp32", "fp16", "int8", "int4"] | None = None
    """Of the weights of a language model for OpenVINO. [as they are stored]"""
    tolerance: Annotated[float, Field(gt=0, le=1)] | None = None
    """Most that a value may differ by: absolute below 1, relative above. [0.001; 0.01 of language models]"""
    max_rows_off: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of the rows that may be off by more: a tree's threshold lies between two float32 numbers. [0.002]"""
    class_labels: Annotated[list[Annotated[str, Field(max_length=300)]], Field(max_length=100_000)] | None = None
    """Names of the classes, when the model itself does not hold them."""
    sample: dict[str, Any] | None = None
    """Example inputs, ``{"inputs": [V2 tensors]}``, where the version has none."""
    alias: AliasName | None = None
    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=64)] = {}
    description: Annotated[str, Field(max_length=10_000)] = ""

    @model_validator(mode="after")
    def _one_source(self) -> ConvertParams:
        if (self.model is None) == (not self.files):
            raise ValueError("give model or files, one of them")
        if self.files and self.name is None:
            raise ValueError("files have no name of their own: give name")
        return self
