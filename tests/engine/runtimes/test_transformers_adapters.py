"""LoRA adapters on a running model: each writes what peft's own model of base and adapter writes, the base what it did.

The matrices are random and large, so that every adapter says something else.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

from modelport.engine.runtimes.transformers import TransformersRuntime
from modelport.errors import ArtifactRefused, InvalidInput
from tests.engine.runtimes.test_transformers import GREEDY, TEXTS, expected, load, tokens
from tests.training.tiny_models import adapter, llama, widened

PROMPT = [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return widened(llama(tmp_path_factory.mktemp("base"), TEXTS))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, base: Path) -> dict[str, Path]:
    where = tmp_path_factory.mktemp("adapters")
    return {
        "a": adapter(where / "a", base, seed=1, target_modules=["q_proj", "v_proj"]),
        "b": adapter(where / "b", base, seed=2, target_modules="all-linear", use_rslora=True, r=4),
        "c": adapter(where / "c", base, seed=3, target_modules=["down_proj"], use_dora=True),
    }


@pytest.fixture(scope="module")
def wanted(base: Path, folders: dict[str, Path]) -> dict[str | None, list[int]]:
    """What peft's own models write."""
    plain = transformers.AutoModelForCausalLM.from_pretrained(base).eval()
    found: dict[str | None, list[int]] = {None: expected(plain, PROMPT)}
    for name, folder in folders.items():
        again = transformers.AutoModelForCausalLM.from_pretrained(base)
        found[name] = expected(peft.PeftModel.from_pretrained(again, str(folder)).eval(), PROMPT)
    return found


def write(runtime: TransformersRuntime, *adapters: str | None) -> list[list[int]]:
    """The same prompt with each of them, at once."""
    gained: dict[int, list[Any]] = {number: [] for number in range(len(adapters))}
    for number, name in enumerate(adapters):
        runtime.begin(number, PROMPT, GREEDY, name)
    while found := runtime.step():
        for stepped in found:
            gained[stepped.number].append(stepped)
    return [tokens(steps) for steps in gained.values()]


def test_each_writes_what_peft_writes(
    base: Path, folders: dict[str, Path], wanted: dict[str | None, list[int]]
) -> None:
    assert len({tuple(text) for text in wanted.values()}) == 4
    runtime = load(base)
    assert write(runtime, None) == [wanted[None]]
    for name, folder in folders.items():
        runtime.attach(name, folder)
    assert runtime.facts.adapters == ("a", "b", "c")
    for mixed in (("a", None, "b", "c"), (None,), ("c", "c"), (None, "b", "a")):
        assert write(runtime, *mixed) == [wanted[name] for name in mixed]
    runtime.detach("b")
    assert runtime.facts.adapters == ("a", "c")
    with pytest.raises(InvalidInput, match="holds no adapter 'b'"):
        runtime.begin(1, PROMPT, GREEDY, "b")
    assert write(runtime, "a", None, "c") == [wanted["a"], wanted[None], wanted["c"]]
    runtime.attach("b", folders["a"])  # the name again, for something else
    assert write(runtime, "b", "c", None) == [wanted["a"], wanted["c"], wanted[None]]
    for name in ("a", "b", "c"):
        runtime.detach(name)
    assert write(runtime, None) == [wanted[None]]


def test_one_comes_while_texts_are_written(
    base: Path, folders: dict[str, Path], wanted: dict[str | None, list[int]]
) -> None:
    runtime = load(base)
    runtime.begin(1, PROMPT, GREEDY, None)
    first = [token for _ in range(5) for stepped in runtime.step() for token in stepped.tokens]
    runtime.attach("a", folders["a"])
    runtime.begin(2, PROMPT, GREEDY, "a")
    gained: dict[int, list[int]] = {1: first, 2: []}
    while found := runtime.step():
        for stepped in found:
            gained[stepped.number] += stepped.tokens
    assert gained == {1: wanted[None], 2: wanted["a"]}


def changed(**about: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | about))

    return change


def other_shape(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(str(folder / "adapter_model.safetensors"))
    save_file({name: torch.zeros(3, 3) for name in weights}, str(folder / "adapter_model.safetensors"))


def one_missing(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(str(folder / "adapter_model.safetensors"))
    weights.pop(next(iter(weights)))
    save_file(weights, str(folder / "adapter_model.safetensors"))


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (changed(bias="all"), "bias=all"),
        (changed(modules_to_save=["lm_head"]), "modules_to_save"),
        (changed(layer_replication=[[0, 1]]), "layer_replication"),
        (changed(init_lora_weights="pissa_niter_4"), "rewrites the base"),
        (changed(peft_type="IA3"), "this one is IA3"),
        (changed(target_modules=["nowhere"]), "does not fit"),
        (changed(r="many"), "cannot be read|does not fit"),
        (other_shape, "does not fit"),
        (one_missing, "differ in"),
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"x" * 40), "does not fit"),
    ],
)
def test_what_does_not_fit_leaves_the_model_as_it_was(
    base: Path, folders: dict[str, Path], wanted: dict[str | None, list[int]], tmp_path: Path,
    damage: Callable[[Path], None], why: str,
) -> None:  # fmt: skip
    shutil.copytree(folders["a"], tmp_path / "bad")
    damage(tmp_path / "bad")
    runtime = load(base)
    with pytest.raises(ArtifactRefused, match=why):
        runtime.attach("bad", tmp_path / "bad")
    assert runtime.facts.adapters == ()
    runtime.attach("a", folders["a"])
    assert write(runtime, None, "a") == [wanted[None], wanted["a"]]
