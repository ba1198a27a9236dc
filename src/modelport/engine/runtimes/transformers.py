"""Writes texts with transformers on torch: any language model that the library itself has, from safetensors.

A step is one pass for all texts (``transformers_steps``): long prompts come in pieces, so that nobody waits for one.
What ended texts leave is kept while there is room, and a prompt that begins as one of them did goes on from there.
Knows tokens; knows neither conversations nor callers. Nothing of the folder runs, nothing is fetched.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import msgspec

from modelport.engine.formats.huggingface_folder import read_recipe
from modelport.engine.generation import Facts, Sampling
from modelport.engine.runtime import Adapts, Generates, LoadOptions, Runtime, Stepped
from modelport.engine.runtimes.messages import first_line
from modelport.errors import ArtifactRefused, InvalidInput, MissingExtra
from modelport.tensors import Array

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
try:
    import torch
    import transformers

    from modelport.engine.runtimes.transformers_choice import Choice, Chosen
    from modelport.engine.runtimes.transformers_grammar import Grammars
    from modelport.engine.runtimes.transformers_steps import Memory, Steps, tried
except ImportError as error:
    raise MissingExtra("transformers", f"running a language model ({first_line(error)})") from None

_SLOTS = 32
_CACHE_BYTES = 2 << 30
_MOST_NEW = 256
"""Tokens of prompts in one step: others wait for a long prompt no longer than that takes."""
_LEAST_SHARED = 16
"""Tokens that two texts begin with, for one to go on from what the other left."""
_IN_FULL = 2_000_000_000
"""Parameters up to which the CPU computes in FP32, whatever the folder holds: faster there, and closer to equal."""
_LOAD_ERRORS = (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError, ImportError)


@dataclass(slots=True)
class _Text:
    """One that is being written."""

    number: int
    prompt: list[int]
    sampling: Sampling
    choice: Choice
    ends: frozenset[int]
    adapter: str | None
    memory: Any
    cached: int
    next: list[int] = field(default_factory=list)
    """What the model has yet to read."""
    written: int = 0


class TransformersRuntime(Runtime, Generates, Adapts):
    """One model and the texts that it writes."""

    name = "transformers"
    platform = "huggingface_transformers"
    environment = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}  # noqa: RUF012
    not_batched = "texts are written together in steps"

    def __init__(self, model: Any, tokenizer: Any, context: int) -> None:
        self._tokenizer = tokenizer
        self._steps: Steps
        self._steps, per_token = tried(model)
        self._words = int(model.get_output_embeddings().weight.shape[0])
        self._ends = _ends(model, tokenizer)
        room = _CACHE_BYTES // per_token if per_token else 0
        self._facts = Facts(context=context, slots=_SLOTS, room=room, chat=bool(_template(tokenizer)))
        self._room = room or _SLOTS * context
        self._grammars: Grammars | None = None
        self._texts: dict[int, _Text] = {}
        self._longest = max((len(token.encode()) for token in tokenizer.get_vocab()), default=0)
        self._kept: list[tuple[str | None, Memory]] = []
        """What ended texts left, the latest last, by the adapter that they were written with."""
        self._model = model
        self._adapters: Any = None

    @classmethod
    def load(cls, options: LoadOptions) -> Self:
        """Load model and tokenizer; raises ArtifactRefused if they cannot be."""
        recipe = read_recipe(options.folder, options.files)
        torch.set_num_threads(options.threads)
        transformers.logging.set_verbosity_error()
        where = str(options.folder / recipe.model_folder)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        in_full = device == "cpu" and int(options.details.get("parameters") or 0) <= _IN_FULL
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                where, local_files_only=True, trust_remote_code=False
            )
            model = transformers.AutoModelForCausalLM.from_pretrained(
                where, dtype=torch.float32 if in_full else "auto",
                trust_remote_code=False, use_safetensors=True, local_files_only=True,
            )  # fmt: skip
        except _LOAD_ERRORS as error:
            raise ArtifactRefused(
                f"transformers cannot load the model: {first_line(error)}; save it again with save_pretrained"
            ) from None
        return cls(model.to(device).eval(), tokenizer, recipe.max_length)

    @property
    def facts(self) -> Facts:
        return self._facts

    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Never asked: the replica's loop takes steps instead."""
        raise InvalidInput("a language model is asked for a stream")

    def encode(self, text: str, *, special: bool) -> list[int]:
        return [int(token) for token in self._tokenizer.encode(text, add_special_tokens=special)]

    def special_texts(self) -> frozenset[str]:
        added = self._tokenizer.added_tokens_decoder.values()
        return frozenset(token.content for token in added if token.special and token.content)

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    @property
    def longest_token(self) -> int:
        return self._longest

    def chat_template(self) -> tuple[str, dict[str, str]] | None:
        source = _template(self._tokenizer)
        names = {name: str(value) for name, value in self._tokenizer.special_tokens_map.items() if value is not None}
        return (source, names) if source else None

    def begin(self, number: int, prompt: Sequence[int], sampling: Sampling, adapter: str | None) -> None:
        if adapter is not None and adapter not in self._facts.adapters:
            raise InvalidInput(f"the replica holds no adapter {adapter[:100]!r}")
        if (strange := next((token for token in prompt if not 0 <= token < self._words), None)) is not None:
            raise InvalidInput(f"the prompt has the token {strange}, and the model's are 0 to {self._words - 1}")
        ends = frozenset(sampling.stop_token_ids) | (frozenset() if sampling.ignore_eos else self._ends)
        grammar = None
        if sampling.format is not None:
            if self._grammars is None:
                self._grammars = Grammars(self._tokenizer, self._words, sorted(self._ends))
            grammar = self._grammars.of(sampling.format)
        choice = Choice(sampling, prompt, ends, self._words, grammar)
        memory = self._remembered(adapter, list(prompt))
        cached = len(memory.tokens)
        self._texts[number] = _Text(
            number, list(prompt), sampling, choice, ends, adapter, memory, cached, list(prompt[cached:])
        )  # fmt: skip
        self._make_room(sampling.max_tokens or 1)

    def step(self) -> list[Stepped]:
        left, work = _MOST_NEW, []
        for text in self._texts.values():
            count = len(text.next) if text.written else min(len(text.next), left)
            if not text.written:
                left -= count
            if count:
                work.append((text, text.next[:count]))
                text.next = text.next[count:]
        if not work:
            return []
        gained = []
        for adapter in dict.fromkeys(text.adapter for text, _ in work):  # a pass goes with one adapter or with none
            theirs = [(text, new) for text, new in work if text.adapter == adapter]
            if self._adapters is not None:
                self._adapters.wear(adapter)
            logits = self._steps.logits([(text.memory, new) for text, new in theirs]).cpu()
            gained += [self._chosen(text, row) for (text, _), row in zip(theirs, logits, strict=True) if not text.next]
        return gained

    def attach(self, adapter: str, folder: Path) -> None:
        if self._adapters is None:
            room = import_module("modelport.engine.runtimes.transformers_adapters")  # peft is slow to import
            self._adapters = room.Adapters(self._model)
        self._adapters.put_on(adapter, folder)
        self._facts = msgspec.structs.replace(self._facts, adapters=(*self._facts.adapters, adapter))

    def detach(self, adapter: str) -> None:
        left = tuple(held for held in self._facts.adapters if held != adapter)
        self._facts = msgspec.structs.replace(self._facts, adapters=left)
        self._kept = [(whose, memory) for whose, memory in self._kept if whose != adapter]
        self._adapters.take_off(adapter)

    def _chosen(self, text: _Text, logits: torch.Tensor) -> Stepped:
        """The next token of a text whose prompt has been read."""
        chosen: Chosen | None = text.choice.next(logits)
        if chosen is None:
            self._forget(text.number)
            return Stepped(text.number, (), finish="length")
        first = not text.written
        text.written += 1
        text.next = [chosen.token]
        finish = None
        if chosen.token in text.ends or text.choice.complete:
            finish = "stop"
        elif text.written >= (text.sampling.max_tokens or 1):
            finish = "length"
        if finish is not None:
            self._forget(text.number)
        given = chosen.token not in text.ends or not self.decode([chosen.token])  # a stop token's text is not given
        return Stepped(
            text.number,
            (chosen.token,) if given else (),
            (chosen.logprob,) if given and chosen.logprob is not None else (),
            (chosen.alternatives,) if given and chosen.alternatives else (),
            finish,
            text.cached if first else 0,
        )

    def cancel(self, number: int) -> None:
        self._forget(number)

    def usage(self) -> float:
        return min(1.0, self._used() / self._room)

    # -- what ended texts leave --------------------------------------------------------------------------------------

    def _remembered(self, adapter: str | None, prompt: list[int]) -> Any:
        """Memory for a prompt, with as much of its beginning as an ended text left; the last token is left to read."""
        best, shared = None, 0
        for whose, memory in self._kept:
            common = _common(memory.tokens, prompt[:-1]) if whose == adapter else 0
            if common >= max(_LEAST_SHARED, shared):
                best, shared = memory, common
        if best is None:
            return self._steps.new()
        self._kept.remove((adapter, best))
        if shared == len(best.tokens):
            return best  # it is gone on with
        self._kept.append((adapter, best))
        return best.beginning(shared)

    def _forget(self, number: int) -> None:
        text = self._texts.pop(number, None)
        if text is None:
            return
        if isinstance(text.memory, Memory) and len(text.memory.tokens) >= _LEAST_SHARED:
            self._kept.append((text.adapter, text.memory))
        self._make_room(0)

    def _make_room(self, tokens: int) -> None:
        """Throw away what was left longest ago, until so many more fit."""
        while self._kept and self._used() + tokens > self._room:
            self._kept.pop(0)

    def _used(self) -> int:
        under_way = sum(len(text.memory.tokens) + len(text.next) for text in self._texts.values())
        return under_way + sum(len(memory.tokens) for _, memory in self._kept)


def _common(left: list[int], right: list[int]) -> int:
    """How many tokens both begin with."""
    size = min(len(left), len(right))
    if left[:size] == right[:size]:
        return size
    return next(place for place in range(size) if left[place] != right[place])


def _template(tokenizer: Any) -> str | None:
    found = tokenizer.chat_template
    return found.get("default") if isinstance(found, dict) else found


def _ends(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end a text: what the folder says for generation, and the tokenizer's own."""
    declared = model.generation_config.eos_token_id
    found = declared if isinstance(declared, list) else [declared]
    return frozenset(token for token in [*found, tokenizer.eos_token_id] if token is not None)
