"""The messages of ``open_inference.proto``, by name, in a descriptor pool of their own.

A client library of the same protocol (tritonclient, KServe's) registers the same names in protobuf's default pool;
two definitions there cannot live in one process. ``open_inference.binpb`` is what ``make proto`` compiles:

    python -m grpc_tools.protoc -I src/modelport/api/proto \
        --descriptor_set_out=src/modelport/api/proto/open_inference.binpb open_inference.proto
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"


def _load() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    compiled = (files(__name__) / "open_inference.binpb").read_bytes()
    for file in descriptor_pb2.FileDescriptorSet.FromString(compiled).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


_POOL = _load()


def message(name: str) -> Any:
    """The class of a message of the protocol, such as ``ModelInferRequest``."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))


def service() -> Any:
    """The descriptor of the service: its methods, and what each takes and gives."""
    return _POOL.FindServiceByName(SERVICE)
