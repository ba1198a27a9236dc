"""Reads ``config.pbtxt``: the part of Triton's ModelConfig that says what a model takes and how it is run.

The message is declared here by the names and numbers of Triton's public ``model_config.proto``. Fields that are not
declared are skipped; but protobuf cannot skip a list of messages (``name [ { … } ]``), so those have to be named too.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from modelport.errors import ArtifactRefused

#: Triton's data types in the order of their numbers, under their names in Open Inference.
DATATYPES = ("INVALID", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16",
             "FP32", "FP64", "BYTES", "BF16")  # fmt: skip
_F = FieldDescriptorProto
_SCALARS = {"string": _F.TYPE_STRING, "int32": _F.TYPE_INT32, "int64": _F.TYPE_INT64, "uint32": _F.TYPE_UINT32,
            "bool": _F.TYPE_BOOL}  # fmt: skip
#: Lists of messages inside blocks that say nothing about the model.
_SKIPPED_LISTS = (
    "rate_limiter", "resources", "secondary_devices", "execution_accelerators", "gpu_execution_accelerator",
    "cpu_execution_accelerator", "parameters", "control_input", "control", "state", "initial_state", "step",
    "input_map", "output_map", "inputs", "agents", "metric_control", "priority_queue_policy",
)  # fmt: skip
#: Message, then its fields as (name, number, type); ``*`` repeats.
_MESSAGES: dict[str, tuple[tuple[str, int, str], ...]] = {
    "Shape": (("shape", 1, "int64*"),),
    "Input": (
        ("name", 1, "string"), ("data_type", 2, "DataType"), ("dims", 4, "int64*"), ("reshape", 5, "Shape"),
        ("is_shape_tensor", 6, "bool"), ("allow_ragged_batch", 7, "bool"), ("optional", 8, "bool"),
    ),
    "Output": (
        ("name", 1, "string"), ("data_type", 2, "DataType"), ("dims", 3, "int64*"), ("label_filename", 4, "string"),
        ("reshape", 5, "Shape"),
    ),
    "Latest": (("num_versions", 1, "uint32"),),
    "All": (),
    "Specific": (("versions", 1, "int64*"),),
    "Policy": (("latest", 1, "Latest"), ("all", 2, "All"), ("specific", 3, "Specific")),
    "Skipped": tuple((name, number, "Skipped*") for number, name in enumerate(_SKIPPED_LISTS, start=1)),
    "ModelConfig": (
        ("name", 1, "string"), ("platform", 2, "string"), ("version_policy", 3, "Policy"),
        ("max_batch_size", 4, "int32"), ("input", 5, "Input*"), ("output", 6, "Output*"),
        ("instance_group", 7, "Skipped*"), ("default_model_filename", 8, "string"),
        ("cc_model_filenames", 9, "Skipped*"), ("metric_tags", 10, "Skipped*"), ("dynamic_batching", 11, "Skipped*"),
        ("optimization", 12, "Skipped*"), ("sequence_batching", 13, "Skipped*"), ("parameters", 14, "Skipped*"),
        ("ensemble_scheduling", 15, "Skipped*"), ("model_warmup", 16, "Skipped*"), ("backend", 17, "string"),
        ("batch_input", 20, "Skipped*"), ("batch_output", 21, "Skipped*"),
        ("model_repository_agents", 23, "Skipped*"), ("model_metrics", 26, "Skipped*"),
    ),
}  # fmt: skip


def parse(text: str) -> Any:
    """The message; raises ArtifactRefused with the line that is wrong."""
    try:
        return text_format.Parse(text, _message()(), allow_unknown_field=True)
    except text_format.ParseError as error:
        raise ArtifactRefused(f"'config.pbtxt' cannot be read: {str(error)[:200]}") from None
    except (RecursionError, ValueError, UnicodeError):
        raise ArtifactRefused("'config.pbtxt' cannot be read: it is damaged or nested too deeply") from None


def datatype(number: int) -> str:
    """A data type's name in Open Inference."""
    return DATATYPES[number] if 0 <= number < len(DATATYPES) else "INVALID"


@cache
def _message() -> type[Any]:
    file = FileDescriptorProto(name="modelport/triton_config.proto", package="modelport.triton", syntax="proto3")
    types = file.enum_type.add(name="DataType")
    for number, name in enumerate(DATATYPES):
        types.value.add(name=f"TYPE_{'STRING' if name == 'BYTES' else name}", number=number)
    for name, fields in _MESSAGES.items():
        _add_fields(file.message_type.add(name=name), fields)
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("modelport.triton.ModelConfig"))


def _add_fields(message: DescriptorProto, fields: tuple[tuple[str, int, str], ...]) -> None:
    for name, number, kind in fields:
        base = kind.rstrip("*")
        label = _F.LABEL_REPEATED if kind.endswith("*") else _F.LABEL_OPTIONAL
        field = message.field.add(name=name, number=number, label=label)
        if base in _SCALARS:
            field.type = _SCALARS[base]
        else:
            field.type = _F.TYPE_ENUM if base == "DataType" else _F.TYPE_MESSAGE
            field.type_name = f".modelport.triton.{base}"
