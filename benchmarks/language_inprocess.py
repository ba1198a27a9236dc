"""OpenVINO GenAI called in this process, as Modelport's replica sets it up: no HTTP, no text, only tokens.

The yardstick of ``language.py``, which starts it: reads one JSON line with what to do from standard input for each
step, and writes one with the figures. Closed loops: an answer's end begins the next question.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino_genai as genai

from modelport.bench.figures import spread
from modelport.engine.runtimes import openvino_genai as ours

_CONTEXT = 8192
"""SmolLM2's."""


@dataclass
class Stream:
    """One answer under way."""

    handle: Any
    began: float
    moments: list[float] = field(default_factory=list)
    """Of each token."""


def load(model: str, threads: int) -> Any:
    """The pipeline with the replica's own settings."""
    how = ours.scheduler(_CONTEXT, ours._CACHE_GB)
    device = {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False, "PERFORMANCE_HINT": "LATENCY"}
    return genai.ContinuousBatchingPipeline(model, how, "CPU", device)


class Engine:
    """The pipeline, and the numbers of its requests."""

    def __init__(self, model: str, threads: int) -> None:
        self._pipeline = load(model, threads)
        self._tokenizer = self._pipeline.get_tokenizer()
        self._config = self._pipeline.get_config()
        self._numbers = itertools.count()

    def begin(self, question: str, tokens: int) -> Stream:
        """From the text to a request."""
        began = time.perf_counter()
        text = self._tokenizer.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True)
        ids = np.asarray(self._tokenizer.encode(text, add_special_tokens=False).input_ids.data, np.int64)
        config = genai.GenerationConfig()
        config.max_new_tokens = tokens
        config.apply_chat_template = False
        config.eos_token_id = self._config.eos_token_id
        config.ignore_eos = True
        return Stream(self._pipeline.add_request(next(self._numbers), openvino.Tensor(ids), config), began)

    def run(self, callers: int, seconds: float, warmup: float, texts: Iterator[tuple[str, int]]) -> dict[str, Any]:
        """The figures of a closed loop."""
        streams = [self.begin(*next(texts)) for _ in range(callers)]
        done: list[Stream] = []
        start = time.perf_counter() + warmup
        end = start + seconds
        while streams:
            self._pipeline.step()
            now = time.perf_counter()
            for stream in list(streams):
                if not stream.handle.can_read():
                    continue
                for output in stream.handle.read().values():
                    stream.moments += [now] * len(output.generated_ids)
                    if output.finish_reason != genai.GenerationFinishReason.NONE:
                        streams.remove(stream)
                        done.append(stream)
                        if now < end:
                            streams.append(self.begin(*next(texts)))
        return _figures(done, start, end)


def _figures(streams: list[Stream], start: float, end: float) -> dict[str, Any]:
    if end <= start:
        return {}
    tokens = sum(start <= moment < end for stream in streams for moment in stream.moments)
    counted = [stream for stream in streams if start <= stream.began < end]
    first = [stream.moments[0] - stream.began for stream in counted]
    gaps = [after - before for stream in counted for before, after in pairwise(stream.moments)]
    return {
        "tokens_per_s": tokens / (end - start), "ttft_ms": spread(np.array(first)), "gap_ms": spread(np.array(gaps)),
        "answers": len(counted),
    }  # fmt: skip


def main() -> None:
    """Tell when the first token was written, then do what is said."""
    model, threads, file = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    with Path(file).open(encoding="utf-8") as lines:
        texts = itertools.cycle([(entry["prompt"], entry["max_tokens"]) for entry in map(json.loads, lines)])
    engine = Engine(model, threads)
    engine.run(1, 0.0, 0.0, iter([("Say one word.", 1)]))
    print("ready", flush=True)
    for line in sys.stdin:
        wanted = json.loads(line)
        print(json.dumps(engine.run(wanted["callers"], wanted["seconds"], wanted["warmup"], texts)), flush=True)


if __name__ == "__main__":
    main()
