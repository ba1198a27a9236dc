"""Writes texts with vLLM: continuous batching, a paged cache shared by equal prefixes, on GPUs or the CPU.

Its engine runs inside the replica, and one of its steps is one of ours; with more than one device it starts a process
for each. Takes a Hugging Face folder with safetensors; nothing of the folder runs, nothing is fetched, and whatever
listens does so on loopback. Knows tokens; knows neither conversations nor callers.
"""

from __future__ import annotations

import importlib
import json
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgspec

from modelport.engine.formats.huggingface_folder import read_recipe
from modelport.engine.generation import Facts, Format, Sampling
from modelport.engine.runtime import Adapts, Generates, LoadOptions, Runtime, Stepped
from modelport.engine.runtimes.messages import first_line
from modelport.engine.runtimes.vllm_adapters import Adapters, lora_arguments
from modelport.errors import ArtifactRefused, InvalidInput, MissingExtra
from modelport.tensors import Array

_CPU_CACHE_GB = 2.0
"""On the CPU, where the library would take nearly all memory."""
_MOST_LOGPROBS = 20
_MOST_BATCHED_ON_CPU = 512
"""Tokens of prompts in one step: others wait for a long prompt no longer than that takes."""
_AHEAD = 3
"""Tokens that are tried in a step, where a deployment does not say how many."""
_LOOKED_UP = (2, 4)
"""Least and most tokens of a beginning that is looked for in the text."""
_LACKS_AHEAD = ("min_p", "logit_bias")
"""What the library does not know while tokens are tried ahead."""
_PASSED_ON = (
    "dtype", "gpu_memory_utilization", "max_model_len", "max_num_seqs", "pipeline_parallel_size",
    "tensor_parallel_size",
)  # fmt: skip
_LOAD_ERRORS = (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError, NotImplementedError)
_DEFAULTS = {"VLLM_LOGGING_LEVEL": "WARNING", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
"""Where the operator says nothing else; what ``environment`` holds stays in any case."""


@dataclass(frozen=True, slots=True)
class _Text:
    """One that is being written."""

    name: str
    """What the engine calls it."""
    alternatives: int
    """Likeliest tokens that are told beside each chosen one."""


class VllmRuntime(Runtime, Generates, Adapts):
    """One engine and the texts that it writes."""

    name = "vllm"
    platform = "vllm"
    not_batched = "texts are written together in steps"
    environment = {  # noqa: RUF012
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_HOST_IP": "127.0.0.1",
        "GLOO_SOCKET_IFNAME": "lo",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }

    def __init__(self, library: Any, engine: Any, adapters: Adapters) -> None:
        self._library, self._engine, self._adapters = library, engine, adapters
        self._refusals = (library.exceptions.VLLMClientError, ValueError, TypeError)
        self._tokenizer = engine.get_tokenizer()
        self._longest = max((len(token.encode()) for token in self._tokenizer.get_vocab()), default=0)
        config = engine.vllm_config
        cache = config.cache_config
        room = int(cache.num_gpu_blocks or 0) * int(cache.block_size or 0)
        self._words = int(config.model_config.get_vocab_size())
        self._facts = Facts(
            context=int(config.model_config.max_model_len), slots=int(config.scheduler_config.max_num_seqs), room=room,
            lacks=_LACKS_AHEAD if config.speculative_config is not None else (), chat=bool(_template(self._tokenizer)),
        )  # fmt: skip
        self._texts: dict[int, _Text] = {}

    @classmethod
    def load(cls, options: LoadOptions) -> Self:
        """Start the engine; raises ArtifactRefused when it cannot run the model."""
        place = read_recipe(options.folder, options.files).model_folder  # refuses code and pickles
        library = _library()
        try:
            arguments = library.EngineArgs(
                model=str(options.folder / place), trust_remote_code=False, load_format="safetensors",
                seed=secrets.randbits(31), disable_log_stats=True, enable_prefix_caching=True,
                max_logprobs=_MOST_LOGPROBS, structured_outputs_config={"backend": "xgrammar"},
                **_arguments(library, options.engine), **_speculation(options),
                **lora_arguments(options.engine, _on_cpu(library)),
            )  # fmt: skip
            engine = library.LLMEngine.from_engine_args(arguments)
        except _LOAD_ERRORS as error:
            raise ArtifactRefused(f"vLLM cannot run the model: {first_line(error)}") from error
        return cls(library, engine, Adapters(library, engine, options.folder / place, _on_cpu(library)))

    @property
    def facts(self) -> Facts:
        return msgspec.structs.replace(self._facts, adapters=self._adapters.names)

    def attach(self, adapter: str, folder: Path) -> None:
        self._adapters.put_on(adapter, folder)

    def detach(self, adapter: str) -> None:
        self._adapters.take_off(adapter)

    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Never asked: the replica's loop takes steps instead."""
        raise InvalidInput("a language model is asked for a stream")

    def encode(self, text: str, *, special: bool) -> list[int]:
        return [int(token) for token in self._tokenizer.encode(text, add_special_tokens=special)]

    def special_texts(self) -> frozenset[str]:
        added = self._tokenizer.added_tokens_decoder.values()
        return frozenset(token.content for token in added if token.special and token.content)

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True)) if tokens else ""

    @property
    def longest_token(self) -> int:
        return self._longest

    def chat_template(self) -> tuple[str, dict[str, str]] | None:
        source = _template(self._tokenizer)
        names = {name: str(value) for name, value in self._tokenizer.special_tokens_map.items() if value is not None}
        return (source, names) if source else None

    def begin(self, number: int, prompt: Sequence[int], sampling: Sampling, adapter: str | None) -> None:
        worn = self._adapters.worn(adapter)
        if (strange := next((token for token in prompt if not 0 <= token < self._words), None)) is not None:
            raise InvalidInput(f"the prompt has the token {strange}, and the model's are 0 to {self._words - 1}")
        asked = self._library.inputs.tokens_input(list(prompt))
        try:
            name = self._engine.add_request(str(number), asked, self._params(sampling), lora_request=worn)
        except self._refusals as error:
            raise InvalidInput(f"the engine {self.name} refuses this request: {first_line(error)}") from None
        self._texts[number] = _Text(name, sampling.logprobs or 0)

    def _params(self, sampling: Sampling) -> Any:
        kinds = self._library.sampling_params
        return self._library.SamplingParams(
            max_tokens=sampling.max_tokens, min_tokens=min(sampling.min_tokens, sampling.max_tokens or 0),
            temperature=sampling.temperature, top_p=sampling.top_p, top_k=sampling.top_k, min_p=sampling.min_p,
            seed=sampling.seed, presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty, repetition_penalty=sampling.repetition_penalty,
            logit_bias=sampling.logit_bias or None, logprobs=sampling.logprobs,
            stop_token_ids=list(sampling.stop_token_ids), ignore_eos=sampling.ignore_eos,
            structured_outputs=kinds.StructuredOutputsParams(**_structure(sampling.format))
            if sampling.format is not None else None,
            detokenize=False, output_kind=kinds.RequestOutputKind.DELTA,
        )  # fmt: skip

    def step(self) -> list[Stepped]:
        if not self._texts:
            return []
        gained = [self._stepped(output) for output in self._engine.step()]
        return [stepped for stepped in gained if stepped is not None]

    def _stepped(self, output: Any) -> Stepped | None:
        number = int(output.request_id)
        text = self._texts.get(number)
        if text is None:
            return None
        (gained,) = output.outputs
        tokens, found = list(gained.token_ids), list(gained.logprobs or ())
        if isinstance(gained.stop_reason, int) and tokens and self.decode(tokens[-1:]):
            tokens, found = tokens[:-1], found[: len(tokens) - 1]  # a stop token's text is not given
        finish = None
        if gained.finish_reason is not None:
            del self._texts[number]
            finish = "stop" if gained.finish_reason == "stop" else "length"
        return Stepped(
            number, tuple(tokens),
            tuple(float(each[token].logprob) for token, each in zip(tokens, found, strict=False)),
            tuple(_likeliest(each, text.alternatives) for each in found) if text.alternatives else (),
            finish, int(output.num_cached_tokens or 0),
        )  # fmt: skip

    def cancel(self, number: int) -> None:
        text = self._texts.pop(number, None)
        if text is not None:
            self._engine.abort_request([text.name], internal=True)

    def usage(self) -> float:
        return float(self._engine.engine_core.engine_core.scheduler.kv_cache_manager.usage)

    def close(self) -> None:
        self._engine.engine_core.shutdown()


def _library() -> Any:
    """vLLM, with the modules that are used here. Loaded with a model only: it reads the environment at once."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    _pass_over_strangers()
    try:
        found = importlib.import_module("vllm")
        for module in ("exceptions", "inputs", "lora.request", "platforms", "sampling_params"):
            importlib.import_module(f"vllm.{module}")
    except ImportError as error:
        raise MissingExtra("vllm", f"writing texts with vLLM ({first_line(error)})") from None
    return found


def _pass_over_strangers() -> None:
    """Those that were built for another torch (CUDA's, beside the CPU's) fail at import; texts need none of them."""
    for name in ("torchvision", "torchaudio", "torchcodec"):
        try:
            importlib.import_module(name)
        except (ImportError, OSError, RuntimeError):
            sys.modules[name] = None  # type: ignore[assignment]  # as if it were not installed


def _arguments(library: Any, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What a deployment asks of the engine, and what the CPU needs to be told."""
    found = {name: asked[name] for name in _PASSED_ON if asked.get(name) is not None}
    cache_gb = asked.get("cache_gb")
    if _on_cpu(library):
        cache_gb = cache_gb or _CPU_CACHE_GB
        found |= {"enforce_eager": True, "max_num_batched_tokens": _MOST_BATCHED_ON_CPU}
    if cache_gb is not None:
        found["kv_cache_memory_bytes"] = int(cache_gb * (1 << 30))
    return found


def _on_cpu(library: Any) -> bool:
    return bool(library.platforms.current_platform.is_cpu())


def _speculation(options: LoadOptions) -> dict[str, Any]:
    """How tokens are tried ahead of the model, if a deployment asks for it."""
    asked = options.engine
    how: dict[str, Any] = {"num_speculative_tokens": asked.get("num_assistant_tokens") or _AHEAD}
    if options.draft is not None:
        place = read_recipe(options.draft.folder, options.draft.files).model_folder
        how |= {"method": "draft_model", "model": str(options.draft.folder / place)}
    elif asked.get("prompt_lookup"):
        least, most = _LOOKED_UP
        how |= {"method": "ngram", "prompt_lookup_min": least, "prompt_lookup_max": most}
    else:
        return {}
    return {"speculative_config": how}


def _likeliest(found: Mapping[int, Any], most: int) -> tuple[tuple[int, float], ...]:
    """The likeliest tokens at a place, likeliest first."""
    ranked = sorted(found.items(), key=lambda entry: entry[1].rank)[:most]
    return tuple((int(token), float(known.logprob)) for token, known in ranked)


def _template(tokenizer: Any) -> str | None:
    found = tokenizer.chat_template
    return found.get("default") if isinstance(found, dict) else found


def _structure(wanted: Format) -> dict[str, str]:
    """vLLM's wish for what the text has to be."""
    if wanted.tools is None:
        return {"grammar": wanted.grammar or ""}
    return {"structural_tag": json.dumps({"type": "structural_tag", "format": _calls(wanted)})}


def _calls(wanted: Format) -> dict[str, Any]:
    """Calls as ``api.openai.tools`` reads them; free text before and between them where no call is a must."""
    tags = [
        {
            "type": "tag",
            "begin": f'<tool_call>\n{{"name": {json.dumps(name)}, "arguments": ',
            "content": {"type": "grammar", "grammar": arguments},
            "end": "}\n</tool_call>",
        }
        for name, arguments in (wanted.tools or {}).items()
    ]
    kind: dict[str, Any] = {"type": "triggered_tags", "triggers": ["<tool_call>"]}
    if wanted.must_call:
        kind = {"type": "tags_with_separator", "separator": "\n", "at_least_one": True}
    return {**kind, "tags": tags, "stop_after_first": not wanted.parallel}
