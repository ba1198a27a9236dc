"""Prompts that begin alike, with OpenVINO GenAI: each is answered as it is alone and without a cache, whoever else is
read or written, has ended or has left."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("openvino_genai")

import openvino
import openvino_genai as genai

from modelport.engine.formats.openvino_language import OpenVinoLanguageFormat
from modelport.engine.generation import Sampling
from modelport.engine.runtime import LoadOptions, Trust
from modelport.engine.runtimes.openvino_genai import OpenVinoGenAiRuntime
from modelport.engine.texts import SIGNATURE

FOLDER = Path(__file__).parents[2] / "golden" / "openvino_language"
EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
LENGTHS = (20, 31, 32, 33, 63, 64, 65, 96, 128, 150)
MOST = 6


class Alone:
    """What the model writes behind a prompt: one text at a time, nothing kept."""

    def __init__(self) -> None:
        how = genai.SchedulerConfig()
        how.cache_size, how.enable_prefix_caching, how.max_num_batched_tokens = 1, False, 4096
        self._pipeline = genai.ContinuousBatchingPipeline(str(FOLDER), how, "CPU", EXACT)
        self._texts: dict[tuple[int, ...], list[int]] = {}

    def __call__(self, prompt: Sequence[int]) -> list[int]:
        key = tuple(prompt)
        if key not in self._texts:
            how = genai.GenerationConfig()
            how.max_new_tokens, how.ignore_eos, how.apply_chat_template = MOST, True, False
            number = len(self._texts)
            handle = self._pipeline.add_request(number, openvino.Tensor(np.array([prompt], np.int64)), how)
            while self._pipeline.has_non_finished_requests():
                self._pipeline.step()
            self._texts[key] = handle.read_all()[0].generated_ids
        return self._texts[key]


@dataclass
class Text:
    prompt: list[int]
    most: int
    leaves_at: int | None
    tokens: list[int] = field(default_factory=list)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "ahead"])
def runtime(request: pytest.FixtureRequest) -> OpenVinoGenAiRuntime:
    """Also with tokens tried ahead."""
    files = tuple(sorted(path.name for path in FOLDER.iterdir()))
    details = OpenVinoLanguageFormat().inspect(FOLDER, files, Trust()).details
    engine = {"dtype": "float32", "prompt_lookup": request.param}
    return OpenVinoGenAiRuntime.load(LoadOptions(FOLDER, files, SIGNATURE, {}, details=details, engine=engine))


@pytest.fixture(scope="module")
def alone() -> Alone:
    return Alone()


def one(rng: random.Random, beginning: list[int], words: int, others: list[Text]) -> Text:
    """A beginning, or what another has said and heard, with more behind it or without."""
    if others and rng.random() < 0.4:
        other = rng.choice(others[-6:])
        heard = rng.randrange(max(0, len(other.tokens) - 1), len(other.tokens) + 1)
        prompt = (other.prompt + other.tokens[:heard])[:200]
    else:
        prompt = beginning[: rng.choice(LENGTHS)]
    prompt = prompt + [rng.randrange(words) for _ in range(rng.choice((0, 0, 1, 5, 40)))]
    return Text(prompt, rng.choice((1, 2, MOST)), rng.choice((None, None, None, 0, 1, 2)))


@pytest.mark.parametrize("seed", range(30))
def test_who_begins_as_others_do_is_answered_as_he_is_alone(
    runtime: OpenVinoGenAiRuntime, alone: Alone, seed: int
) -> None:
    rng, words = random.Random(seed), runtime.facts.words
    beginning = [rng.randrange(words) for _ in range(max(LENGTHS))]
    texts: dict[int, Text] = {}
    live: set[int] = set()
    while len(texts) < 24 or live:
        while len(texts) < 24 and len(live) < 8 and runtime.reads_more and rng.random() < 0.6:
            number = 1000 * seed + len(texts)
            texts[number] = text = one(rng, beginning, words, list(texts.values()))
            stops = () if rng.random() < 0.8 else tuple(range(words))
            how = Sampling(temperature=0, max_tokens=text.most, ignore_eos=not stops, stop_token_ids=stops)
            runtime.begin(number, text.prompt, how, None)
            live.add(number)
        for stepped in runtime.step():
            texts[stepped.number].tokens += stepped.tokens
            if stepped.finish is not None:
                live.discard(stepped.number)
        for number in [each for each in live if texts[each].leaves_at is not None]:
            if len(texts[number].tokens) >= (texts[number].leaves_at or 0):
                runtime.cancel(number)
                live.discard(number)
    assert sum(bool(text.tokens) for text in texts.values()) > 10
    for text in texts.values():
        assert text.tokens == alone(text.prompt)[: len(text.tokens)], len(text.prompt)
    for _ in range(8):
        runtime.step()
    assert not runtime._pipeline.has_non_finished_requests() and runtime.usage() == 0
