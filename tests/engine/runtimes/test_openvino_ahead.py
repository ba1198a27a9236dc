"""Tokens that are tried ahead with OpenVINO GenAI and a real model: the same text in fewer steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

pytest.importorskip("openvino_genai")

from modelport.engine.formats.gguf import GgufFormat
from modelport.engine.generation import Format, Sampling
from modelport.engine.runtime import LoadOptions, Trust
from modelport.engine.runtimes.openvino_genai import OpenVinoGenAiRuntime
from modelport.engine.texts import SIGNATURE
from tests.services.served import talking_weights

DOCUMENT = (
    "The river Wey rises in two places and flows north to the Thames. Its north branch begins near Alton, and its "
    "south branch near Haslemere; the two join at Tilford."
)
PROMPTS = [
    f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n"
    for asked in (f"Repeat this text word for word:\n{DOCUMENT}", "Why is the sky blue?")
]
GREEDY = Sampling(temperature=0, max_tokens=60)


def load(**engine: Any) -> OpenVinoGenAiRuntime:
    file = talking_weights()
    details = GgufFormat().inspect(file.parent, (file.name,), Trust()).details
    options = LoadOptions(file.parent, (file.name,), SIGNATURE, {}, details=details, engine=engine)
    return OpenVinoGenAiRuntime.load(options)


def write(runtime: OpenVinoGenAiRuntime, prompts: Sequence[str], sampling: Sampling) -> tuple[list[list[int]], int]:
    """The texts, written together, and the steps that it took."""
    for number, prompt in enumerate(prompts, 1):
        runtime.begin(number, runtime.encode(prompt, special=False), sampling, None)
    texts: dict[int, list[int]] = {number: [] for number in range(1, len(prompts) + 1)}
    left, steps = set(texts), 0
    while left:
        steps += 1
        for stepped in runtime.step():
            texts[stepped.number] += stepped.tokens
            if sampling.logprobs is not None:
                assert len(stepped.logprobs) == len(stepped.tokens)
            if stepped.finish is not None:
                left.discard(stepped.number)
    return list(texts.values()), steps


def test_what_is_true_of_texts_however_many_tokens_a_step_gives() -> None:
    runtime = load(prompt_lookup=True)
    (known,), steps = write(runtime, PROMPTS[:1], GREEDY)
    assert steps < len(known) <= 60
    assert write(runtime, PROMPTS[:1], GREEDY)[0] == [known]
    assert len(write(runtime, PROMPTS[:1], Sampling(temperature=0, max_tokens=7))[0][0]) == 7
    (stopped,), _ = write(runtime, PROMPTS[:1], Sampling(temperature=0, max_tokens=60, stop_token_ids=(known[9],)))
    assert stopped == known[: known.index(known[9])] or stopped == known[: known.index(known[9]) + 1]
    write(runtime, PROMPTS[:1], Sampling(temperature=0, max_tokens=9, logprobs=0))
    one, same, other = (
        write(runtime, PROMPTS[1:], Sampling(temperature=1.0, seed=seed, max_tokens=20))[0] for seed in (5, 5, 6)
    )
    assert one == same != other
    grammar = Format(grammar='root ::= "yes yes yes yes" | "no no no no"')
    (formed,), _ = write(runtime, PROMPTS[1:], Sampling(temperature=0, max_tokens=30, format=grammar))
    assert runtime.decode(formed) in ("yes yes yes yes", "no no no no")
    for steps in (1, 3):  # one goes away in the middle, and another comes
        runtime.begin(9, runtime.encode(PROMPTS[1], special=False), GREEDY, None)
        for _ in range(steps):
            runtime.step()
        runtime.cancel(9)
        assert write(runtime, PROMPTS[:1], GREEDY)[0] == [known]
    assert not runtime._handles
    assert not runtime._pipeline.has_non_finished_requests()


@pytest.mark.long
def test_in_float32_the_text_is_the_same() -> None:
    """In bfloat16 several tokens of one text are rounded otherwise than one after the other."""
    plain, steps = write(load(dtype="float32"), PROMPTS, GREEDY)
    for most in (2, 5):
        runtime = load(dtype="float32", prompt_lookup=True, num_assistant_tokens=most)
        assert write(runtime, PROMPTS[:1], GREEDY)[0] == plain[:1]
        assert write(runtime, PROMPTS[1:], GREEDY)[0] == plain[1:]
        together, fewer = write(runtime, PROMPTS, GREEDY)
        assert (together, fewer < steps) == (plain, True)
