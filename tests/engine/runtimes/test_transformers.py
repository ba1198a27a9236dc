"""Language models from Hugging Face folders: the same words as the library's own ``generate``, whoever else is written.

The models have random weights, wide enough apart that the likeliest token is no matter of rounding.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
import transformers

from modelport.engine.formats.huggingface import HuggingFaceFormat
from modelport.engine.generation import Format, Sampling
from modelport.engine.inspect import artifact_files
from modelport.engine.language.chat_template import ChatTemplate
from modelport.engine.language.json_grammar import grammar_of
from modelport.engine.runtime import LoadOptions, Stepped, Trust
from modelport.engine.runtimes.transformers import TransformersRuntime
from modelport.engine.runtimes.transformers_steps import OneByOne, SideBySide, tried
from modelport.errors import ArtifactRefused, InvalidInput
from tests.engine.language.schemas import made
from tests.training.tiny_models import llama, widened

TEXTS = ["the cat sat on the mat, and the dog barked at it", 'a quick brown fox: {"name": "x", "n": [1, 2.5]}'] * 4
GREEDY = Sampling(max_tokens=24, temperature=0)
SIZES: dict[str, Any] = {
    "vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 64, "max_position_embeddings": 128, "pad_token_id": 0, "eos_token_id": 2,
    "initializer_range": 0.4,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return widened(llama(tmp_path_factory.mktemp("language"), TEXTS))


def load(folder: Path) -> TransformersRuntime:
    files = artifact_files(folder)
    found = HuggingFaceFormat().inspect(folder, files, Trust())
    assert found.runtime == "transformers"
    return TransformersRuntime.load(LoadOptions(folder, files, found.signature, {}, 1, Trust(), found.details))


@pytest.fixture(scope="module")
def runtime(folder: Path) -> TransformersRuntime:
    return load(folder)


@pytest.fixture(scope="module")
def reference(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


def write(runtime: TransformersRuntime, *asked: tuple[Sequence[int], Sampling]) -> list[list[Stepped]]:
    """All at once, to their ends."""
    gained: dict[int, list[Stepped]] = {number: [] for number in range(len(asked))}
    for number, (prompt, sampling) in enumerate(asked):
        runtime.begin(number, prompt, sampling, None)
    while any(not steps or steps[-1].finish is None for steps in gained.values()):
        for stepped in runtime.step():
            gained[stepped.number].append(stepped)
    assert runtime.step() == []
    return list(gained.values())


def tokens(steps: list[Stepped]) -> list[int]:
    return [token for step in steps for token in step.tokens]


def expected(model: Any, prompt: Sequence[int], **options: Any) -> list[int]:
    made = model.generate(torch.tensor([list(prompt)]), **({"do_sample": False, "max_new_tokens": 24} | options))
    found: list[int] = made[0, len(prompt) :].tolist()
    return found


def test_the_likeliest_words_are_those_of_generate(runtime: TransformersRuntime, reference: Any) -> None:
    prompts = [runtime.encode(text, special=True) for text in ("the cat", "a quick brown fox and the dog", "it")]
    prompts.append((prompts[1] * 40)[:200])  # longer than its neighbours
    written = write(runtime, *((prompt, GREEDY) for prompt in prompts))
    assert [tokens(steps) for steps in written] == [expected(reference, prompt) for prompt in prompts]
    assert len({tuple(tokens(steps)) for steps in written}) == len(prompts)
    assert all(len(set(tokens(steps))) > 3 for steps in written)


def test_one_comes_while_another_is_written(runtime: TransformersRuntime, reference: Any) -> None:
    first, second = runtime.encode("the cat", special=True), runtime.encode("quick brown", special=True)
    gained: dict[int, list[int]] = {1: [], 2: []}
    runtime.begin(1, first, GREEDY, None)
    for step in range(60):
        if step == 5:
            runtime.begin(2, second, GREEDY, None)
        for stepped in runtime.step():
            gained[stepped.number] += stepped.tokens
    assert gained == {1: expected(reference, first), 2: expected(reference, second)}


def test_a_prompt_longer_than_a_step(tmp_path: Path) -> None:
    made = llama(tmp_path, TEXTS)
    config = json.loads((made / "config.json").read_text()) | {"max_position_embeddings": 1024}
    (made / "config.json").write_text(json.dumps(config))
    runtime, model = load(made), transformers.AutoModelForCausalLM.from_pretrained(made).eval()
    long = [3 + (7 * place) % 250 for place in range(700)]
    short = long[:5]
    runtime.begin(1, long, GREEDY, None)
    runtime.begin(2, short, GREEDY, None)
    gained: dict[int, list[int]] = {1: [], 2: []}
    before = 0
    while len(gained[1]) < 24:
        for stepped in runtime.step():
            gained[stepped.number] += stepped.tokens
        before = before if gained[1] else before + 1
    assert before == 2  # steps in which only a part of it was read
    assert gained[1] == expected(model, long)


def test_penalties_are_those_of_generate(runtime: TransformersRuntime, reference: Any) -> None:
    prompt = runtime.encode("the cat sat on the", special=True)
    (steps,) = write(runtime, (prompt, msgspec.structs.replace(GREEDY, repetition_penalty=1.7)))
    assert tokens(steps) == expected(reference, prompt, repetition_penalty=1.7) != expected(reference, prompt)


@pytest.mark.parametrize("name", ["presence_penalty", "frequency_penalty"])
def test_what_was_written_is_not_written_again(runtime: TransformersRuntime, name: str) -> None:
    prompt = runtime.encode("the cat", special=True)
    (steps,) = write(runtime, (prompt, Sampling(max_tokens=40, temperature=0, ignore_eos=True, **{name: 1000.0})))
    assert len(set(tokens(steps))) == 40


def test_wishes_for_tokens(runtime: TransformersRuntime, reference: Any) -> None:
    prompt = runtime.encode("the cat", special=True)
    first = expected(reference, prompt)[0]
    never, always = {first: -1000.0}, {77: 1000.0}
    one, other = write(
        runtime,
        (prompt, msgspec.structs.replace(GREEDY, logit_bias=never)),
        (prompt, msgspec.structs.replace(GREEDY, logit_bias=always)),
    )
    assert first not in tokens(one)
    assert tokens(other) == [77] * 24


def test_a_seed_repeats_whoever_else_is_written(runtime: TransformersRuntime) -> None:
    prompt = runtime.encode("the cat", special=True)
    cuts: list[dict[str, Any]] = [{}, {"top_k": 20}, {"top_p": 0.7}, {"min_p": 0.1, "temperature": 1.5}]
    for cut in cuts:
        seeded = Sampling(**{"max_tokens": 24, "seed": 7, "ignore_eos": True, **cut})
        (alone,) = write(runtime, (prompt, seeded))
        once, other, again = write(
            runtime, (prompt, seeded), (prompt, msgspec.structs.replace(seeded, seed=8)), (prompt, seeded)
        )
        assert tokens(alone) == tokens(once) == tokens(again) != tokens(other)


def test_cuts_leave_what_they_say(runtime: TransformersRuntime, reference: Any) -> None:
    prompt = runtime.encode("the cat", special=True)
    with torch.inference_mode():
        logits = reference(torch.tensor([prompt])).logits[0, -1]
    best = set(logits.topk(3).indices.tolist())
    found = write(
        runtime, *((prompt, Sampling(max_tokens=1, seed=seed, top_k=3, temperature=3.0)) for seed in range(30))
    )
    firsts = {tokens(steps)[0] for steps in found if tokens(steps)}
    assert firsts <= best
    assert len(firsts) > 1


def test_logprobs_are_the_models_own(runtime: TransformersRuntime, reference: Any) -> None:
    prompt = runtime.encode("the cat", special=True)
    sampling = msgspec.structs.replace(GREEDY, logprobs=4, repetition_penalty=1.5)
    (steps,) = write(runtime, (prompt, sampling))
    whole = [*prompt, *tokens(steps)]
    with torch.inference_mode():
        wanted = torch.log_softmax(reference(torch.tensor([whole])).logits[0], -1)
    for place, step in enumerate(steps):
        there = wanted[len(prompt) - 1 + place]
        assert step.logprobs[0] == pytest.approx(float(there[step.tokens[0]]), abs=1e-3)
        assert [token for token, _ in step.alternatives[0]] == there.topk(4).indices.tolist()
        assert [value for _, value in step.alternatives[0]] == pytest.approx(there.topk(4).values.tolist(), abs=1e-3)


def test_ends(runtime: TransformersRuntime, reference: Any) -> None:
    prompt = runtime.encode("the cat", special=True)
    plain = expected(reference, prompt)
    stop = plain[5]
    cut = plain.index(stop)
    ended, held, eos = write(
        runtime,
        (prompt, msgspec.structs.replace(GREEDY, stop_token_ids=(stop,))),
        (prompt, msgspec.structs.replace(GREEDY, stop_token_ids=(stop,), min_tokens=10)),
        (prompt, msgspec.structs.replace(GREEDY, logit_bias={2: 1000.0})),
    )
    assert (tokens(ended), ended[-1].finish) == (plain[:cut], "stop")  # its text is not given
    assert stop not in tokens(held)[:10]
    assert (tokens(eos), eos[-1].finish) == ([2], "stop")  # reads as nothing
    (on,) = write(runtime, (prompt, msgspec.structs.replace(GREEDY, logit_bias={2: 1000.0}, ignore_eos=True)))
    assert (tokens(on), on[-1].finish) == ([2] * 24, "length")


SCHEMA = {
    "type": "object", "required": ["name", "n"], "additionalProperties": False,
    "properties": {"name": {"enum": ["cat", "dog"]}, "n": {"type": "integer", "minimum": 10, "maximum": 99}},
}  # fmt: skip


def test_answers_of_a_form(runtime: TransformersRuntime) -> None:
    prompt = runtime.encode("the cat", special=True)
    free, valid = Sampling(max_tokens=120, seed=3), grammar_of(SCHEMA, "schema")
    forms = [valid] * 6 + ['root ::= [a-c]{3} "-" [0-9]{2}', 'root ::= "yes" | "no"']
    formed = write(
        runtime,
        *(
            (prompt, msgspec.structs.replace(free, seed=seed, format=Format(grammar=form)))
            for seed, form in enumerate(forms)
        ),
    )
    texts = [runtime.decode(tokens(steps)) for steps in formed]
    assert all(steps[-1].finish == "stop" for steps in formed)
    for text in texts[:6]:
        said = json.loads(text)
        assert said["name"] in ("cat", "dog")
        assert 10 <= said["n"] <= 99
    assert re.fullmatch("[a-c]{3}-[0-9]{2}", texts[6])
    assert texts[7] in ("yes", "no")


@pytest.mark.parametrize("name", ["Größe", "décade", "東京a", "Ωa", "a\\u00e9", "🙂1", "a\u2028\u00a0b"])
def test_names_are_written_as_the_schema_has_them(runtime: TransformersRuntime, name: str) -> None:
    schema = {"type": "object", "properties": {name: {"enum": [name]}}, "required": [name]}
    form = Format(grammar=grammar_of(schema, "schema"))
    (said,) = write(runtime, (runtime.encode("the cat", special=True), Sampling(max_tokens=150, format=form)))
    assert json.loads(runtime.decode(tokens(said))) == {name: name}


def test_every_made_schema_is_a_form(runtime: TransformersRuntime) -> None:
    prompt = runtime.encode("the cat", special=True)
    for seed in range(60):
        form = Format(grammar=grammar_of(made(seed), "schema"))
        runtime.begin(seed, prompt, Sampling(max_tokens=2, seed=seed, format=form), None)
    while runtime.step():
        pass


def test_calls_of_tools(runtime: TransformersRuntime) -> None:
    prompt = runtime.encode("the cat", special=True)
    tools = {"find": grammar_of(SCHEMA, "tools"), "stop": grammar_of({"additionalProperties": False}, "tools")}
    must = Format(tools=tools, must_call=True, parallel=False)
    may = Format(tools=tools, must_call=False)
    called, said = write(
        runtime,
        (prompt, Sampling(max_tokens=200, seed=5, format=must)),
        (prompt, Sampling(max_tokens=20, seed=5, format=may)),
    )
    text = runtime.decode(tokens(called))
    call = re.fullmatch(r"<tool_call>\n(.*)\n</tool_call>", text)
    assert call is not None, text
    assert json.loads(call[1])["name"] in ("find", "stop")
    assert "<tool_call>" not in runtime.decode(tokens(said))
    assert len(tokens(said)) == 20


@pytest.mark.parametrize("bad", [Format(grammar="root ::= ("), Format(grammar="x"), Format(tools={"f": "("})], ids=str)
def test_forms_that_cannot_be_kept(runtime: TransformersRuntime, bad: Format) -> None:
    with pytest.raises(InvalidInput, match="cannot be kept"):
        runtime.begin(1, [5, 6], Sampling(max_tokens=5, format=bad), None)
    assert runtime.step() == []


def test_what_is_cancelled_is_dropped(runtime: TransformersRuntime) -> None:
    runtime.begin(1, [5, 6, 7], GREEDY, None)
    runtime.step()
    runtime.cancel(1)
    runtime.cancel(99)
    assert runtime.step() == []


def test_a_beginning_is_read_once(folder: Path, reference: Any) -> None:
    runtime = load(folder)
    begin = runtime.encode("the cat sat on the mat, and the dog barked at it. " * 3, special=True)
    other = [*begin, *runtime.encode("a fox", special=False)]
    write(runtime, (begin, GREEDY))
    once, again = write(runtime, (other, GREEDY), (begin, GREEDY))
    assert once[0].cached_tokens == len(begin)
    assert again[0].cached_tokens == len(begin) - 1  # the last is read, to know what follows
    assert tokens(once) == expected(reference, other)
    assert tokens(again) == expected(reference, begin)
    on = [*begin, *tokens(again)]  # a conversation goes on
    (more,) = write(runtime, (on, GREEDY))
    assert more[0].cached_tokens == len(on) - 1
    assert tokens(more) == expected(reference, on)


def test_what_is_left_makes_room(folder: Path) -> None:
    runtime = load(folder)
    runtime._room = 200
    for number in range(6):
        write(runtime, ([10 + number] * 40, GREEDY))
        assert runtime._used() <= 200
        assert 0 < runtime.usage() <= 1
    (steps,) = write(runtime, ([10] * 40, GREEDY))
    assert steps[0].cached_tokens == 0  # the oldest had to go


def test_conversations_and_texts(runtime: TransformersRuntime) -> None:
    found = runtime.chat_template()
    assert found is not None
    text = ChatTemplate(*found).render([{"role": "user", "content": "the cat"}], None, {})
    assert text == "<|im_start|>user\nthe cat<|im_end|>\n<|im_start|>assistant\n"
    read = runtime.encode(text, special=False)
    assert read[0] == 1  # <|im_start|> is one token
    assert runtime.decode(read) == "user\nthe cat\nassistant\n"
    assert runtime.facts.context == 256
    assert runtime.facts.chat
    assert runtime.facts.room > 10 * runtime.facts.slots * 256, "what the cache holds of so small a model"
    assert runtime.facts.ample == 0


def test_tokens_that_the_model_has_not(runtime: TransformersRuntime) -> None:
    with pytest.raises(InvalidInput, match="the model's are 0 to"):
        runtime.begin(1, [5, 1 << 20], GREEDY, None)
    with pytest.raises(InvalidInput, match="holds no adapter 'x'"):
        runtime.begin(1, [5], GREEDY, "x")


ARCHITECTURES: dict[str, tuple[Any, type]] = {
    "llama": (lambda: transformers.LlamaConfig(**SIZES), SideBySide),
    "a window": (lambda: transformers.MistralConfig(**SIZES, sliding_window=4), SideBySide),
    "experts": (lambda: transformers.MixtralConfig(**SIZES, num_local_experts=4), SideBySide),
    "places learnt": (
        lambda: transformers.GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4, n_positions=64), SideBySide,
    ),
    "places by distance": (lambda: transformers.BloomConfig(vocab_size=300, hidden_size=32, n_layer=2, n_head=4),
                           OneByOne),
    "capped attention": (lambda: transformers.Gemma2Config(**SIZES, head_dim=8, sliding_window=4), OneByOne),
    "convolutions": (lambda: transformers.Lfm2Config(**SIZES, layer_types=["conv", "full_attention"]), OneByOne),
}  # fmt: skip


def random_model(config: Any) -> Any:
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config).float().eval()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_how_a_model_is_gone_on_with_is_found_by_trying(name: str) -> None:
    config, way = ARCHITECTURES[name]
    model, whole = (random_model(config()) for _ in range(2))
    steps, _ = tried(model)
    assert type(steps) is way
    prompts = [[5, 6, 7, 8, 9, 10, 11, 12], [50, 60, 70]]
    memories = [steps.new() for _ in prompts]
    given: list[list[int]] = [[], []]
    work = [list(prompt) for prompt in prompts]
    for _ in range(8):
        logits = steps.logits(list(zip(memories, work, strict=True)))
        work = [[int(row.argmax())] for row in logits]
        for number, new in enumerate(work):
            given[number] += new
    for prompt, found in zip(prompts, given, strict=True):
        text = list(prompt)
        for _ in range(8):  # whole passes, without any cache
            with torch.inference_mode():
                text.append(int(whole(torch.tensor([text]), use_cache=False).logits[0, -1].argmax()))
        assert found == text[len(prompt) :]


def test_a_model_without_keys_and_values() -> None:
    model = random_model(transformers.MambaConfig(vocab_size=300, hidden_size=32, num_hidden_layers=2))
    with pytest.raises(ArtifactRefused, match="token by token"):
        tried(model)


def test_code_in_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    for name in artifact_files(folder):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModelForCausalLM": "m.M"}}))
    with pytest.raises(ArtifactRefused, match="auto_map"):
        load(tmp_path)
