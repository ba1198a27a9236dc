"""Exported PyTorch programs: what is read of them without torch, and all that must not reach torch."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelport.engine.formats.torch_export import TorchExportFormat
from modelport.engine.inspect import inspect_apart
from modelport.engine.runtime import Inspected, Trust
from modelport.errors import ArtifactRefused
from modelport.tensors import TensorSpec
from tests import pt2

Change = Callable[[dict[str, Any]], Any]


def look(path: Path, trust: Trust | None = None) -> Inspected:
    """Through the confined process, as a push does."""
    return inspect_apart(path, trust or Trust())


def graph(found: dict[str, Any]) -> dict[str, Any]:
    return found["graph_module"]["graph"]


def node(found: dict[str, Any]) -> dict[str, Any]:
    return graph(found)["nodes"][0]


def test_the_signature_is_read_without_torch(tmp_path: Path) -> None:
    found = look(pt2.write(tmp_path / "model"))
    assert (found.format, found.runtime) == ("torch_export", "torch")
    assert found.signature.inputs == (TensorSpec("x", "FP32", (-1, 4), ("s77", None)),)
    assert found.signature.outputs == (TensorSpec("scores", "FP32", (-1, 3), ("s77", None)),)
    assert found.signature.has_batch_dimension
    assert found.details == {"model_file": "model", "torch": "2.13.0", "parameters": 15}


@pytest.mark.parametrize(
    ("returned", "names"),
    [
        ({"type": None, "context": None, "children_spec": []}, ["output"]),
        ({"type": "builtins.tuple", "context": "null", "children_spec": 1}, ["output_0"]),
        ({"type": "collections.OrderedDict", "context": '["a b"]', "children_spec": 1}, ["a b"]),
        ({"type": "some.Own", "context": "[[]]", "children_spec": 1}, ["output_0"]),
        ({"type": "builtins.dict", "context": '["\\n"]', "children_spec": 1}, ["output_0"]),
        ({"type": "builtins.dict", "context": "nonsense", "children_spec": 1}, ["output_0"]),
    ],
)
def test_outputs_are_named_by_what_forward_returns(tmp_path: Path, returned: dict[str, Any], names: list[str]) -> None:
    leaf = {"type": None, "context": None, "children_spec": []}
    if returned["children_spec"] == 1:
        returned = {**returned, "children_spec": [leaf]}

    def change(found: dict[str, Any]) -> None:
        found["graph_module"]["module_call_graph"][0]["signature"]["out_spec"] = json.dumps([1, returned])

    found = look(pt2.write(tmp_path / "model", change))
    assert [spec.name for spec in found.signature.outputs] == names


HOSTILE: dict[str, tuple[Change, str]] = {
    "an operator anywhere below torch": (
        lambda p: node(p).update(target="torch.os.system"),
        "not one of PyTorch's own",
    ),
    "a file operator": (
        lambda p: node(p).update(target="torch.ops.aten.from_file.default"),
        "not one of PyTorch's own",
    ),
    "the other file operator": (lambda p: node(p).update(target="torch.ops.aten.save.default"), "PyTorch's own"),
    "a dunder of an operator": (lambda p: node(p).update(target="torch.ops.aten.__class__"), "PyTorch's own"),
    "a caller from operator": (lambda p: node(p).update(target="_operator.methodcaller"), "not one of PyTorch's own"),
    "an extension": (lambda p: node(p).update(target="#own:thing"), "not one of PyTorch's own"),
    "an operator as argument": (
        lambda p: node(p)["inputs"][0].update(arg={"as_operator": "torch.load"}),
        "not one of PyTorch's own",
    ),
    "a size that is code": (
        lambda p: graph(p)["tensor_values"]["x"]["sizes"].__setitem__(
            0, {"as_expr": {"expr_str": "__import__('os').system('id')", "hint": None}}
        ),
        "size that is not arithmetic",
    ),
    "a size that reaches an attribute": (
        lambda p: graph(p)["tensor_values"]["x"]["sizes"].__setitem__(
            0, {"as_expr": {"expr_str": "Symbol('s0').__class__", "hint": None}}
        ),
        "size that is not arithmetic",
    ),
    "a size that looks like an import": (
        lambda p: graph(p)["tensor_values"]["x"]["sizes"].__setitem__(
            0, {"as_expr": {"expr_str": "Symbol('a(b)')", "hint": None}}
        ),
        "size that is not arithmetic",
    ),
    "a placeholder that is code": (
        lambda p: graph(p)["inputs"][2]["as_tensor"].update(name="x=__import__('os').system('id')"),
        "name that is no name",
    ),
    "a keyword that is code": (lambda p: node(p)["inputs"][0].update(name="x=1, y"), "name that is no name"),
    "a key that is code": (
        lambda p: graph(p)["tensor_values"].update({"x y": graph(p)["tensor_values"]["x"]}),
        "name that is no name",
    ),
    "a parameter that is code": (
        lambda p: p["graph_module"]["signature"]["input_specs"][0]["parameter"].update(parameter_name="a');b("),
        "no name",
    ),
    "a range over code": (
        lambda p: p["range_constraints"].update({"a b": {"min_val": 0, "max_val": 1}}),
        "name that is no name",
    ),
    "a range of texts": (
        lambda p: p["range_constraints"].update({"s77": {"min_val": "0", "max_val": 1}}),
        "not two numbers",
    ),
    "a custom object": (
        lambda p: graph(p)["custom_obj_values"].update({"o": {"name": "o", "class_fqn": "C"}}),
        "custom object, which is a pickle",
    ),
    "another dialect": (lambda p: p.update(verifiers=["EDGE"]), "dialect other than ATen"),
    "another schema": (lambda p: p.update(schema_version={"major": 7, "minor": 1}), "schema 7"),
    "no schema": (lambda p: p.pop("schema_version"), "schema None"),
    "another device": (
        lambda p: graph(p)["tensor_values"]["x"].update(device={"type": "cuda", "index": 0}),
        "exported on 'cuda'",
    ),
    "nothing inside": (lambda p: p.update(graph_module={}), "damaged"),
    "endless nesting": (lambda p: graph(p).update(nodes=json.loads("[" * 200 + "]" * 200)), "nested too deeply"),
    "a number for an argument": (
        lambda p: p["graph_module"]["signature"]["input_specs"][2]["user_input"].update(
            arg={"as_sym_int": {"as_name": "x"}}
        ),
        "is a number, not a tensor",
    ),
    "state that changes": (
        lambda p: p["graph_module"]["signature"]["output_specs"].insert(
            0, {"buffer_mutation": {"arg": {"name": "linear"}, "buffer_name": "seen"}}
        ),
        "changes its own state",
    ),
    "an input that is written into": (
        lambda p: node(p).update(target="torch.ops.aten.relu_.default"),
        "changes its own state",
    ),
    "complex numbers": (lambda p: graph(p)["tensor_values"]["x"].update(dtype=10), "cannot carry"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_must_not_reach_torch_is_refused(tmp_path: Path, name: str) -> None:
    change, words = HOSTILE[name]
    path = pt2.write(tmp_path / "model", change)
    with pytest.raises(ArtifactRefused, match=words):
        TorchExportFormat().inspect(tmp_path, (path.name,), Trust())


def test_guards_and_traces_are_left_out(tmp_path: Path) -> None:
    """Both are source code or paths; torch would evaluate the first."""
    from modelport.engine.formats.torch_program import checked

    found = pt2.program()
    found["guards_code"] = ["__import__('os').system('id')"]
    clean = checked(found)
    assert clean["guards_code"] == []
    assert node(clean)["metadata"] == {}


STORES: dict[str, tuple[Change, str]] = {
    "a pickled weight": (lambda w: w["weight"].update(use_pickle=True), "stored as a pickle"),
    "a weight larger than its bytes": (
        lambda w: w["weight"]["tensor_meta"].update(sizes=[{"as_int": 300}, {"as_int": 4}]),
        "larger than its bytes",
    ),
    "an offset beyond the bytes": (
        lambda w: w["weight"]["tensor_meta"].update(storage_offset={"as_int": 99}),
        "larger than its bytes",
    ),
    "a negative stride": (
        lambda w: w["weight"]["tensor_meta"].update(strides=[{"as_int": -4}, {"as_int": 1}]),
        "no plain shape",
    ),
    "a missing member": (lambda w: w["weight"].update(path_name="nowhere"), "larger than its bytes"),
    "no shape": (lambda w: w["weight"].update(tensor_meta=None), "no plain shape"),
}


@pytest.mark.parametrize("name", STORES)
def test_weights_are_raw_bytes_within_the_archive(tmp_path: Path, name: str) -> None:
    change, words = STORES[name]
    path = pt2.write(tmp_path / "model", change_weights=change)
    with pytest.raises(ArtifactRefused, match=words):
        TorchExportFormat().inspect(tmp_path, (path.name,), Trust())


def test_archives_that_torch_does_not_write(tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"compression": zipfile.ZIP_DEFLATED}, "compressed or encrypted"),
        ({"models__model.json": b"{"}, "not the JSON"),
        ({"models__other.json": b"{}"}, "several models"),
        ({"models__model.json": None}, "does not say what it takes"),
        ({"data__weights__model.pt": b"\x80\x04."}, "pickle of an older torch"),
        ({"data__weights__model_weights_config.json": None}, "lacks"),
    ]
    for options, words in cases:
        with pytest.raises(ArtifactRefused, match=words):
            look(pt2.write(tmp_path / "model", **options))


def test_native_code_needs_the_operators_word(tmp_path: Path) -> None:
    path = pt2.write(tmp_path / "model", **{"data__aotinductor__model__m.so": b"\x7fELF"})
    with pytest.raises(ArtifactRefused, match="MODELPORT_TRUST_NATIVE_CODE"):
        look(path)
    assert look(path, Trust(native_code=True)).runtime == "aotinductor"
