"""What is asked of a language model and what comes back, as gateway and replica tell each other.

A request is one text to be written; its answer comes in parts, each some tokens with their text. Knows neither
protocols (the adapters make requests of them) nor engines. Imports nothing that a replica's environment may lack but
msgspec, which every engine's environment has.
"""

from __future__ import annotations

import secrets
from typing import Any

import msgspec
import numpy as np

from modelport.errors import InvalidInput
from modelport.tensors import Array

REQUEST = "request"
"""Name of the one tensor that a request travels in."""
_SEED_BITS = 62
MOST_TOKENS = 1 << 24
"""More than any model's context."""


class Format(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the text has to be: exactly one of the fields is set."""

    grammar: str | None = None
    """An EBNF grammar as xgrammar and vLLM read it, with a rule ``root``."""
    tools: dict[str, str] | None = None
    """Calls of these tools: the grammar of the arguments, by name."""
    must_call: bool = True
    """With ``tools``: whether a call is a must, or text may come in its place."""
    parallel: bool = True
    """With ``tools``: whether there may be several calls."""


class Sampling(msgspec.Struct, frozen=True, omit_defaults=True):
    """How tokens are chosen. Names and meanings are those of OpenAI's API and of vLLM."""

    max_tokens: int | None = None
    """Of the answer; None for as many as the context holds."""
    min_tokens: int = 0
    temperature: float = 1.0
    """0 takes the likeliest token always."""
    top_p: float = 1.0
    top_k: int = 0
    """0 for all."""
    min_p: float = 0.0
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: dict[int, float] = {}
    logprobs: int | None = None
    """None for none; else so many of the likeliest tokens beside each chosen one."""
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    format: Format | None = None


class Asked(msgspec.Struct, frozen=True, omit_defaults=True):
    """One text to be written. Of ``messages``, ``prompt`` and ``tokens`` one is set."""

    sampling: Sampling = Sampling()
    messages: list[dict[str, Any]] | None = None
    """A conversation, rendered by the model's own chat template."""
    prompt: str | None = None
    special: bool = True
    """Whether a prompt gets the tokens that the model expects around a text."""
    tokens: tuple[int, ...] | None = None
    tools: list[dict[str, Any]] | None = None
    """Shown to the model by its chat template."""
    template_values: dict[str, Any] = {}
    """More names for the chat template, such as ``enable_thinking``."""
    caller: str = ""
    """Whose it is, for fair shares."""
    background: bool = False
    """Whether it stands behind every text that somebody waits for."""
    adapter: str | None = None
    """Name of a LoRA adapter that the replica holds."""
    done: tuple[int, ...] = ()
    """Tokens of the answer that another replica has given: they are written again and compared, and not given again."""
    done_text: int = 0
    """Characters of text that have been given already."""
    only: str | None = None
    """Nothing is written: the one part of the answer holds the prompt's ``tokens``, these and each one's own text
    (``pieces``), or the ``text`` of ``tokens``."""


class Alternative(msgspec.Struct, frozen=True, array_like=True):
    """One of the likeliest tokens at a place."""

    token: int
    text: str
    logprob: float


class Part(msgspec.Struct, frozen=True, array_like=True):
    """Some tokens of an answer. The one with ``finish`` is the last."""

    text: str
    tokens: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    """Natural logarithms, one per token, where they were asked for."""
    pieces: tuple[str, ...] = ()
    """Each token's own text, where ``logprobs`` were asked for."""
    alternatives: tuple[tuple[Alternative, ...], ...] = ()
    finish: str | None = None
    """``stop``, ``length``, ``tool_calls`` or ``cancelled``."""
    prompt_tokens: int = 0
    cached_tokens: int | None = None
    """Of the prompt, those that were found in the cache, where the engine tells."""
    stopped_by: str | None = None
    """The stop text that ended it."""
    waited_ns: int = 0
    """Of the first part: how long the replica let the text wait for its turn."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a language model's replica says of itself, and gateways have to know."""

    context: int
    """Tokens of prompt and answer together."""
    slots: int = 1
    """Texts that are written at once."""
    ample: int = 0
    """So many are written nearly as fast as all of them: one key has no more. 0 where more are faster."""
    short: int = 0
    """Tokens: a step takes the longer for texts that have more, in proportion. 0 where that hardly matters."""
    room: int = 0
    """Tokens that its cache holds, for all texts together."""
    lacks: tuple[str, ...] = ()
    """Fields of ``Sampling`` that its engine does not know."""
    chat: bool = True
    """Whether there is a chat template."""
    tool_style: str = "hermes"
    adapters: tuple[str, ...] = ()
    words: int = 0
    """Of its vocabulary: tokens are below; 0 where that is not known."""


def repeatable(asked: Asked) -> Asked:
    """The same with a seed of its own where chance has none: whoever writes it again writes the same text."""
    if asked.sampling.temperature == 0 or asked.sampling.seed is not None:
        return asked
    return msgspec.structs.replace(
        asked, sampling=msgspec.structs.replace(asked.sampling, seed=secrets.randbits(_SEED_BITS))
    )


_request_encoder = msgspec.json.Encoder()
_request_decoder = msgspec.json.Decoder(Asked)
_parts_encoder = msgspec.json.Encoder()
_parts_decoder = msgspec.json.Decoder(list[Part])


def to_tensors(asked: Asked) -> dict[str, Array]:
    """A request as a frame carries it; raises InvalidInput."""
    try:
        return {REQUEST: np.array([_request_encoder.encode(asked)], object)}
    except RecursionError:
        raise InvalidInput("the request is nested too deeply") from None


def from_tensors(tensors: dict[str, Array]) -> Asked:
    """The request of a frame; raises InvalidInput."""
    try:
        return _request_decoder.decode(tensors[REQUEST].reshape(-1)[0])
    except (KeyError, IndexError, msgspec.MsgspecError) as error:
        raise InvalidInput(f"this is no request to a language model: {error}") from None


def encode_parts(parts: list[Part]) -> bytes:
    """Of several requests, in the order of the frame's items."""
    return _parts_encoder.encode(parts)


def decode_parts(data: Any) -> list[Part]:
    """The other way."""
    return _parts_decoder.decode(data)
