"""Which columns of a dataset the inputs of a version are, by names and types alone: looks at no row."""

from __future__ import annotations

from collections.abc import Mapping

from modelport.compression.method import Model
from modelport.data.binding import Binding, bind
from modelport.engine.routing import features_of
from modelport.tensors import Signature


def model_signature(model: Model) -> Signature:
    """What the file itself takes and gives."""
    return model.manifest.model_signature or model.manifest.signature


def bound(model: Model, columns: Mapping[str, str]) -> Binding:
    """Which of the columns (types as Arrow writes them) each input is; raises InvalidInput listing both."""
    manifest = model.manifest
    return bind(manifest.signature, features_of(manifest.details), columns, manifest.columns)
