"""Writes texts with OpenVINO GenAI on the CPU: continuous batching, a paged cache shared by equal prefixes.

Takes a GGUF file as it is, or a folder that Optimum Intel exported (``openvino_model.xml`` and its tokenizer); what has
FP32 weights there is computed in FP32. The cache is bounded, so that a replica's memory is known; grammars are kept by
xgrammar inside the library. Knows tokens; knows neither conversations nor callers.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import msgspec
import numpy as np

from modelport.engine.formats.gguf import vocab_size_of
from modelport.engine.generation import Facts, Format, Sampling
from modelport.engine.language.grammar_cost import cost_of
from modelport.engine.language.refused import refuse_unknown
from modelport.engine.language.text import ByBytes, Reader
from modelport.engine.runtime import Generates, LoadOptions, Prepares, Runtime, Stepped
from modelport.engine.runtimes.messages import first_line
from modelport.engine.runtimes.openvino_prompts import BLOCK, MOST, Reading
from modelport.errors import ArtifactRefused, InvalidInput, MissingExtra
from modelport.tensors import Array

try:
    import openvino
    import openvino_genai as genai

    from modelport.engine.runtimes.openvino_grammars import Grammars
except ImportError as error:
    raise MissingExtra("llm", f"running a language model ({first_line(error)})") from None

_LACKS = ("logit_bias", "alternatives")
_SLOTS, _AMPLE = 32, 16
"""More at once are written no faster: a step takes as much longer. Half of them lose 7 % (SmolLM2-135M on one core: 8,
16, 24, 32 texts 425, 503, 544, 537 tokens/s)."""
_SHORT = 150
"""A step for eight texts takes 22 ms when they are short, 28, 31, 39, 46 at 100, 200, 300, 600 tokens (the same)."""
_PROBE = "a " * (1 << 17)
"""Longer than what any tokenizer cuts texts to."""
_CACHE_GB = 2
_PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
_AHEAD = 3
"""Tokens that are tried in a step, where a deployment does not say how many."""
_LOOKED_UP = 3
"""Tokens of a beginning that is looked for in the text."""
_COLDEST, _NARROWEST = 1e-2, 1e-6
"""What is nearer to always taking the likeliest token is as good as that, and in 32 bits nothing or infinite."""
_OF_A_PIECE = Sampling(max_tokens=2, temperature=0, ignore_eos=True)
_TEXTS = ("Hello, world!  Two  blanks\n\ttab", "Grüße aus Köln: 東京 🙂 – naïve", "def f(x):\n    return x + 1  # done")
"""Whose tokens have to read as they do."""


class OpenVinoGenAiRuntime(Runtime, Generates, Prepares):
    """One pipeline and the texts that it writes."""

    name = "openvino-genai"
    platform = "openvino_genai"
    not_batched = "texts are written together in steps"

    def __init__(
        self,
        pipeline: Any,
        facts: Facts,
        template: tuple[str, dict[str, str]] | None,
        words: _Words,
        ahead: Mapping[str, int],
        width: int | None,
    ) -> None:
        """``width`` of the logits, if that is known: else forms cannot be tried before a step, and one that the
        library cannot read would end the process."""
        self._pipeline = pipeline
        self._tokenizer = pipeline.get_tokenizer()
        self._eos = pipeline.get_config().eos_token_id
        self._stop_ids = set(pipeline.get_config().stop_token_ids)
        self._facts = facts
        self._template = template
        self._handles: dict[int, Any] = {}
        self._words = words
        self._ahead = ahead
        self._reading = Reading(0 if ahead else facts.room, self._config(_OF_A_PIECE), self._add)
        self._grammars = Grammars(self._tokenizer, width) if width else None
        self._unwritten: set[int] = set()
        """Texts of a form that have no token: a step looks for their grammars."""
        self._cut = len(self._encode(_PROBE))
        """Tokens: the library cuts longer texts without a word."""

    @classmethod
    def load(cls, options: LoadOptions) -> Self:
        """Build the pipeline; raises ArtifactRefused when the library cannot."""
        details = options.details
        where = options.folder / str(details.get("model_file", ""))
        context = int(details.get("max_tokens") or 4096)
        ahead = _in_every_text(options)
        how = scheduler(context, options.engine.get("cache_gb") or _CACHE_GB, keeps=not ahead)
        try:
            pipeline = genai.ContinuousBatchingPipeline(str(where), how, "CPU", _device(options))
        except RuntimeError as error:
            raise ArtifactRefused(f"OpenVINO GenAI cannot run the model: {_cause(error)}") from None
        tokenizer = pipeline.get_tokenizer()
        source = tokenizer.get_original_chat_template() or tokenizer.chat_template
        vocabulary = {token: bytes(raw) for raw, token in tokenizer.get_vocab().items()}
        names = {"bos_token": tokenizer.get_bos_token(), "eos_token": tokenizer.get_eos_token()}
        width = _width(options)
        facts = Facts(
            context=context, slots=_SLOTS, ample=_AMPLE, short=_SHORT, room=_room(pipeline, ahead),
            lacks=_LACKS if width else (*_LACKS, "format"), chat=bool(source), words=max(vocabulary, default=-1) + 1,
        )  # fmt: skip
        template = (source, names) if source else None
        return cls(pipeline, facts, template, _words(tokenizer, vocabulary), ahead, width)

    @property
    def facts(self) -> Facts:
        return self._facts

    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Never asked: the replica's loop takes steps instead."""
        raise InvalidInput("a language model is asked for a stream")

    def encode(self, text: str, *, special: bool) -> list[int]:
        found = self._encode(text, special)
        if len(found) < self._cut:
            return found
        size = max(1, self._cut // 4)  # a character is at most four bytes, and a byte at most one token
        return [token for start in range(0, len(text), size) for token in self._encode(text[start : start + size])]

    def _encode(self, text: str, special: bool = False) -> list[int]:
        return _encoded(self._tokenizer, text, special)

    def special_texts(self) -> frozenset[str]:
        return self._words.special

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True)) if tokens else ""

    @property
    def longest_token(self) -> int:
        return self._words.longest

    def pieces(self, tokens: Sequence[int]) -> list[str]:
        if self._words.pieces is None:
            return super().pieces(tokens)
        return [self._words.pieces.get(token, b"").decode(errors="replace") for token in tokens]

    def reader(self) -> Reader:
        pieces = self._words.pieces
        if pieces is None:
            return super().reader()
        return ByBytes(lambda token: pieces.get(token, b""))

    def chat_template(self) -> tuple[str, dict[str, str]] | None:
        return self._template

    def is_prepared(self, form: Format) -> bool:
        return self._grammars is None or _key(form) in self._grammars

    def prepare(self, form: Format) -> None:
        if self._grammars is not None:
            sources = [form.grammar] if form.grammar is not None else (form.tools or {}).values()
            try:
                self._grammars.add(_key(form), _structure(form), cost_of(*sources))
            except RuntimeError as error:
                raise InvalidInput(f"the engine cannot read the grammar: {_of_grammar(error)}") from None

    @property
    def reads_more(self) -> bool:
        return self._reading.may_begin

    def begin(self, number: int, prompt: Sequence[int], sampling: Sampling, adapter: str | None) -> None:
        refuse_unknown(sampling, self._facts.lacks, self.name)
        config = self._config(sampling)
        try:
            config.validate()  # not every prompt is given to the library now
            handle = self._reading.begin(number, prompt, config)
        except RuntimeError as error:
            raise InvalidInput(f"the engine refuses this request: {_cause(error)}") from None
        if handle is not None:
            self._handles[number] = handle
        if sampling.format is not None:
            self._unwritten.add(number)

    def _add(self, number: int, prompt: Sequence[int], config: Any) -> Any:
        return self._pipeline.add_request(number, openvino.Tensor(np.array([prompt], np.int64)), config)

    def _config(self, sampling: Sampling) -> Any:
        config = genai.GenerationConfig()
        config.max_new_tokens = sampling.max_tokens
        config.min_new_tokens = sampling.min_tokens
        config.apply_chat_template = False
        config.eos_token_id = self._eos
        config.stop_token_ids = self._stop_ids | set(sampling.stop_token_ids)
        config.ignore_eos = sampling.ignore_eos
        config.presence_penalty = sampling.presence_penalty
        config.frequency_penalty = sampling.frequency_penalty
        config.repetition_penalty = sampling.repetition_penalty
        for name, value in self._ahead.items():
            setattr(config, name, value)
        config.logprobs = 0 if sampling.logprobs is None else 1
        if sampling.temperature > 0:
            config.do_sample = True
            config.temperature = max(sampling.temperature, _COLDEST)
            config.top_p = max(sampling.top_p, _NARROWEST)
            if sampling.top_k:
                config.top_k = sampling.top_k
            config.min_p = min(sampling.min_p, 1 - _NARROWEST)
            config.rng_seed = (sampling.seed if sampling.seed is not None else np.random.randint(1 << 31)) % (1 << 63)
        if sampling.format is not None:
            config.structured_output_config = _structure(sampling.format)
        return config

    def step(self) -> list[Stepped]:
        self._handles.update(self._reading.go_on(beside=bool(self._handles)))
        with self._grammars.changing if self._grammars and self._unwritten else contextlib.nullcontext():
            self._pipeline.step()
        self._reading.stepped()
        gained = []
        for number, handle in list(self._handles.items()):
            if not handle.can_read():
                status = handle.get_status()
                if status == genai.GenerationStatus.IGNORED:  # no room was found for it
                    self._forget(number)
                    gained.append(Stepped(number, (), finish="length"))
                continue
            tokens: list[int] = []
            logprobs: list[float] = []
            finish = None
            while handle.can_read():
                for output in handle.read().values():
                    tokens += output.generated_ids
                    logprobs += output.generated_log_probs
                    if output.finish_reason != genai.GenerationFinishReason.NONE:
                        finish = "stop" if output.finish_reason == genai.GenerationFinishReason.STOP else "length"
            self._unwritten.discard(number)
            self._reading.wrote(number, len(tokens))
            if finish is not None:
                self._forget(number)
            gained.append(Stepped(number, tuple(tokens), tuple(logprobs), finish=finish))
        return gained

    def cancel(self, number: int) -> None:
        if (handle := self._handles.get(number)) is not None:
            handle.cancel()
        self._forget(number)

    def _forget(self, number: int) -> None:
        self._handles.pop(number, None)
        self._unwritten.discard(number)
        self._reading.ended(number)

    def usage(self) -> float:
        return float(self._pipeline.get_metrics().cache_usage) / 100


def scheduler(context: int, cache_gb: float, keeps: bool = True) -> Any:
    """A step writes a token of every text, and reads what it was given; see ``openvino_prompts``. Beginnings of prompts
    are not kept (``keeps``) where tokens are tried ahead: these leave blocks with which others are answered wrong."""
    how = genai.SchedulerConfig()
    how.cache_size = max(1, round(cache_gb))
    how.enable_prefix_caching = keeps
    how.max_num_seqs = 2 * _SLOTS  # pieces of prompts are requests, too
    # What is kept the library must not split: a prompt that a step reads, beside pieces of others, is read in whole.
    how.max_num_batched_tokens = context + 2 * MOST + how.max_num_seqs if keeps else MOST
    how.dynamic_split_fuse = True
    return how


def _device(options: LoadOptions) -> dict[str, Any]:
    """How the CPU computes, and whether tokens are tried ahead."""
    found: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": options.threads,
        "ENABLE_CPU_PINNING": False,
        "PERFORMANCE_HINT": "LATENCY",
    }
    precision = _PRECISIONS.get(options.engine.get("dtype", "auto"))
    if precision is not None:
        found["INFERENCE_PRECISION_HINT"] = precision
    elif not options.details.get("model_file") and next(iter(options.details.get("tensors", ())), "") == "F32":
        found["INFERENCE_PRECISION_HINT"] = "f32"  # else in what the processor is fastest in, perhaps 16 bits
    if precision == "f32":
        found |= {"KV_CACHE_PRECISION": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
    return found | ({"prompt_lookup": True} if options.engine.get("prompt_lookup") else {})


def _in_every_text(options: LoadOptions) -> dict[str, int]:
    """Settings of every text that say how tokens are tried ahead."""
    if not options.engine.get("prompt_lookup"):
        return {}
    ahead = int(options.engine.get("num_assistant_tokens") or _AHEAD)
    return {"num_assistant_tokens": ahead, "max_ngram_size": _LOOKED_UP}


def _room(pipeline: Any, ahead: Mapping[str, int]) -> int:
    """Tokens that the cache holds: of its blocks one token takes one, and the library tells their share."""
    how = genai.GenerationConfig()
    how.max_new_tokens, how.ignore_eos = 2, True
    for name, value in ahead.items():
        setattr(how, name, value)
    handle = pipeline.add_request(0, openvino.Tensor(np.zeros((1, 1), np.int64)), how)
    pipeline.step()
    share = pipeline.get_metrics().cache_usage / 100
    while pipeline.has_non_finished_requests():
        pipeline.step()
    handle.read()
    return round(1 / share) * BLOCK if share else 0


@dataclass(frozen=True, slots=True)
class _Words:
    """What is known of a vocabulary."""

    pieces: dict[int, bytes] | None
    """The bytes that every token adds to a text; None where a text is not simply those of its tokens. To join them
    costs a thousandth of asking the library."""
    special: frozenset[str]
    """Texts that are special tokens."""
    longest: int
    """Bytes of a token at most."""


def _words(tokenizer: Any, vocabulary: dict[int, bytes]) -> _Words:
    """All tokens are asked for in one call, which is as fast as three alone."""
    alone = tokenizer.decode([[token] for token in vocabulary], skip_special_tokens=True)
    pieces, special = {}, []
    for (token, raw), read in zip(vocabulary.items(), alone, strict=True):
        # What is text and reads as nothing is special; part of a character reads as nothing too, and is none.
        is_special = not read and _is_text(raw)
        pieces[token] = b"" if is_special else raw
        if is_special and len(raw) > 1 and _encoded(tokenizer, raw.decode()) == [token]:
            special.append(raw.decode())
    are_texts = all(_are_text(tokenizer, pieces, text) for text in _TEXTS)
    return _Words(pieces if are_texts else None, frozenset(special), max(map(len, vocabulary.values()), default=0))


def _are_text(tokenizer: Any, pieces: dict[int, bytes], text: str) -> bool:
    tokens = _encoded(tokenizer, text)
    return b"".join(pieces.get(token, b"") for token in tokens) == text.encode() and tokenizer.decode(tokens) == text


def _encoded(tokenizer: Any, text: str, special: bool = False) -> list[int]:
    return [int(token) for token in tokenizer.encode(text, add_special_tokens=special).input_ids.data.reshape(-1)]


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _width(options: LoadOptions) -> int | None:
    """Of the logits, if the folder or the version's details tell."""
    if name := options.details.get("model_file"):
        return options.details.get("vocab_size") or vocab_size_of(options.folder / name)  # older versions tell none
    logits = openvino.Core().read_model(options.folder / "openvino_model.xml").output("logits").partial_shape[-1]
    if logits.is_static:
        return int(logits.get_length())
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return int(json.loads((options.folder / "config.json").read_text())["vocab_size"])
    return None


def _key(form: Format) -> int:
    return hash(msgspec.json.encode(form))


def _structure(wanted: Format) -> Any:
    """xgrammar's wish for what the text has to be."""
    config = genai.StructuredOutputConfig()
    if wanted.grammar is not None:
        config.grammar = wanted.grammar
    elif wanted.tools is not None:
        config.structural_tags_config = _calls(wanted)
    return config


def _calls(wanted: Format) -> Any:
    """Calls as ``api.openai.tools`` reads them; free text before and between them where no call is a must."""
    kinds = genai.StructuredOutputConfig
    tags = [
        kinds.Tag(f'<tool_call>\n{{"name": {json.dumps(name)}, "arguments": ', kinds.EBNF(arguments), "}\n</tool_call>")
        for name, arguments in (wanted.tools or {}).items()
    ]
    if wanted.must_call:
        return kinds.TagsWithSeparator(tags, "\n", at_least_one=True, stop_after_first=not wanted.parallel)
    return kinds.TriggeredTags(["<tool_call>"], tags, stop_after_first=not wanted.parallel)


def _of_grammar(error: BaseException) -> str:
    """What the compiler says of it, without the place in its sources."""
    found = re.search(r"\.(?:cc|cpp|h|hpp):\d+: (.+)", str(error))
    return found[1].strip()[:300] if found else "it is not well-formed"


def _cause(error: BaseException) -> str:
    """The library's message without the places in its sources."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and ".cpp:" not in line]
    return (lines[-1] if lines else first_line(error))[:300]
