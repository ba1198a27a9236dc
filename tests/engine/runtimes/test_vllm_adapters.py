"""LoRA adapters on vLLM in a real replica: each writes what peft's own model writes, and the base what it did.

``MODELPORT_VLLM_PYTHON`` names the interpreter that has vLLM; without it only what is asked of the engine is tested.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from modelport.engine.adapting import tell
from modelport.engine.dataplane import DataPlane
from modelport.engine.generation import Asked, Sampling
from modelport.engine.routing import RoutingTable
from modelport.engine.runtimes.vllm_adapters import lora_arguments
from tests.engine.language.test_generating import parts_of
from tests.engine.replicas import Engine, engine
from tests.engine.runtimes.test_transformers import TEXTS
from tests.engine.runtimes.test_vllm import PYTHON, vllm
from tests.training.tiny_models import adapter, llama, widened

PROMPT = tuple(range(5, 22))
LONG_PROMPT = PROMPT * 8
GREEDY = Sampling(max_tokens=20, temperature=0, ignore_eos=True)


def test_room_is_kept_only_where_it_is_asked_for() -> None:
    assert lora_arguments({"max_model_len": 256}, False) == lora_arguments({"enable_lora": False}, True) == {}
    some = lora_arguments({"enable_lora": True}, False)
    assert (some["max_loras"], some["max_lora_rank"]) == (4, 16)
    assert lora_arguments({"max_lora_rank": 24}, False)["max_lora_rank"] == 32
    assert lora_arguments({"max_loras": 50}, False)["max_cpu_loras"] == 50
    assert lora_arguments({"max_loras": 2}, True)["max_loras"] == 3  # one is for texts without an adapter


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return widened(llama(tmp_path_factory.mktemp("base"), TEXTS, width=64))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, base: Path) -> dict[str, Path]:
    where = tmp_path_factory.mktemp("adapters")
    return {
        "a": adapter(where / "a", base, seed=1, target_modules=["q_proj", "v_proj"]),
        "b": adapter(where / "b", base, seed=2, target_modules="all-linear", use_rslora=True, r=4),
        "c": adapter(
            where / "c", base, seed=3, target_modules=["down_proj"], rank_pattern={"layers.1.mlp.down_proj": 3}
        ),
    }


def expected(base: Path, folder: Path | None, prompt: tuple[int, ...]) -> list[int]:
    """What transformers and peft themselves write."""
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    if folder is not None:
        model = peft.PeftModel.from_pretrained(model, str(folder))
    ids = torch.tensor([prompt])
    made = model.eval().generate(input_ids=ids, do_sample=False, max_new_tokens=20, eos_token_id=[])
    return [int(token) for token in made[0, len(prompt) :]]


async def write(made: Engine, *adapters: str | None, prompt: tuple[int, ...] = PROMPT) -> list[list[int]]:
    """The same prompt with each of them, at once."""
    plane, route = DataPlane(), (await made.publish()).route
    names = {name: f"with-{name}" for name in adapters}
    routes = [msgspec.structs.replace(route, name=names[name], adapter=name) for name in names]
    await plane.update(RoutingTable(1, tuple(routes)))
    try:
        asked = Asked(GREEDY, tokens=prompt)
        texts = await asyncio.gather(*(parts_of(plane, plane.find("default", names[name]), asked) for name in adapters))
        return [[token for part in parts for token in part.tokens] for parts in texts]
    finally:
        plane.close()


def changed(**about: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | about))

    return change


def with_matrices(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        file = str(folder / "adapter_model.safetensors")
        save_file(change(load_file(file)), file)

    return rewrite


BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "dora": (changed(use_dora=True), "use_dora=True, which this engine does not know"),
    "whole": (changed(modules_to_save=["lm_head"]), "modules_to_save"),
    "bias": (changed(bias="all"), "bias=all"),
    "kind": (changed(peft_type="IA3"), "this one is IA3"),
    "rank": (changed(r=64), "rank is 64, and its base was deployed with room for 8: .*max_lora_rank=64"),
    "small": (with_matrices(lambda found: {n: torch.zeros(8, 8) for n in found}), "is 8 by 8, and the base's is"),
    "lone": (with_matrices(lambda found: dict(list(found.items())[1:])), "no pair of matrices"),
    "strange": (with_matrices(lambda found: {**found, "x.weight": torch.zeros(1)}), "no matrix of LoRA"),
    "nowhere": (
        with_matrices(lambda found: {n.replace("q_proj", "z_proj"): t for n, t in found.items()}), "does not fit",
    ),
    "broken": (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"x" * 40), "cannot be read"),
}  # fmt: skip


@pytest.mark.long
@pytest.mark.timeout(240)
@pytest.mark.skipif(PYTHON is None, reason="MODELPORT_VLLM_PYTHON names an interpreter that has vLLM")
async def test_each_writes_what_peft_writes(base: Path, folders: dict[str, Path], tmp_path: Path) -> None:
    wanted = {name: expected(base, folder, PROMPT) for name, folder in {None: None, **folders}.items()}
    assert len({tuple(text) for text in wanted.values()}) == 4
    for name, (damage, _why) in BAD.items():
        damage(Path(shutil.copytree(folders["a"], tmp_path / name)))
    how = {"max_model_len": 256, "cache_gb": 0.1, "max_loras": 2, "max_lora_rank": 8}
    async with engine(vllm(base, tmp_path, **how)) as (made, here):
        socket = here.route.replicas[0].socket
        assert await write(made, None) == [wanted[None]]

        # three, of which two fit into one step, beside the base
        told = await tell(socket, folders)
        assert (told.language["adapters"], told.refused) == (["a", "b", "c"], {})
        for mixed in (("a", None, "b"), ("a", None, "b", "c"), ("c", "c"), (None, "b", "a")):
            assert await write(made, *mixed) == [wanted[name] for name in mixed]

        # a cached beginning is of one adapter
        for name in ("a", None, "a", "b"):
            folder = folders[name] if name is not None else None
            assert await write(made, name, prompt=LONG_PROMPT) == [expected(base, folder, LONG_PROMPT)]

        # what does not fit is refused by name, and leaves all as it was
        told = await tell(socket, folders | {name: tmp_path / name for name in BAD})
        assert told.language["adapters"] == ["a", "b", "c"]
        for name, (_damage, why) in BAD.items():
            assert re.search(why, told.refused[name]), (name, told.refused[name])
            assert str(tmp_path) not in told.refused[name]
        assert await write(made, "a", None) == [wanted["a"], wanted[None]]

        # one goes, and its name comes again for something else
        assert (await tell(socket, {"a": folders["a"], "c": folders["c"]})).language["adapters"] == ["a", "c"]
        assert await write(made, "a", "c", None) == [wanted["a"], wanted["c"], wanted[None]]
        await tell(socket, {"a": folders["a"], "c": folders["c"], "b": folders["a"]})
        assert await write(made, "b", "c") == [wanted["a"], wanted["c"]]
