"""What files are by their content, and which converters lead from there."""

from __future__ import annotations

import json
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from modelport.conversion import routes
from modelport.conversion.sources import check_task, check_whole, recognise
from modelport.errors import ArtifactRefused, InvalidInput


def write(folder: Path, **files: bytes) -> tuple[str, ...]:
    names = []
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        names.append(path.relative_to(folder).as_posix())
    return tuple(sorted(names))


def test_models_are_told_by_their_content(tmp_path: Path) -> None:
    def of(name: str, **files: bytes) -> tuple[str, str] | None:
        folder = tmp_path / name
        folder.mkdir()
        return recognise(folder, write(folder, **files))

    with zipfile.ZipFile(tmp_path / "keras", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", b"")
    vit = json.dumps({"architectures": ["ViTForImageClassification"]}).encode()
    assert of("a", any=(tmp_path / "keras").read_bytes()) == ("keras", "any")
    assert of("b", any=b"\x89HDF\r\n\x1a\n rest") == ("keras", "any")
    assert of("c", m__saved_model_dot_pb=b"x", m__variables__v=b"x") == ("saved_model", "m")
    assert of("d", net_dot_json=b"{}", net_dot_pdiparams=b"x") == ("paddle", "net.json")
    assert of("e", old_dot_pdmodel=b"x", old_dot_pdiparams=b"x") == ("paddle", "old.pdmodel")
    assert of("f", any=b"tree\nversion=v4\n") == ("lightgbm", "any")
    assert of("g", any=b'{"learner":{"attributes":{}') == ("xgboost", "any")
    assert of("h", any=b'{"version":[3,2,0],"learner":{}') == ("xgboost", "any")
    assert of("i", any=b"{L\x00\x00\x00\x00\x00\x00\x00\x07learner{") == ("xgboost", "any")
    assert of("j", config_dot_json=vit, preprocessor_config_dot_json=b"{}") == ("image_classifier", "")
    writer = json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}).encode()
    assert of("k", config_dot_json=writer, model_dot_safetensors=b"x") == ("language", "")
    encoder = json.dumps({"architectures": ["BertModel"], "model_type": "bert", "vocab_size": 9}).encode()
    assert of("l", config_dot_json=encoder, model_dot_safetensors=b"x") is None


def test_other_files_are_no_models(tmp_path: Path) -> None:
    files = write(
        tmp_path, a=b'{"version": 3}', b=b"PK\x03\x04 cut off", c=b"\x80\x04\x95", d=b"", net_dot_pdiparams=b"x"
    )
    assert recognise(tmp_path, files) is None
    files = write(tmp_path, config_dot_json=b"[" * 100_000, preprocessor_config_dot_json=b"{}")
    assert recognise(tmp_path, files) is None


def test_what_a_folder_lacks_is_told_before_anything_is_done(tmp_path: Path) -> None:
    check_whole("onnx", ())
    check_whole("language", ("model.safetensors", "tokenizer.json"))
    for files, missing in ((("tokenizer.json",), "safetensors"), (("a.safetensors",), r"tokenizer\.json")):
        with pytest.raises(InvalidInput, match=f"the folder has no {missing}: add it with"):
            check_whole("language", files)
    both = {"architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "is_encoder_decoder": True}
    files = write(tmp_path / "t5", config_dot_json=json.dumps(both).encode(), model_dot_safetensors=b"x")
    assert recognise(tmp_path / "t5", files) is None
    with pytest.raises(InvalidInput, match="is a T5ForConditionalGeneration: of Hugging Face folders encoders"):
        check_task(tmp_path / "t5", files)
    code = {"architectures": ["OurForCausalLM"], "model_type": "ours", "auto_map": {"AutoModel": "ours.Ours"}}
    files = write(tmp_path / "ours", config_dot_json=json.dumps(code).encode(), model_dot_safetensors=b"x")
    assert recognise(tmp_path / "ours", files) is None
    with pytest.raises(ArtifactRefused, match="names custom code"):
        check_task(tmp_path / "ours", files)


def test_routes_are_the_shortest_and_what_there_is_not_is_told() -> None:
    assert [step.tool for step in routes.route("sklearn", "onnx")] == ["sklearn_onnx"]
    assert [step.tool for step in routes.route("keras", "openvino")] == ["keras_onnx", "onnx_openvino"]
    assert [step.tool for step in routes.route("torch_export", "litert")] == ["torch_litert"]
    assert [step.tool for step in routes.route("image_classifier", "litert")] == ["image_torch", "torch_litert"]
    assert [step.tool for step in routes.route("language", "gguf")] == ["language_gguf"]
    assert [step.tool for step in routes.route("language", "openvino")] == ["language_openvino"]
    assert [step.tool for step in routes.route("huggingface", "openvino")] == ["huggingface_onnx", "onnx_openvino"]
    for source, target in (("onnx", "onnx"), ("openvino", "openvino"), ("openvino_language", "openvino")):
        with pytest.raises(InvalidInput, match=f"the model is {target} already"):
            routes.route(source, target)
    with pytest.raises(InvalidInput, match="'gguf' cannot become openvino.*GenAI serves it as it is: deploy it"):
        routes.route("gguf", "openvino")
    with pytest.raises(InvalidInput, match=r"'sklearn' cannot become torch: it can become onnx, openvino, litert$"):
        routes.route("sklearn", "torch")
    with pytest.raises(InvalidInput, match="'language' cannot become onnx: it can become openvino, gguf$"):
        routes.route("language", "onnx")
    with pytest.raises(InvalidInput, match="there is no converter from it"):
        routes.route("predictor", "onnx")


def test_an_environment_has_the_releases_that_this_server_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """An export is read by the OpenVINO here, and no other torch may come along; what is not here is not pinned."""
    here = {"torch": "2.13.0+cpu", "openvino": "2026.4.1", "openvino-tokenizers": "2026.4.1.0"}

    def version(name: str) -> str:
        if name not in here:
            raise metadata.PackageNotFoundError(name)
        return here[name]

    monkeypatch.setattr(routes.metadata, "version", version)
    (step,) = routes.route("language", "openvino")
    pinned = ["openvino==2026.4.1", "openvino-tokenizers==2026.4.1.0", "torch==2.13.0"]
    assert routes.requirements_of(step)[1:] == pinned
    del here["torch"]
    assert routes.requirements_of(step)[-1] == "torch"


def test_every_converter_has_its_file_and_says_what_it_does() -> None:
    tools = Path(routes.__file__).parent / "tools"
    for found in routes.CONVERTERS:
        assert "def convert(" in (tools / f"{found.tool}.py").read_text()
        assert bool(found.needs) != bool(found.requirements)
