"""Language models' folders exported to OpenVINO on a real server, in an environment that it builds itself, and asked
through OpenAI's own client."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
import transformers

from modelport.errors import InvalidInput, ModelportError, NotFound
from modelport.sdk.client import Client
from tests.services.conftest import Server
from tests.services.served import talking_weights
from tests.training import tiny_models

pytest.importorskip("openvino_genai")

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("language"), pytest.mark.timeout(900)]
GOLDEN = Path(__file__).parents[1] / "golden" / "openvino_language"
TEXTS = ["the cat sat on the mat, and the dog barked at it", "a quick brown fox"] * 4
QUESTION = [{"role": "user", "content": "What is the capital of France, and the cat?"}]


@pytest.fixture(scope="module")
def exporting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = Server(tmp_path_factory.mktemp("exporting") / "home", ("--gateways", "1")).start()
    yield found
    found.stop()


@pytest.fixture
def client(exporting: Server) -> Iterator[Client]:
    with exporting.client() as found:
        yield found


def tiny(folder: Path, kind: str) -> Path:
    """A folder of an architecture, with weights far enough apart and the tokenizer of the tiny llama."""
    tiny_models.llama(folder, TEXTS)
    if kind != "llama":
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        words = json.loads((folder / "config.json").read_text())["vocab_size"]
        made: dict[str, Callable[[], Any]] = {
            "qwen2": lambda: transformers.Qwen2Config(vocab_size=words, num_key_value_heads=1, **sizes),
            "gpt2": lambda: transformers.GPT2Config(vocab_size=words, n_embd=32, n_layer=2, n_head=2, n_positions=256),
        }
        config = made[kind]()
        config.eos_token_id, config.bos_token_id, config.pad_token_id = 2, None, 0
        torch.manual_seed(0)
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(1)
    for weights in model.parameters():
        weights.data += 0.2 * torch.randn_like(weights)
    model.save_pretrained(folder)
    return folder


def unpacked(folder: Path) -> Path:
    """SmolLM2 as a folder of transformers, in bfloat16."""
    file = talking_weights()
    where = {"gguf_file": file.name}
    read = transformers.AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.bfloat16, **where)
    if hasattr(read.config, "quantization_config"):
        del read.config.quantization_config
    model = transformers.AutoModelForCausalLM.from_config(read.config, dtype=torch.bfloat16)
    model.load_state_dict(read.state_dict())
    model.generation_config = read.generation_config
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(file.parent, **where).save_pretrained(folder)
    return folder


def written(folder: Path, most: int) -> str:
    """What transformers itself answers."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    asked = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    made = model.generate(**asked, do_sample=False, max_new_tokens=most)
    return str(tokenizer.decode(made[0, asked["input_ids"].shape[1] :], skip_special_tokens=True))


def said(server: Server, model: str, most: int, **how: Any) -> str:
    asking = openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.token, max_retries=0)
    answer = asking.chat.completions.create(
        model=model, messages=QUESTION, max_tokens=most, temperature=0, **how  # type: ignore[arg-type]
    )  # fmt: skip
    return str(answer.choices[0].message.content)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "smollm2"])
def test_a_folder_becomes_openvinos_and_writes_the_same(
    exporting: Server, client: Client, tmp_path: Path, kind: str
) -> None:
    """In FP32, which SmolLM2's weights have to be asked to be: 16 bits are computed in 16 where the processor can."""
    folder = unpacked(tmp_path / kind) if kind == "smollm2" else tiny(tmp_path / kind, kind)
    client.models.push(folder, kind, licence="Apache-2.0")
    wanted = {"precision": "fp32"} if kind == "smollm2" else {}
    job = client.conversions.convert(kind, "openvino", name=f"{kind}-ir", **wanted)
    made = job.result or {}
    assert made["model"] == f"{kind}-ir:1" and made["format"] == "openvino_language"
    assert made["parity"]["outputs"] == ["next_token", "tokens", "text"] and made["parity"]["rows"] == 8
    assert made["parity"]["label_agreement"] == 1.0 and made["parity"]["max_absolute"] < 1e-4
    assert made["parity"]["told"]["logits"] < 1e-2
    step = made["steps"][0]
    assert "network" in step["confined"] and "optimum-intel" in step["versions"]
    assert list(step["report"]["weights_by_type"]) == ["f32"]
    version = client.models.version(f"{kind}-ir").manifest
    assert version.licence == "Apache-2.0" and {f"{kind}:1", f"job:{job.id}"} == set(version.parents)
    client.deploy(f"{kind}-ir", timeout=120)
    assert said(exporting, f"{kind}-ir", 20) == written(folder, 20)
    client.undeploy(f"{kind}-ir")


def test_weights_stay_as_they_are_stored_or_become_what_is_asked(
    exporting: Server, client: Client, tmp_path: Path
) -> None:
    """Optimum's own choice of 8 bits for large models is not asked; what is packed is told, with what it costs."""
    folder = tiny(tmp_path / "half", "llama")
    half = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    half.save_pretrained(folder)
    client.models.push(folder, "half")
    made = client.conversions.convert("half", "openvino", name="half-ir").result or {}
    report = made["steps"][0]["report"]
    assert report["precision"] == "as it was stored" and report["weights_by_type"]["bf16"] > 10_000
    assert made["parity"]["label_agreement"] == 1.0 and made["parity"]["max_absolute"] < 1e-4
    packed = client.conversions.convert("half", "openvino", name="packed-ir", precision="int8").result or {}
    assert packed["parity"]["outputs"] == ["next_token"] and packed["tolerance"] == 0.1
    assert 0 < packed["parity"]["told"]["logits"] < 2 and set(packed["parity"]["told"]) == {"logits", "tokens", "text"}
    smaller = client.models.version("packed-ir").manifest
    assert next(iter(smaller.details["tensors"])) == "U8"
    weights = [
        {file.path: file.size for file in found.files}["openvino_model.bin"]
        for found in (smaller, client.models.version("half-ir").manifest)
    ]
    assert weights[0] < 0.8 * weights[1]
    client.deploy("packed-ir", timeout=120)
    assert said(exporting, "packed-ir", 5) == said(exporting, "packed-ir", 5)
    client.undeploy("packed-ir")
    with pytest.raises(InvalidInput, match="precision: only of a language model's weights for OpenVINO"):
        client.conversions.convert("half", "gguf", name="no", precision="int8")
    with pytest.raises(NotFound):
        client.models.version("no")


def test_what_cannot_be_exported_is_named_and_nothing_is_registered(client: Client, tmp_path: Path) -> None:
    folder = tiny(tmp_path / "llama", "llama")
    client.models.push(folder, "plain")
    with pytest.raises(InvalidInput, match="already; there is nothing to convert"):
        client.models.push(GOLDEN, "done")
        client.conversions.convert("done", "openvino", name="no")

    words = json.loads((folder / "config.json").read_text())["vocab_size"]
    mamba = transformers.MambaConfig(vocab_size=words, hidden_size=32, num_hidden_layers=2, architectures=["M"])
    unknown = {"architectures": ["OursForCausalLM"], "model_type": "ours"}
    for name, config, why in (
        ("mamba", {**mamba.to_dict(), "architectures": ["MambaForCausalLM"]}, "keeps a state instead of keys"),
        ("ours", unknown, "does not know the model"),
        ("doge", {"architectures": ["DogeForCausalLM"], "model_type": "doge"}, "does not know how to export 'doge'"),
    ):
        other = shutil.copytree(folder, tmp_path / name)
        (other / "config.json").write_text(json.dumps(config))
        with pytest.raises(ModelportError, match=why):
            client.conversions.convert(other, "openvino", name="no")
    for name, config, why in (
        ("t5", {"architectures": ["T5ForConditionalGeneration"], "model_type": "t5"}, "is a T5ForConditionalGen"),
        ("code", {**unknown, "auto_map": {"AutoModelForCausalLM": "ours.Ours"}}, "names custom code"),
    ):
        other = shutil.copytree(folder, tmp_path / name)
        (other / "config.json").write_text(json.dumps(config))
        with pytest.raises(ModelportError, match=why):
            client.conversions.convert(other, "openvino", name="no")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InvalidInput, match=r"the folder has no tokenizer\.json: add it with tokenizer"):
        client.conversions.convert(folder, "openvino", name="no")
    with pytest.raises(NotFound):
        client.models.version("no")
