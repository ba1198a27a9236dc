"""Language models' folders exported to OpenVINO on a real server, in an environment that it builds itself, and asked
through OpenAI's own client."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
import transformers

from modelport.sdk.client import Client
from tests.services.conftest import Server
from tests.services.served import talking_weights
from tests.training import tiny_models

pytest.importorskip("openvino_genai")

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("language"), pytest.mark.timeout(900)]
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
    folder = unpacked(tmp_path / kind) if kind == "smollm2" else tiny(tmp_path / kind, kind)
    client.models.push(folder, kind, licence="Apache-2.0")
    job = client.conversions.convert(kind, "openvino", name=f"{kind}-ir")
    made = job.result or {}
    assert made["model"] == f"{kind}-ir:1" and made["format"] == "openvino_language"
    assert made["parity"]["outputs"] == ["next_token", "tokens", "text"] and made["parity"]["rows"] == 8
    assert made["parity"]["label_agreement"] == 1.0 and made["parity"]["max_absolute"] < 1e-4
    assert made["parity"]["told"]["logits"] < 1e-2
    step = made["steps"][0]
    assert "network" in step["confined"] and "optimum-intel" in step["versions"]
    kinds = step["report"]["weights_by_type"]
    assert max(kinds, key=kinds.get) == ("bf16" if kind == "smollm2" else "f32")
    version = client.models.version(f"{kind}-ir").manifest
    assert version.licence == "Apache-2.0" and {f"{kind}:1", f"job:{job.id}"} == set(version.parents)
    client.deploy(f"{kind}-ir", timeout=120)
    print(made["parity"], made["bytes"], repr(said(exporting, f"{kind}-ir", 20)))
    assert said(exporting, f"{kind}-ir", 20) == written(folder, 20)
    client.undeploy(f"{kind}-ir")
