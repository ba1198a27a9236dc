"""vLLM in a real replica, in the interpreter that has it, with a real model: what transformers would have written.

``MODELPORT_VLLM_PYTHON`` names that interpreter; without it the tests run where vLLM is beside Modelport.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from modelport import errors
from modelport.control.environments import Environments
from modelport.engine.generation import Asked, Format, Part, Sampling
from modelport.engine.texts import SIGNATURE
from tests.engine.language.test_generating import parts_of
from tests.engine.replicas import Engine, engine
from tests.services.served import talking_weights

PYTHON = os.environ.get("MODELPORT_VLLM_PYTHON") or (sys.executable if importlib.util.find_spec("vllm") else None)
pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(240),
    pytest.mark.skipif(PYTHON is None, reason="MODELPORT_VLLM_PYTHON names an interpreter that has vLLM"),
]
PROMPT = "The capital of France is"
LONG_PROMPT = "A list of words, and nothing but words: " + "apple pear plum " * 150
ARGUMENTS = 'root ::= "{\\"city\\": \\"" [a-zA-Z ]{1,20} "\\"}"'


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    packed = talking_weights()
    base = pytest.importorskip("modelport.training.language.base")
    folder = tmp_path_factory.mktemp("smollm2") / "model"
    base.unpack_gguf(packed, folder)
    return folder


def vllm(weights: Path, home: Path, **options: Any) -> Callable[[Engine], None]:
    def make(made: Engine) -> None:
        assert PYTHON is not None
        given = Environments(home).given(Path(PYTHON))
        made.runtime, made.signature = "modelport.engine.runtimes.vllm:VllmRuntime", SIGNATURE  # type: ignore[attr-defined]
        made.model, made.files = weights, tuple(path.name for path in weights.iterdir())
        made.python, made.python_path, made.start_s = given.python, given.variables["PYTHONPATH"], 200
        made.options = {"max_model_len": 2048, "cache_gb": 0.5, "dtype": "float32", **options}

    return make


def greedy(weights: Path, prompt: str, count: int) -> tuple[list[int], str]:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(weights)
    model = transformers.AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32).eval()
    ids = tokenizer(prompt, return_tensors="pt")
    found = model.generate(**ids, max_new_tokens=count, do_sample=False)[0, ids["input_ids"].shape[1] :].tolist()
    return found, tokenizer.decode(found)


def exposed(pid: int) -> list[str]:
    """Where a replica and its processes listen and others could reach them."""
    listening = [
        connection.laddr.ip
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))
        for connection in process.net_connections("inet")
        if connection.status in (psutil.CONN_LISTEN, psutil.CONN_NONE)
    ]
    return [address for address in listening if not ipaddress.ip_address(address).is_loopback]


def text(parts: list[Part]) -> str:
    return "".join(part.text for part in parts)


async def test_a_real_model(weights: Path, tmp_path: Path) -> None:  # one start, which takes most of the time
    async with engine(vllm(weights, tmp_path)) as (made, here):

        async def write(prompt: str = PROMPT, **how: Any) -> list[Part]:
            sampling = Sampling(**{"max_tokens": 20, "temperature": 0.0, **how})
            return await parts_of(made.plane, here, Asked(sampling, prompt=prompt))

        facts = here.route.language
        assert facts is not None
        assert facts.context == 2048
        assert facts.room >= facts.context
        assert facts.ample == 0

        # as transformers would write it
        parts = await write(logprobs=3)
        tokens, expected = greedy(weights, PROMPT, 20)
        assert [token for part in parts for token in part.tokens] == tokens
        assert text(parts) == expected
        assert parts[-1].finish == "length"
        for part in parts:
            (best, *others) = part.alternatives[0]
            assert (best.token, best.logprob) == (part.tokens[0], part.logprobs[0])
            assert [other.logprob for other in others] == sorted((o.logprob for o in others), reverse=True)
            assert len(others) == 2

        # how tokens are chosen
        one, same, other = [text(await write(temperature=1.0, seed=seed)) for seed in (5, 5, 6)]
        assert one == same != other
        assert text(await write(logit_bias={tokens[0]: -100.0})) != expected
        assert text(await write(repetition_penalty=1.8, presence_penalty=1.0, frequency_penalty=1.0)) != expected
        stopped = await write(stop_token_ids=(tokens[1],))
        assert (len([token for part in stopped for token in part.tokens]), stopped[-1].finish) == (1, "stop")

        # answers of a form
        assert text(await write(temperature=1.0, format=Format(grammar='root ::= "yes" | "no"'))) in ("yes", "no")
        called = text(await write(max_tokens=80, format=Format(tools={"find": ARGUMENTS}, parallel=False)))
        assert called.startswith("<tool_call>\n")
        call = json.loads(called.removeprefix("<tool_call>\n").removesuffix("\n</tool_call>"))
        assert call["name"] == "find"
        assert call["arguments"].keys() == {"city"}
        free = text(await write(format=Format(tools={"find": ARGUMENTS}, must_call=False)))
        assert free.startswith(expected[:10]), "text may come in the place of a call"

        # a prompt's beginning is read once
        assert (await write(LONG_PROMPT, max_tokens=2))[0].cached_tokens == 0
        assert (await write(LONG_PROMPT, max_tokens=2))[0].cached_tokens > 300

        for bad, why in (
            ({"logit_bias": {10**7: 1.0}}, "out-of-vocab"),
            ({"logprobs": 50}, "greater than max allowed"),
            ({"format": Format(grammar="root ::= (")}, "[Ii]nvalid grammar"),
        ):
            with pytest.raises(errors.InvalidInput, match=why):
                await write(**bad)
        assert text(await write()) == expected, "nothing of the refused ones is left"

        (pid,) = (process.pid for process in made.processes.values())
        assert not exposed(pid)


@pytest.fixture(scope="module")
def small(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A little network with the real one's tokenizer, whose heads two devices can share."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("small")
    transformers.AutoTokenizer.from_pretrained(weights).save_pretrained(folder)
    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        vocab_size=49152, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.3,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


async def test_every_layer_on_two_devices(small: Path, tmp_path: Path) -> None:
    """Here each is a process; the text is the same, and they end with their replica however that ends."""
    how = {"max_model_len": 256, "tensor_parallel_size": 2}
    async with engine(vllm(small, tmp_path, **how)) as (made, here):
        parts = await parts_of(made.plane, here, Asked(Sampling(max_tokens=10, temperature=0.0), prompt=PROMPT))
        assert [token for part in parts for token in part.tokens] == greedy(small, PROMPT, 10)[0]
        (pid,) = (process.pid for process in made.processes.values())
        assert not exposed(pid)
        workers = psutil.Process(pid).children(recursive=True)
        assert len(workers) >= 2
        made.kill(next(iter(made.processes)))
        assert not psutil.wait_procs(workers, 30)[1]


@pytest.mark.parametrize("ahead", ["prompt_lookup", "draft"])
async def test_tokens_that_are_tried_ahead(weights: Path, tmp_path: Path, ahead: str) -> None:
    """The same text in fewer steps; the model is its own draft here, and nearly always right."""

    def make(made: Engine) -> None:
        how = {"prompt_lookup": True} if ahead == "prompt_lookup" else {"num_assistant_tokens": 3}
        vllm(weights, tmp_path, **how)(made)
        if ahead == "draft":
            made.draft = {"folder": str(made.model), "files": list(made.files), "details": {}}

    repeated = "Tell me once more: " + "one two three four five six seven eight nine ten, " * 4
    async with engine(make) as (made, here):
        for prompt in (repeated, PROMPT):
            parts = await parts_of(made.plane, here, Asked(Sampling(max_tokens=24, temperature=0.0), prompt=prompt))
            assert [token for part in parts for token in part.tokens] == greedy(weights, prompt, 24)[0]
            assert len(parts) < 24 or (ahead, prompt) == ("prompt_lookup", PROMPT)
        formed = Sampling(max_tokens=20, temperature=0.0, format=Format(grammar='root ::= "yes" | "no"'))
        assert text(await parts_of(made.plane, here, Asked(formed, prompt=PROMPT))) in ("yes", "no")
        assert here.route.language is not None
        assert here.route.language.lacks == ("min_p", "logit_bias")
        with pytest.raises(errors.InvalidInput, match="min_p and logit_bias"):
            await parts_of(made.plane, here, Asked(Sampling(min_p=0.1), prompt=PROMPT))
