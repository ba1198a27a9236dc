"""The messages are those of the public protocol, and live beside a client library's in one process."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc
from tritonclient.grpc import service_pb2 as pb

from modelport.api.proto import message, service


def test_our_messages_have_the_public_protocol_s_names_and_numbers() -> None:
    theirs = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
    todo = []
    for method in service().methods:
        other = theirs[method.name]
        assert (method.client_streaming, method.server_streaming) == (other.client_streaming, other.server_streaming)
        todo += [(method.input_type, other.input_type), (method.output_type, other.output_type)]
    seen = set()
    while todo:
        ours, other = todo.pop()
        assert ours.full_name == other.full_name
        if ours.full_name in seen:
            continue
        seen.add(ours.full_name)
        for field in ours.fields:
            match = other.fields_by_name[field.name]
            assert (field.number, field.type, field.is_repeated) == (match.number, match.type, match.is_repeated)
            if field.message_type is not None:
                todo.append((field.message_type, match.message_type))
            if field.enum_type is not None:
                numbers = {value.name: value.number for value in field.enum_type.values}
                assert numbers == {value.name: value.number for value in match.enum_type.values}
    assert "inference.ModelInferRequest.InferInputTensor" in seen


def test_the_compiled_messages_are_those_of_the_proto_file(tmp_path: Path) -> None:
    folder = files("modelport.api.proto")
    out = tmp_path / "fresh.binpb"
    assert protoc.main(["", f"-I{folder}", f"--descriptor_set_out={out}", "open_inference.proto"]) == 0
    assert out.read_bytes() == (folder / "open_inference.binpb").read_bytes()
    assert message("ServerLiveRequest").DESCRIPTOR.full_name == "inference.ServerLiveRequest"
